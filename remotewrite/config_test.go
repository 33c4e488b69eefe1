package remotewrite

import (
	"net/url"
	"testing"
	"time"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
)

func TestBlocksAreComparedByWhatTheySay(t *testing.T) {
	base := func() Config {
		cfg := remoteConfig(t, "http://h/w")
		cfg.ExternalLabels = labels.FromStrings("a", "b")
		cfg.WriteRelabel = []*promrelabel.Config{dropSeries("x.*"), setLabel("l", "v")}
		cfg.Headers = map[string]string{"X-A": "b"}
		cfg.HTTP.BasicAuth = &commonconfig.BasicAuth{Username: "u", Password: "secret"}
		return cfg
	}
	for _, tc := range []struct {
		name            string
		change          func(*Config)
		equal, delivery bool
	}{
		{"the same text", func(*Config) {}, true, true},
		{"a password", func(c *Config) { c.HTTP.BasicAuth.Password = "other" }, false, true},
		{"a header", func(c *Config) { c.Headers["X-A"] = "c" }, false, true},
		{"a timeout", func(c *Config) { c.RemoteTimeout = time.Hour }, false, true},
		{"the queue", func(c *Config) { c.Queue.Capacity++ }, false, true},
		{"the URL", func(c *Config) { c.URL, _ = url.Parse("http://h/x") }, false, true},
		{"an external label", func(c *Config) { c.ExternalLabels = labels.FromStrings("a", "c") }, false, false},
		{"no external label", func(c *Config) { c.ExternalLabels = labels.EmptyLabels() }, false, false},
		{"a rule's expression", func(c *Config) { c.WriteRelabel[0] = dropSeries("y.*") }, false, false},
		{"a rule's value", func(c *Config) { c.WriteRelabel[1] = setLabel("l", "w") }, false, false},
		{"one rule less", func(c *Config) { c.WriteRelabel = c.WriteRelabel[:1] }, false, false},
		{"the message", func(c *Config) { c.ProtobufMessage = MessageV2 }, false, false},
		{"exemplars", func(c *Config) { c.SendExemplars = !c.SendExemplars }, false, false},
	} {
		a, b := base(), base()
		tc.change(&b)
		if got := a.Equal(&b); got != tc.equal {
			t.Errorf("%s: equal is %v", tc.name, got)
		}
		if got := a.SameDelivery(&b); got != tc.delivery {
			t.Errorf("%s: the same delivery is %v", tc.name, got)
		}
		if len(a.WriteRelabel) != 2 || a.ExternalLabels.Len() != 1 {
			t.Fatalf("%s: comparing changed the block", tc.name)
		}
	}
}

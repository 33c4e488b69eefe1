package scrape

import (
	"errors"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	promscrape "github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"

	"promagent/discovery/group"
	"promagent/relabel"
)

// nothingStored is a storage that nothing is appended to.
type nothingStored struct{ storage.AppendableV2 }

// prometheusSeed is the seed that Prometheus's own manager makes; host "" has
// it look its name up.
func prometheusSeed(t *testing.T, host string, external labels.Labels) uint64 {
	t.Helper()
	o := &promscrape.Options{}
	// Its own switch for tests.
	*(*string)(unsafe.Pointer(reflect.ValueOf(o).Elem().FieldByName("fqdn").UnsafeAddr())) = host
	m, err := promscrape.NewManager(o, nil, nil, nil, nothingStored{}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := promconfig.Load("", nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.GlobalConfig.ExternalLabels = external
	if err := m.ApplyConfig(cfg); err != nil {
		t.Fatal(err)
	}
	return reflect.ValueOf(m).Elem().FieldByName("offsetSeed").Uint()
}

func TestAgentsSpreadTheirScrapesAsPrometheusDoes(t *testing.T) {
	external := labels.FromStrings("replica", "1", "cluster", "c")
	for _, tc := range []struct {
		host     string
		external labels.Labels
	}{{"agent.example", external}, {"agent.example", labels.EmptyLabels()}, {"other.example", external}} {
		got := offsetSeed(func() (string, error) { return tc.host, nil }, tc.external)
		if want := prometheusSeed(t, tc.host, tc.external); got != want {
			t.Errorf("the seed of %s with %s is %d, want %d", tc.host, tc.external, got, want)
		}
	}
	m, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	change, err := m.Prepare(Config{ExternalLabels: external})
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	if got, want := m.env.seed.Load(), prometheusSeed(t, "", external); got != want {
		t.Errorf("the seed of this machine is %d, want %d", got, want)
	}
	if a, b := offsetSeed(testHost, external), offsetSeed(func() (string, error) { return "", errors.New("no name") }, external); a == b {
		t.Error("a machine without a name has the seed of another")
	}
}

// addressed is a group of one target.
func addressed(address string) group.Targets {
	return group.Of(&targetgroup.Group{Targets: []model.LabelSet{{"__address__": model.LabelValue(address)}}}).Targets
}

// The turn of a target, with the parts that Prometheus makes it of.
func TestTurnIsOfIdentityAndSeed(t *testing.T) {
	cfg := testJob(func(c *JobConfig) { c.Interval = 15 * time.Second })
	tg, err := newTarget(&labelBuilder{}, cfg, relabel.Rules{}, discovered{addressed("t:1"), 0})
	if err != nil {
		t.Fatal(err)
	}
	seed := offsetSeed(testHost, labels.EmptyLabels())
	turn := int64((tg.hash ^ seed) % uint64(cfg.Interval))
	for _, now := range []time.Time{time.Unix(1000, 0), time.Unix(1000, turn), time.Unix(1007, 123456789), time.Unix(1_700_000_000, 999)} {
		d := tg.offset(now, seed)
		if d < 0 || d > cfg.Interval {
			t.Errorf("at %v: %v to the next turn, want no more than the interval", now, d)
		}
		if got := now.Add(d).UnixNano() % int64(cfg.Interval); got != turn {
			t.Errorf("at %v: the turn is %d ns into the interval, want %d", now, got, turn)
		}
	}
}

// Targets are made in memory that they share, but keep none of it.
func TestLabelsOfATargetStayWhenTheNextIsMade(t *testing.T) {
	cfg := testJob(nil)
	whole := func(address, x string) group.Targets { // with all that a job adds
		own := model.LabelSet{"__address__": model.LabelValue(address), "x": model.LabelValue(x), "instance": "i"}
		for _, l := range cfg.defaultLabels() {
			own[model.LabelName(l.Name)] = model.LabelValue(l.Value)
		}
		return group.Of(&targetgroup.Group{Targets: []model.LabelSet{own}}).Targets
	}
	var lb labelBuilder
	first, err := newTarget(&lb, cfg, relabel.Rules{}, discovered{whole("a:1", "first"), 0})
	if err != nil {
		t.Fatal(err)
	}
	seen := lb.discovered(cfg, discovered{whole("a:1", "first"), 0})
	if _, err := newTarget(&lb, cfg, relabel.Rules{}, discovered{whole("b:2", "other"), 0}); err != nil {
		t.Fatal(err)
	}
	for _, got := range []labels.Labels{first.labels, first.public, seen} {
		if got.Get("x") != "first" {
			t.Errorf("the labels became %v", got)
		}
	}
	if first.url.Host != "a:1" {
		t.Errorf("the URL became %s", first.url)
	}
}

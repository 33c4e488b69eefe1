package scrape

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	promscrape "github.com/prometheus/prometheus/scrape"

	"promagent/discovery/group"
	"promagent/relabel"
)

// What discovery found becomes the target, or the error, that Prometheus makes of it.
func TestTargetsAreThoseOfPrometheus(t *testing.T) {
	const yaml = `
scrape_configs:
- job_name: job
  scrape_interval: 30s
  scrape_timeout: 10s
  metrics_path: /m
  scheme: https
  params: {module: [a, b], empty: []}
  relabel_configs:
  - {source_labels: [drop], regex: 'yes', action: drop}
  - {source_labels: [__meta_zone], target_label: zone}
`
	prom, err := promconfig.Load(yaml, nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := prom.ScrapeConfigs[0], resolved(t, yaml)
	rules, err := relabel.Compile(ours.Relabel)
	if err != nil {
		t.Fatal(err)
	}
	outcome := func(l labels.Labels, url func() string, err error) string {
		switch {
		case err != nil:
			return "error: " + err.Error()
		case l.IsEmpty():
			return "dropped"
		}
		return l.String() + " " + url()
	}
	for want, own := range map[string]model.LabelSet{
		`instance="h:1"`:             {"__address__": "h:1"},
		`instance="own"`:             {"__address__": "h:1", "instance": "own"},
		`job="own"`:                  {"__address__": "h:1", "job": "own"},
		`zone="z"`:                   {"__address__": "h:1", "__meta_zone": "z"},
		"dropped":                    {"__address__": "h:1", "drop": "yes"},
		"no address":                 {"instance": "x"},
		"not a valid hostname":       {"__address__": "h:1/path"},
		"http://h:1/m?":              {"__address__": "h:1", "__scheme__": "http"},
		"https://h:1/other?":         {"__address__": "h:1", "__metrics_path__": "/other"},
		"module=c&module=b":          {"__address__": "h:1", "__param_module": "c"},
		"more=d":                     {"__address__": "h:1", "__param_more": "d"},
		`__scrape_interval__="15s"`:  {"__address__": "h:1", "__scrape_interval__": "15s"},
		`__scrape_timeout__="200ms"`: {"__address__": "h:1", "__scrape_timeout__": "200ms"},
		"parsing scrape interval":    {"__address__": "h:1", "__scrape_interval__": "often"},
		"interval cannot be 0":       {"__address__": "h:1", "__scrape_interval__": "0s"},
		"parsing scrape timeout":     {"__address__": "h:1", "__scrape_timeout__": "-1s"},
		"timeout cannot be 0":        {"__address__": "h:1", "__scrape_timeout__": "0"},
		"greater than scrape":        {"__address__": "h:1", "__scrape_interval__": "5s"},
		"parsing convert classic":    {"__address__": "h:1", "__convert_classic_histograms_to_nhcb__": "perhaps"},
		"parsing always scrape":      {"__address__": "h:1", "__always_scrape_classic_histograms__": "perhaps"},
		"parsing scrape native":      {"__address__": "h:1", "__scrape_native_histograms__": "perhaps"},
		"invalid label value":        {"__address__": "h:1", "bad": "\xff"},
		`__unix_socket__="/s"`:       {"__address__": "h:1", "__unix_socket__": "/s"},
	} {
		of := model.LabelSet{"team": "t", "job": "of the group"}
		if _, has := own["job"]; !has {
			of = model.LabelSet{"team": "t"}
		}
		l, err := promscrape.PopulateLabels(labels.NewBuilder(labels.EmptyLabels()), theirs, own, of)
		their := outcome(l, func() string { return promscrape.NewTarget(l, theirs, own, of).URL().String() }, err)

		found := group.Of(&targetgroup.Group{Source: "s", Targets: []model.LabelSet{own}, Labels: of})
		var got *target
		got, err = newTarget(&labelBuilder{}, &ours, rules, discovered{found.Targets, 0})
		our := "dropped"
		if got != nil || err != nil {
			l := labels.EmptyLabels()
			if got != nil {
				l = got.labels
			}
			our = outcome(l, func() string { return got.url.String() }, err)
		}
		if our != their || !strings.Contains(our, want) {
			t.Errorf("%v:\nours  %s\ntheir %s\nwant  %s", own, our, their, want)
		}
	}
}

// healthy waits until the pool's only target is up.
func healthy(t *testing.T, p *pool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s := p.status().Targets[0]
		if s.Health == HealthUp {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the target is %s: %s", s.Health, s.LastError)
		}
	}
}

func quick(c *JobConfig) {
	c.Interval, c.Timeout = 200*time.Millisecond, 200*time.Millisecond
	c.HTTP = commonconfig.DefaultHTTPClientConfig
	c.HTTP.TLSConfig.InsecureSkipVerify = true
}

func TestTargetIsAskedAtTheURLOfItsLabels(t *testing.T) {
	asked := make(chan string, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- fmt.Sprint(r.TLS != nil, " ", r.URL):
		default:
		}
		w.Header().Set("Content-Type", textType)
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	configured := func(c *JobConfig) {
		quick(c)
		c.Scheme, c.MetricsPath, c.Params = "https", "/m", map[string][]string{"module": {"a", "b"}}
	}
	for _, tc := range []struct {
		server *httptest.Server
		labels model.LabelSet
		want   string
	}{
		{secure, model.LabelSet{}, "true /m?module=a&module=b"},
		{plain, model.LabelSet{"__scheme__": "http", "__metrics_path__": "/other", "__param_module": "c", "__param_more": "d"}, "false /other?module=c&module=b&more=d"},
	} {
		p, _ := poolOf(t, job("job", configured))
		tc.labels["__address__"] = model.LabelValue(tc.server.Listener.Addr().String())
		p.update(map[string]group.Group{"s": sourceOf("s", tc.labels)})
		healthy(t, p)
		p.stop()
		if got := <-asked; got != tc.want {
			t.Errorf("%v: asked for %s, want %s", tc.labels, got, tc.want)
		}
	}
}

func TestTargetWithASocketIsAskedThere(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.Host + r.URL.Path:
		default:
		}
		w.Header().Set("Content-Type", textType)
	}))
	srv.Listener.Close()
	srv.Listener = listener
	srv.Start()
	defer srv.Close()
	p, _ := poolOf(t, job("job", quick))
	p.update(map[string]group.Group{"s": sourceOf("s", model.LabelSet{"__address__": "name.invalid:1", "__unix_socket__": model.LabelValue(socket)})})
	healthy(t, p)
	p.stop()
	if got := <-asked; got != "name.invalid:1/metrics" {
		t.Errorf("asked for %s", got)
	}
}

func TestIntervalAndTimeoutAreThoseOfTheTargetsLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", func(c *JobConfig) { c.Interval, c.Timeout = 60*time.Second, 50*time.Second }))
		defer w.end()
		w.discover("job", model.LabelSet{"__address__": "t:1", "__scrape_interval__": "10s", "__scrape_timeout__": "4s"})
		w.mu.Lock()
		w.requests = nil
		w.mu.Unlock()
		time.Sleep(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := len(w.requests); n != 6 {
			t.Errorf("%d scrapes in a minute, want 6", n)
		}
		if got := w.requests[0].header.Get("X-Prometheus-Scrape-Timeout-Seconds"); got != "4" {
			t.Errorf("the timeout is %s s, want 4", got)
		}
	})
}

func TestTypeAndUnitLabelsComeWithTheFeature(t *testing.T) {
	const body = "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 1\n# EOF\n"
	for _, on := range []bool{false, true} {
		s := newScraper(t, func(c *JobConfig) { c.TypeAndUnitLabels = on })
		want := map[bool]string{false: `{__name__="a_seconds"} 1@1`, true: `{__name__="a_seconds", __type__="gauge", __unit__="seconds"} 1@1`}[on]
		if got, _, err := s.scrape(1, "application/openmetrics-text;version=1.0.0", body); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("feature %v: got %q, %v; want %s", on, got, err, want)
		}
	}
}

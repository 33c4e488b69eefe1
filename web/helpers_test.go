package web

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/remotewrite"
	"promagent/scrape"
)

var errBroken = errors.New("config.yml: job_name is missing")

// calls counts what the handlers asked of the agent.
type calls struct {
	reloads, quits atomic.Int32
	reloadErr      error
}

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// options are those of an agent with two jobs: "alpha" with an up and a down
// target and one dropped, "beta" with a target that was never scraped.
func options(t testing.TB, c *calls) Options {
	registry := prometheus.NewRegistry()
	lastScrape := time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	pools := []scrape.PoolStatus{
		{Job: "beta", Dropped: slices.Values([]labels.Labels(nil)), Targets: []scrape.TargetStatus{{
			Discovered: func() labels.Labels { return labels.FromStrings("__address__", "b:1") }, Labels: labels.FromStrings("instance", "b:1", "job", "beta"),
			URL: "http://b:1/metrics", Health: "unknown", Interval: "1m", Timeout: "10s",
		}}},
		{Job: "alpha", DroppedCount: 3, Dropped: slices.Values([]labels.Labels{labels.FromStrings("__address__", "gone:1")}), Targets: []scrape.TargetStatus{
			{
				Discovered: func() labels.Labels { return labels.FromStrings("__address__", "localhost:8080", "job", "alpha") }, Labels: labels.FromStrings("instance", "localhost:8080", "job", "alpha"),
				URL: "http://localhost:8080/metrics", Health: scrape.HealthUp, LastScrape: lastScrape, LastDuration: 250 * time.Millisecond,
				Interval: "15s", Timeout: "10000ms",
			},
			{
				Discovered: func() labels.Labels { return labels.FromStrings("__address__", "<a>:2") }, Labels: labels.FromStrings("instance", "<a>:2", "job", "alpha"),
				URL: "http://a:2/metrics", Health: "down", LastError: "connection refused", LastScrape: lastScrape,
				Interval: "15s", Timeout: "10000ms",
			},
		}},
	}
	return Options{
		ListenAddresses: []string{"127.0.0.1:0"}, ReadTimeout: time.Minute, MaxConnections: 8,
		ExternalURL: mustURL(t, "http://agent.example:9090"), RoutePrefix: "/", CORS: regexp.MustCompile(`^(?s:https?://(a|b)\.example)$`),
		PageTitle: "an agent", EnableLifecycle: true,
		Gatherer: registry, Registerer: registry, Logger: slog.New(slog.DiscardHandler),
		Now:    func() time.Time { return lastScrape.Add(2 * time.Second) },
		Reload: func() error { c.reloads.Add(1); return c.reloadErr },
		Quit:   func() { c.quits.Add(1) },
		Build:  BuildInfo{Version: "3.16.0+prom-agent.1.2.3", Revision: "abc", Branch: "main", BuildUser: "u@h", BuildDate: "today", GoVersion: "go1.26"},
		Flags:  map[string]string{"config.file": "prometheus.yml", "web.max-connections": "512"},
		Config: func() string { return "global:\n  scrape_interval: 15s\n" },
		Runtime: func() RuntimeInfo {
			return RuntimeInfo{StartTime: lastScrape, CWD: "/data", Hostname: "h", ServerTime: lastScrape, ReloadConfigSuccess: true, LastConfigTime: lastScrape,
				CorruptionCount: 2, GoroutineCount: 7, GOMAXPROCS: 2, GOMEMLIMIT: 1 << 30, GOGC: "50", StorageRetention: "80%"}
		},
		Pools: func() []scrape.PoolStatus { return pools },
		Remotes: func() []remotewrite.RemoteStatus {
			return []remotewrite.RemoteStatus{{Name: "central", URL: "http://c/", Failing: true}}
		},
	}
}

// newServer builds a server that is ready, with changes to its options.
func newServer(t testing.TB, c *calls, change ...func(*Options)) *Server {
	t.Helper()
	o := options(t, c)
	for _, f := range change {
		f(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.SetReady()
	return s
}

// do asks the handler and returns the answer, its body already read.
func do(t testing.TB, h http.Handler, method, target string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(b)
}

// fields decodes a JSON object without knowing its type.
func fields(t testing.TB, body string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.NewDecoder(strings.NewReader(body)).Decode(&v); err != nil {
		t.Fatalf("not a JSON object: %v\n%s", err, body)
	}
	return v
}

package web

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestHealthyAlwaysAndReadyOnlyBetweenStartAndStop(t *testing.T) {
	s, err := New(options(t, &calls{}))
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string, code int, stopping string) {
		t.Helper()
		for _, method := range []string{"GET", "HEAD"} {
			if res, body := do(t, s.Handler(), method, "/-/healthy"); res.StatusCode != 200 || method == "GET" && body != "Prometheus Agent is Healthy.\n" {
				t.Errorf("%s: %s healthy: %d %q", when, method, res.StatusCode, body)
			}
			for _, path := range []string{"/-/ready", "/api/v1/targets", "/api/v1/query"} {
				res, body := do(t, s.Handler(), method, path)
				want := code
				if code == 200 && path == "/api/v1/query" {
					want = 422
				}
				if res.StatusCode != want {
					t.Errorf("%s: %s %s: %d, want %d", when, method, path, res.StatusCode, want)
				}
				if got := res.Header.Get("X-Prometheus-Stopping"); got != stopping {
					t.Errorf("%s: %s %s: X-Prometheus-Stopping %q, want %q", when, method, path, got, stopping)
				}
				if code == 503 && body != "Service Unavailable" {
					t.Errorf("%s: %s %s: body %q", when, method, path, body)
				}
			}
		}
	}
	check("starting", 503, "false")
	s.SetReady()
	check("ready", 200, "")
	if _, body := do(t, s.Handler(), "GET", "/-/ready"); body != "Prometheus Agent is Ready.\n" {
		t.Errorf("ready says %q", body)
	}
	s.SetStopping()
	check("stopping", 503, "true")
	s.SetReady()
	check("stopping and told ready", 503, "true")
}

func TestReloadAndQuit(t *testing.T) {
	for _, c := range []struct {
		name, method, path string
		disabled           bool
		err                error
		code               int
		body               string
		reloads, quits     int32
	}{
		{name: "reload", method: "POST", path: "/-/reload", code: 200, reloads: 1},
		{name: "reload by PUT", method: "PUT", path: "/-/reload", code: 200, reloads: 1},
		{name: "reload of a broken file", method: "POST", path: "/-/reload", err: errBroken, code: 500, body: "failed to reload config: config.yml: job_name is missing\n", reloads: 1},
		{name: "reload by GET", method: "GET", path: "/-/reload", code: 405, body: "Only POST or PUT requests allowed"},
		{name: "quit", method: "POST", path: "/-/quit", code: 200, body: "Requesting termination... Goodbye!", quits: 1},
		{name: "quit by PUT", method: "PUT", path: "/-/quit", code: 200, body: "Requesting termination... Goodbye!", quits: 1},
		{name: "quit by GET", method: "GET", path: "/-/quit", code: 405, body: "Only POST or PUT requests allowed"},
		{name: "reload disabled", method: "POST", path: "/-/reload", disabled: true, code: 403, body: "Lifecycle API is not enabled."},
		{name: "reload by PUT disabled", method: "PUT", path: "/-/reload", disabled: true, code: 403, body: "Lifecycle API is not enabled."},
		{name: "quit disabled", method: "POST", path: "/-/quit", disabled: true, code: 403, body: "Lifecycle API is not enabled."},
		{name: "quit by GET disabled", method: "GET", path: "/-/quit", disabled: true, code: 405, body: "Only POST or PUT requests allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := &calls{reloadErr: c.err}
			s := newServer(t, asked, func(o *Options) { o.EnableLifecycle = !c.disabled })
			res, body := do(t, s.Handler(), c.method, c.path)
			if res.StatusCode != c.code || body != c.body {
				t.Errorf("got %d %q, want %d %q", res.StatusCode, body, c.code, c.body)
			}
			if asked.reloads.Load() != c.reloads || asked.quits.Load() != c.quits {
				t.Errorf("%d reloads and %d quits were asked for, want %d and %d", asked.reloads.Load(), asked.quits.Load(), c.reloads, c.quits)
			}
		})
	}
}

func TestSecondQuitIsToldOfTheFirst(t *testing.T) {
	asked := &calls{}
	s := newServer(t, asked)
	do(t, s.Handler(), "POST", "/-/quit")
	if res, body := do(t, s.Handler(), "POST", "/-/quit"); res.StatusCode != 200 || body != "Termination already in progress." {
		t.Errorf("second quit: %d %q", res.StatusCode, body)
	}
	if n := asked.quits.Load(); n != 1 {
		t.Errorf("quit was asked for %d times", n)
	}
}

func TestOtherMethodsAreNotAllowed(t *testing.T) {
	s := newServer(t, &calls{})
	for path, method := range map[string]string{"/-/healthy": "POST", "/metrics": "PUT", "/-/quit": "DELETE", "/api/v1/targets": "POST", "/api/v1/admin/tsdb/snapshot": "GET"} {
		res, _ := do(t, s.Handler(), method, path)
		if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") == "" {
			t.Errorf("%s %s: %d, Allow %q; want 405 and what is allowed", method, path, res.StatusCode, res.Header.Get("Allow"))
		}
	}
}

// As in Prometheus: what needs the rest of the agent waits for it, what does not answers at any time.
func TestRoutesThatWaitForTheAgent(t *testing.T) {
	s, err := New(options(t, &calls{}))
	if err != nil {
		t.Fatal(err)
	}
	early := []string{
		"GET /", "GET /agent", "GET /targets", "GET /graph", "GET /version", "GET /metrics", "GET /-/healthy", "HEAD /-/healthy", "POST /-/reload", "GET /-/reload",
		"GET /debug/pprof/", "GET /debug/pprof/cmdline", "GET /api/v1/status/walreplay", "GET /api/v1/notifications", "GET /api/v1/nothing", "DELETE /api/v1/series",
	}
	late := []string{
		"GET /-/ready", "HEAD /-/ready", "GET /federate", "GET /consoles/index.html", "GET /api/v1/targets", "GET /api/v1/targets/metadata", "GET /api/v1/metadata",
		"GET /api/v1/scrape_pools", "GET /api/v1/status/config", "GET /api/v1/status/flags", "GET /api/v1/status/buildinfo", "GET /api/v1/status/runtimeinfo",
		"GET /api/v1/status/remotes", "POST /api/v1/read", "POST /api/v1/write", "POST /api/v1/otlp/v1/metrics", "GET /api/v1/search/label_names",
		"OPTIONS /api/v1/targets", "OPTIONS /api/v1/nothing",
	}
	for _, p := range unavailable {
		method, path, _ := strings.Cut(p, " ")
		late = append(late, method+" /api/v1"+strings.ReplaceAll(path, "{name}", "job"))
	}
	for _, when := range []string{"starting", "stopping"} {
		for _, c := range slices.Concat(early, late) {
			method, path, _ := strings.Cut(c, " ")
			res, _ := do(t, s.Handler(), method, path)
			if waits := res.StatusCode == 503; waits != slices.Contains(late, c) {
				t.Errorf("%s: %s: %d", when, c, res.StatusCode)
			}
		}
		s.SetStopping()
	}
}

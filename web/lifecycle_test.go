package web

import (
	"net/http"
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
		if res, _ := do(t, s.Handler(), "GET", "/api/v1/status/walreplay"); res.StatusCode != 200 {
			t.Errorf("%s: walreplay %d, want 200 at any time", when, res.StatusCode)
		}
		if res, _ := do(t, s.Handler(), "GET", "/metrics"); res.StatusCode != 200 {
			t.Errorf("%s: metrics %d, want 200 at any time", when, res.StatusCode)
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

package discovery

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/file"
	sdhttp "github.com/prometheus/prometheus/discovery/http"

	"promagent/discovery/group"
)

// run runs a Manager with one job until the test ends.
func run(t *testing.T, o Options, c Configs) *Manager {
	t.Helper()
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	change, err := m.Prepare(map[string]Configs{"a": c})
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	wg.Go(func() { _ = m.Run(ctx) })
	return m
}

// runReal runs a Manager with one job and calls seen with every state until
// it returns true.
func runReal(t *testing.T, c Configs, seen func(state string) bool) {
	t.Helper()
	m := run(t, Options{}, c)
	r := &reader{jobs: map[string]map[string]group.Group{}}
	for batch := range m.Updates() {
		r.read(batch)
		if seen(r.String()) {
			return
		}
	}
	t.Fatalf("the awaited state did not come within a minute; now %q", r.String())
}

func TestFileDiscoveryFollowsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "targets.json")
	write := func(content string) {
		t.Helper()
		tmp := path + ".tmp"
		if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, path); err != nil {
			t.Fatal(err)
		}
	}
	write(`[{"targets": ["1:80"]}, {"targets": ["2:80"]}]`)
	steps := []struct {
		state string
		then  func()
	}{
		{"a: 1:80 2:80", func() { write(`[{"targets": ["3:80"]}]`) }},
		{"a: 3:80", func() {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		}},
		{"a:", func() {}},
	}
	c := file.DefaultSDConfig
	c.Files = []string{path}
	c.RefreshInterval = model.Duration(50 * time.Millisecond)
	announced := false
	runReal(t, Configs{&c}, func(state string) bool {
		if state == "a:" && !announced {
			announced = true
			return false
		}
		announced = true
		if state == steps[0].state {
			steps[0].then()
			steps = steps[1:]
		}
		return len(steps) == 0
	})
}

func TestFailedRefreshKeepsTheTargets(t *testing.T) {
	var requests atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n := requests.Add(1); {
		case n == 1:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`[{"targets": ["1:80"]}]`))
		case n < 10:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`[{"targets": ["2:80"]}]`))
		}
	}))
	defer s.Close()
	c := sdhttp.DefaultSDConfig
	c.HTTPClientConfig = commonconfig.DefaultHTTPClientConfig
	c.URL = s.URL
	c.RefreshInterval = model.Duration(50 * time.Millisecond)
	var states []string
	runReal(t, Configs{&c}, func(state string) bool {
		if state != "a:" {
			states = append(states, state)
		}
		return state == "a: 2:80"
	})
	if len(states) != 2 || states[0] != "a: 1:80" {
		t.Errorf("states: got %q, want the first target until there is another", states)
	}
}

func TestHTTPDiscoverySendsTheUserAgentOfTheAgent(t *testing.T) {
	asked := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path + " " + r.UserAgent()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"access_token": "t", "token_type": "Bearer"}`))
	}))
	defer s.Close()
	c := sdhttp.DefaultSDConfig
	c.HTTPClientConfig = commonconfig.DefaultHTTPClientConfig
	c.HTTPClientConfig.OAuth2 = &commonconfig.OAuth2{ClientID: "i", ClientSecret: "s", TokenURL: s.URL + "/token"}
	c.URL = s.URL + "/targets"
	run(t, Options{UserAgent: "Prometheus/9+own"}, Configs{&c})
	for _, want := range []string{"/token Prometheus/9+own", "/targets Prometheus/9+own"} {
		if got := <-asked; got != want {
			t.Errorf("request and User-Agent: got %q, want %q", got, want)
		}
	}
}

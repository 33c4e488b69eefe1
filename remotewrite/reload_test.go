package remotewrite

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func (m *testManager) prepare(cfgs ...Config) *Change {
	m.t.Helper()
	c, err := m.Prepare(cfgs)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// overTLS is a receiver in front of which TLS is spoken, and the CA in a file.
func overTLS(t *testing.T, r *receiver) (cfg Config, ca string) {
	t.Helper()
	srv := httptest.NewTLSServer(r.srv.Config.Handler)
	t.Cleanup(srv.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	cfg = remoteConfig(t, srv.URL)
	cfg.HTTP.TLSConfig.CAFile = ca
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return cfg, ca
}

// The files that a change was made with may go at any time after: it is put into
// force whole all the same, and delivery goes on when the files are back.
func TestCommitOfRemotesAppliesThoughTheirFilesHaveVanished(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"a new remote":                         nil,
		"one whose queue has changed":          func(c *Config) { c.Queue.MaxSamplesPerSend++ },
		"one whose endpoint is made anew":      func(c *Config) { c.SendExemplars = !c.SendExemplars },
		"one that is the same as it was":       func(*Config) {},
		"one whose name in metrics is another": func(c *Config) { c.RemoteName = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := openLog(t, t.TempDir())
			r := newReceiver(t, nil)
			cfg, ca := overTLS(t, r)
			m := startManager(l, patience)
			if change != nil {
				m.apply(cfg)
				m.running(1)
				change(&cfg)
			}
			prepared := m.prepare(cfg)
			moved := ca + ".moved"
			if err := os.Rename(ca, moved); err != nil {
				t.Fatal(err)
			}
			prepared.Commit()
			m.running(1)
			if s := m.Status()[0]; s.Name != cfg.RemoteName {
				t.Errorf("the remote is %q, want %q", s.Name, cfg.RemoteName)
			}
			if same := endpoints(m)[0].client.Load() != prepared.blocks[0].client; same != (name == "one that is the same as it was") {
				t.Errorf("it is sent to with the client that it had: %v", same)
			}
			l.scrape(testTarget("a", 5))
			if err := os.Rename(moved, ca); err != nil {
				t.Fatal(err)
			}
			m.delivered()
			r.mustHave(l.want)
		})
	}
}

func TestChangeOfRemotesThatIsDroppedLeavesNothing(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience, cfg)
	l.scrape(testTarget("a", 5))
	m.delivered()
	before, cursors, goroutines := endpoints(m), l.store.Log().Cursors(), runtime.NumGoroutine()
	for range 20 {
		next, other := cfg, cfg
		next.Queue.MaxShards++
		other.RemoteName, other.Name = "other", "other"
		m.prepare(next, other).Drop()
	}
	if got := endpoints(m); !slices.Equal(got, before) || m.Status()[0].Name != "test" {
		t.Error("the endpoints have changed")
	}
	if got := l.store.Log().Cursors(); !slices.Equal(got, cursors) {
		t.Errorf("there are positions of %q, want of %q", got, cursors)
	}
	if n := runtime.NumGoroutine(); n > goroutines+5 {
		t.Errorf("%d goroutines after 20 changes that were dropped, %d before", n, goroutines)
	}
	l.scrape(testTarget("b", 5))
	m.delivered()
	r.mustHave(l.want)
}

// Whatever was prepared before, what is committed last is in force as a whole.
func TestRemotesPreparedTogetherAreThoseOfTheLastCommit(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience, cfg)
	more := cfg
	more.Queue.MaxSamplesPerSend = 7
	again, changed, none := m.prepare(cfg), m.prepare(more), m.prepare()
	for _, step := range []struct {
		change *Change
		want   []Config
	}{{none, nil}, {changed, []Config{more}}, {again, []Config{cfg}}} {
		step.change.Commit()
		m.running(len(step.want))
		for i := range step.want {
			m.mu.Lock()
			got := m.remotes[i].cfg
			m.mu.Unlock()
			if !got.Equal(&step.want[i]) {
				t.Errorf("in force is %+v, want %+v", got, step.want[i])
			}
		}
		l.scrape(testTarget("a", 5))
	}
	m.delivered()
	r.mustHave(l.want)
}

// Of remotes that are committed from several goroutines one set is in force.
func TestRemotesCommittedAtTheSameTimeAreOneSet(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience, cfg)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 10 {
				next := cfg
				next.Queue.MaxSamplesPerSend = 100 + i
				c, err := m.Prepare([]Config{next})
				if err != nil {
					t.Error(err)
					return
				}
				if n%3 == 0 {
					c.Drop()
				} else {
					c.Commit()
				}
			}
		})
	}
	wg.Wait()
	m.running(1)
	l.scrape(testTarget("a", 5))
	m.delivered()
	r.mustHave(l.want)
}

func TestNothingThatIsRegisteredMeanwhileKeepsARemoteFromItsDelivery(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience)
	change := m.prepare(cfg)
	m.registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "prom_agent_remote_behind_samples", ConstLabels: prometheus.Labels{"remote_name": "test", "url": cfg.URL.Redacted()},
		Help: "Samples in the log that the remote does not have.",
	}))
	change.Commit()
	m.running(1)
	l.scrape(testTarget("a", 5))
	m.delivered()
	r.mustHave(l.want)
}

func TestMetricsOfARemoteGoWithIt(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	m := startManager(l, patience, remoteConfig(t, r.srv.URL))
	has := func() bool { _, ok := gather(t, m.registry)["prom_agent_remote_behind_samples"]; return ok }
	eventually(t, "its metrics are there", has)
	m.apply()
	eventually(t, "its metrics are gone", func() bool { return !has() })
}

func TestCheckSaysWhatIsWrongWithRemotes(t *testing.T) {
	good := remoteConfig(t, "http://127.0.0.1:1")
	broken := remoteConfig(t, "https://127.0.0.1:1")
	broken.RemoteName, broken.HTTP.TLSConfig.CAFile = "broken", "/does/not/exist"
	if err := Check([]Config{good}); err != nil {
		t.Error(err)
	}
	if err := Check([]Config{good, broken}); err == nil || !strings.Contains(err.Error(), "HTTP client of remote broken") {
		t.Errorf("got error %v", err)
	}
	if err := Check([]Config{good, good}); err == nil || !strings.Contains(err.Error(), `the name "test"`) {
		t.Errorf("got error %v", err)
	}
}

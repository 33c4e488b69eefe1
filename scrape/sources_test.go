package scrape

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"promagent/discovery"
	"promagent/discovery/group"
	"promagent/template"
)

func sourceOf(source string, sets ...model.LabelSet) group.Group {
	return group.Of(&targetgroup.Group{Source: source, Targets: sets})
}

// poolOf is a pool of a job whose samples go nowhere, and a way to its next configuration.
func poolOf(t *testing.T, c JobConfig) (p *pool, prepareAs func(JobConfig) *prepared) {
	t.Helper()
	m, err := New(Options{Sink: sinkFunc(func(*template.Batch) error { return nil })})
	if err != nil {
		t.Fatal(err)
	}
	prepareAs = func(c JobConfig) *prepared {
		n, err := prepare(&c, "ua", nil)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	p = newPool(prepareAs(c), nil, m.env, slog.New(slog.DiscardHandler))
	t.Cleanup(p.stop)
	return p, prepareAs
}

func TestTargetWhoseClientCannotBeMadeFailsUntilItCan(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ := poolOf(t, job("job", func(c *JobConfig) {
		c.Interval, c.Timeout = 10*time.Millisecond, 10*time.Millisecond
		c.HTTP = commonconfig.DefaultHTTPClientConfig
		c.HTTP.TLSConfig.CAFile = ca
	}))
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	socket := model.LabelSet{"__address__": "h:1", "__unix_socket__": "/none.sock"}
	p.update(map[string]group.Group{"s": sourceOf("s", socket)})
	failsWith := func(text string) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			last := p.status().Targets[0].LastError
			if strings.Contains(last, text) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the error is %q, want one with %q", last, text)
			}
		}
	}
	failsWith("ca.pem")
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	failsWith("none.sock")
}

func TestDiscoveredLabelsAreOfASourceThatIsThere(t *testing.T) {
	p, _ := poolOf(t, job("job", nil))
	from := func(source string) map[string]group.Group {
		return map[string]group.Group{source: sourceOf(source, model.LabelSet{"__address__": "h:1", "__meta_from": model.LabelValue(source)})}
	}
	p.update(from("a"))
	p.update(from("b"))
	p.update(map[string]group.Group{"b": {Source: "b"}})
	s := p.status()
	if len(s.Targets) != 1 {
		t.Fatalf("%d targets", len(s.Targets))
	}
	if got := s.Targets[0].Discovered().Get("__meta_from"); got != "a" {
		t.Errorf("discovered by %q, whose source is gone", got)
	}
}

func TestStoppedPoolStartsNothingAtAReload(t *testing.T) {
	p, prepareAs := poolOf(t, job("job", nil))
	p.update(map[string]group.Group{"s": sourceOf("s", model.LabelSet{"__address__": "h:1"})})
	n := prepareAs(job("job", func(c *JobConfig) { c.HonorLabels = true }))
	p.stop()
	p.become(n, nil) // a commit that got hold of it before
	if got := len(p.running()); got != 0 {
		t.Errorf("%d loops run", got)
	}
}

func TestGroupsOfAJobWithoutAPoolAreForgottenWhenTheyEnd(t *testing.T) {
	m, err := New(Options{Sink: sinkFunc(func(*template.Batch) error { return nil })})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		source := fmt.Sprint("pod/", i)
		m.collect([]discovery.Update{{Job: "broken", Groups: []group.Group{sourceOf(source, model.LabelSet{"__address__": "h:1"})}}})
		m.collect([]discovery.Update{{Job: "broken", Groups: []group.Group{{Source: source}}}})
	}
	if n := len(m.held["broken"]); n > 0 {
		t.Errorf("%d are held", n)
	}
}

func TestSlowScrapeOfAReloadedJobHoldsUpNoOtherJob(t *testing.T) {
	begun, answer := make(chan struct{}, 10), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case begun <- struct{}{}:
		default:
		}
		<-answer
	}))
	defer srv.Close()
	m, err := New(Options{Sink: sinkFunc(func(*template.Batch) error { return nil }), ReloadInterval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(limit int) {
		change, err := m.Prepare(Config{Jobs: []JobConfig{
			job("slow", func(c *JobConfig) { c.Interval, c.Timeout, c.SampleLimit = time.Minute, time.Minute, limit }), job("quick", nil),
		}})
		if err != nil {
			t.Error(err)
			return
		}
		change.Commit()
	}
	apply(0)
	updates := make(chan []discovery.Update)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx, updates) }()
	send := func(job string, g group.Group) { updates <- []discovery.Update{{Job: job, Groups: []group.Group{g}}} }
	send("slow", sourceOf("s", model.LabelSet{"__address__": model.LabelValue(strings.TrimPrefix(srv.URL, "http://")), "__scrape_interval__": "100ms", "__scrape_timeout__": "100ms"}))
	<-begun
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		for i := range 20 { // some of them find a scrape under way
			apply(5 + i)
		}
	}()
	send("slow", sourceOf("late", model.LabelSet{"__address__": "127.0.0.1:1"}))
	send("quick", sourceOf("s", model.LabelSet{"__address__": "127.0.0.1:1"}))
	has := func(job string, n int) bool {
		for _, s := range m.Pools() {
			if s.Job == job {
				return len(s.Targets) == n
			}
		}
		return false
	}
	for end := time.Now().Add(20 * time.Second); !has("quick", 1) || !has("slow", 2); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the targets have not come")
		}
	}
	close(answer)
	<-reloaded
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestPoolThatReloadsTakesGroupsLater(t *testing.T) {
	p, _ := poolOf(t, job("job", nil))
	p.changing.Lock()
	if p.update(map[string]group.Group{"s": sourceOf("s", model.LabelSet{"__address__": "h:1"})}) {
		t.Error("it says that it has taken them")
	}
	p.changing.Unlock()
	if !p.update(map[string]group.Group{"s": sourceOf("s", model.LabelSet{"__address__": "h:1"})}) || len(p.running()) != 1 {
		t.Error("it has not taken them")
	}
}

// Whatever comes and goes, the loops are those of the sources' targets.
func TestLoopsAreThoseOfTheSourcesThroughAnyHistory(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			next := func() JobConfig {
				return job("job", func(c *JobConfig) {
					c.Interval = time.Duration(600+r.IntN(3)*60) * time.Second
					c.HonorLabels = r.IntN(4) == 0
					c.SampleLimit = r.IntN(3)
					c.MetricsPath = []string{"/metrics", "/other"}[r.IntN(2)]
				})
			}
			p, prepareAs := poolOf(t, next())
			for range 40 {
				if r.IntN(6) == 0 {
					p.become(prepareAs(next()), nil)
				} else {
					groups := map[string]group.Group{}
					for range r.IntN(4) {
						source := fmt.Sprint("s", r.IntN(5))
						var sets []model.LabelSet
						for range r.IntN(4) {
							l := model.LabelSet{"__address__": model.LabelValue(fmt.Sprintf("127.0.0.1:%d", 1+r.IntN(4)))}
							if r.IntN(3) == 0 {
								l["__scrape_interval__"] = model.LabelValue(fmt.Sprintf("%dm", 10+r.IntN(3)))
							}
							sets = append(sets, l)
						}
						groups[source] = sourceOf(source, sets...)
					}
					p.update(groups)
				}
				want := map[uint64]int{}
				for _, s := range p.sources {
					for _, x := range s.targets {
						want[x.hash]++
					}
				}
				if len(want) != len(p.loops) || len(want) != len(p.users) {
					t.Fatalf("seed %d: %d targets, %d loops, %d users", seed, len(want), len(p.loops), len(p.users))
				}
				for h, n := range want {
					if p.users[h] != n || p.loops[h] == nil || p.loops[h].target.hash != h || ending(p.loops[h].how.Load()) != running {
						t.Fatalf("seed %d: %d users, want %d, loop %v", seed, p.users[h], n, p.loops[h])
					}
				}
			}
			p.stop()
		})
	}
}

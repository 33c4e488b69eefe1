package remotewrite

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
)

// gate is a receiver's mood that a test switches.
type gate struct {
	status atomic.Int32
	epoch  atomic.Int32
}

func newGate(status int) *gate {
	g := &gate{}
	g.status.Store(int32(status))
	return g
}

func (g *gate) set(status int) { g.status.Store(int32(status)) }

// next begins an epoch for a remote whose requests before may have been given
// up on their way: the receiver may still take them when it sees them later,
// which is a repetition that the test does not want. It refuses them from now
// on, whatever its mood.
func (g *gate) next(cfg Config) Config {
	cfg.Headers = map[string]string{"X-Epoch": fmt.Sprint(g.epoch.Add(1))}
	return cfg
}

func (g *gate) answer(_ http.ResponseWriter, r *request) int {
	if n := g.epoch.Load(); n > 0 && r.header.Get("X-Epoch") != fmt.Sprint(n) {
		return http.StatusServiceUnavailable
	}
	return int(g.status.Load())
}

// hang never answers while it is shut.
type hang struct{ open chan struct{} }

func (h hang) answer(http.ResponseWriter, *request) int {
	<-h.open
	return http.StatusServiceUnavailable
}

// soon fails the test when f takes longer than it should.
func soon(t testing.TB, what string, most time.Duration, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if d := time.Since(begin); d > most {
		t.Errorf("%s took %v", what, d)
	}
}

func TestNothingIsLostOverARestartWhileTheReceiverIsDown(t *testing.T) {
	t.Parallel()
	for _, message := range bothMessages {
		t.Run(message, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := openLog(t, dir)
			g := newGate(204)
			r := newReceiver(t, g.answer)
			cfg := remoteConfig(t, r.srv.URL)
			cfg.ProtobufMessage = message
			cfg.Queue.MinShards, cfg.Queue.MaxShards = 3, 3
			a, b := testTarget("a", 120), testTarget("b", 60)
			for range 4 { // processes
				m := startManager(l, patience, cfg)
				for range 20 {
					l.scrape(a, b)
				}
				r.waitFor(l.count)
				m.delivered()
				g.set(503)
				before, _ := r.counts()
				for range 20 {
					l.scrape(a, b)
				}
				r.wait("a refusal", func() bool { return r.requests > before+3 })
				soon(t, "stopping", 5*time.Second, m.stop)
				l.scrape(a, b) // without a sender
				cfg = g.next(cfg)
				g.set(204)
				l = l.reopened(dir)
			}
			m := startManager(l, patience, cfg)
			r.waitFor(l.count)
			m.delivered()
			r.mustHave(l.want)
		})
	}
}

func TestARemoteBeginsAtTheLogsEnd(t *testing.T) {
	l := openLog(t, t.TempDir())
	a := testTarget("a", 10)
	l.scrape(a)
	clear(l.want)
	r := newReceiver(t, nil)
	m := startManager(l, patience, remoteConfig(t, r.srv.URL))
	l.scrape(a)
	m.delivered()
	r.mustHave(l.want)
}

func TestTheEndDeliversWhatIsLeft(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.BatchSendDeadline = time.Hour
	cfg.Queue.MinShards, cfg.Queue.MaxShards = 4, 4
	m := startManager(l, patience, cfg)
	l.scrape(testTarget("a", 70))
	eventually(t, "all is dealt", func() bool { return m.Status()[0].Pending == 70 })
	if n, _ := r.counts(); n > 0 {
		t.Errorf("%d requests before the deadline", n)
	}
	soon(t, "stopping", 10*time.Second, m.stop)
	r.mustHave(l.want)
}

func TestTheFlushDeadlineHoldsWithADeadReceiver(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		flush time.Duration
		dead  func(t *testing.T) string // address
	}{
		{"it does not answer", 50 * time.Millisecond, func(t *testing.T) string {
			h := hang{make(chan struct{})}
			r := newReceiver(t, h.answer)
			t.Cleanup(func() { close(h.open) }) // before the server's end
			return r.srv.URL
		}},
		{"it refuses connections", time.Hour, func(t *testing.T) string {
			r := newReceiver(t, nil)
			r.srv.Close()
			return r.srv.URL
		}},
		{"it asks for patience", time.Hour, func(t *testing.T) string {
			return newReceiver(t, func(w http.ResponseWriter, _ *request) int {
				w.Header().Set("Retry-After", "3600")
				return 503
			}).srv.URL
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := openLog(t, dir)
			cfg := remoteConfig(t, tc.dead(t))
			cfg.Name = "r"
			cfg.RemoteTimeout = time.Hour
			cfg.Queue.MinShards, cfg.Queue.MaxShards = 2, 2
			m := startManager(l, tc.flush, cfg)
			a := testTarget("a", 1000) // more than the queues hold
			for range 10 {
				l.scrape(a)
			}
			eventually(t, "something is dealt", func() bool { return m.Status()[0].Pending > 200 })
			if tc.flush == time.Hour {
				eventually(t, "it fails", func() bool { return m.Status()[0].Failing })
			}
			soon(t, "stopping", 10*time.Second, m.stop)

			l = l.reopened(dir)
			r := newReceiver(t, nil)
			next := remoteConfig(t, r.srv.URL)
			next.Name = "r"
			m = startManager(l, patience, next)
			m.delivered()
			r.mustHave(l.want)
		})
	}
}

func TestADeadRemoteDoesNotDisturbAnother(t *testing.T) {
	l := openLog(t, t.TempDir())
	h := hang{make(chan struct{})}
	dead, good := newReceiver(t, h.answer), newReceiver(t, nil)
	defer close(h.open)
	deadCfg, goodCfg := remoteConfig(t, dead.srv.URL), remoteConfig(t, good.srv.URL)
	deadCfg.RemoteName = "dead"
	deadCfg.RemoteTimeout = time.Hour
	m := startManager(l, 10*time.Millisecond, deadCfg, goodCfg)
	a := testTarget("a", 500)
	for range 40 {
		l.scrape(a)
	}
	good.waitFor(l.count)
	good.mustHave(l.want)
	s := m.Status()
	if s[0].BehindSamples != uint64(l.count) || s[1].Name != "test" || s[1].Shards != 1 {
		t.Errorf("got status %+v", s)
	}
	soon(t, "stopping", 10*time.Second, m.stop)
}

func endpoints(m *testManager) (out []*Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.remotes {
		var e *Endpoint
		if r.delivery != nil {
			e = r.delivery.main()
		}
		out = append(out, e)
	}
	return out
}

func TestReloadsKeepWhatHasNotChangedAndEveryPosition(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*Config)
		same   bool                // the endpoint goes on
		after  func(string) string // series sent after the change; nil: as before
	}{
		{"nothing", func(*Config) {}, true, nil},
		{"rules written again", func(c *Config) { c.WriteRelabel = []*promrelabel.Config{dropSeries("m3_total")} }, true, nil},
		{"a header", func(c *Config) { c.Headers = map[string]string{"X-A": "b"} }, true, nil},
		{"the queue", func(c *Config) { c.Queue.MaxSamplesPerSend, c.Queue.Capacity = 50, 500 }, true, nil},
		{"the timeout", func(c *Config) { c.RemoteTimeout = time.Minute }, true, nil},
		{"the name that metrics carry", func(c *Config) { c.RemoteName = "other" }, false, nil},
		{"external labels", func(c *Config) { c.ExternalLabels = labels.FromStrings("a", "b") }, false, func(s string) string {
			return strings.Replace(s, `", instance=`, `", a="b", instance=`, 1)
		}},
		{"rules", func(c *Config) { c.WriteRelabel = append(c.WriteRelabel, setLabel("z", "1")) }, false, func(s string) string {
			return strings.TrimSuffix(s, "}") + `, z="1"}`
		}},
		{"the message", func(c *Config) { c.ProtobufMessage = MessageV2 }, false, nil},
		{"the path of the URL", func(c *Config) { c.URL = c.URL.JoinPath("/elsewhere") }, false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := openLog(t, t.TempDir())
			g := newGate(204)
			r := newReceiver(t, g.answer)
			cfg := remoteConfig(t, r.srv.URL)
			cfg.WriteRelabel = []*promrelabel.Config{dropSeries("m3_total")}
			kept := func(s string) string {
				if strings.Contains(s, `__name__="m3_total"`) {
					return ""
				}
				return s
			}
			m := startManager(l, patience, cfg)
			before := endpoints(m)[0]
			a := testTarget("a", 300)
			for range 5 {
				l.scrape(a)
			}
			m.delivered()
			want := mapped(l.want, kept)
			clear(l.want)
			g.set(503) // what comes now is delivered under the changed configuration
			for range 5 {
				l.scrape(a)
			}
			n, _ := r.counts()
			r.wait("retries", func() bool { return r.requests > n+3 })
			next := cfg
			tc.change(&next)
			if !tc.same {
				next = g.next(next)
			}
			soon(t, "the reload", 5*time.Second, func() { m.apply(next) })
			for range 5 {
				l.scrape(a)
			}
			if got := endpoints(m)[0] == before; got != tc.same {
				t.Errorf("the endpoint goes on: %v, want %v", got, tc.same)
			}
			g.set(204)
			m.running(1)
			m.delivered()
			rest := mapped(l.want, kept)
			if tc.after != nil {
				rest = mapped(rest, tc.after)
			}
			for s, ps := range rest {
				want[s] = append(want[s], ps...)
			}
			r.mustHave(want)
		})
	}
}

func TestARemovedRemoteStopsAndMayComeBack(t *testing.T) {
	l := openLog(t, t.TempDir())
	r, other := newReceiver(t, nil), newReceiver(t, nil)
	cfg, otherCfg := remoteConfig(t, r.srv.URL), remoteConfig(t, other.srv.URL)
	otherCfg.RemoteName = "other"
	m := startManager(l, patience, cfg, otherCfg)
	a := testTarget("a", 50)
	l.scrape(a)
	m.delivered()
	m.apply(otherCfg)
	eventually(t, "the metrics vanish", func() bool {
		for _, f := range gather(t, m.registry) {
			for _, x := range f.series {
				if x.labels["remote_name"] == "test" || x.labels["consumer"] == "test" {
					return false
				}
			}
		}
		return true
	})
	_, before := r.counts()
	l.scrape(a)
	other.waitFor(l.count)
	if _, n := r.counts(); n != before {
		t.Errorf("%d samples were sent to a removed remote", n-before)
	}
	m.apply(cfg, otherCfg)
	m.running(2)
	m.delivered()
	r.mustHave(l.want)
	other.mustHave(l.want)
}

func TestQuickReloadsDoNotStartARemoteTwice(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience, cfg)
	a := testTarget("a", 200)
	for i := range 30 {
		l.scrape(a)
		switch i % 3 {
		case 0:
			m.apply()
		case 1:
			m.apply(cfg)
		default:
			next := cfg
			next.ExternalLabels = labels.FromStrings("job", fmt.Sprint(i)) // yields to the series' own
			m.apply(next)
		}
	}
	m.apply(cfg)
	m.running(1)
	m.delivered()
	r.mustHaveOnceRepeated(l.want)
}

func TestPositionsFollowTheirBlocksOfTheSameURL(t *testing.T) {
	l := openLog(t, t.TempDir())
	// One receiver, told apart by a header: the first takes nothing for now.
	down := newGate(204)
	var first, second *receiver
	first = newReceiver(t, func(w http.ResponseWriter, q *request) int {
		if q.header.Get("X-Which") == "second" {
			second.mu.Lock()
			for s, ps := range q.series {
				second.series[s] = append(second.series[s], ps...)
			}
			second.mu.Unlock()
			clear(q.series)
			q.order = nil
			return 204
		}
		return down.answer(w, q)
	})
	second = newReceiver(t, nil)
	a, b := remoteConfig(t, first.srv.URL), remoteConfig(t, first.srv.URL)
	a.RemoteName, a.Headers, a.Hash = "a", map[string]string{"X-Which": "first"}, "1"
	b.RemoteName, b.Headers, b.Hash = "b", map[string]string{"X-Which": "second"}, "2"
	m := startManager(l, patience, a, b)
	target := testTarget("a", 300)
	for i := range 6 {
		down.set(503)
		l.scrape(target)
		l.scrape(target)
		eventually(t, "one is behind", func() bool {
			s := m.Status()
			slices.SortFunc(s, func(x, y RemoteStatus) int { return strings.Compare(x.Name, y.Name) })
			return s[0].BehindSamples > 0 && s[1].BehindSamples == 0
		})
		before := endpoints(m)
		order := []Config{b, a}
		if i%2 == 1 {
			order = []Config{a, b}
		}
		m.apply(order...)
		if after := endpoints(m); after[0] != before[1] || after[1] != before[0] {
			t.Fatal("an endpoint was replaced because its block has moved")
		}
		down.set(204)
		m.delivered()
	}
	first.mustHave(l.want)
	second.mustHave(l.want)

	// One block alone keeps its own position, under the name of the first.
	down.set(503)
	l.scrape(target)
	eventually(t, "it is behind", func() bool { return m.Status()[0].BehindSamples > 0 && m.Status()[1].BehindSamples == 0 })
	m.apply(b)
	if got := m.store.Log().Cursors(); len(got) != 2 || m.remotes[0].identity != b.Identity() {
		t.Errorf("got cursors %q, the remote's is %q", got, m.remotes[0].identity)
	}
	down.set(204)
	m.delivered()
	second.mustHave(l.want)
}

func TestAnEditedURLTakesThePositionOver(t *testing.T) {
	t.Parallel()
	l := openLog(t, t.TempDir())
	g := newGate(503)
	r := newReceiver(t, g.answer)
	cfg := remoteConfig(t, r.srv.URL+"/old")
	m := startManager(l, patience, cfg)
	a := testTarget("a", 30)
	l.scrape(a)
	r.wait("a try", func() bool { return r.requests > 1 })
	next := g.next(remoteConfig(t, r.srv.URL+"/new"))
	m.apply(next)
	l.scrape(a)
	g.set(204)
	m.running(1)
	m.delivered()
	r.mustHave(l.want)
}

func TestARefusedConfigurationChangesNothing(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Hash = "h"
	m := startManager(l, patience, cfg)
	broken := remoteConfig(t, r.srv.URL+"/x")
	broken.Hash = "x"
	broken.RemoteName, broken.HTTP.TLSConfig.CAFile = "broken", "/does/not/exist"
	likeIt := cfg
	likeIt.Hash = "l"
	for want, cfgs := range map[string][]Config{
		"duplicate remote write configs are not allowed, found duplicate for URL: " + r.srv.URL: {cfg, cfg},
		"HTTP client of remote broken":                        {cfg, broken},
		`two remote write configs would have the name "test"`: {cfg, likeIt},
	} {
		if _, err := m.Prepare(cfgs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
	before := endpoints(m)
	change, err := m.Prepare(nil)
	if err != nil {
		t.Fatal(err)
	}
	change.Drop()
	if got := endpoints(m); !slices.Equal(got, before) {
		t.Error("the endpoints have changed")
	}
	l.scrape(testTarget("a", 5))
	m.delivered()
	r.mustHave(l.want)
}

func TestChangedBoundsOfShardsTakeEffectAtOnceAndKeepTheOrder(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience, cfg)
	a, b := testTarget("a", 150), testTarget("b", 150)
	for _, n := range [][2]int{{4, 9}, {1, 2}, {7, 7}, {2, 2}, {1, 5}} {
		next := cfg
		next.Queue.MinShards, next.Queue.MaxShards = n[0], n[1]
		m.apply(next)
		for range 10 {
			l.scrape(a, b)
		}
		eventually(t, fmt.Sprintf("%d to %d shards", n[0], n[1]), func() bool {
			now := m.Status()[0].Shards
			return n[0] <= now && now <= n[1]
		})
		for range 10 {
			l.scrape(a, b)
		}
	}
	m.delivered()
	r.mustHave(l.want)
	eventually(t, "the gauge follows", func() bool { return m.remoteMetric("shards") == m.Status()[0].Shards })
}

func TestAChangedClientIsTriedAtOnce(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, func(w http.ResponseWriter, q *request) int {
		if q.header.Get("X-Key") == "right" {
			return 204
		}
		w.Header().Set("Retry-After", "3600")
		return 503
	})
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience, cfg)
	l.scrape(testTarget("a", 5))
	eventually(t, "it fails", func() bool { return m.Status()[0].Failing })
	cfg.Headers = map[string]string{"X-Key": "right"}
	m.apply(cfg)
	r.waitFor(5)
	r.mustHave(l.want)
}

func TestABacklogIsDeliveredInOrder(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	g := newGate(503)
	r := newReceiver(t, g.answer)
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.MinShards, cfg.Queue.MaxShards = 3, 3
	m := startManager(l, patience, cfg)
	a, b := testTarget("a", 100), testTarget("b", 100)
	for range 100 { // more than a quarter of an hour
		l.clock += 10_000
		l.scrape(a, b)
	}
	r.wait("a try", func() bool { return r.requests > 3 })
	m.stop()
	l = l.reopened(dir)
	for range 30 {
		l.clock += 10_000
		l.scrape(a, b)
	}
	cfg = g.next(cfg)
	g.set(204)
	m = startManager(l, patience, cfg)
	m.delivered()
	r.mustHave(l.want)
	if n, _ := r.counts(); n > 1000 {
		t.Errorf("%d requests", n)
	}
	if got := int(metric(t, m.registry, "prometheus_wal_watcher_samples_sent_pre_tailing_total")); got > l.count {
		t.Errorf("%d samples count as a backlog", got)
	}
}

func TestIdentityIsTheNameOrTheURLAndTenant(t *testing.T) {
	base := "url:http://u@h/w"
	for _, tc := range []struct {
		set  func(*Config)
		want string
	}{
		{func(*Config) {}, base},
		{func(c *Config) { c.Name = "n" }, "name:n"},
		{func(c *Config) { c.URL.User = url.UserPassword("u", "other") }, base},
		{func(c *Config) { c.Headers = map[string]string{"X-A": "b"} }, base},
		{func(c *Config) { c.Headers = map[string]string{"X-Scope-OrgID": "t", "THANOS-Tenant": "s"} }, base + "|thanos-tenant=s|x-scope-orgid=t"},
		{func(c *Config) { c.RemoteTimeout++ }, base},
	} {
		cfg := remoteConfig(t, "http://u:secret@h/w")
		tc.set(&cfg)
		if got := cfg.Identity(); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func TestTheEndWaitsForRequestsUnderWayThoughOthersFail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir)
	begun, answer := make(chan struct{}), make(chan struct{})
	r := newReceiver(t, func(_ http.ResponseWriter, q *request) int {
		if strings.Contains(q.order[0], `instance="slow"`) {
			close(begun)
			<-answer
			return 204
		}
		return 503
	})
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.MinShards, cfg.Queue.MaxShards = 16, 16
	cfg.Queue.MinBackoff, cfg.Queue.MaxBackoff = time.Hour, time.Hour
	m := startManager(l, patience, cfg)
	slow := testTarget("slow", 1)
	l.scrape(slow)
	<-begun
	l.scrape(testTarget("a", 300), testTarget("b", 300), testTarget("c", 300))
	eventually(t, "others fail", func() bool { return m.Status()[0].Failing })
	time.AfterFunc(50*time.Millisecond, func() { close(answer) })
	soon(t, "stopping", 10*time.Second, m.stop)
	r.mustHave(map[string][]point{names(slow)[0]: l.want[names(slow)[0]]})

	// What has been delivered is not sent again.
	r = newReceiver(t, nil)
	cfg = remoteConfig(t, r.srv.URL)
	l = l.reopened(dir)
	m = startManager(l, patience, cfg)
	m.delivered()
	delete(l.want, names(slow)[0])
	r.mustHave(l.want)
}

package remotewrite

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

// tide is a receiver that can be down, and that keeps what it has missed
// meanwhile waiting, but for the first request after each outage.
type tide struct {
	*receiver

	mu    sync.Mutex // guards what follows
	down  bool
	after int64 // ms: until of the outage before
	until int64 // ms: what is not newer waits
	let   int   // requests of after to until that do not
	free  chan struct{}
}

func newTide(t testing.TB) *tide {
	d := &tide{free: make(chan struct{})}
	d.receiver = newReceiver(t, d.answer)
	t.Cleanup(d.flow)
	return d
}

func (d *tide) answer(_ http.ResponseWriter, r *request) int {
	d.mu.Lock()
	down, waits, free, last := d.down, false, d.free, true
	for _, ps := range r.series {
		waits = waits || ps[0].time <= d.until
		last = last && ps[0].time > d.after
	}
	if !down && waits && last && d.let > 0 {
		d.let--
		waits = false
	}
	d.mu.Unlock()
	if down {
		return http.StatusServiceUnavailable
	}
	if waits {
		<-free
	}
	return http.StatusNoContent
}

// fall begins an outage.
func (d *tide) fall() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = true
}

// rise ends it.
func (d *tide) rise(until int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down, d.after, d.until, d.let = false, d.until, until, 1
}

// flow lets all that waits through.
func (d *tide) flow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.until > 0 {
		close(d.free)
	}
	d.down, d.until, d.free = false, 0, make(chan struct{})
}

// outage makes the log longer while the receiver is down, by several minutes of data.
func (d *tide) outage(m *testManager, l *testLog, scrape func()) {
	d.t.Helper()
	d.fall()
	for range 20 {
		scrape()
	}
	e := endpoints(m)[0]
	eventually(d.t, "a refusal", func() bool { return e.failingSince.Load() != nil && e.silent.Load() })
	l.clock += (5 * time.Minute).Milliseconds()
	scrape()
	d.rise(l.clock)
}

// since is how many samples have been accepted that are newer than a time.
func (r *receiver) since(t int64) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ps := range r.series {
		for _, p := range ps {
			if p.time > t {
				n++
			}
		}
	}
	return n
}

// mustHaveParts fails unless exactly what was logged has been accepted, in
// order up to each of the bounds, ms, and after the last one. Samples may have
// come again when repeated is set.
func (r *receiver) mustHaveParts(want map[string][]point, repeated bool, bounds ...int64) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := map[string][]point{}
	for s, ps := range r.series {
		parts := make([][]point, len(bounds)+1)
		for _, p := range ps {
			n, _ := slices.BinarySearch(bounds, p.time)
			if !repeated || !slices.Contains(parts[n], p) {
				parts[n] = append(parts[n], p)
			}
		}
		got[s] = slices.Concat(parts...)
	}
	sameSeries(r.t, got, want)
}

// mustHaveSomehow fails unless all that was logged has been accepted.
func (r *receiver) mustHaveSomehow(want map[string][]point) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := map[string][]point{}
	for s, ps := range r.series {
		got[s] = slices.Compact(slices.SortedFunc(slices.Values(ps), func(a, b point) int { return int(a.time - b.time) }))
	}
	sameSeries(r.t, got, want)
}

// backlogs waits until so many are open.
func (m *testManager) backlogs(n int) {
	m.t.Helper()
	eventually(m.t, "the backlogs", func() bool { return m.Status()[0].Backlogs == n })
}

// newestFirst is a remote that gets the newest data first, and a log whose data
// is an hour old.
func newestFirst(t *testing.T, l *testLog, d *tide) Config {
	t.Helper()
	l.clock -= time.Hour.Milliseconds()
	cfg := remoteConfig(t, d.srv.URL)
	cfg.RemoteTimeout, cfg.NewestFirst = patience, true
	return cfg
}

func TestAfterAnOutageTheNewestArrivesBeforeTheBacklog(t *testing.T) {
	for _, message := range bothMessages {
		t.Run(message, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			d := newTide(t)
			cfg := newestFirst(t, l, d)
			cfg.ProtobufMessage = message
			m := startManager(l, patience, cfg)
			a, b := testTarget("a", 120), testTarget("b", 30)
			for range 5 {
				l.scrape(a, b)
			}
			m.delivered()
			d.outage(m, l, func() { l.scrape(a, b) })
			m.backlogs(1)
			bound := l.clock
			for range 10 {
				l.scrape(a, b)
			}
			eventually(t, "the newest", func() bool { return d.since(bound) == 10*150 })
			if _, n := d.counts(); n > (5+10)*150+cfg.Queue.MaxSamplesPerSend {
				t.Errorf("%d samples have arrived: the backlog did not wait", n)
			}
			eventually(t, "the newest is final", func() bool { return m.Status()[0].BehindSamples <= 21*150 })
			s := m.Status()[0]
			if want := uint64(21 * 150); s.BehindSamples < want-uint64(cfg.Queue.MaxSamplesPerSend) || s.Pending == 0 || s.BehindBytes == 0 || s.BehindSeconds < 60 {
				t.Errorf("got status %+v, want %d samples behind", s, want)
			}
			eventually(t, "the gauge", func() bool {
				return metric(t, m.registry, "prom_agent_remote_behind_samples") == float64(s.BehindSamples)
			})
			if n := l.store.Log().Oldest(); before(s.Position, n) {
				t.Errorf("the position %v is before the log's beginning %v", s.Position, n)
			}
			d.flow()
			m.backlogs(0)
			m.delivered()
			d.mustHaveParts(l.want, false, bound)
			l.scrape(a, b)
			m.delivered()
			d.mustHaveParts(l.want, false, bound)
			c := l.store.Log().Cursor(cfg.Identity())
			if low, state, _ := c.Load(); state[0] != stateVersion || low != m.Status()[0].Position {
				t.Errorf("without backlogs the position is %v and stored in version %d", low, state[0])
			}
			for _, counter := range []string{"samples_failed_total", "samples_dropped_total"} {
				if n := m.remoteMetric(counter); n != 0 {
					t.Errorf("%s is %d", counter, n)
				}
			}
			if got := m.lost(reasonRetention); got != 0 {
				t.Errorf("%d samples are counted as lost", got)
			}
		})
	}
}

func TestWithoutTheSettingTheOrderIsTheLogs(t *testing.T) {
	l := openLog(t, t.TempDir())
	d := newTide(t)
	cfg := newestFirst(t, l, d)
	cfg.NewestFirst = false
	m := startManager(l, patience, cfg)
	a := testTarget("a", 150)
	d.outage(m, l, func() { l.scrape(a) })
	_, n := d.counts()
	d.wait("the request that is let through", func() bool { return d.written > n })
	if n := m.Status()[0].Backlogs; n != 0 {
		t.Errorf("%d backlogs", n)
	}
	d.flow()
	m.delivered()
	d.mustHave(l.want)
}

// What is missing must be worth another order.
func TestAShortOutageChangesNoOrder(t *testing.T) {
	l := openLog(t, t.TempDir())
	d := newTide(t)
	m := startManager(l, patience, newestFirst(t, l, d))
	was := endpoints(m)[0]
	a := testTarget("a", 150)
	l.scrape(a)
	m.delivered()
	d.fall()
	before, _ := d.counts()
	l.clock += (branchAge - time.Second).Milliseconds()
	l.scrape(a)
	l.clock += (branchAge - time.Second).Milliseconds()
	l.scrape(a)
	d.wait("a refusal", func() bool { return d.requests > before })
	d.rise(0)
	m.delivered()
	d.mustHave(l.want)
	if endpoints(m)[0] != was {
		t.Error("another endpoint follows the log's end")
	}
}

func TestFurtherOutagesWhileABacklogDrains(t *testing.T) {
	l := openLog(t, t.TempDir())
	d := newTide(t)
	m := startManager(l, patience, newestFirst(t, l, d))
	a := testTarget("a", 150)
	var bounds []int64
	for n := range maxBacklogs {
		d.outage(m, l, func() { l.scrape(a) })
		m.backlogs(n + 1)
		bounds = append(bounds, l.clock)
		l.scrape(a)
		bound := l.clock - 1
		eventually(t, "the newest", func() bool { return d.since(bound) == 150 })
	}
	_, n := d.counts()
	d.outage(m, l, func() { l.scrape(a) }) // one too many
	d.wait("the request that is let through", func() bool { return d.written > n })
	if n := m.Status()[0].Backlogs; n != maxBacklogs {
		t.Errorf("%d backlogs", n)
	}
	d.flow()
	m.delivered()
	m.backlogs(0)
	r := d.receiver
	r.mu.Lock()
	most := 0
	for s, ps := range r.series {
		if len(ps) != len(l.want[s]) {
			t.Errorf("%s: %d samples, want %d", s, len(ps), len(l.want[s]))
		}
		most = max(most, len(ps))
	}
	r.mu.Unlock()
	d.mustHaveSomehow(l.want)
	if most < 5*20 {
		t.Errorf("%d samples of a series say nothing of %v", most, bounds)
	}
}

func TestBacklogsAreDeliveredAfterARestart(t *testing.T) {
	for _, still := range []bool{true, false} {
		dir := t.TempDir()
		l := openLog(t, dir)
		d := newTide(t)
		cfg := newestFirst(t, l, d)
		cfg.Queue.MinShards, cfg.Queue.MaxShards = 3, 3
		m := startManager(l, 10*time.Millisecond, cfg)
		a, b := testTarget("a", 150), testTarget("b", 70)
		var bounds []int64
		for n := range 2 {
			d.outage(m, l, func() { l.scrape(a, b) })
			m.backlogs(n + 1)
			bounds = append(bounds, l.clock)
			l.scrape(a, b)
			bound := l.clock - 1
			eventually(t, "the newest", func() bool { return d.since(bound) == 220 })
		}
		s := m.Status()[0]
		m.stop()
		l = l.reopened(dir)
		l.scrape(a, b) // without a sender
		cfg.NewestFirst = still
		m = startManager(l, patience, cfg)
		if now := m.Status()[0]; now.Backlogs != 2 || now.BehindSamples < s.BehindSamples || now.Position != s.Position {
			t.Errorf("got status %+v, was %+v", now, s)
		}
		l.scrape(a, b)
		bound := l.clock - 2
		eventually(t, "the newest", func() bool { return d.since(bound) >= 440 })
		d.flow()
		m.backlogs(0)
		m.delivered()
		d.mustHaveParts(l.want, true, bounds...)
		m.stop()
	}
}

func TestTheSettingChangesWithoutARestartOfTheEndpoint(t *testing.T) {
	l := openLog(t, t.TempDir())
	d := newTide(t)
	cfg := newestFirst(t, l, d)
	cfg.NewestFirst = false
	m := startManager(l, patience, cfg)
	was := endpoints(m)[0]
	a := testTarget("a", 150)
	d.outage(m, l, func() { l.scrape(a) })
	d.wait("the request that is let through", func() bool { return d.written > 0 })
	cfg.NewestFirst = true
	m.apply(cfg)
	m.backlogs(1)
	bound := l.clock
	l.scrape(a)
	eventually(t, "the newest", func() bool { return d.since(bound) == 150 })
	m.mu.Lock()
	all := m.remotes[0].delivery.all()
	m.mu.Unlock()
	if all[0] != was {
		t.Error("the backlog is another endpoint's")
	}
	cfg.NewestFirst = false
	m.apply(cfg)
	d.outage(m, l, func() { l.scrape(a) })
	if n := m.Status()[0].Backlogs; n != 1 {
		t.Errorf("%d backlogs", n)
	}
	d.flow()
	m.backlogs(0)
	m.delivered()
	d.mustHaveParts(l.want, false, bound)
}

// A remote that is gone for a while, or has another name now, has its backlogs
// as it has its position.
func TestBacklogsStayWithTheirRemote(t *testing.T) {
	l := openLog(t, t.TempDir())
	d := newTide(t)
	cfg := newestFirst(t, l, d)
	m := startManager(l, patience, cfg)
	a := testTarget("a", 150)
	d.outage(m, l, func() { l.scrape(a) })
	m.backlogs(1)
	bound := l.clock
	m.apply()
	c := l.store.Log().Cursor(cfg.Identity())
	if n := m.undelivered(cfg.Identity(), c); n > uint64(l.count) || n < uint64(l.count-cfg.Queue.MaxSamplesPerSend) {
		t.Errorf("%d samples are undelivered", n)
	}
	l.scrape(a)
	cfg.Name = "new"
	m.apply(cfg)
	m.running(1)
	m.backlogs(1)
	d.flow()
	m.backlogs(0)
	m.delivered()
	d.mustHaveParts(l.want, true, bound)
}

func TestWhatRetentionTakesOfABacklogIsCountedOnce(t *testing.T) {
	l := openLogOn(t, waltest.New(), 1<<20)
	l.noise = true
	d := newTide(t)
	cfg := newestFirst(t, l, d)
	cfg.Queue.Capacity, cfg.Queue.MaxSamplesPerSend = 500, 500
	m := startManager(l, patience, cfg)
	a, b := testTarget("a", 900), testTarget("b", 900)
	d.outage(m, l, func() { l.scrape(a, b) })
	m.backlogs(1)
	bound := l.clock
	gone := m.Status()[0].Position.Segment
	eventually(t, "the backlog is deleted", func() bool {
		for range 10 {
			l.scrape(a, b)
		}
		m.delivering()
		return l.store.Log().Oldest().Segment > gone+1
	})
	d.flow()
	m.backlogs(0)
	m.delivered()
	lost := m.lost(reasonRetention)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.receiver.mu.Lock()
	defer d.receiver.mu.Unlock()
	missing := 0
	for s, want := range l.want {
		for _, p := range want {
			if n := len(d.series[s]) - len(slices.DeleteFunc(slices.Clone(d.series[s]), func(q point) bool { return q == p })); n > 1 || n == 0 && p.time > bound {
				t.Fatalf("%s: %+v came %d times", s, p, n)
			} else if n == 0 {
				missing++
			}
		}
	}
	if missing == 0 || missing != lost {
		t.Errorf("%d samples are missing, %d are counted as lost", missing, lost)
	}
}

// delivering waits until the newest data has been delivered.
func (m *testManager) delivering() {
	m.t.Helper()
	eventually(m.t, "the newest is delivered", func() bool { n, _ := endpoints(m)[0].behind(time.Now()); return n == 0 })
}

// Whenever the process is killed, there is one part or both: what is not
// delivered is in one of them.
func TestAKillAtAnyWriteOfThePositionLosesNothingOfABacklog(t *testing.T) {
	for at := 0; ; at++ {
		disk := waltest.New()
		l := openLogOn(t, disk, 0)
		d := newTide(t)
		cfg := newestFirst(t, l, d)
		a := testTarget("a", 150)
		var writes int
		var saving, killed atomic.Bool
		disk.SetFault(func(op waltest.Op) *waltest.Fault {
			if op.Kind == waltest.Write && strings.Contains(op.Name, ".cur") && saving.Load() && !killed.Load() {
				if writes++; writes > at {
					killed.Store(true)
					return &waltest.Fault{Err: syscall.EIO, Written: op.Len / 2}
				}
			}
			if killed.Load() {
				return &waltest.Fault{Err: syscall.EIO}
			}
			return nil
		})
		m := startManager(l, 10*time.Millisecond, cfg)
		open := func(n int) func() {
			return func() { m.backlogs(n) }
		}
		for _, step := range []func(){
			func() { l.scrape(a); m.delivering() },
			func() { d.outage(m, l, func() { l.scrape(a) }) },
			open(1),
			func() { l.scrape(a); m.delivering() },
			func() { d.outage(m, l, func() { l.scrape(a) }) },
			open(2),
			func() { l.scrape(a); m.delivering() },
			d.flow,
			open(0),
			m.delivered,
		} {
			step()
			saving.Store(true)
			l.store.Log().SaveCursors()
			saving.Store(false)
			if killed.Load() {
				break
			}
		}
		m.stop()
		l.stop()
		done := !killed.Load()
		disk.SetFault(nil)
		d.flow()
		l = l.onDisk(t, disk.Kill())
		m = startManager(l, patience, cfg)
		l.scrape(a)
		m.delivered()
		m.backlogs(0)
		d.mustHaveSomehow(l.want)
		m.stop()
		l.stop()
		if done {
			if at < 4 { // the log itself has written it now and then
				t.Errorf("the position was written %d times", at)
			}
			return
		}
	}
}

// A power loss takes the end of the log, which the bound of a backlog may have
// been behind: nobody promised it.
func TestWhatAPowerLossCutOffABacklogIsNotLost(t *testing.T) {
	for _, tc := range []struct {
		name   string
		goesOn bool // the log, behind the bound
		total  uint64
		want   verdict
	}{
		{"all is there", false, 3, ended},
		{"it was cut, and nothing has come since", false, 10, atEnd},
		{"it was cut", true, 10, ended},
	} {
		var l modelLog
		l.perCall = 10
		l.roll()
		e := modelEntry{Entry: modelHeader(wal.Pos{Segment: 1, Offset: 68}, 1000, 3, 48)}
		l.active().entries, l.active().size, l.count = append(l.active().entries, e), 98, 3
		start := wal.Pos{Segment: 1, Offset: 48}
		s := State{Spans: []Span{{Run, start, start, 0}}}
		s.Ats = []At{s.Spans[0].begin()}
		led := newLedger(s, limits{batch: 1}, time.Now())
		var mu sync.Mutex
		w := newWalk(&l, led, &mu)
		w.bound = Bound{wal.Pos{Segment: 1, Offset: 500}, tc.total}
		if tc.goesOn {
			l.roll()
			l.active().entries = append(l.active().entries, modelEntry{Entry: modelHeader(wal.Pos{Segment: 2, Offset: 68}, 2000, 1, 48)})
			l.active().size, l.count = 98, 4
		}
		st, v, gone, err := w.advance(0)
		if v != stepped || gone.samples != 0 || err != nil {
			t.Fatalf("%s: got %v, %v, %v", tc.name, v, gone, err)
		}
		w.leave(st)
		for range 2 {
			if _, v, gone, err := w.advance(0); v != tc.want || gone.samples != 0 || err != nil {
				t.Errorf("%s: got verdict %v, %v lost, error %v", tc.name, v, gone, err)
			}
		}
	}
}

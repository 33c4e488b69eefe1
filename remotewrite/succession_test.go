package remotewrite

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"promagent/wal"
	"promagent/wal/record"
	"promagent/wal/waltest"
)

// fork is one URL with several receivers behind it, told apart by a header.
type fork struct {
	*receiver
	mu    sync.Mutex // guards what follows
	got   map[string]map[string][]point
	moods map[string]int // status by receiver, 204 when there is none
}

func newFork(t testing.TB) *fork {
	f := &fork{got: map[string]map[string][]point{}, moods: map[string]int{}}
	f.receiver = newReceiver(t, func(_ http.ResponseWriter, q *request) int {
		f.mu.Lock()
		defer f.mu.Unlock()
		which := q.header.Get("X-Which")
		if f.moods[which] != 0 {
			return f.moods[which]
		}
		if f.got[which] == nil {
			f.got[which] = map[string][]point{}
		}
		for s, ps := range q.series {
			f.got[which][s] = append(f.got[which][s], ps...)
		}
		return 204
	})
	return f
}

func (f *fork) set(which string, status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moods[which] = status
}

func (f *fork) mustHaveAll(want map[string][]point, which ...string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range which {
		sameSeries(f.t, f.got[w], want)
	}
}

// mustHaveAllOnceRepeated is mustHaveAll, but runs of samples may have come again.
func (f *fork) mustHaveAllOnceRepeated(want map[string][]point, which ...string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range which {
		sameSeries(f.t, withoutRepeats(f.t, f.got[w]), want)
	}
}

// remote is the block of one of the receivers.
func (f *fork) remote(which string) Config {
	cfg := remoteConfig(f.t, f.srv.URL)
	cfg.RemoteName, cfg.Hash, cfg.Headers = which, which, map[string]string{"X-Which": which}
	return cfg
}

// onDisk is the log after a restart on another file system.
func (l *testLog) onDisk(t *testing.T, disk *waltest.FS) *testLog {
	n := openLogOn(t, disk, 0)
	n.want, n.count, n.clock = l.want, l.count, l.clock
	return n
}

func TestBlocksThatHaveSwappedPlacesGoOnAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir)
	f := newFork(t)
	a, b := f.remote("a"), f.remote("b")
	m := startManager(l, patience, a, b)
	target := testTarget("x", 300)
	for range 3 {
		l.scrape(target)
		m.delivered()
		m.apply(b, a)
		f.set(b.RemoteName, 503)
		for range 10 {
			l.scrape(target)
		}
		eventually(t, "one has everything", func() bool { return m.Status()[1].BehindSamples == 0 })
		m.stop()
		f.set(b.RemoteName, 0)
		l = l.reopened(dir)
		m = startManager(l, patience, b, a)
		m.delivered()
		f.mustHaveAllOnceRepeated(l.want, "a", "b") // what was on its way at the stop may be let in later
		a, b = b, a
	}
}

func TestAnEditedURLRepeatsNothing(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	answered := make(chan struct{}, 1000)
	r := newReceiver(t, func(http.ResponseWriter, *request) int {
		answered <- struct{}{}
		return 204
	})
	m := startManager(l, patience, remoteConfig(t, r.srv.URL+"/0"))
	a := testTarget("a", 1000)
	for i := range 4 { // in the middle of the delivery
		for range 10 {
			l.scrape(a)
		}
		for range 5 {
			<-answered
		}
		m.apply(remoteConfig(t, fmt.Sprintf("%s/%d", r.srv.URL, i+1)))
	}
	m.running(1)
	m.delivered()
	r.mustHave(l.want)
	m.stop()
	l = l.reopened(dir)
	m = startManager(l, patience, remoteConfig(t, r.srv.URL+"/4"))
	l.scrape(a)
	m.delivered()
	r.mustHave(l.want)
}

func TestRemotesEditedTogetherKeepTheirPositions(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		edit    func(a, b *Config)
		restart bool
	}{
		{"names are given", func(a, b *Config) { a.Name, a.RemoteName, b.Name, b.RemoteName = "one", "one", "two", "two" }, false},
		{"names are given before a restart", func(a, b *Config) { a.Name, a.RemoteName, b.Name, b.RemoteName = "one", "one", "two", "two" }, true},
		{"both URLs are edited", func(a, b *Config) { a.URL, b.URL = a.URL.JoinPath("new"), b.URL.JoinPath("new") }, false},
		{"both URLs are edited, and so the hashes", func(a, b *Config) {
			a.URL, b.URL = a.URL.JoinPath("new"), b.URL.JoinPath("new")
			a.RemoteName, a.Hash, b.RemoteName, b.Hash = "h3", "h3", "h4", "h4"
		}, false},
		{"one gets a name, of the other everything is edited", func(a, b *Config) {
			a.Name, a.RemoteName = "one", "one"
			b.URL, b.RemoteName, b.RemoteTimeout = b.URL.JoinPath("new"), "h4", b.RemoteTimeout*2
		}, false},
		{"one gets a name, of the other the URL is edited, before a restart", func(a, b *Config) {
			a.Name, a.RemoteName, b.URL = "one", "one", b.URL.JoinPath("new")
		}, true},
		{"names and places", func(a, b *Config) {
			a.Name, a.RemoteName, b.Name, b.RemoteName = "one", "one", "two", "two"
			*a, *b = *b, *a
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l := openLog(t, dir)
			g := newGate(503)
			r := []*receiver{newReceiver(t, g.answer), newReceiver(t, nil)}
			a, b := remoteConfig(t, r[0].srv.URL), remoteConfig(t, r[1].srv.URL)
			a.RemoteName, a.Hash, b.RemoteName, b.Hash = "h1", "h1", "h2", "h2"
			a.Headers, b.Headers = map[string]string{"X-Which": "a"}, map[string]string{"X-Which": "b"}
			m := startManager(l, patience, a, b)
			target := testTarget("x", 300)
			for range 10 {
				l.scrape(target)
			}
			r[0].wait("a try", func() bool { return r[0].requests > 3 })
			r[1].waitFor(l.count)
			tc.edit(&a, &b)
			if tc.restart {
				m.stop()
				l = l.reopened(dir)
				m = startManager(l, patience, a, b)
			} else {
				m.apply(a, b)
			}
			if got := l.store.Log().Cursors(); len(got) != 2 {
				t.Errorf("cursors %q", got)
			}
			l.scrape(target)
			g.set(204)
			m.running(2)
			m.delivered()
			// What was on its way to the first may arrive twice: the test lets it
			// in only after it has been given up.
			r[0].mustHaveOnceRepeated(l.want)
			r[1].mustHave(l.want)
		})
	}
}

func TestANewRemoteGetsAllThatIsLoggedAfterItsConfiguration(t *testing.T) {
	l := openLog(t, t.TempDir())
	a := testTarget("a", 10)
	l.scrape(a)
	clear(l.want)
	r := newReceiver(t, nil)
	m, err := NewManager(l.store, Options{FlushDeadline: patience})
	if err != nil {
		t.Fatal(err)
	}
	change, err := m.Prepare([]Config{remoteConfig(t, r.srv.URL)})
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	l.scrape(a) // before its endpoint runs
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	r.waitFor(10)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	r.mustHave(l.want)
}

// From the commit on, a kill does not make a new remote begin once more.
func TestAKillRightAfterItsBeginningLosesANewRemoteNothing(t *testing.T) {
	disk := waltest.New()
	l := openLogOn(t, disk, 0)
	a := testTarget("a", 10)
	l.scrape(a)
	clear(l.want)
	g := newGate(503)
	r := newReceiver(t, g.answer)
	m, err := NewManager(l.store, Options{FlushDeadline: patience})
	if err != nil {
		t.Fatal(err)
	}
	change, err := m.Prepare([]Config{remoteConfig(t, r.srv.URL)})
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	l.scrape(a)
	l = l.onDisk(t, disk.Kill())
	started := startManager(l, patience, remoteConfig(t, r.srv.URL))
	g.set(204)
	started.delivered()
	r.mustHave(l.want)
}

// startLogged is startManager whose log's lines are kept.
func startLogged(l *testLog, cfgs ...Config) (*testManager, *logged) {
	m := startManager(l, patience)
	lines := &logged{}
	m.o.Logger = slog.New(slog.NewTextHandler(lines, nil))
	m.apply(cfgs...)
	m.running(len(cfgs))
	return m, lines
}

func TestWhatARemoteThatIsGoneHasNotGotIsSaid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir)
	f := newFork(t)
	up, down, other := f.remote("up"), f.remote("down"), f.remote("other")
	m, lines := startLogged(l, up, down, other)
	f.set("down", 503)
	l.scrape(testTarget("a", 30))
	eventually(t, "one is behind", func() bool {
		s := m.Status()
		return s[0].BehindSamples == 0 && s[1].BehindSamples == 30 && s[2].BehindSamples == 0
	})
	for _, tc := range []struct {
		cfgs       []Config
		want       string
		gone, kept int // identities that are left
	}{
		{[]Config{up, other}, `level=WARN msg="A remote is gone; its position is kept for a while" remote=` + down.Identity() + "#3 undelivered_samples=30\n", 1, 3},
		{[]Config{up}, `level=INFO msg="A remote is gone; its position is kept for a while" remote=` + down.Identity() + "#2 undelivered_samples=0\n", 2, 3},
		// Its number is wanted, and nobody knows it to be another's.
		{[]Config{f.remote("new"), other, up}, `level=WARN msg="The position of a remote that is gone is given up: another has its number" remote=` + down.Identity() + "#3 undelivered_samples=30\n", 0, 3},
	} {
		m.apply(tc.cfgs...)
		if lines.count(tc.want) != 1 {
			t.Errorf("not said once: %s\n%s", tc.want, lines.buf.String())
		}
		if got := len(l.store.Log().Cursors()); got != tc.kept || len(m.orphans) != tc.gone {
			t.Errorf("%d cursors, %d of them without a block", got, len(m.orphans))
		}
	}
}

// A rename that fails leaves every remote with its own position, and the next
// reload makes up for it.
func TestPositionsStayWithTheirRemotesThoughTheDiskFails(t *testing.T) {
	failed := 0
	for at := range 12 {
		disk := waltest.New()
		l := openLogOn(t, disk, 0)
		f := newFork(t)
		a, b, c := f.remote("a"), f.remote("b"), f.remote("c")
		m := startManager(l, patience, a, b)
		target := testTarget("x", 100)
		l.scrape(target)
		m.delivered()
		f.set("b", 503)
		for range 5 {
			l.scrape(target)
		}
		eventually(t, "one is behind", func() bool { s := m.Status(); return s[0].BehindSamples == 0 && s[1].BehindSamples > 0 })
		want := maps.Clone(l.want)
		clear(l.want) // what the new one gets
		var n int
		disk.SetFault(func(op waltest.Op) *waltest.Fault {
			if !strings.Contains(op.Name, "/cursors") {
				return nil
			}
			if n++; n <= at {
				return nil
			}
			return &waltest.Fault{Err: syscall.EIO}
		})
		m.apply(c, b, a)
		if slices.Contains(identities([]Config{c, b, a}), m.remotes[0].identity) && m.remotes[0].identity != c.Identity() {
			failed++
		}
		l.scrape(target)
		disk.SetFault(nil)
		f.set("b", 0)
		m.running(3)
		m.delivered()
		m.apply(c, b, a)
		for i, id := range identities([]Config{c, b, a}) {
			if got := m.remotes[i].identity; got != id {
				t.Errorf("operation %d: the position of remote %d is named %q, want %q", at, i, got, id)
			}
		}
		for s, ps := range l.want {
			want[s] = append(slices.Clone(want[s]), ps...)
		}
		f.mustHaveAllOnceRepeated(want, "a", "b")
		f.mustHaveAll(l.want, "c")
		m.stop()
		l.stop()
		l = l.onDisk(t, disk)
		m = startManager(l, patience, c, b, a)
		m.delivered()
		f.mustHaveAllOnceRepeated(want, "a", "b")
		f.mustHaveAll(l.want, "c")
		m.stop()
		l.stop()
	}
	if failed == 0 {
		t.Error("no rename has failed")
	}
}

// From the moment that a reload has its order on disk, a kill mixes up nothing.
func TestAKillWhileBlocksMoveLosesNoPosition(t *testing.T) {
	t.Parallel()
	for at := range 5 {
		t.Run(fmt.Sprintf("after %d operations", at), func(t *testing.T) {
			t.Parallel()
			disk := waltest.New()
			l := openLogWith(t, wal.Options{FS: disk, SyncInterval: time.Millisecond})
			f := newFork(t)
			a, b := f.remote("a"), f.remote("b")
			m := startManager(l, patience, a, b)
			target := testTarget("x", 100)
			f.set("b", 503)
			for range 5 {
				l.scrape(target)
			}
			eventually(t, "one is behind", func() bool { s := m.Status(); return s[0].BehindSamples == 0 && s[1].BehindSamples > 0 })
			eventually(t, "the position is written", func() bool { return passed(t, disk, a.Identity()) == l.store.Total() })
			synced, n := false, 0
			disk.SetFault(func(op waltest.Op) *waltest.Fault {
				switch {
				case !strings.Contains(op.Name, "/cursors"):
					return nil
				case !synced:
					synced = op.Kind == waltest.SyncDir // the order is on disk
					return nil
				}
				if n++; n <= at {
					return nil
				}
				return &waltest.Fault{Err: syscall.EIO}
			})
			m.apply(b, a)
			after := disk.Kill()
			m.stop()
			f.set("b", 0)
			l = l.onDisk(t, after)
			m = startManager(l, patience, b, a)
			m.delivered()
			f.mustHaveAllOnceRepeated(l.want, "a", "b")
			m.stop()
		})
	}
}

// passed is how many samples the position on the disk is past.
func passed(t *testing.T, disk wal.FS, id string) uint64 {
	t.Helper()
	log, err := wal.Open("/data", wal.Options{FS: disk, NoLock: true, SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	c := log.Cursor(id)
	var s State
	if _, b, ok := c.Load(); ok {
		if err := s.Decode(b); err != nil {
			t.Fatal(err)
		}
	}
	return s.Passed
}

// hangingDisk does not come back from making a file of renames until it is told.
type hangingDisk struct {
	wal.FS
	entered, release chan struct{}
}

func (d *hangingDisk) Create(name string) (wal.File, error) {
	if strings.Contains(name, "renames") {
		close(d.entered)
		<-d.release
	}
	return d.FS.Create(name)
}

func TestAHangingDiskHoldsUpNothingButTheReload(t *testing.T) {
	disk := &hangingDisk{waltest.New(), make(chan struct{}), make(chan struct{})}
	log, err := wal.Open("/data", wal.Options{FS: disk, NoLock: true, SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	l := &testLog{t: t, store: record.NewStore(log, record.Options{}), want: map[string][]point{}, clock: time.Now().UnixMilli()}
	f := newFork(t)
	a, b := f.remote("a"), f.remote("b")
	m := startManager(l, patience, a, b)
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		m.apply(b, a)
	}()
	<-disk.entered
	soon(t, "the status", 5*time.Second, func() {
		if s := m.Status(); len(s) != 2 || s[0].Name != "a" {
			t.Errorf("got %+v", s)
		}
	})
	l.scrape(testTarget("x", 30))
	m.delivered()
	soon(t, "stopping", 5*time.Second, m.stop)
	f.mustHaveAll(l.want, "a", "b")
	select {
	case <-reloaded:
		t.Error("the reload has not waited for the disk")
	default:
	}
	close(disk.release)
	<-reloaded
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}

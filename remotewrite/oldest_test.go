package remotewrite

import (
	"slices"
	"testing"
	"time"
)

func TestARemoteMayBeginAtTheOldestRecord(t *testing.T) {
	for _, shards := range []int{1, 3} {
		l := openLog(t, t.TempDir())
		a, b := testTarget("a", 50), testTarget("b", 20)
		for range 100 {
			l.scrape(a, b)
		}
		r := newReceiver(t, nil)
		cfg := remoteConfig(t, r.srv.URL)
		cfg.FromOldest = true
		cfg.Queue.MinShards, cfg.Queue.MaxShards = shards, shards
		m := startManager(l, patience, cfg)
		if s := m.Status()[0]; s.LostSamples > 0 {
			t.Errorf("%d samples are lost", s.LostSamples)
		}
		l.scrape(a, b)
		m.delivered()
		r.mustHave(l.want)
	}
}

func TestARemoteThatIsAddedGetsWhatAnotherHasNotGot(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	a := testTarget("a", 30)
	g := newGate(503)
	down, late, end := newReceiver(t, g.answer), newReceiver(t, nil), newReceiver(t, nil)
	first, second, third := remoteConfig(t, down.srv.URL), remoteConfig(t, late.srv.URL), remoteConfig(t, end.srv.URL)
	first.RemoteName, second.RemoteName, third.RemoteName = "first", "second", "third"
	m := startManager(l, time.Second, first)
	for range 20 {
		l.scrape(a)
	}
	second.FromOldest = true
	m.apply(first, second, third)
	m.running(3)
	late.waitFor(l.count)
	before := l.count

	// Where it has a position, it goes on there, whatever the setting says.
	restarts := endpoints(m)
	second.FromOldest = false
	m.apply(first, second, third)
	second.FromOldest = true
	m.apply(first, second, third)
	if !slices.Equal(restarts, endpoints(m)) {
		t.Error("a changed start has restarted an endpoint")
	}
	eventually(t, "all is final", func() bool { s := m.Status()[1]; return s.BehindSamples == 0 && s.Pending == 0 })
	m.stop()
	l = l.reopened(dir)
	m = startManager(l, patience, first, second, third)
	l.scrape(a)
	g.set(204)
	m.delivered()
	down.mustHave(l.want)
	late.mustHave(l.want)
	if _, n := end.counts(); n != l.count-before {
		t.Errorf("the one that begins at the end got %d samples, want %d", n, l.count-before)
	}
}

func TestTheOldestRecordIsThatAfterRetention(t *testing.T) {
	l := openBoundedLog(t, t.TempDir(), 1<<20)
	l.noise = true
	a, b := testTarget("a", 900), testTarget("b", 900)
	before := l.store.Log().Oldest().Segment
	eventually(t, "the oldest is deleted", func() bool {
		for range 10 {
			l.scrape(a, b)
		}
		return l.store.Log().Oldest().Segment > before+1
	})
	eventually(t, "the log is within its limit", func() bool { s := l.store.Log().Stats(); return s.LimitBytes > 0 && s.Bytes <= s.LimitBytes })
	gone, ok := l.store.Before(l.store.Log().Oldest().Segment)
	if !ok || gone == 0 {
		t.Fatalf("%d samples are gone, %v", gone, ok)
	}
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	cfg.FromOldest = true
	cfg.Queue.MaxSamplesPerSend, cfg.Queue.Capacity = 5000, 50000
	m := startManager(l, patience, cfg)
	m.delivered()
	r.mustHaveRest(l, int(gone)) // none of which the remote has lost: they were gone before
	if n := m.lost("retention") + m.lost("corrupt"); n != 0 {
		t.Errorf("%d samples are counted as lost", n)
	}
}

// What the remote still needs is known, though the rest of its state is not: it
// begins there, for all that is older it has.
func TestAStateThatCannotBeReadIsNoReasonToBeginAtTheOldestRecord(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	cfg.FromOldest = true
	a := testTarget("a", 10)
	l.scrape(a)
	clear(l.want)
	c := l.store.Log().Cursor(cfg.Identity())
	c.Set(l.store.End(), []byte("nonsense"))
	m := startManager(l, patience, cfg)
	l.scrape(a)
	m.delivered()
	r.mustHave(l.want)
}

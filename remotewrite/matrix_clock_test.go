package remotewrite

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"promagent/template"
	"promagent/wal"
	"promagent/wal/waltest"
)

// TestSteppingClocks: whatever times the log's batches have, and however these
// lie to the clock by which it is read, everything committed is delivered, in
// the order in which it was committed, or counted.
//
// What scraping makes of a clock that steps is its own: it logs nothing that is
// older than its series' last sample, and counts it as out of order. So after a
// step back only new series are logged until the clock is there again, and
// all of them after a restart of the process. TestAClockThatWasAheadDoesNotMakeLiveDataABacklog
// and TestAClockThatWasAheadDoesNotCallForShards have what a clock that was
// ahead must not cost.
func TestSteppingClocks(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).UnixMilli() }
	type phase struct {
		clock   int64  // ms
		targets string // that are scraped, by name
	}
	for _, tc := range []struct {
		name   string
		phases []phase
		limit  time.Duration // sample_age_limit
		tooOld int           // scrapes of a and b that it drops
	}{
		{"an hour back, new series until it is there again", []phase{{at(time.Hour), "ab"}, {at(0), "c"}, {at(time.Hour + time.Second), "abc"}}, 0, 0},
		{"an hour back, the same series after a restart", []phase{{at(0), "ab"}, {at(-time.Hour), "abc"}, {at(time.Second), "abc"}}, 0, 0},
		{"a day forward", []phase{{at(-24 * time.Hour), "ab"}, {at(0), "abc"}}, 0, 0},
		{"a day forward and back", []phase{{at(0), "ab"}, {at(24 * time.Hour), "abc"}, {at(time.Second), "abc"}}, 0, 0},
		{"from 1970 to now", []phase{{-5, "ab"}, {at(0), "abc"}}, 0, 0},
		{"from 1970 to now and back", []phase{{-5, "ab"}, {at(0), "abc"}, {1000, "abc"}}, 0, 0},
		{"from 1970 to now with a limit of age", []phase{{-5, "ab"}, {at(0), "abc"}}, time.Hour, 12},
	} {
		for _, way := range []string{"live", "outage", "restart"} {
			t.Run(fmt.Sprintf("%s, %s", tc.name, way), func(t *testing.T) {
				t.Parallel()
				targets := map[rune]*template.Block{'a': testTarget("a", 60), 'b': testTarget("b", 20), 'c': testTarget("c", 30)}
				dir := t.TempDir()
				l := openLog(t, dir)
				g := newGate(204)
				r := newReceiver(t, g.answer)
				cfg := remoteConfig(t, r.srv.URL)
				cfg.Queue.MinShards, cfg.Queue.MaxShards = 3, 3
				cfg.Queue.SampleAgeLimit = tc.limit
				m := startManager(l, 0, cfg)
				if way != "live" {
					g.set(503)
				}
				for i, p := range tc.phases {
					if way == "restart" && i > 0 {
						m.stop()
						cfg = g.next(cfg)
						l = l.reopened(dir)
						m = startManager(l, 0, cfg)
					}
					var blocks []*template.Block
					for _, name := range p.targets {
						blocks = append(blocks, targets[name])
					}
					l.clock = p.clock
					for j := range 12 {
						l.scrape(blocks...)
						if way == "live" && j%5 == 0 {
							m.delivered()
						}
					}
					if s := m.Status()[0]; s.BehindSeconds < 0 || way != "live" && tc.limit == 0 && s.BehindSamples == 0 {
						t.Errorf("got status %+v", s)
					}
				}
				g.set(204)
				m.delivered()
				want := l.want
				if tc.limit > 0 {
					want = map[string][]point{}
					for s, ps := range l.want {
						if !strings.Contains(s, `instance="c"`) {
							ps = ps[tc.tooOld:]
						}
						want[s] = ps
					}
				}
				r.mustHave(want)
				if way == "restart" {
					return // counters begin anew
				}
				got := m.accountOf("test", r, false)
				got.addsUp(t, false)
				if n := tc.tooOld * (targets['a'].Len() + targets['b'].Len()); got.in != l.count || got.dropped != n || got.failed+got.lost+got.behind != 0 {
					t.Errorf("counted %+v, want %d committed and %d dropped", got, l.count, n)
				}
			})
		}
	}
}

// TestALeapOverTheAgeLimitIsCounted: what was logged in 1970 is beyond any
// limit of age when the clock is set. A remote that is down then loses it, as
// the limit says, and it is counted.
func TestALeapOverTheAgeLimitIsCounted(t *testing.T) {
	t.Parallel()
	for range 5 { // on a busy machine the reader may have all of it before the clock leaps
		if leapOverTheAgeLimit(t) > 0 || t.Failed() {
			return
		}
	}
	t.Error("nothing was lost")
}

// leapOverTheAgeLimit returns how many samples were lost.
func leapOverTheAgeLimit(t *testing.T) (lost int) {
	var now atomic.Int64
	now.Store(5000)
	l := openLogWith(t, wal.Options{FS: waltest.New(), SyncInterval: time.Minute, MaxAge: time.Hour, Now: func() time.Time { return time.UnixMilli(now.Load()) }})
	g := newGate(503)
	r := newReceiver(t, g.answer)
	m := startManager(l, patience, remoteConfig(t, r.srv.URL))
	a := testTarget("a", 60)
	l.clock = now.Load()
	for range 30 {
		l.scrape(a)
	}
	early := l.count
	r.wait("a refusal", func() bool { return r.requests > 0 })
	m.accountOf("test", r, false).addsUp(t, false)

	first := l.store.Log().Oldest().Segment
	now.Store(time.Now().UnixMilli())
	l.clock = now.Load()
	for range 30 {
		l.scrape(a)
	}
	eventually(t, "the early segment is deleted", func() bool { return l.store.Log().Oldest().Segment > first })
	for range 30 {
		l.scrape(a)
	}
	g.set(204)
	m.delivered()
	got := m.accountOf("test", r, false)
	got.addsUp(t, false)
	if got.lost > early+30*a.Len() || got.failed+got.dropped+got.behind != 0 {
		t.Errorf("counted %+v of %d, %d of them early", got, l.count, early)
	}
	if got.lost > 0 {
		r.mustHaveRest(l, got.lost)
	}
	m.stop()
	return got.lost
}

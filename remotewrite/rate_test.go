package remotewrite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// timed is a limiter in a bubble of its own time.
type timed struct {
	*limiter
	begin time.Time
	said  atomic.Int64 // ns of waiting
}

func (l *timed) waited() time.Duration { return time.Duration(l.said.Load()) }

func newTimed(rate int64) *timed {
	l := &timed{begin: time.Now()}
	l.limiter = newLimiter(rate, func(d time.Duration) { l.said.Add(int64(d)) })
	return l
}

// mustTake takes n bytes and returns when, since the begin.
func (l *timed) mustTake(t *testing.T, n int) time.Duration {
	t.Helper()
	if _, err := l.take(t.Context(), n); err != nil {
		t.Error(err)
	}
	return time.Since(l.begin)
}

// near allows for the rounding of a rate.
func near(a, b time.Duration) bool { return (a - b).Abs() < time.Microsecond }

func TestRateIsHeldToTheSecond(t *testing.T) {
	for _, tc := range []struct {
		name  string
		rate  int64
		idle  time.Duration // before
		sizes []int
		want  []time.Duration // when each goes out
	}{
		{"no limit", 0, 0, []int{1 << 30, 1 << 30}, []time.Duration{0, 0}},
		{"at the begin there is nothing in the bucket", 1000, 0, []int{500, 500, 1000}, []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}},
		{"a burst of a second at most", 1000, time.Hour, []int{400, 600, 1, 1000}, []time.Duration{0, 0, time.Millisecond, 1001 * time.Millisecond}},
		{"a request beyond a second's worth waits for a full bucket", 1000, 0, []int{5000, 1000, 5000}, []time.Duration{time.Second, 6 * time.Second, 7 * time.Second}},
		{"two of them keep the rate", 1000, time.Hour, []int{5000, 5000, 5000}, []time.Duration{0, 5 * time.Second, 10 * time.Second}},
		{"a byte a second", 1, 0, []int{1, 60, 1}, []time.Duration{time.Second, 2 * time.Second, 62 * time.Second}},
		{"a rate beyond all measure", 1 << 62, 0, []int{1 << 20, 1 << 20}, []time.Duration{0, 0}},
		{"a request beyond all measure", 1, 0, []int{1 << 40}, []time.Duration{time.Second}},
		{"nothing", 1000, 0, []int{0}, []time.Duration{0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newTimed(tc.rate)
				time.Sleep(tc.idle)
				l.begin = time.Now()
				var last time.Duration
				for i, n := range tc.sizes {
					if got := l.mustTake(t, n); !near(got, tc.want[i]) {
						t.Errorf("request %d of %d bytes goes out after %v, want %v", i, n, got, tc.want[i])
					}
					last = time.Since(l.begin)
				}
				if !near(l.waited(), last) { // by one at a time
					t.Errorf("%v are counted, want %v", l.waited(), last)
				}
			})
		})
	}
}

func TestShardsShareTheRateInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, shards, each = 1000, 8, 20
		l := newTimed(rate)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var order []int
		for i := range shards {
			wg.Go(func() {
				for range each {
					time.Sleep(time.Duration(i) * time.Nanosecond)
					l.mustTake(t, 100*(1+i%2)*10)
					mu.Lock()
					order = append(order, i)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if got, want := time.Since(l.begin), time.Duration(each*shards*1500/rate)*time.Second; (got - want).Abs() > time.Second {
			t.Errorf("%d bytes took %v, want %v", each*shards*1500, got, want)
		}
		for i := 0; i+2*shards <= len(order)-shards; i += shards { // nobody is overtaken twice, large or small
			seen := map[int]bool{}
			for _, s := range order[i : i+2*shards] {
				seen[s] = true
			}
			if len(seen) != shards {
				t.Fatalf("in %v not all of %d shards had their turn", order[i:i+2*shards], shards)
			}
		}
	})
}

// A thin link is for the newest data, as long as it needs all of it.
func TestBacklogsLetOthersGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTimed(1000)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var order []string
		request := func(name string, take func(context.Context, int) (bool, error)) {
			wg.Go(func() {
				if _, err := take(t.Context(), 500); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
			})
			synctest.Wait()
		}
		request("backlog 1", l.takeLast)
		request("backlog 2", l.takeLast)
		time.Sleep(100 * time.Millisecond)
		request("newest 1", l.take)
		request("newest 2", l.take)
		time.Sleep(1100 * time.Millisecond) // both are through, and the rest waits for its own
		request("newest 3", l.take)
		wg.Wait()
		if got, want := strings.Join(order, ", "), "newest 1, newest 2, newest 3, backlog 1, backlog 2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if d := time.Since(l.begin); !near(d, 2500*time.Millisecond) {
			t.Errorf("all took %v", d)
		}
	})
}

func TestChangedRateHoldsAtOnce(t *testing.T) {
	const change = 1500 * time.Millisecond
	for _, tc := range []struct {
		name          string
		rate, next    int64
		first, second int // bytes
		want          time.Duration
	}{
		{"lifted", 10, 0, 10, 1 << 20, change},
		{"lifted, with a debt", 10, 0, 10000, 1, change},
		{"raised", 10, 100, 10, 10, change}, // the bucket is half full
		{"raised, with a debt", 10, 10000, 10000, 10, change + 998500*time.Microsecond + time.Millisecond},
		{"lowered, with a debt", 1000, 10, 10000, 10, 11 * time.Second}, // that is paid off as before
		{"the same, with a debt", 10, 10, 100, 10, 11 * time.Second},
		{"lowered", 1000, 10, 1000, 10, 2 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newTimed(tc.rate)
				go func() {
					time.Sleep(change)
					l.set(tc.next)
				}()
				if got := l.mustTake(t, tc.first); !near(got, time.Second) {
					t.Errorf("the first goes out after %v", got)
				}
				if tc.name == "lowered" { // so that the second is one of the new rate
					time.Sleep(change - time.Second)
					synctest.Wait()
				}
				if got := l.mustTake(t, tc.second); !near(got, tc.want) {
					t.Errorf("the second goes out after %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// A limit that comes later begins with an empty bucket, too.
func TestNewLimitBeginsWithAnEmptyBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTimed(0)
		time.Sleep(time.Hour)
		l.begin = time.Now()
		l.set(1000)
		if got := l.mustTake(t, 500); !near(got, 500*time.Millisecond) {
			t.Errorf("it goes out after %v", got)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTimed(1)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, err := l.take(ctx, 1000); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got error %v", err)
				}
			})
		}
		wg.Wait()
		if got := time.Since(l.begin); got != 1500*time.Millisecond {
			t.Errorf("they waited %v", got)
		}
		if want := 2 * 1500 * time.Millisecond; l.waited() != want+time.Second { // one had its turn after a second
			t.Errorf("%v are counted, want %v", l.waited(), want+time.Second)
		}
		if len(l.queue) > 0 {
			t.Errorf("%d are still in the queue", len(l.queue))
		}
	})
}

func TestNobodyWaitsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTimed(100)
		time.Sleep(time.Second)
		results := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := l.take(t.Context(), 1000)
				results <- err
			}()
		}
		time.Sleep(time.Second)
		if n := len(results); n != 1 {
			t.Errorf("%d went out, want 1", n)
		}
		<-results
		l.end()
		synctest.Wait()
		if len(results) != 2 {
			t.Fatalf("%d of 2 have ended", len(results))
		}
		for range 2 {
			if err := <-results; !errors.Is(err, errEnding) {
				t.Errorf("got error %v", err)
			}
		}
		if waited, err := l.take(t.Context(), 1); waited || !errors.Is(err, errEnding) {
			t.Errorf("with an empty bucket: waited %v, error %v", waited, err)
		}
		time.Sleep(time.Hour)
		if waited, err := l.take(t.Context(), 100); waited || err != nil {
			t.Errorf("what the bucket holds still goes out: waited %v, error %v", waited, err)
		}
	})
}

// A request that waits for long is seen to wait meanwhile.
func TestWaitingIsCountedAsItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTimed(1)
		l.mustTake(t, 1000)
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.mustTake(t, 1)
		}()
		time.Sleep(100*time.Second + time.Millisecond)
		synctest.Wait()
		if waited := l.waited(); waited < 99*time.Second || waited > 102*time.Second {
			t.Errorf("after 100s, %v are counted", l.waited())
		}
		<-done
	})
}

func TestShardsAreEnoughForTheLimit(t *testing.T) {
	const tick = scaleInterval
	for _, tc := range []struct {
		name string
		rate int64
		sent counts
		in   int // samples logged
		want int
	}{
		// 10 s of sending for a tenth of what is logged: without a limit, ten shards.
		{"no limit", 0, counts{samples: 1000, bytes: 10000, busy: tick}, 10000, 10},
		{"the limit is used up", 1000, counts{samples: 1000, bytes: 10000, busy: tick}, 10000, 1},
		{"half of it", 2000, counts{samples: 1000, bytes: 10000, busy: tick}, 10000, 2},
		{"a hundredth of it", 100000, counts{samples: 1000, bytes: 10000, busy: tick}, 10000, 10},
		{"retries use it up", 1000, counts{samples: 100, bytes: 10000, busy: tick}, 10000, 1},
		{"nothing went out", 1000, counts{}, 10000, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := remoteConfig(t, "http://127.0.0.1:1")
			cfg.Queue.MaxShards = 50
			cfg.MaxBytesPerSecond = tc.rate
			e := testEndpoint(t, cfg, 1)
			now := time.Now()
			s := scaler{e: e, last: now.Add(-tick), total: e.store.Total() - uint64(tc.in)}
			e.sent = tc.sent
			if got := s.decide(now); got != tc.want {
				t.Errorf("got %d shards, want %d", got, tc.want)
			}
		})
	}
}

// However long a limited remote is behind, it does not ask for shards.
func TestBacklogOfALimitedRemoteAsksForNoShards(t *testing.T) {
	for _, behind := range []float64{1, 60, 3600, 86400} {
		s := scaling{in: 10000, out: 1000, busy: 0.3, behind: behind, bytes: 100, limit: 100}
		if got, desired := scale(s, 1, 1, 50); got != 1 || desired > 0.31 {
			t.Errorf("%v s behind: got %d shards, desired %v", behind, got, desired)
		}
		s.limit = 0
		if got, _ := scale(s, 1, 1, 50); got < 4 {
			t.Errorf("%v s behind, without limit: got %d shards", behind, got)
		}
	}
}

func TestLimitedRemoteGetsAllAtItsRate(t *testing.T) {
	for _, shards := range []int{1, 4} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			l := openLog(t, t.TempDir())
			r := newReceiver(t, answers(204, 503, 204, 503))
			cfg := remoteConfig(t, r.srv.URL)
			cfg.MaxBytesPerSecond = 50 << 10
			cfg.Queue.MinShards, cfg.Queue.MaxShards = shards, shards
			m := startManager(l, patience, cfg)
			begin := time.Now()
			l.noise = true
			a := testTarget("a", 200)
			for range 20 {
				l.scrape(a)
			}
			m.delivered()
			took := time.Since(begin)
			r.mustHave(l.want)
			sent := m.remoteMetric("bytes_total")
			if least := time.Duration(float64(sent)/float64(cfg.MaxBytesPerSecond)*float64(time.Second)) - time.Second; took < least {
				t.Errorf("%d bytes took %v, less than %v", sent, took, least)
			}
			if sent < 50<<10 {
				t.Errorf("%d bytes say nothing", sent)
			}
			limited := metric(t, m.registry, "prom_agent_remote_rate_limited_seconds_total")
			if limited <= 0 || limited > took.Seconds()*float64(shards) {
				t.Errorf("%v s of waiting are counted, of %v", limited, took)
			}
		})
	}
}

func TestWaitingForTheRateIsNoFailure(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	cfg.MaxBytesPerSecond = 1
	m := startManager(l, patience, cfg)
	for range 10 {
		l.scrape(testTarget("a", 100))
	}
	eventually(t, "it waits", func() bool { return metric(t, m.registry, "prom_agent_remote_rate_limited_seconds_total") > 0 })
	s := m.Status()[0]
	if s.Failing || s.LastError != "" || s.LostSamples > 0 || s.BehindSamples == 0 {
		t.Errorf("the status is %+v", s)
	}
	e := endpoints(m)[0]
	e.mu.Lock()
	busy := e.sent.busy
	e.mu.Unlock()
	if busy > 500*time.Millisecond {
		t.Errorf("%v count as sending", busy)
	}

	before := endpoints(m)[0]
	cfg.MaxBytesPerSecond = 0 // and all is delivered at once
	m.apply(cfg)
	m.delivered()
	r.mustHave(l.want)
	if endpoints(m)[0] != before {
		t.Error("the endpoint has been restarted")
	}
}

func TestTheEndDoesNotWaitForTheRate(t *testing.T) {
	live := func(l *testLog) {
		a, b := testTarget("a", 300), testTarget("b", 300)
		for range 5 {
			l.scrape(a, b)
		}
	}
	backlog := func(l *testLog) { // each portion comes after the one before
		l.clock -= time.Hour.Milliseconds()
		for range 12 {
			l.scrape(testTarget("a", 100))
		}
		l.clock += time.Hour.Milliseconds()
		l.scrape(testTarget("a", 100))
	}
	for _, tc := range []struct {
		name string
		data func(*testLog)
		end  func(m *testManager, cfg Config)
	}{
		{"shutdown", live, func(m *testManager, _ Config) { m.stop() }},
		{"shutdown in a backlog", backlog, func(m *testManager, _ Config) { m.stop() }},
		{"another delivery", live, func(m *testManager, cfg Config) {
			old := endpoints(m)[0]
			cfg.MaxBytesPerSecond, cfg.SendExemplars = 0, false
			m.apply(cfg)
			eventually(t, "another endpoint runs", func() bool { es := endpoints(m); return es[0] != nil && es[0] != old && es[0].running() })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			l := openLog(t, dir)
			r := newReceiver(t, nil)
			cfg := remoteConfig(t, r.srv.URL)
			cfg.MaxBytesPerSecond, cfg.FromOldest = 1, true
			cfg.Queue.MinShards, cfg.Queue.MaxShards = 4, 4
			tc.data(l)
			m := startManager(l, patience, cfg)
			eventually(t, "it waits", func() bool { return metric(t, m.registry, "prom_agent_remote_rate_limited_seconds_total") > 0 })
			soon(t, "the end", 10*time.Second, func() { tc.end(m, cfg) })
			if strings.HasPrefix(tc.name, "shutdown") { // what is left is in the log
				cfg.MaxBytesPerSecond = 0
				m = startManager(l, patience, cfg)
			}
			m.delivered()
			r.mustHave(l.want)
		})
	}
}

// What has become too old while it waited is not sent.
func TestSamplesMayBecomeTooOldWhileTheyWaitForTheRate(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	cfg.MaxBytesPerSecond = 200
	cfg.Queue.SampleAgeLimit = 500 * time.Millisecond
	m := startManager(l, patience, cfg)
	l.noise = true
	l.scrape(testTarget("a", 100))
	m.delivered()
	if _, written := r.counts(); written != 0 {
		t.Errorf("%d samples were sent though they were too old", written)
	}
	if got := m.remoteMetric("samples_dropped_total", "reason=too_old"); got != l.count {
		t.Errorf("%d samples are counted as too old, want %d", got, l.count)
	}
}

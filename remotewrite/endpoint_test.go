package remotewrite

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// testEndpoint is an endpoint with a ledger that does not run.
func testEndpoint(t *testing.T, cfg Config, lanes int) *Endpoint {
	t.Helper()
	l := openLog(t, t.TempDir())
	e := loggedEndpoint(t, l, cfg, slog.New(slog.DiscardHandler))
	s := e.stored()[0]
	for len(s.Ats) < lanes {
		s.Ats = append(s.Ats, s.Ats[0])
	}
	e.led = newLedger(s.State, limitsOf(&cfg), time.Now())
	return e
}

// counter is a counter's value.
func counter(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// testShard is a shard of the endpoint that does not run.
func testShard(e *Endpoint) *shard {
	return &shard{e: e}
}

func TestShardsFollowTheMeasurements(t *testing.T) {
	const tick = scaleInterval
	for _, tc := range []struct {
		name        string
		lanes       int
		least, most int
		sent        counts
		in          int // samples logged
		retried     time.Duration
		want        int
	}{
		{"busy", 1, 1, 50, counts{samples: 1000, busy: 5 * tick}, 1000, 0, 5},
		{"busy beyond the most", 1, 1, 3, counts{samples: 1000, busy: 5 * tick}, 1000, 0, 3},
		{"idle", 5, 1, 50, counts{samples: 1000, busy: tick / 10}, 1000, 0, 1},
		{"idle, with a least", 5, 3, 50, counts{samples: 1000, busy: tick / 10}, 1000, 0, 3},
		{"nothing sent", 5, 1, 50, counts{}, 1000, 0, 5},
		{"nothing sent, and fewer allowed", 5, 1, 2, counts{}, 1000, 0, 2},
		{"after a failure", 1, 1, 50, counts{samples: 1000, busy: 5 * tick}, 1000, time.Minute, 1},
		{"after a failure, and more wanted", 1, 4, 50, counts{samples: 1000, busy: 5 * tick}, 1000, time.Minute, 4},
		{"half is dropped", 1, 1, 50, counts{samples: 500, dropped: 500, busy: 4 * tick}, 1000, 0, 4},
		{"as busy as it should be, but too many", 10, 1, 8, counts{samples: 1000, busy: 10 * tick}, 1000, 0, 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := remoteConfig(t, "http://127.0.0.1:1")
			cfg.Queue.MinShards, cfg.Queue.MaxShards = tc.least, tc.most
			e := testEndpoint(t, cfg, tc.lanes)
			now := time.Now()
			// As if the log had been that much shorter at the last tick.
			s := scaler{e: e, last: now.Add(-tick), total: e.store.Total() - uint64(tc.in)}
			e.sent = tc.sent
			e.lastRetry.Store(now.Add(tc.retried - 1).UnixNano())
			if got := s.decide(now); got != tc.want {
				t.Errorf("got %d shards, want %d", got, tc.want)
			}
			if e.sent != (counts{}) {
				t.Errorf("the counts go on from %+v", e.sent)
			}
		})
	}
}

func TestAClockThatWasAheadDoesNotCallForShards(t *testing.T) {
	const tick = scaleInterval
	for _, tc := range []struct {
		name          string
		ahead, behind time.Duration // of the newest in the log; of the oldest that waits
		want          int
	}{
		{"as usual", 0, 0, 2},
		{"it was ahead", time.Hour, 0, 2},
		{"it was ahead, and data waits", time.Hour, 19 * time.Second, 4}, // what comes in, and per second a twentieth of what waits
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := remoteConfig(t, "http://127.0.0.1:1")
			cfg.Queue.MinShards, cfg.Queue.MaxShards = 1, 50
			e := testEndpoint(t, cfg, 1)
			now := time.Now()
			l := &testLog{t: t, store: e.store, want: map[string][]point{}, clock: now.Add(tc.ahead).UnixMilli() - 1}
			b := testTarget("a", 10)
			l.scrape(b)
			e.sentTime.Store(now.UnixMilli())
			if tc.behind > 0 {
				batch := e.led.batchFor(0, e.led.reader, now)
				batch.add(e.plans.Block(b), 0, now.Add(-tc.behind).UnixMilli(), 1, 0)
			}
			s := scaler{e: e, last: now.Add(-tick), total: e.store.Total() - 1000}
			e.sent = counts{samples: 1000, busy: 2 * tick}
			if got := s.decide(now); got != tc.want {
				t.Errorf("got %d shards, want %d", got, tc.want)
			}
		})
	}
}

func TestWaitsDoubleAndFollowTheReceiver(t *testing.T) {
	type step struct{ asked, want time.Duration }
	for _, tc := range []struct {
		name        string
		least, most time.Duration
		steps       []step
	}{
		{"as configured", 30 * time.Millisecond, 200 * time.Millisecond, []step{
			{0, 30e6}, {0, 60e6}, {0, 120e6}, {0, 200e6}, {0, 200e6}, // capped
			{time.Minute, time.Minute}, {0, 200e6}, // what is asked for is not
			{50e6, 50e6}, {0, 100e6}, // and goes on from there
		}},
		{"no least", 0, 5 * time.Second, []step{{0, 1e6}, {0, 2e6}, {0, 4e6}, {0, 8e6}, {1, 1e6}, {0, 2e6}}},
		{"next to no least", 1, 3 * time.Millisecond, []step{{0, 1e6}, {0, 2e6}, {0, 3e6}, {0, 3e6}}},
		{"none at all", 0, 0, []step{{0, 1e6}, {0, 1e6}, {0, 1e6}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := backoff{min: tc.least, max: tc.most}
			for i, step := range tc.steps {
				if got := b.next(step.asked); got != step.want {
					t.Errorf("wait %d: got %v, want %v", i, got, step.want)
				}
			}
		})
	}
}

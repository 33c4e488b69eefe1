package remotewrite

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// testEndpoint is an endpoint with a ledger that does not run.
func testEndpoint(t *testing.T, cfg Config, lanes int) *Endpoint {
	t.Helper()
	l := openLog(t, t.TempDir())
	cursor, err := l.store.Log().Cursor("x")
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(prometheus.NewRegistry(), "test", "u")
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEndpoint(&cfg, l.store, cursor, m, "x", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := e.stateOf()
	for len(s.Ats) < lanes {
		s.Ats = append(s.Ats, s.Ats[0])
	}
	e.led = newLedger(s, limitsOf(&cfg), time.Now())
	return e
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

func TestLimitsComeFromTheQueue(t *testing.T) {
	for _, tc := range []struct{ capacity, perSend, queue int }{{1000, 100, 10}, {50, 100, 1}, {199, 100, 1}, {10000, 2000, 5}} {
		cfg := remoteConfig(t, "http://h")
		cfg.Queue.Capacity, cfg.Queue.MaxSamplesPerSend = tc.capacity, tc.perSend
		if got := limitsOf(&cfg); got.batch != tc.perSend || got.queue != tc.queue || got.waiting < got.batch {
			t.Errorf("capacity %d of %d: got %+v", tc.capacity, tc.perSend, got)
		}
	}
}

func TestWaitsDoubleAndFollowTheReceiver(t *testing.T) {
	b := backoff{min: 30 * time.Millisecond, max: 200 * time.Millisecond}
	for i, step := range []struct{ asked, want time.Duration }{
		{0, 30e6}, {0, 60e6}, {0, 120e6}, {0, 200e6}, {0, 200e6}, // capped
		{time.Minute, time.Minute}, {0, 200e6}, // what is asked for is not
		{50e6, 50e6}, {0, 100e6}, // and goes on from there
	} {
		if got := b.next(step.asked); got != step.want {
			t.Errorf("wait %d: got %v, want %v", i, got, step.want)
		}
	}
}

package remotewrite

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

func TestAFlushEndsWhenOnlyFailuresHaveLastedForAGrace(t *testing.T) {
	begin := time.Now()
	at := func(d time.Duration) *time.Time { t := begin.Add(d); return &t }
	for _, tc := range []struct {
		name     string
		failing  *time.Time
		deadline time.Duration
		want     time.Duration
	}{
		{"nothing fails", nil, time.Minute, time.Minute},
		{"it has failed for long", at(-time.Hour), time.Minute, inFlightGrace},
		{"it fails since the begin", at(0), time.Minute, inFlightGrace},
		{"it fails since a moment later", at(5 * time.Second), time.Minute, 5*time.Second + inFlightGrace},
		{"the deadline comes before", at(5 * time.Second), 5*time.Second + inFlightGrace/2, 5*time.Second + inFlightGrace/2},
		{"the deadline has passed", at(-time.Hour), 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &Endpoint{}
			e.failingSince.Store(tc.failing)
			if got := e.flushEnd(begin, begin.Add(tc.deadline)).Sub(begin); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestOnlyAFinalAnswerEndsFailures(t *testing.T) {
	e := &Endpoint{}
	first := time.Now()
	e.noteFailure(first)
	e.noteFailure(first.Add(time.Second))
	if got := e.failingSince.Load(); got == nil || !got.Equal(first) {
		t.Errorf("failing since %v, want the first failure, %v", got, first)
	}
	e.noteAnswer()
	if got := e.failingSince.Load(); got != nil {
		t.Errorf("failing since %v after an answer", got)
	}
}

func TestAHiccupAtTheEndLosesNothing(t *testing.T) {
	for _, tc := range []struct {
		name   string
		shards int
		status func(n int64) int // of request n, from 1
	}{
		{"at first", 1, func(n int64) int {
			if n <= 2 {
				return 503
			}
			return 204
		}},
		{"in all shards", 4, func(n int64) int {
			if n <= 8 {
				return 503
			}
			return 204
		}},
		{"again and again", 2, func(n int64) int {
			if n%3 > 0 {
				return 503
			}
			return 204
		}},
		{"between refusals", 1, func(n int64) int {
			if n%2 > 0 {
				return 503
			}
			return 403
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			var requests, refused atomic.Int64
			r := newReceiver(t, func(_ http.ResponseWriter, q *request) int {
				status := tc.status(requests.Add(1))
				if status == 403 {
					refused.Add(int64(q.samples))
				}
				return status
			})
			cfg := remoteConfig(t, r.srv.URL)
			cfg.Queue.BatchSendDeadline = time.Hour
			cfg.Queue.MinBackoff, cfg.Queue.MaxBackoff = 30*time.Millisecond, 100*time.Millisecond
			cfg.Queue.MinShards, cfg.Queue.MaxShards = tc.shards, tc.shards
			cfg.Queue.MaxSamplesPerSend, cfg.Queue.Capacity = 1000, 10000
			m := startManager(l, patience, cfg)
			l.scrape(testTarget("a", 700))
			eventually(t, "all is dealt", func() bool { return m.Status()[0].Pending == 700 })
			soon(t, "stopping", 10*time.Second, m.stop)
			if _, n := r.counts(); n != l.count-int(refused.Load()) {
				t.Errorf("%d of %d samples arrived, %d were refused", n, l.count, refused.Load())
			}
		})
	}
}

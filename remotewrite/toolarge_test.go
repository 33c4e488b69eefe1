package remotewrite

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tooLargeConfig is a remote with batches of 400 samples.
func tooLargeConfig(t *testing.T, r *receiver) Config {
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.MaxSamplesPerSend, cfg.Queue.Capacity = 400, 4000
	cfg.Queue.BatchSendDeadline = time.Hour
	return cfg
}

func TestAReceiverThatFindsEverythingTooLargeIsAskedLittle(t *testing.T) {
	for _, message := range bothMessages {
		t.Run(message, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			g := newGate(413)
			r := newReceiver(t, g.answer)
			cfg := tooLargeConfig(t, r)
			cfg.ProtobufMessage = message
			m := startManager(l, patience, cfg)
			a := testTarget("a", 200)
			for range 20 {
				l.scrape(a)
			}
			m.delivered()
			// The first batch is halved to the end; of nine others one sample each is tried.
			if n, _ := r.counts(); n != 2*400-1+9 {
				t.Errorf("%d requests for 10 batches of 400, want 808", n)
			}
			if got := m.remoteMetric("samples_failed_total"); got != l.count {
				t.Errorf("%d samples failed, want %d", got, l.count)
			}

			// What it takes again is not held against it.
			before, failed := l.count, l.count
			clear(l.want)
			g.set(204)
			for range 20 {
				l.scrape(a)
			}
			m.delivered()
			r.mustHave(l.want)
			if got := m.remoteMetric("samples_failed_total"); got != failed {
				t.Errorf("%d samples failed, want %d as before", got, failed)
			}
			if n, _ := r.counts(); n != 808+11 { // one of them a probe
				t.Errorf("%d requests, want 819", n)
			}
			if _, n := r.counts(); n != l.count-before {
				t.Errorf("%d samples delivered, want %d", n, l.count-before)
			}
		})
	}
}

// TestNewShardsKnowThatNothingFits: their number changes while nothing is
// taken, and none of them asks again.
func TestNewShardsKnowThatNothingFits(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, func(http.ResponseWriter, *request) int { return 413 })
	cfg := tooLargeConfig(t, r)
	m := startManager(l, patience, cfg)
	a := testTarget("a", 400)
	l.scrape(a)
	m.delivered()
	cfg.Queue.MinShards, cfg.Queue.MaxShards = 4, 4
	m.apply(cfg)
	eventually(t, "four shards run", func() bool { return m.Status()[0].Shards == 4 })
	for range 40 {
		l.scrape(a)
	}
	eventually(t, "most is final", func() bool { return m.Status()[0].BehindSamples < 4000 })
	m.stop()
	if n, _ := r.counts(); n > 2*400-1+60 {
		t.Errorf("%d requests", n)
	}
}

// TestFewSamplesDoNotSayThatNothingFits: series that are too large alone do
// not take others with them, though nothing of a small batch was accepted.
func TestFewSamplesDoNotSayThatNothingFits(t *testing.T) {
	for _, tc := range []struct {
		name            string
		series, scrapes int
	}{{"few series", 20, 1}, {"one series", 1, 100}} {
		t.Run(tc.name, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			r := newReceiver(t, func(_ http.ResponseWriter, q *request) int {
				for _, s := range q.order {
					if strings.Contains(s, `instance="bad"`) {
						return 413
					}
				}
				return 204
			})
			cfg := tooLargeConfig(t, r)
			cfg.Queue.MaxSamplesPerSend, cfg.Queue.BatchSendDeadline = tc.series*tc.scrapes, 10*time.Millisecond
			m := startManager(l, patience, cfg)
			bad, good := testTarget("bad", tc.series), testTarget("good", 200)
			for range tc.scrapes {
				l.scrape(bad)
			}
			m.delivered()
			for range 10 {
				l.scrape(bad, good)
			}
			m.delivered()
			r.mustHave(mapped(l.want, func(s string) string {
				if strings.Contains(s, `instance="bad"`) {
					return ""
				}
				return s
			}))
		})
	}
}

// TestSamplesTooOldSayNothingOfWhatFits: the sample to ask with has become too
// old; the next one is asked with.
func TestSamplesTooOldSayNothingOfWhatFits(t *testing.T) {
	var requests atomic.Int64
	r := newReceiver(t, func(_ http.ResponseWriter, q *request) int {
		requests.Add(1)
		if q.samples != 1 {
			t.Errorf("%d samples are asked with", q.samples)
		}
		return 413
	})
	cfg := tooLargeConfig(t, r)
	cfg.Queue.SampleAgeLimit = time.Hour
	e := testEndpoint(t, cfg, 1)
	s := testShard(e)
	s.noneFits = true
	now := time.Now()
	b := &batch{}
	plan := e.plans.Block(testTarget("a", 50))
	for i := range 50 {
		at := now
		if i < 5 {
			at = now.Add(-2 * time.Hour)
		}
		b.add(plan, i, at.UnixMilli(), 1, 0)
	}
	if !s.send(t.Context(), b) {
		t.Error("the batch is not final")
	}
	if !s.noneFits || requests.Load() != 1 {
		t.Errorf("nothing fits is %v after %d requests, want one", s.noneFits, requests.Load())
	}
	if got := fmt.Sprint(counter(t, e.metrics.samplesFailed), counter(t, e.metrics.samplesDropped.WithLabelValues(reasonTooOld))); got != "45 5" {
		t.Errorf("failed and too old: got %s, want 45 5", got)
	}
}

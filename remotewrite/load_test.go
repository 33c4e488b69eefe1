package remotewrite

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
)

// TestLoad sends all that the machine can, for a moment, to a receiver with
// moods, while the number of shards, the queue's sizes, the client and the
// whole endpoint change again and again. Under the race detector it is what
// holds the goroutines to their locks.
func TestLoad(t *testing.T) {
	for _, message := range bothMessages {
		t.Run(message, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			var mu sync.Mutex
			rnd := rand.New(rand.NewPCG(3, 4))
			n := func(n int) int { mu.Lock(); defer mu.Unlock(); return rnd.IntN(n) }
			r := newReceiver(t, func(w http.ResponseWriter, q *request) int {
				switch x := n(100); {
				case x < 5:
					return 500 + n(5)
				case x < 7:
					w.Header().Set("Retry-After", "0")
					return 429
				case x < 9:
					return 0
				case x < 12 && q.samples > 20:
					return 413
				}
				return 204
			})
			cfg := remoteConfig(t, r.srv.URL)
			cfg.ProtobufMessage = message
			cfg.Queue.RetryOnRateLimit = true
			cfg.Queue.MinShards, cfg.Queue.MaxShards = 20, 20
			m := startManager(l, patience, cfg)

			var wg sync.WaitGroup
			over := make(chan struct{})
			wg.Go(func() { // reloads
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for i := 0; ; i++ {
					select {
					case <-over:
						return
					case <-tick.C:
					}
					next := cfg
					next.Queue.MinShards = 1 + n(30)
					next.Queue.MaxShards = next.Queue.MinShards + n(10)
					next.Queue.MaxSamplesPerSend = 50 + n(400)
					next.Queue.Capacity = next.Queue.MaxSamplesPerSend * (1 + n(4))
					next.Headers = map[string]string{"X-N": fmt.Sprint(i)}
					if i%10 == 9 { // another endpoint: the series' own label is kept
						next.ExternalLabels = labels.FromStrings("job", fmt.Sprint(i))
					}
					change, err := m.Prepare([]Config{next})
					if err != nil {
						t.Error(err)
						return
					}
					change.Commit()
				}
			})
			wg.Go(func() { // readers
				tick := time.NewTicker(2 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-over:
						return
					case <-tick.C:
					}
					m.Status()
					if _, err := m.registry.Gather(); err != nil {
						t.Error(err)
						return
					}
				}
			})
			blocks := []*template.Block{testTarget("a", 150), testTarget("b", 100), testTarget("c", 30), testTarget("d", 3)}
			for begin := time.Now(); time.Since(begin) < time.Second; {
				l.scrape(blocks...)
				r.waitFor(l.count - 10_000)
			}
			close(over)
			wg.Wait()
			m.apply(cfg)
			m.running(1)
			m.delivered()
			r.mustHaveOnceRepeated(l.want)
			for _, name := range []string{"samples_failed_total", "samples_dropped_total"} {
				if got := m.remoteMetric(name); got != 0 {
					t.Errorf("%s: %d", name, got)
				}
			}
			requests, written := r.counts()
			t.Logf("%d samples, %d written in %d requests", l.count, written, requests)
		})
	}
}

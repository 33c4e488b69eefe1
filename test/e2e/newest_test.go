package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
)

// past makes the agent's log before its first start: the targets' scrapes of
// the last so many seconds, one each, as if it had run all the time and nobody
// had taken them.
func (s *site) past(seconds int) {
	s.t.Helper()
	log, err := wal.Open(filepath.Join(s.dir, "data"), wal.Options{SyncInterval: time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	store := record.NewStore(log, record.Options{})
	blocks := map[*numbered]*template.Block{}
	schema := template.Intern(template.Schema{Name: s.targets[0].name, Labels: []string{"series"}, Type: "unknown"})
	for _, n := range s.targets {
		b := template.NewBuilder(labels.FromStrings("instance", n.instance(), "job", "site"))
		for i := range n.series {
			b.Add(schema, []string{strconv.Itoa(i)})
		}
		blocks[n] = b.Block()
	}
	first := time.Now().Add(-time.Duration(seconds) * time.Second)
	for i := range seconds {
		for _, n := range s.targets {
			n.mu.Lock()
			n.number++
			values := make([]float64, n.series)
			for j := range values {
				values[j] = float64(n.number)
			}
			n.mu.Unlock()
			at := first.Add(time.Duration(i) * time.Second)
			if err := store.Append(&template.Batch{Time: at.UnixMilli(), Parts: []template.Part{{Block: blocks[n], Values: values}}}); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		s.t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// own is the block of ours in the config file for the site's remote.
func own(settings string) string {
	return fmt.Sprintf("\nprom_agent:\n  remotes: [{name: central, start: oldest, %s}]\n", settings)
}

// After an outage of minutes the newest data comes before the backlog, to a
// Prometheus that takes samples out of order; the agent is killed in between.
func TestPrometheusWithAWindowGetsTheNewestFirstAndThenTheBacklog(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		rng := randomly(t)
		const past = 240
		s.past(past)
		s.configure("", own("newest_first: true, max_bytes_per_second: 12KB"))
		s.startAgent() // no receiver yet
		s.scraped(2)
		s.centralConfig = "storage: {tsdb: {out_of_order_time_window: 1h}}\n"
		s.startCentral()

		// come is what has come of the backlog and of the time since the start, of one target's samples.
		come := func() (old, newer int) {
			n := s.targets[0]
			r, err := n.tally(s.central, "")
			if err != nil {
				t.Fatal(err)
			}
			missing := 0
			for _, v := range r.missing {
				if v <= past {
					missing++
				}
			}
			return min(r.last, past) - missing, max(0, r.last-past)
		}
		s.scraped(2)
		live := s.targets[0].scrapes() - past
		eventually(t, 20*time.Second, "live data is in the receiver", func() error {
			if _, newer := come(); newer < live {
				return fmt.Errorf("the newest is %d after the beginning, want %d", newer, live)
			}
			return nil
		})
		for range 3 {
			time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond) // the moment is what is tried
			if old, newer := come(); old >= past*3/4 || newer < live {
				t.Errorf("%d of %d scrapes of the backlog have come when %d newer ones have", old, past, newer)
			}
			s.endAgent(syscall.SIGKILL)
			s.startAgent()
			s.scraped(1)
		}
		if old, _ := come(); old == 0 {
			t.Error("nothing of the backlog has come beside the newest")
		}
		s.configure("", own("newest_first: true"))
		s.reload(200)
		s.arrives(s.central, "", 20*time.Second)
		for _, m := range []string{"prometheus_tsdb_out_of_order_samples_total", "prometheus_tsdb_out_of_bound_samples_total", "prometheus_tsdb_too_old_samples_total"} {
			if n := s.central.metric(m); n != 0 {
				t.Errorf("the receiver's %s is %v", m, n)
			}
		}
		if n := s.central.metric("prometheus_tsdb_head_out_of_order_samples_appended_total"); n == 0 {
			t.Error("nothing came out of order")
		}
		s.liked()
	})
}

package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"syscall"
	"testing"
	"time"
)

// noiseSeries is how many series of random values a noisy target has.
const noiseSeries = 5000

// newNoisy is a target that fills a log: beside one numbered series it has
// values that do not compress.
func newNoisy(t testing.TB) *numbered {
	n := &numbered{name: "numbered_value", series: 1}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.number++
		var b bytes.Buffer
		fmt.Fprintf(&b, "numbered_value{series=\"0\"} %d\n", n.number)
		for i := range noiseSeries {
			fmt.Fprintf(&b, "noise{series=\"%d\"} %v\n", i, rand.Float64())
		}
		w.Write(b.Bytes())
	}))
	t.Cleanup(n.Close)
	return n
}

// The log's size limit takes the oldest segments in an outage. What is left
// arrives; what the remote says that it lost is exactly what is missing.
func TestWhatRetentionTakesIsAllThatPrometheusMisses(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		s.flags = []string{"--storage.agent.retention.max-size=1MB"}
		s.add(newNoisy(t))
		s.startAgent() // no receiver yet
		eventually(t, 60*time.Second, "two segments are gone", func() error {
			if n := s.agent.metric("prometheus_tsdb_wal_truncations_total"); n < 2 {
				return fmt.Errorf("%v are, with %v bytes of log", n, s.agent.metric("prometheus_tsdb_wal_storage_size_bytes"))
			}
			return nil
		})
		s.scraped(2)
		s.startCentral()
		for _, n := range s.targets {
			want := n.scrapes()
			var r tally
			eventually(t, 20*time.Second, "newer scrapes are in the receiver", func() error {
				var err error
				if r, err = n.tally(s.central, ""); err == nil && r.last <= want {
					err = fmt.Errorf("the newest is %d, want more than %d", r.last, want)
				}
				return err
			})
			// What was being sent when the outage began is in memory; it may be a part of a scrape.
			m := append(slices.DeleteFunc(r.torn, func(v int) bool { return v > want }), r.missing...)
			slices.Sort(m)
			if len(m) == 0 || m[0] > 6 || m[len(m)-1]-m[0] != len(m)-1 || len(r.wrong) > 0 {
				t.Errorf("%s: %v is missing: retention takes the oldest; out of order: %v", n.instance(), m, r.wrong)
			}
		}

		// When nobody is scraped any more, the sums come to rest.
		s.targets = nil
		s.configure("", "")
		s.reload(http.StatusOK)
		var committed, come, lost float64
		eventually(t, 20*time.Second, "committed = come + lost", func() error {
			committed, come = s.agent.metric("prometheus_agent_samples_appended_total"), s.central.metric("prometheus_tsdb_head_samples_appended_total")
			lost = s.agent.metric("prom_agent_remote_lost_samples_total")
			if behind := s.agent.metric("prom_agent_remote_behind_samples"); behind != 0 || committed != come+lost {
				return fmt.Errorf("%v were committed, %v have come, %v are lost, %v are left", committed, come, lost, behind)
			}
			return nil
		})
		if lost == 0 {
			t.Error("nothing is lost")
		}
		refused(t, s.central)
	})
}

// One of two remotes is dead; a third one comes later and begins at the log's oldest data.
func TestPrometheusGetsAllBesideADeadRemoteAndAsANewOne(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		central, dead := s.remote("central", s.centralAddr, ""), s.remote("dead", ownAddr(t), "")
		s.write(dead + central)
		s.startCentral()
		s.startAgent()
		s.scraped(4)
		s.arrives(s.central, "", 20*time.Second)

		second := *s
		second.dir, second.centralAddr = t.TempDir(), ownAddr(t)
		second.startCentral()
		s.write(dead + central + s.remote("second", second.centralAddr, "") + "\nprom_agent:\n  remotes: [{name: second, start: oldest}]\n")
		s.reload(200)
		s.arrives(second.central, "", 20*time.Second)
		s.arrives(s.central, "", 20*time.Second)

		began := time.Now()
		s.endAgent(syscall.SIGTERM)
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("SIGTERM took %s", took)
		}
		for _, c := range []*process{s.central, second.central} {
			if err := s.complete(c, s.numbers(), ""); err != nil {
				t.Errorf("after SIGTERM: %v", err)
			}
		}
		s.liked(s.central, second.central)
	})
}

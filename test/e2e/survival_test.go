package e2e

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// randomly returns a generator whose seed is logged.
func randomly(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestPrometheusGetsAllFromAnAgentThatIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		rng := randomly(t)
		// This is longer than what comes twice after a kill: of no series do two
		// samples come again, and a Prometheus takes its newest sample twice.
		s.interval = time.Second
		s.configure("", "")
		s.startCentral()
		for range 10 {
			s.startAgent()
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond) // the moment is what is tried
			s.endAgent(syscall.SIGKILL)
		}
		s.startAgent()
		s.scraped(2)
		s.arrives(s.central, "", 20*time.Second)
		s.liked(s.central)
	})
}

func TestPrometheusThatIsKilledUnderLoadHasAllAfterwards(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		rng := randomly(t)
		s.startCentral()
		s.startAgent()
		for range 4 {
			s.scraped(1)
			time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond) // the moment is what is tried
			s.central.end(syscall.SIGKILL)
			s.startCentral()
			s.arrives(s.central, "", 20*time.Second)
		}
		s.scraped(2)
		s.arrives(s.central, "", 20*time.Second)
		s.liked(s.central)
	})
}

func TestPrometheusGetsAllThatWasScrapedBeforeATermination(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		s.startAgent() // no receiver yet
		s.scraped(6)
		began := time.Now()
		s.endAgent(syscall.SIGTERM)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("SIGTERM in an outage took %s", took)
		}
		s.startCentral()
		s.startAgent()
		s.arrives(s.central, "", 20*time.Second)
		s.scraped(3)
		s.endAgent(syscall.SIGTERM)
		if err := s.complete(s.central, s.numbers(), ""); err != nil { // at once: it was flushed
			t.Errorf("after SIGTERM with a remote that answers: %v", err)
		}
		if code := s.agent.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the agent ended with %d on SIGTERM", code)
		}
		s.liked(s.central)
	})
}

// The agent drains a backlog, in which each request has many samples of each
// series, when it is killed: what had come then comes in part again, beside
// what has not, and a Prometheus without a window refuses the repetitions.
func TestPrometheusGetsAllFromAnAgentThatIsKilledWhileItCatchesUp(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		rng := randomly(t)
		s.past(400)
		s.configure("", own("max_bytes_per_second: 40KB"))
		s.startCentral()
		const kills = 6
		for range kills {
			s.startAgent()
			time.Sleep(time.Duration(300+rng.IntN(1000)) * time.Millisecond) // the moment is what is tried
			s.endAgent(syscall.SIGKILL)
		}
		s.configure("", own(""))
		s.startAgent()
		s.scraped(2)
		s.arrives(s.central, "", 30*time.Second)
		// A quarter of a second of what the limit lets through is at most 10,240
		// samples of a byte or more; what is in flight are few requests of 2,000.
		if n := s.central.metric("prometheus_tsdb_out_of_order_samples_total"); n > kills*20_000 {
			t.Errorf("%v samples came twice at %d kills", n, kills)
		}
	})
}

// Requests are of other sizes after each kill. What was in work is repeated as
// it was: a Prometheus without a window, which refuses the repetition whole,
// refuses nothing else with it. One with a window takes it, behind what it has.
func TestPrometheusGetsAllThoughRequestsChangeAtKills(t *testing.T) {
	t.Parallel()
	for name, window := range map[string]string{"without a window": "", "with a window": "storage: {tsdb: {out_of_order_time_window: 1h}}\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inEveryReceiver(t, func(t *testing.T, s *site) {
				rng := randomly(t)
				s.past(400)
				s.centralConfig = window
				s.startCentral()
				largest, repeated := 0, 0 // samples of a request so far; most that the kills have made come twice
				for _, size := range []int{700, 2000, 5000, 1300, 3000} {
					s.queue = fmt.Sprintf("max_samples_per_send: %d, ", size)
					s.configure("", own("max_bytes_per_second: 120KB"))
					s.startAgent()
					time.Sleep(time.Duration(200+rng.IntN(600)) * time.Millisecond) // the moment is what is tried
					s.endAgent(syscall.SIGKILL)
					largest = max(largest, size) // the limit leaves it at one shard; what was in work may be of an earlier life
					repeated += largest
				}
				s.configure("", own(""))
				s.startAgent()
				s.scraped(2)
				s.arrives(s.central, "", 30*time.Second)
				if window == "" {
					return // repetitions are refused
				}
				s.liked()
				refused(t, s.central, appendedLate)
				if n := s.central.metric(appendedLate); n > float64(repeated) {
					t.Errorf("%v samples came twice, want one request of each kill, %d at most", n, repeated)
				}
			})
		})
	}
}

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
	inEveryReceiver(t, func(t *testing.T, s *site) {
		rng := randomly(t)
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
// series, when it is killed: what had come then comes in part again.
func TestPrometheusGetsAllFromAnAgentThatIsKilledWhileItCatchesUp(t *testing.T) {
	inEveryReceiver(t, func(t *testing.T, s *site) {
		rng := randomly(t)
		s.startAgent()
		s.scraped(20)
		s.configure("", fmt.Sprintf("\nprom_agent:\n  remotes: [{name: central, max_bytes_per_second: %dKB}]\n", 16))
		s.endAgent(syscall.SIGKILL)
		s.startCentral()
		for range 5 {
			s.startAgent()
			time.Sleep(time.Duration(500+rng.IntN(1000)) * time.Millisecond) // the moment is what is tried
			s.endAgent(syscall.SIGKILL)
		}
		s.configure("", "")
		s.startAgent()
		s.scraped(2)
		s.arrives(s.central, "", 20*time.Second)
	})
}

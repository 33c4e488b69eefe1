package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/prometheus/prompb"
)

// steppedClock is the environment's variable for the file with the seconds by
// which the wall clock of a steppable agent is off.
const steppedClock = "STEPPED_CLOCK"

// steppable builds the agent with a wall clock that steps as a clock file says.
// A static binary has no libc whose clock could be replaced, so the standard
// library's time.Now is. The monotonic clock goes on, as when a machine's
// clock is set. The kernel's clock, such as of the times of files, stays.
func steppable(t testing.TB) (binary string) {
	t.Helper()
	dir := t.TempDir()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env GOROOT: %v", err)
	}
	original := filepath.Join(strings.TrimSpace(string(goroot)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	for _, edit := range []struct{ from, to string }{
		{"\nimport (\n", "\nimport (\n\t\"sync/atomic\"\n\t\"syscall\"\n"},
		{"\t_ \"unsafe\" ", "\t\"unsafe\" "},
		{"\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n", "\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += atomic.LoadInt64(step)\n"},
	} {
		if n := strings.Count(text, edit.from); n != 1 {
			t.Fatalf("%s has %q %d times, want it once: this Go's time.Now is another one; mend the edits in steppable", original, edit.from, n)
		}
		text = strings.Replace(text, edit.from, edit.to, 1)
	}
	text += `
var step = mapStep()

func mapStep() *int64 {
	name, _ := syscall.Getenv("` + steppedClock + `")
	if name == "" {
		return new(int64)
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		panic("` + steppedClock + `: " + err.Error())
	}
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("` + steppedClock + `: " + err.Error())
	}
	return (*int64)(unsafe.Pointer(&b[0]))
}
`
	replacement := filepath.Join(dir, "time.go")
	writeFile(t, replacement, text)
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: replacement}})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "overlay.json"), string(overlay))
	binary = filepath.Join(dir, "prom-agent")
	// -trimpath also keeps the folder out of the build cache's keys: what it has made once is there.
	build := exec.Command("go", "build", "-trimpath", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, "promagent/cmd/prom-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent with a clock that steps: %v\n%s", err, out)
	}
	return binary
}

// clock is the wall clock of one site's agents.
type clock struct {
	file string
	off  *int64 // shared with them
}

func newClock(t testing.TB) *clock {
	t.Helper()
	name := filepath.Join(t.TempDir(), "clock")
	writeFile(t, name, string(make([]byte, 8)))
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(b) })
	return &clock{name, (*int64)(unsafe.Pointer(&b[0]))}
}

// set makes the clock so much wrong; 0: right.
func (c *clock) set(off time.Duration) { atomic.StoreInt64(c.off, int64(off/time.Second)) }

// perScrape is how many samples a scrape makes: the target's, and five of its own.
const perScrape = siteSeries + 5

// stepped is a site whose agents have a clock that steps.
type stepped struct {
	*site
	clock   *clock
	scrapes int // of all targets, by agents that have ended
	arrived int // samples of theirs in the receiver
}

// inEverySteppedReceiver is inEveryReceiver with sites whose clock steps. Such
// tests run beside each other.
func inEverySteppedReceiver(t *testing.T, binary string, test func(t *testing.T, s *stepped)) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		c := newClock(t)
		s.binary, s.interval = binary, time.Second
		s.command = []string{"env", steppedClock + "=" + c.file}
		s.configure("", "")
		test(t, &stepped{site: s, clock: c})
	})
}

// went waits for so many scrapes of each target, and complains when any did not
// come for many intervals. A busy machine may need some.
func (s *stepped) went(scrapes int) {
	s.t.Helper()
	for range scrapes {
		began := time.Now()
		s.scraped(1)
		if took := time.Since(began); took > 15*s.interval {
			s.t.Errorf("no scrape of some target for %s", took)
		}
	}
	if _, err := s.agent.get("/-/ready"); err != nil {
		s.t.Errorf("the agent is not ready: %v", err)
	}
}

// total is how many scrapes the present agent has made.
func (s *stepped) total() (n int) {
	for _, of := range s.numbers() {
		n += of
	}
	return n - s.scrapes
}

// ledger is what became of the samples of the present agent.
type ledger struct {
	scraped    int // that the targets gave it
	outOfOrder int // of those, kept out of the log
	unlogged   int // those, and what those scrapes say of themselves
	in         int // the log

	delivered                     int // by the receiver, all else by the agent
	failed, dropped, lost, behind int
}

func (s *stepped) ledger() (ledger, error) {
	s.t.Helper()
	received, err := s.received()
	if err != nil {
		return ledger{}, err
	}
	of := func(name string) int { return int(s.agent.metric(name)) }
	const remote = "prometheus_remote_storage_samples_"
	l := ledger{
		scraped:    s.total() * siteSeries,
		outOfOrder: of("prometheus_target_scrapes_sample_out_of_order_total"), unlogged: of("prometheus_agent_out_of_order_samples_total"),
		in: of(remote + "in_total"), failed: of(remote + "failed_total"), dropped: of(remote + "dropped_total"),
		lost: of("prom_agent_remote_lost_samples_total"), behind: of("prom_agent_remote_behind_samples"),
	}
	l.delivered = received - s.arrived
	return l, nil
}

// received is how many samples of the site the receiver has.
func (s *stepped) received() (n int, err error) {
	all, err := s.central.query(`{instance!=""}[10m]`)
	for _, of := range all {
		n += len(of.Values)
	}
	return n, err
}

// addsUp waits until it is known of each sample where it is: all that the
// targets gave is in the log or out of order, and all that is in the log is
// delivered, refused, dropped, lost or waits.
func (s *stepped) addsUp() (l ledger) {
	s.t.Helper()
	began := time.Now()
	eventually(s.t, 20*time.Second, "the counters add up", func() (err error) {
		if l, err = s.ledger(); err != nil {
			return err
		}
		// The agent observes the time before each scrape but a target's first.
		made := int(s.agent.metric("prometheus_target_interval_length_seconds_count")) + len(s.targets)
		unlogged := (l.unlogged - l.outOfOrder) / (perScrape - siteSeries)
		logged := made - unlogged
		whole := made*siteSeries == l.scraped && unlogged*siteSeries == l.outOfOrder && logged*perScrape == l.in
		// On a busy machine scrapes fail, and have but their own samples, and markers.
		failures := time.Since(began) > 5*time.Second && made*siteSeries > l.scraped &&
			unlogged*siteSeries >= l.outOfOrder && logged*perScrape >= l.in && logged*(perScrape-siteSeries) <= l.in
		if !whole && !failures {
			return fmt.Errorf("%+v: of %d scrapes %d are logged, and %d out of order", l, made, logged, unlogged)
		}
		if n := l.delivered + l.failed + l.dropped + l.lost + l.behind; n != l.in {
			return fmt.Errorf("%+v: %d of %d have a place", l, n, l.in)
		}
		return nil
	})
	s.t.Logf("%+v", l)
	return l
}

// ends ends the agent as an operator does.
func (s *stepped) ends() {
	s.t.Helper()
	s.endAgent(syscall.SIGTERM)
	if code := s.agent.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("the agent ended with %d on SIGTERM", code)
	}
	received, err := s.received()
	if err != nil {
		s.t.Fatal(err)
	}
	s.scrapes, s.arrived = s.scrapes+s.total(), received
}

// excuse excuses what was scraped of targets since the numbers were these, or
// is under way: it need not arrive.
func (s *stepped) excuse(since map[*numbered]int, targets ...*numbered) {
	for _, n := range targets {
		for v := since[n] + 1; v <= n.scrapes()+1; v++ {
			s.excused[n][v] = true
		}
	}
}

// refusesWhole says whether the receiver refuses a request for one of its
// samples. The agent divides it then, but not without end: some that are right
// may be refused with their wrong neighbours, and are counted.
func (s *stepped) refusesWhole() bool { return s.receiver.message == message1 }

// addAsAJob configures one more target, in a job of its own: a job that is
// edited forgets what its series have.
func (s *stepped) addAsAJob() *numbered {
	n := newNumbered(s.t, siteSeries)
	s.targets, s.excused[n] = append(s.targets, n), map[int]bool{}
	writeFile(s.t, filepath.Join(s.dir, "later.yml"), fmt.Sprintf("scrape_configs:\n- job_name: later\n  static_configs: [{targets: [%q]}]\n", n.instance()))
	name := filepath.Join(s.dir, "prometheus.yml")
	b, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	writeFile(s.t, name, string(b)+"\nscrape_config_files: [later.yml]\n")
	return n
}

// TestTheClockSteps: the agent's process sees its clock set, as a device does
// that has no clock of its own, or a wrong one. Scraping goes on, the agent
// ends in order, and its counters say of each sample where it is.
func TestTheClockSteps(t *testing.T) {
	binary := steppable(t) // before the others begin: a compiler would take their time
	t.Parallel()

	// As with Prometheus, what is scraped while the clock is behind is not newer
	// than what its series have, and is not logged.
	t.Run("an hour back and right again", func(t *testing.T) {
		inEverySteppedReceiver(t, binary, func(t *testing.T, s *stepped) {
			s.startCentral()
			s.startAgent()
			s.went(3)
			before := s.addsUp()
			if before.outOfOrder != 0 {
				t.Errorf("before the step: %+v", before)
			}
			since := s.numbers()
			s.clock.set(-time.Hour)
			s.went(18)
			s.clock.set(0)
			s.excuse(since, s.targets...)
			s.went(4)
			s.arrives(s.central, "", 20*time.Second)
			l := s.addsUp()
			// Those under way at a step may be of either side.
			if behind := siteTargets * siteSeries * 18; l.outOfOrder < behind-siteTargets*siteSeries || l.in <= before.in {
				t.Errorf("%+v; the clock was behind for %d samples", l, behind)
			}
			s.liked(s.central)
			s.ends()
		})
	})

	// A Prometheus refuses what is much older than its newest, which it has of others.
	t.Run("from 1970 to now", func(t *testing.T) {
		inEverySteppedReceiver(t, binary, func(t *testing.T, s *stepped) {
			s.startCentral()
			give(t, s.central.addr, prompb.TimeSeries{
				Labels:  []prompb.Label{{Name: "__name__", Value: "of_another_agent"}},
				Samples: []prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}},
			})
			s.clock.set(time.Until(time.Unix(5, 0)))
			s.startAgent()
			s.went(5)
			early := s.addsUp()
			if early.in == 0 || early.delivered != 0 {
				t.Errorf("in 1970: %+v", early)
			}
			s.clock.set(0)
			s.excuse(nil, s.targets...)
			s.went(1)
			if s.refusesWhole() {
				s.excuse(nil, s.targets...)
				s.divided = true
			}
			s.went(4)
			s.arrives(s.central, "", 20*time.Second)
			l := s.addsUp()
			// Those under way meanwhile may be early, too.
			if n := l.failed - early.in; n < 0 || n > 2*siteTargets*perScrape || l.outOfOrder+l.dropped+l.lost != 0 {
				t.Errorf("in 1970 %+v, at last %+v; want all of 1970 refused", early, l)
			}
			refused(t, s.central, outOfBound)
			s.ends()
		})
	})

	// A Prometheus refuses what is more than ten minutes ahead. The series have
	// samples of tomorrow then: until tomorrow, or a restart, nothing more of them
	// is logged. Series that are new are not concerned.
	t.Run("a day forward in an outage and right again", func(t *testing.T) {
		inEverySteppedReceiver(t, binary, func(t *testing.T, s *stepped) {
			s.startCentral()
			s.startAgent()
			s.went(2)
			since := s.numbers()
			s.arrives(s.central, "", 20*time.Second)
			s.central.end(syscall.SIGTERM)
			s.went(3)
			if !s.refusesWhole() {
				since = s.numbers() // the outage's beginning, too, must arrive
			}
			s.clock.set(24 * time.Hour)
			s.went(4)
			s.clock.set(0)
			n := s.addAsAJob()
			if code, err := s.post("/-/reload"); err != nil || code != http.StatusOK {
				t.Fatalf("reload: %d %v", code, err)
			}
			s.went(3)
			s.startCentral()
			eventually(t, 20*time.Second, "the backlog is gone", func() error {
				if n := s.agent.metric("prom_agent_remote_behind_samples"); n > perScrape {
					return fmt.Errorf("%v samples wait", n)
				}
				return nil
			})
			old := s.targets[:siteTargets]
			if s.refusesWhole() {
				s.excuse(since, n)
				s.divided = true
			}
			s.went(1)
			s.excuse(since, old...)
			s.arrives(s.central, "", 20*time.Second)
			l := s.addsUp()
			if l.failed < siteTargets*perScrape*3 || l.outOfOrder < siteTargets*siteSeries*2 || l.dropped+l.lost != 0 {
				t.Errorf("%+v; want what was ahead refused, and what came then of its series out of order", l)
			}
			s.ends()
			s.excuse(since, old...)

			s.startAgent()
			s.went(3)
			s.arrives(s.central, "", 20*time.Second)
			if l := s.addsUp(); l.failed+l.outOfOrder+l.dropped+l.lost != 0 {
				t.Errorf("after the restart: %+v", l)
			}
			refused(t, s.central, outOfBound)
			s.ends()
		})
	})
}

// outOfBound is what a Prometheus counts of samples that are too old for it.
const outOfBound = "prometheus_tsdb_out_of_bound_samples_total"

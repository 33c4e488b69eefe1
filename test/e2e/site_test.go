package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	siteTargets = 4
	siteSeries  = 200
)

// site is an agent with numbered targets, and a Prometheus that receives what
// they say. Its processes are killed and started again as a test likes.
type site struct {
	t        testing.TB
	dir      string
	receiver receiver
	targets  []*numbered
	interval time.Duration // of scrapes
	flags    []string      // of the agent
	binary   string        // of the agent
	command  []string      // what the agent's binary is an argument of; nil: nothing

	queue         string // further keys of the remotes' queue_config, each with a comma behind it
	centralConfig string // of the receiver

	agent, central         *process
	agentAddr, centralAddr string
	excused                map[*numbered]map[int]bool // scrapes under way when an agent ended
	divided                bool                       // excused scrapes may have come in part
}

// newSite makes targets and a config file; nothing runs yet.
func newSite(t testing.TB, r receiver) *site {
	s := &site{t: t, dir: t.TempDir(), receiver: r, binary: agentBinary, interval: 500 * time.Millisecond, agentAddr: ownAddr(t), centralAddr: ownAddr(t), excused: map[*numbered]map[int]bool{}}
	for range siteTargets {
		s.add(newNumbered(t, siteSeries))
	}
	return s
}

// add adds a target to the config.
func (s *site) add(n *numbered) {
	s.targets, s.excused[n] = append(s.targets, n), map[int]bool{}
	s.configure("", "")
}

// inEveryReceiver runs a test with a site for each way to write to a current Prometheus.
func inEveryReceiver(t *testing.T, test func(t *testing.T, s *site)) {
	for _, r := range receivers(t) {
		if r.binary == currentBinary {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel() // it mostly waits
				test(t, newSite(t, r))
			})
		}
	}
}

// remote is a remote_write block for a Prometheus at addr; edits are further lines of it.
func (s *site) remote(name, addr, edits string) string {
	return fmt.Sprintf(`
- name: %s
  url: http://%s/api/v1/write
  protobuf_message: %s
  %s
  queue_config: {%sbatch_send_deadline: 200ms, min_backoff: 30ms, max_backoff: 300ms}
`, name, addr, s.receiver.message, strings.ReplaceAll(strings.TrimSpace(edits), "\n", "\n  "), s.queue)
}

// configure writes the agent's config: the site's remote with further lines,
// and what comes after it in the file.
func (s *site) configure(edits, more string) {
	s.write(s.remote("central", s.centralAddr, edits) + more)
}

// write writes the agent's config with these remotes and what comes after them.
func (s *site) write(remotes string) {
	var addresses []string
	for _, n := range s.targets {
		addresses = append(addresses, fmt.Sprintf("%q", n.instance()))
	}
	writeFile(s.t, filepath.Join(s.dir, "prometheus.yml"), fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}
scrape_configs:
- job_name: site
  static_configs: [{targets: [%[2]s]}]
remote_write:%[3]s`, s.interval, strings.Join(addresses, ", "), remotes))
}

func (s *site) startAgent() {
	s.t.Helper()
	argv := append(slices.Clone(s.command), s.binary, "--config.file="+filepath.Join(s.dir, "prometheus.yml"),
		"--storage.agent.path="+filepath.Join(s.dir, "data"), "--web.listen-address="+s.agentAddr, "--web.enable-lifecycle",
		"--scrape.discovery-reload-interval=100ms")
	s.agent = start(s.t, "agent", s.agentAddr, "/-/ready", append(argv, s.flags...)...)
}

func (s *site) startCentral() {
	s.t.Helper()
	config := filepath.Join(s.dir, "receiver.yml")
	writeFile(s.t, config, s.centralConfig)
	s.central = start(s.t, "receiver", s.centralAddr, "/-/ready", s.receiver.binary,
		"--config.file="+config, "--storage.tsdb.path="+filepath.Join(s.dir, "tsdb"),
		"--web.listen-address="+s.centralAddr, "--web.enable-remote-write-receiver")
}

// endAgent ends the agent. What was being scraped while the signal was on its
// way need not have been committed.
func (s *site) endAgent(sig syscall.Signal) {
	s.t.Helper()
	before := s.numbers()
	s.agent.end(sig)
	for _, n := range s.targets {
		for v := max(1, before[n]); v <= n.scrapes(); v++ {
			s.excused[n][v] = true
		}
	}
}

// scraped waits until each target has been scraped so many times more.
func (s *site) scraped(times int) {
	s.t.Helper()
	want := s.numbers()
	eventually(s.t, 30*time.Second, fmt.Sprintf("%d more scrapes", times), func() error {
		for _, n := range s.targets {
			if got := n.scrapes(); got < want[n]+times {
				return fmt.Errorf("%s is at %d, was at %d", n.instance(), got, want[n])
			}
		}
		return nil
	})
}

// numbers are those of the targets' last scrapes.
func (s *site) numbers() map[*numbered]int {
	m := map[*numbered]int{}
	for _, n := range s.targets {
		m[n] = n.scrapes()
	}
	return m
}

// complete says what a Prometheus lacks of the targets' scrapes up to the
// numbers in want; nil when it has them all, whole and in order.
func (s *site) complete(central *process, want map[*numbered]int, matchers string) error {
	for _, n := range s.targets {
		r, err := n.tally(central, matchers)
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(r.missing, func(v int) bool { return s.excused[n][v] })
		for r.last < want[n] && s.excused[n][want[n]] {
			want[n]--
		}
		// What is newer than that may have come in part so far: requests go out by shard.
		torn := slices.DeleteFunc(r.torn, func(v int) bool { return v > want[n] || s.divided && s.excused[n][v] })
		if r.last < want[n] || len(missing) > 0 || len(torn) > 0 || len(r.wrong) > 0 {
			return fmt.Errorf("%s: the newest is %d, want %d; missing %v, torn %v, wrong %v", n.instance(), r.last, want[n], missing, torn, r.wrong[:min(3, len(r.wrong))])
		}
	}
	return nil
}

// arrives waits until a Prometheus has all that has been scraped until now.
func (s *site) arrives(central *process, matchers string, limit time.Duration) {
	s.t.Helper()
	want := s.numbers()
	eventually(s.t, limit, "all that was scraped is in the receiver", func() error { return s.complete(central, want, matchers) })
}

// liked fails the test when a Prometheus has refused samples, or the agent's
// present process has dropped some.
func (s *site) liked(centrals ...*process) {
	s.t.Helper()
	for _, c := range centrals {
		refused(s.t, c)
	}
	select {
	case <-s.agent.done:
		return
	default:
	}
	for _, m := range []string{"prometheus_remote_storage_samples_failed_total", "prometheus_remote_storage_samples_dropped_total", "prom_agent_remote_lost_samples_total", "prom_agent_log_dropped_samples_total"} {
		if n := s.agent.metric(m); n != 0 {
			s.t.Errorf("the agent's %s is %v", m, n)
		}
	}
}

// post asks the agent for something, such as a reload.
func (s *site) post(path string) (int, error) {
	resp, err := http.Post("http://"+s.agentAddr+path, "", nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

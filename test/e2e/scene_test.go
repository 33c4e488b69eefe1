package e2e

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
)

// scene is one agent, its targets and its receiver, with a faulty front between.
type scene struct {
	*fault
	t       testing.TB
	message string // remote_write's protobuf_message
	job     string
	ip      string // the front's
	host    string // the receiver's name, or that address
	front   *front
	central *center
	agent   *process
	targets []*numbered
	marked  *numbered // nil: there is none
	cert    *identity
	before  float64      // retriedSamples when the fault began
	hits    atomic.Int64 // requests that a mood has refused
	stop    func()       // ends what begin has started
}

// hosts is /etc/hosts, which is the test's own.
var hosts sync.Mutex

// known makes the receiver's name known, or unknown, to all processes of the test.
func (s *scene) known(known bool) {
	hosts.Lock()
	defer hosts.Unlock()
	b, err := os.ReadFile("/etc/hosts")
	if err != nil {
		s.t.Errorf("read names: %v", err)
		return
	}
	line := s.ip + " " + s.host + "\n"
	text := strings.ReplaceAll(string(b), line, "")
	if known {
		text += line
	}
	if err := os.WriteFile("/etc/hosts", []byte(text), 0o644); err != nil {
		s.t.Errorf("write names: %v", err)
	}
}

// refusedSome says whether the agent was refused samples for good.
func (s *scene) refusedSome() error {
	if s.failed() == 0 {
		return fmt.Errorf("nothing was refused")
	}
	return nil
}

// failed is how many samples were refused for good, as the agent counts.
func (s *scene) failed() int {
	return int(s.agent.metric("prometheus_remote_storage_samples_failed_total"))
}

// overtake gives the receiver a sample of the marked series that is newer than
// what is scraped in the next time.
func (s *scene) overtake(d time.Duration) {
	s.t.Helper()
	give(s.t, s.central.addr, prompb.TimeSeries{
		Labels: []prompb.Label{{Name: "__name__", Value: s.marked.name}, {Name: "instance", Value: s.marked.instance()},
			{Name: "job", Value: s.job}, {Name: "series", Value: "0"}},
		// A staleness marker, so that no query finds it.
		Samples: []prompb.Sample{{Timestamp: time.Now().Add(d).UnixMilli(), Value: math.Float64frombits(value.StaleNaN)}},
	})
}

// give gives the receiver at an address a series.
func give(t testing.TB, addr string, series prompb.TimeSeries) {
	t.Helper()
	m := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series}}
	raw, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+addr+"/api/v1/write", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, raw)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("the receiver answers %s", resp.Status)
	}
}

// repeatedStale says whether samples came twice that are not their series' newest.
func repeatedStale(s *scene) error {
	if a, _ := s.front.accounts(); a.stale == 0 {
		return fmt.Errorf("nothing came twice")
	}
	return nil
}

// scraped waits for so many more scrapes of each target.
func (s *scene) scraped(more int) {
	s.t.Helper()
	want := make([]int, len(s.targets))
	for i, n := range s.targets {
		want[i] = n.scrapes() + more
	}
	eventually(s.t, 20*time.Second, "the targets are scraped", func() error {
		for i, n := range s.targets {
			if got := n.scrapes(); got < want[i] {
				return fmt.Errorf("%d scrapes, want %d", got, want[i])
			}
		}
		return nil
	})
}

func (s *scene) matchers() string { return fmt.Sprintf("job=%q", s.job) }

// onlyTheMarked holds that what was refused is the marked series' alone, and is counted.
func (s *scene) onlyTheMarked() {
	s.t.Helper()
	allArrived(s.t, s.central.process, s.matchers(), 20*time.Second, s.targets...)
	r := tallies(s.t, s.central.process, s.matchers(), 20*time.Second, s.marked)[0]
	if n := s.failed(); n != r.lost || n == 0 {
		s.t.Errorf("%d samples are refused; the marked series lacks %d", n, r.lost)
	}
	if len(r.wrong) > 0 {
		s.t.Errorf("%v", r.wrong)
	}
}

// noneUncounted holds that what is missing is counted as refused.
func (s *scene) noneUncounted() {
	s.t.Helper()
	lost, samples := 0, 0
	for _, r := range tallies(s.t, s.central.process, s.matchers(), 20*time.Second, s.targets...) {
		lost += r.lost
		samples += r.samples
		for _, w := range r.wrong {
			s.t.Error(w)
		}
	}
	if n := s.failed(); n < lost || lost == 0 {
		s.t.Errorf("%d samples are refused; the receiver has %d and lacks %d", n, samples, lost)
	}
}

// nothingRefused holds that everything has arrived, and that nothing was
// refused but, at most, what came for a second time.
func (s *scene) nothingRefused() {
	s.t.Helper()
	allArrived(s.t, s.central.process, s.matchers(), 20*time.Second, s.targets...)
	n := s.failed() // before what comes later
	if a, _ := s.front.accounts(); n > a.stale || n > 0 && s.window != "" {
		s.t.Errorf("%d samples are refused, of %d that came for a second time after newer ones", n, a.stale)
	}
}

// center is a Prometheus that receives, and the fronts before it.
type center struct {
	*process
	mu     sync.Mutex
	fronts []*front
}

func startCenter(t testing.TB, window string) *center {
	dir, addr := t.TempDir(), ownAddr(t)
	config := "global: {}\n"
	if window != "" {
		config = fmt.Sprintf("storage: {tsdb: {out_of_order_time_window: %s}}\n", window)
	}
	writeFile(t, filepath.Join(dir, "receiver.yml"), config)
	return &center{process: start(t, "receiver", addr, "/-/ready", currentBinary,
		"--config.file="+filepath.Join(dir, "receiver.yml"), "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		"--web.listen-address="+addr, "--web.enable-remote-write-receiver")}
}

// front puts a front before it.
func (c *center) front(t testing.TB, message string, config *tls.Config) *front {
	f := newFront(t, c.addr, message, config)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fronts = append(c.fronts, f)
	return f
}

// refused holds that the receiver has refused nothing but what it got for a
// second time after newer samples of the series.
func (c *center) refused(t testing.TB) {
	t.Helper()
	counts := map[string]int{}
	for _, m := range refusals {
		counts[m] = int(c.metric(m))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	stale := 0
	for _, f := range c.fronts {
		a, _ := f.accounts()
		stale += a.stale
	}
	for m, n := range counts {
		if strings.Contains(m, "_out_of_order_") {
			n -= stale
		}
		if n > 0 {
			t.Errorf("the receiver's %s is %d; %d samples came for a second time after newer ones", m, counts[m], stale)
		}
	}
}

// start starts the scene's targets, its front and its agent.
func (s *scene) start() {
	t, dir := s.t, s.t.TempDir()
	for range 3 {
		s.targets = append(s.targets, newNumbered(t, 20))
	}
	all := s.targets
	if s.marks {
		s.marked = newNumbered(t, 1)
		s.marked.name = "marked_value"
		all = append(slices.Clone(all), s.marked)
	}
	var addrs []string
	for _, n := range all {
		addrs = append(addrs, strconv.Quote(n.instance()))
	}
	var config *tls.Config
	scheme, remote := "http", s.remote
	if s.tls {
		s.cert = newIdentity(t, dir, "receiver.test")
		config, scheme, remote = s.cert.config(), "https", fmt.Sprintf("tls_config: {ca_file: %q, server_name: receiver.test}", s.cert.caFile)
	}
	s.front = s.central.front(t, s.message, config)
	ip, port, err := net.SplitHostPort(s.front.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.ip, s.host = ip, ip
	if s.named {
		s.host = fmt.Sprintf("receiver-%s.test", ip)
		s.known(true)
		t.Cleanup(func() { s.known(false) })
	}
	writeFile(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf(`
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs:
- job_name: %q
  static_configs: [{targets: [%s]}]
remote_write:
- url: %s://%s/api/v1/write
  protobuf_message: %s
  metadata_config: {send: false}
  queue_config: {batch_send_deadline: 100ms, min_backoff: 30ms, max_backoff: 300ms, retry_on_http_429: true, min_shards: %d, max_shards: %[6]d}
  %[7]s
`, s.job, strings.Join(addrs, ", "), scheme, net.JoinHostPort(s.host, port), s.message, cmp.Or(s.shards, 3), remote))
	s.agent = startAgent(t, dir, ownAddr(t))
}

func (s *scene) run() {
	s.start()
	allArrived(s.t, s.central.process, s.matchers(), 20*time.Second, s.targets...)
	s.before = s.agent.metric(retriedSamples)
	s.begin(s)
	s.scraped(cmp.Or(s.lasts, 12))
	eventually(s.t, 20*time.Second, "the fault is felt", func() error {
		if s.felt == nil {
			if _, met := s.front.accounts(); met < 3 {
				return fmt.Errorf("%d requests met it", met)
			}
			return nil
		}
		return s.felt(s)
	})
	if s.end == nil {
		s.front.feel(nil)
	} else {
		s.end(s)
	}
	if s.check == nil {
		s.nothingRefused()
	} else {
		s.check(s)
	}
	for _, m := range []string{"prometheus_remote_storage_samples_dropped_total", "prom_agent_remote_lost_samples_total"} {
		if n := s.agent.metric(m); n != 0 {
			s.t.Errorf("the agent's %s is %v", m, n)
		}
	}
	s.agent.end(syscall.SIGTERM)
	if code := s.agent.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("the agent ended with %d on SIGTERM", code)
	}
	a, _ := s.front.accounts()
	if a.repeated > a.unanswered {
		s.t.Errorf("%d samples came twice; %d had no answer", a.repeated, a.unanswered)
	}
	if !s.refuses && s.window == "" {
		s.central.refused(s.t)
	}
	s.t.Logf("%d samples had no answer, %d came twice, %d of them after newer ones", a.unanswered, a.repeated, a.stale)
}

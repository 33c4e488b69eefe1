package e2e

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
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

const (
	message1 = "prometheus.WriteRequest"
	message2 = "io.prometheus.write.v2.Request"
)

// fault is what a receiver, or the way to it, does for a while.
type fault struct {
	name     string
	messages []string // nil: both
	tls      bool     // the receiver is asked by HTTPS
	lasts    int      // scrapes of each target; 0: 12
	named    bool     // the receiver has a name
	remote   string   // keys of the remote_write block
	shards   int      // as many requests at a time; 0: 3
	alone    bool     // it has a receiver of its own
	window   string   // that receiver's out_of_order_time_window; "": none
	marks    bool     // there is a target beside the others, with the series marked_value

	refuses bool // Prometheus itself refuses something

	begin, end func(*scene) // end nil: the front is well again
	felt       func(*scene) error
	check      func(*scene) // what holds at the end; nil: nothing was refused
}

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
	hits    atomic.Int64 // requests that a mood has refused
	stop    func()       // ends what begin has started
}

// mood makes the front answer so while the fault lasts.
func mood(f func(*scene) http.HandlerFunc) func(*scene) {
	return func(s *scene) { s.front.feel(f(s)) }
}

// answers is a mood: a status, and perhaps a header.
func answers(status int, header ...string) func(*scene) {
	return mood(func(*scene) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
		}
	})
}

// asksFor is a mood: 429 once, with a Retry-After, and complaints when it is not kept.
func asksFor(pause func(now time.Time) (header string, until time.Time)) func(*scene) {
	return mood(func(s *scene) http.HandlerFunc {
		var until atomic.Int64
		return func(w http.ResponseWriter, r *http.Request) {
			header, end := pause(time.Now())
			if until.CompareAndSwap(0, end.UnixNano()) {
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Retry-After", header)
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			if early := until.Load() - time.Now().UnixNano(); early > 0 {
				s.t.Errorf("asked again %v too early", time.Duration(early))
			}
			s.front.pass(w, r)
		}
	})
}

// cut ends a connection without an answer; nothing is passed on.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// every does something at each tick until the fault ends.
func every(d time.Duration, do func(s *scene, odd bool)) func(*scene) {
	return func(s *scene) {
		done, gone := make(chan struct{}), make(chan struct{})
		s.stop = func() { close(done); <-gone }
		do(s, true)
		go func() {
			defer close(gone)
			for odd := false; ; odd = !odd {
				select {
				case <-time.After(d):
					do(s, odd)
				case <-done:
					return
				}
			}
		}()
	}
}

// retried says whether the agent has made an attempt again.
func retried(s *scene) error {
	if n := s.agent.metric("prometheus_remote_storage_samples_retried_total"); n == 0 {
		return fmt.Errorf("no attempt was made again")
	}
	return nil
}

// hit says whether the mood has refused some requests.
func hit(s *scene) error {
	if n := s.hits.Load(); n < 3 {
		return fmt.Errorf("%d requests are refused", n)
	}
	return nil
}

// fails says whether the agent's last failure to deliver was such.
func fails(text string) func(*scene) error {
	return func(s *scene) error {
		status, err := s.agent.get("/api/v1/status/remotes")
		if err == nil && !strings.Contains(status, text) {
			err = fmt.Errorf("no failure with %q: %s", text, status)
		}
		return err
	}
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

var faults = []fault{
	{name: "500", begin: answers(500), felt: retried},
	{name: "503", begin: answers(503), felt: retried},
	{name: "429 without Retry-After", begin: answers(429), felt: retried},
	{name: "429 with seconds", shards: 1, felt: retried,
		begin: asksFor(func(now time.Time) (string, time.Time) { return "2", now.Add(2 * time.Second) })},
	{name: "429 with a date", shards: 1, felt: retried,
		begin: asksFor(func(now time.Time) (string, time.Time) {
			until := now.Add(3 * time.Second).Truncate(time.Second)
			return until.UTC().Format(http.TimeFormat), until
		})},
	{name: "400 because of one series", marks: true,
		begin: mood(func(s *scene) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				if raw, err := snappy.Decode(nil, body); err != nil || bytes.Contains(raw, []byte("marked_value")) {
					s.hits.Add(1)
					http.Error(w, "a marked series", http.StatusBadRequest)
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				s.front.pass(w, r)
			}
		}),
		felt: hit, check: func(s *scene) { s.onlyTheMarked() }},
	{name: "413", shards: 1, begin: mood(func(s *scene) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength > 600 {
				s.hits.Add(1)
				io.Copy(io.Discard, r.Body)
				http.Error(w, "too large", http.StatusRequestEntityTooLarge)
				return
			}
			s.front.pass(w, r)
		}
	}), felt: hit},
	{name: "timeout", remote: "remote_timeout: 700ms", felt: retried, begin: mood(func(*scene) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}
	})},
	{name: "timeout after all was taken", remote: "remote_timeout: 700ms", felt: retried, begin: mood(func(s *scene) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err == nil {
				s.front.forward(r, body)
				s.front.settled(r, false)
				<-r.Context().Done()
			}
		}
	})},
	{name: "answers are lost", felt: retried, begin: mood(func(s *scene) http.HandlerFunc { return s.front.swallow })},
	{name: "connection refused", felt: retried,
		begin: func(s *scene) { s.front.close() }, end: func(s *scene) { s.front.open() }},
	{name: "reset in the request's body", felt: retried, begin: mood(func(s *scene) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = r.Body.Read(make([]byte, 10))
			reset(s.t, w)
		}
	})},
	{name: "TLS certificate expired", tls: true, felt: fails("certificate has expired"),
		begin: func(s *scene) {
			s.cert.show(&s.cert.expired)
			s.front.feel(cut)
		},
		end: func(s *scene) {
			s.cert.show(&s.cert.valid)
			s.front.feel(nil)
		}},
	{name: "DNS gone", named: true, felt: fails("dial tcp: lookup receiver-"),
		begin: func(s *scene) {
			s.known(false)
			s.front.feel(cut)
		},
		end: func(s *scene) {
			s.known(true)
			s.front.feel(nil)
		}},
	{name: "slow receiver", begin: mood(func(s *scene) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			time.Sleep(400 * time.Millisecond)
			r.Body = io.NopCloser(bytes.NewReader(body))
			s.front.pass(w, r)
		}
	})},
	{name: "flapping every second", lasts: 24, felt: retried, begin: every(time.Second, func(s *scene, odd bool) {
		if odd {
			s.front.close()
		} else {
			s.front.open()
		}
	}), end: func(s *scene) {
		s.stop()
		s.front.close()
		s.front.open()
	}},
	// With 1.x such a receiver is not to be told from one that has taken all:
	// docs/guarantees.md names it as an assumption.
	{name: "200 without reading", messages: []string{message2}, felt: fails("no samples were written"),
		begin: mood(func(*scene) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
		}),
		check: func(s *scene) { s.noneUncounted() }},
	// Prometheus itself refuses a series of which it has newer samples.
	{name: "one series refused by Prometheus", marks: true, alone: true, refuses: true,
		begin: func(s *scene) { s.overtake(4 * time.Second) },
		felt:  func(s *scene) error { return s.refusedSome() },
		check: func(s *scene) { s.onlyTheMarked() }},
	{name: "answers are lost in a backlog", alone: true, begin: swallowBacklog, felt: repeatedStale},
	{name: "answers are lost in a backlog, with a window", felt: repeatedStale,
		alone: true, window: "1h", begin: swallowBacklog},
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
	m := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels: []prompb.Label{{Name: "__name__", Value: s.marked.name}, {Name: "instance", Value: s.marked.instance()},
			{Name: "job", Value: s.job}, {Name: "series", Value: "0"}},
		// A staleness marker, so that no query finds it.
		Samples: []prompb.Sample{{Timestamp: time.Now().Add(d).UnixMilli(), Value: math.Float64frombits(value.StaleNaN)}},
	}}}
	raw, err := m.Marshal()
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.Post("http://"+s.central.addr+"/api/v1/write", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, raw)))
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		s.t.Fatalf("the receiver answers %s", resp.Status)
	}
}

// swallowBacklog is a fault: there is an outage, and then some requests of the
// backlog, with more than one sample of a series, are taken without an answer.
func swallowBacklog(s *scene) {
	answers(http.StatusServiceUnavailable)(s)
	s.scraped(8)
	var n atomic.Int64
	s.front.feel(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		samples, err := s.front.samples(body)
		if err != nil {
			s.t.Error(err)
			return
		}
		next := s.front.pass
		for _, times := range samples {
			if len(times) > 1 {
				if n.Add(1) <= 6 {
					next = s.front.swallow
				}
				break
			}
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next(w, r)
	})
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

// TestReceiverFaultsWithPrometheus is the matrix of what receivers and the way
// to them can do, with a real Prometheus as receiver: whatever is scraped
// meanwhile is there in the end, in order, and Prometheus has refused nothing,
// as out of order, out of bounds or too old, but what the fault has made come
// twice.
func TestReceiverFaultsWithPrometheus(t *testing.T) {
	if currentBinary == "" {
		t.Fatal("PROMETHEUS names no binary; run `make e2e`")
	}
	var all sync.WaitGroup
	defer all.Wait()
	places := make(chan struct{}, 4) // scenes mostly wait: more at a time than there are cores
	for message, version := range map[string]string{message1: "1.x", message2: "2.0"} {
		shared := startCenter(t, "")
		for i := range faults {
			f := &faults[i]
			if f.messages != nil && !slices.Contains(f.messages, message) {
				continue
			}
			all.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				name := f.name + ", " + version
				t.Run(name, func(t *testing.T) {
					s := &scene{fault: f, t: t, message: message, job: name, central: shared}
					if f.alone {
						s.central = startCenter(t, f.window)
					}
					s.run()
				})
			})
		}
	}
}

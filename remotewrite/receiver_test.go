package remotewrite

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// point is a sample as a receiver sees it. Values compare bit for bit.
type point struct {
	time, start int64
	bits        uint64
}

// request is a decoded request.
type request struct {
	number   int // from 0
	header   http.Header
	series   map[string][]point
	order    []string            // of the series
	entries  [][]int64           // times of each
	extras   map[string][]string // exemplars by series, as text
	about    map[string]string   // 2.0: type, help and unit by series
	metadata []string            // 1.x, as text
	samples  int
}

// receiver takes remote write over a real socket and keeps what it has
// accepted.
type receiver struct {
	t      testing.TB
	srv    *httptest.Server
	answer func(http.ResponseWriter, *request) int // the status; nil: 2xx for all. 0: the connection ends, although all was taken
	silent bool                                    // what was written is not confirmed

	mu       sync.Mutex // guards what follows
	news     chan struct{}
	requests int
	written  int // samples accepted
	series   map[string][]point
	extras   map[string][]string
	about    map[string]string
	metadata []string
	agents   map[string]bool // values of User-Agent
}

func newReceiver(t testing.TB, answer func(http.ResponseWriter, *request) int) *receiver {
	r := &receiver{t: t, answer: answer, news: make(chan struct{}), series: map[string][]point{}, extras: map[string][]string{}, about: map[string]string{}, agents: map[string]bool{}}
	r.srv = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.srv.Close)
	return r
}

// decode reads a body of either version.
func decode(header http.Header, body []byte) (*request, error) {
	body, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, err
	}
	req := &request{header: header, series: map[string][]point{}, extras: map[string][]string{}, about: map[string]string{}}
	add := func(series string, p point) {
		if req.series[series] == nil {
			req.order = append(req.order, series)
		}
		req.series[series] = append(req.series[series], p)
		last := &req.entries[len(req.entries)-1]
		*last = append(*last, p.time)
		req.samples++
	}
	b := labels.NewScratchBuilder(0)
	switch header.Get("Content-Type") {
	case "application/x-protobuf":
		var m prompb.WriteRequest
		if err := m.Unmarshal(body); err != nil {
			return nil, err
		}
		for i := range m.Timeseries {
			ts := &m.Timeseries[i]
			series := ts.ToLabels(&b, nil).String()
			req.entries = append(req.entries, nil)
			for _, s := range ts.Samples {
				add(series, point{s.Timestamp, 0, math.Float64bits(s.Value)})
			}
			for _, x := range ts.Exemplars {
				req.extras[series] = append(req.extras[series], fmt.Sprint(x.ToExemplar(&b, nil)))
			}
		}
		for _, md := range m.Metadata {
			req.metadata = append(req.metadata, fmt.Sprintf("%s %s %s %s", md.MetricFamilyName, md.Type, md.Help, md.Unit))
		}
	case "application/x-protobuf;proto=io.prometheus.write.v2.Request":
		var m writev2.Request
		if err := m.Unmarshal(body); err != nil {
			return nil, err
		}
		for i := range m.Timeseries {
			ts := &m.Timeseries[i]
			ls, err := ts.ToLabels(&b, m.Symbols)
			if err != nil {
				return nil, err
			}
			series := ls.String()
			req.entries = append(req.entries, nil)
			for _, s := range ts.Samples {
				add(series, point{s.Timestamp, s.StartTimestamp, math.Float64bits(s.Value)})
			}
			for _, x := range ts.Exemplars {
				e, err := x.ToExemplar(&b, m.Symbols)
				if err != nil {
					return nil, err
				}
				req.extras[series] = append(req.extras[series], fmt.Sprint(e))
			}
			req.about[series] = fmt.Sprint(ts.Metadata.Type, " ", m.Symbols[ts.Metadata.HelpRef], " ", m.Symbols[ts.Metadata.UnitRef])
		}
	default:
		return nil, fmt.Errorf("content type %q", header.Get("Content-Type"))
	}
	return req, nil
}

func (r *receiver) serve(w http.ResponseWriter, hr *http.Request) {
	req, err := decode(hr.Header, readAll(hr.Body))
	if err != nil {
		if hr.Context().Err() == nil {
			r.t.Errorf("a request cannot be decoded: %v", err)
		}
		return
	}
	r.mu.Lock()
	req.number = r.requests
	r.requests++
	r.mu.Unlock()
	status := http.StatusNoContent
	if r.answer != nil {
		status = r.answer(w, req)
	}
	r.mu.Lock()
	if status == 0 || status/100 == 2 {
		for _, s := range req.order {
			r.series[s] = append(r.series[s], req.series[s]...)
		}
		for s, x := range req.extras {
			r.extras[s] = append(r.extras[s], x...)
		}
		for s, a := range req.about {
			r.about[s] = a
		}
		r.metadata = append(r.metadata, req.metadata...)
		r.written += req.samples
		r.agents[hr.UserAgent()] = true
	}
	close(r.news)
	r.news = make(chan struct{})
	r.mu.Unlock()
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	if status/100 == 2 && !r.silent && w.Header().Get("X-Prometheus-Remote-Write-Samples-Written") == "" {
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(req.samples))
		n := 0
		for _, x := range req.extras {
			n += len(x)
		}
		w.Header().Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(n))
	}
	w.WriteHeader(status)
}

// wait waits until the condition holds, which is asked under the mutex after
// every request.
func (r *receiver) wait(what string, holds func() bool) {
	r.t.Helper()
	late := time.After(patience)
	for {
		r.mu.Lock()
		ok, news := holds(), r.news
		written, requests := r.written, r.requests
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-late:
			r.t.Fatalf("%s: not after %v, %d requests and %d samples", what, patience, requests, written)
		}
	}
}

// waitFor waits until n samples have been accepted.
func (r *receiver) waitFor(n int) {
	r.t.Helper()
	r.wait(fmt.Sprintf("%d samples", n), func() bool { return r.written >= n })
}

// counts are the requests and the samples accepted so far.
func (r *receiver) counts() (requests, written int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests, r.written
}

// mustHave fails unless exactly the given samples have been accepted, per
// series in order.
func (r *receiver) mustHave(want map[string][]point) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	sameSeries(r.t, r.series, want)
}

// mustHaveOnceRepeated is mustHave, but runs of samples may have come again.
func (r *receiver) mustHaveOnceRepeated(want map[string][]point) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	sameSeries(r.t, withoutRepeats(r.t, r.series), want)
}

// withoutRepeats leaves out the samples that have come before.
func withoutRepeats(t testing.TB, all map[string][]point) map[string][]point {
	t.Helper()
	got := map[string][]point{}
	for s, ps := range all {
		for _, p := range ps {
			if n := len(got[s]); n == 0 || got[s][n-1].time < p.time {
				got[s] = append(got[s], p)
			} else if !slices.Contains(got[s], p) {
				t.Fatalf("%s: %+v after %+v, for the first time", s, p, got[s][n-1])
			}
		}
	}
	return got
}

func sameSeries(t testing.TB, got, want map[string][]point) {
	t.Helper()
	for s, w := range want {
		g := got[s]
		for i := range max(len(g), len(w)) {
			if i >= len(g) || i >= len(w) || g[i] != w[i] {
				t.Fatalf("%s: got %d samples, want %d; they differ from number %d on:\ngot  %v\nwant %v", s, len(g), len(w), i, g[min(i, len(g)):min(i+3, len(g))], w[min(i, len(w)):min(i+3, len(w))])
			}
		}
	}
	for s, g := range got {
		if want[s] == nil {
			t.Fatalf("%s: got %d samples, want none", s, len(g))
		}
	}
}

// testLog is a log on disk and what has been appended to it.
type testLog struct {
	t     testing.TB
	store *record.Store
	stop  func()

	want  map[string][]point // by series as logged
	count int
	clock int64 // ms
	noise bool  // values take all of their 8 bytes

	metadata iter.Seq[Metadata] // of the targets
}

func openLog(t testing.TB, dir string) *testLog {
	return openBoundedLog(t, dir, 0)
}

// openBoundedLog opens a log of at most so many bytes.
func openBoundedLog(t testing.TB, dir string, most int64) *testLog {
	t.Helper()
	l, err := wal.Open(dir, wal.Options{SyncInterval: time.Minute, MaxBytes: most, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &testLog{t: t, store: record.NewStore(l, record.Options{Logger: slog.New(slog.DiscardHandler)}), stop: stop, want: map[string][]point{}, clock: time.Now().UnixMilli()}
}

// reopened is the log after a restart of the process.
func (l *testLog) reopened(dir string) *testLog {
	l.stop()
	n := openLog(l.t, dir)
	n.want, n.count, n.clock = l.want, l.count, l.clock
	return n
}

// testTarget has n series of a counter.
func testTarget(instance string, n int) *template.Block {
	b := template.NewBuilder(labels.FromStrings("instance", instance, "job", "j"))
	for i := range n {
		sc := template.Intern(template.Schema{Name: fmt.Sprintf("m%d_total", i%7), Labels: []string{"n"}, Family: fmt.Sprintf("m%d", i%7), Type: "counter", Help: "Some.", Unit: "bytes"})
		b.Add(sc, []string{strconv.Itoa(i)})
	}
	return b.Block()
}

// names are the series of a block.
func names(b *template.Block) (out []string) {
	lb := labels.NewScratchBuilder(8)
	for it := b.Slots(); it.Next(); {
		out = append(out, it.Series(&lb).String())
	}
	return out
}

// scrape appends one scrape of each block, a millisecond after the last one.
func (l *testLog) scrape(blocks ...*template.Block) {
	l.t.Helper()
	l.clock++
	batch := &template.Batch{Time: l.clock}
	for _, b := range blocks {
		p := template.Part{Block: b, Values: make([]float64, b.Len())}
		for i, s := range names(b) {
			l.count++
			p.Values[i] = float64(l.count)
			if l.noise {
				p.Values[i] = math.Sin(p.Values[i])
			}
			l.want[s] = append(l.want[s], point{l.clock, 0, math.Float64bits(p.Values[i])})
		}
		batch.Parts = append(batch.Parts, p)
	}
	if err := l.store.Append(batch); err != nil {
		l.t.Fatal(err)
	}
}

// testManager is a running Manager.
type testManager struct {
	*Manager
	t        testing.TB
	registry *prometheus.Registry
	stop     func() // and waits for the end
}

// startManager runs the remotes; flush is the flush deadline.
func startManager(l *testLog, flush time.Duration, cfgs ...Config) *testManager {
	l.t.Helper()
	m := &testManager{t: l.t, registry: prometheus.NewRegistry()}
	var err error
	m.Manager, err = NewManager(l.store, Options{Registerer: m.registry, UserAgent: "Prometheus/3.14.0", FlushDeadline: flush, Metadata: l.metadata})
	if err != nil {
		l.t.Fatal(err)
	}
	m.apply(cfgs...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				l.t.Error(err)
			}
		case <-time.After(patience):
			l.t.Error("the manager does not end")
		}
	})
	l.t.Cleanup(m.stop)
	m.running(len(cfgs))
	return m
}

// runEndpoint runs an endpoint alone; stop waits for its end.
func runEndpoint(t testing.TB, e *Endpoint) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(stop)
	// It begins where the log ends when it has begun.
	eventually(t, "the endpoint runs", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.led != nil })
	return stop
}

// apply puts a configuration into force.
func (m *testManager) apply(cfgs ...Config) {
	m.t.Helper()
	change, err := m.Prepare(cfgs)
	if err != nil {
		m.t.Fatal(err)
	}
	change.Commit()
}

// eventually waits for what no channel tells.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !holds(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// running waits until the endpoints of n remotes are at work.
func (m *testManager) running(n int) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("%d remotes run", n), func() bool {
		s := m.Status()
		return len(s) == n && !slices.ContainsFunc(s, func(s RemoteStatus) bool { return s.Shards == 0 })
	})
}

// delivered waits until no remote is behind.
func (m *testManager) delivered() {
	m.t.Helper()
	eventually(m.t, "all is delivered", func() bool {
		return !slices.ContainsFunc(m.Status(), func(s RemoteStatus) bool { return s.BehindSamples > 0 || s.Pending > 0 })
	})
}

// metricFamily is a metric family: its type as the registry names it and its series.
type metricFamily struct {
	typ, help string
	series    []gathered
}

type gathered struct {
	names  []string // of the labels, sorted
	labels map[string]string
	value  float64 // of a counter or a gauge
	count  uint64  // of a histogram
}

// gather collects the metrics by name.
func gather(t testing.TB, g prometheus.Gatherer) map[string]metricFamily {
	t.Helper()
	fs, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]metricFamily{}
	for _, f := range fs {
		to := metricFamily{typ: f.GetType().String(), help: f.GetHelp()}
		for _, m := range f.GetMetric() {
			s := gathered{labels: map[string]string{}, value: m.GetCounter().GetValue() + m.GetGauge().GetValue(), count: m.GetHistogram().GetSampleCount()}
			for _, l := range m.GetLabel() {
				s.names = append(s.names, l.GetName())
				s.labels[l.GetName()] = l.GetValue()
			}
			to.series = append(to.series, s)
		}
		out[f.GetName()] = to
	}
	return out
}

// metric is the sum of a family's series whose labels include the given
// pairs, each "name=value".
func metric(t testing.TB, g prometheus.Gatherer, name string, pairs ...string) float64 {
	t.Helper()
	sum, found := 0.0, false
	for _, s := range gather(t, g)[name].series {
		if slices.ContainsFunc(pairs, func(p string) bool {
			name, value, _ := strings.Cut(p, "=")
			return s.labels[name] != value
		}) {
			continue
		}
		found = true
		sum += s.value
	}
	if !found {
		t.Errorf("there is no %s %v", name, pairs)
	}
	return sum
}

// remoteMetric is a metric of Prometheus's remote storage.
func (m *testManager) remoteMetric(name string, pairs ...string) int {
	m.t.Helper()
	return int(metric(m.t, m.registry, "prometheus_remote_storage_"+name, pairs...))
}

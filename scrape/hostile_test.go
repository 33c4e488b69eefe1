package scrape

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/discovery"
	"promagent/discovery/group"
	"promagent/template"
)

// sinkFunc is a Sink.
type sinkFunc func(*template.Batch) error

func (f sinkFunc) Append(b *template.Batch) error { return f(b) }

// reports are the values of the report samples in a batch, by name.
func reports(b *template.Batch) map[string]float64 {
	out := map[string]float64{}
	var sb labels.ScratchBuilder
	for _, p := range b.Parts {
		for it := p.Block.Slots(); it.Next(); {
			name := it.Series(&sb).Get("__name__")
			if slices.Contains(reportNames, name) && p.State(it.Slot) == template.Value {
				out[name] = p.Values[it.Slot]
			}
		}
	}
	return out
}

// testJob is a job as configuration would resolve it.
func testJob(change func(*JobConfig)) *JobConfig {
	c := &JobConfig{
		Job: "job", HonorTimestamps: true, Interval: time.Minute, Timeout: 10 * time.Second, MetricsPath: "/metrics", Scheme: "http",
		Protocols: []string{"OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4"}, EnableCompression: true,
		ValidationScheme: model.UTF8Validation, EscapingScheme: "allow-utf-8", ExtraMetrics: true, HTTP: commonconfig.DefaultHTTPClientConfig,
	}
	if change != nil {
		change(c)
	}
	return c
}

// single is one target's loop, scraped by hand.
type single struct {
	*loop
	reports map[string]float64 // of the last scrape
	samples int                // of the last scrape, reports included
}

func newSingle(t *testing.T, address string, change func(*JobConfig)) *single {
	t.Helper()
	s := &single{}
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	env := &environment{
		metrics: m, log: slog.New(slog.DiscardHandler), decode: make(chan struct{}, 1),
		sink: sinkFunc(func(b *template.Batch) error {
			s.reports, s.samples = reports(b), 0
			for i := range b.Parts {
				s.samples += b.Parts[i].Samples()
			}
			return nil
		}),
	}
	p, err := prepare(testJob(change), "prom-agent/test", nil)
	if err != nil {
		t.Fatal(err)
	}
	tg, err := newTarget(&labelBuilder{}, p.cfg, p.relabel, discovered{addressed(address), 0})
	if err != nil {
		t.Fatal(err)
	}
	s.loop = newLoop(tg, p.rules, p.fetcher, nil, env, nil)
	t.Cleanup(p.fetcher.closeIdle)
	return s
}

// scrapeError makes one scrape and returns what the target's status says of it.
func (s *single) scrapeError() string {
	s.scrape(time.Now())
	s.target.mu.Lock()
	defer s.target.mu.Unlock()
	if s.target.lastError == nil {
		return ""
	}
	return s.target.lastError.Error()
}

func address(t *testing.T, s *httptest.Server) string {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// countingWriter counts what a server managed to send.
type countingWriter struct {
	w io.Writer
	n *atomic.Int64
}

func (c countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// endless writes lines until nobody takes them any more.
func endless(w io.Writer, line string) {
	chunk := []byte(strings.Repeat(line, 1+32<<10/len(line)))
	for {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func hijack(t *testing.T, w http.ResponseWriter) (net.Conn, *bufio.ReadWriter) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		panic(http.ErrAbortHandler)
	}
	return c, rw
}

// allocated calls f and returns the bytes that were allocated meanwhile, in
// all: an upper bound of what it held at any time.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

func TestHostileTargetFailsItsScrapeWithAClearError(t *testing.T) {
	text := func(w http.ResponseWriter) http.ResponseWriter {
		w.Header().Set("Content-Type", textType)
		return w
	}
	quick := func(c *JobConfig) { c.Timeout = 100 * time.Millisecond }
	limit := func(c *JobConfig) { c.BodySizeLimit = 1 << 20 }
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) }) // ends what hangs, before its server is closed
	for _, tc := range []struct {
		name   string
		change func(*JobConfig)
		serve  http.HandlerFunc
		want   string
		size   float64 // scrape_body_size_bytes
		sent   int64   // the most that the server may get rid of; 0: not looked at
		memory int64   // the most that may be allocated, in all
	}{
		{"endless body, limited", limit, func(w http.ResponseWriter, _ *http.Request) { endless(text(w), "# again and again\n") },
			"body size limit exceeded", -1, 24 << 20, 16 << 20},
		{"endless line, limited", limit, func(w http.ResponseWriter, _ *http.Request) { endless(text(w), "a") },
			"body size limit exceeded", -1, 24 << 20, 16 << 20},
		{"slow body", quick, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(text(w), "a 1\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "scrape exceeded its timeout of 100ms: context deadline exceeded", 0, 0, 8 << 20},
		{"hanging headers", quick, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			"context deadline exceeded", 0, 0, 8 << 20},
		{"headers byte by byte", quick, func(w http.ResponseWriter, _ *http.Request) {
			c, _ := hijack(t, w)
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: ")
			for {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				if _, err := c.Write([]byte("a")); err != nil {
					return
				}
			}
		}, "context deadline exceeded", 0, 0, 8 << 20},
		{"endless headers", nil, func(w http.ResponseWriter, _ *http.Request) {
			c, _ := hijack(t, w)
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			endless(c, "X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
		}, "server response headers exceeded", 0, 0, 128 << 20},
		{"gzip bomb, limited", limit, func(w http.ResponseWriter, _ *http.Request) {
			bomb(text(w), "# nothing\n", 256)
		}, "body size limit exceeded", -1, 0, 32 << 20},
		{"gzip bomb of one line, limited", limit, func(w http.ResponseWriter, _ *http.Request) {
			bomb(text(w), "a", 256)
		}, "body size limit exceeded", -1, 0, 32 << 20},
		{"gzip that is none", nil, func(w http.ResponseWriter, _ *http.Request) {
			text(w).Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "a 1\nb 2\nc 3\n")
		}, "gzip: invalid header", 0, 0, 8 << 20},
		{"gzip that breaks off", nil, func(w http.ResponseWriter, _ *http.Request) {
			var b strings.Builder
			z := gzip.NewWriter(&b)
			for i := range 1000 {
				fmt.Fprintf(z, "a{x=\"%d\"} 1\n", i*i*i)
			}
			z.Close()
			text(w).Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, b.String()[:b.Len()/2])
		}, "unexpected EOF", 0, 0, 8 << 20},
		{"content length that is a lie", nil, func(w http.ResponseWriter, _ *http.Request) {
			c, _ := hijack(t, w)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\na 1\n")
			c.Close()
		}, "unexpected EOF", 0, 0, 8 << 20},
		{"connection that ends at once", nil, func(w http.ResponseWriter, _ *http.Request) {
			c, _ := hijack(t, w)
			c.Close()
		}, "EOF", 0, 0, 8 << 20},
		{"no HTTP", nil, func(w http.ResponseWriter, _ *http.Request) {
			c, _ := hijack(t, w)
			io.WriteString(c, "SSH-2.0-OpenSSH\r\n")
			c.Close()
		}, "malformed HTTP", 0, 0, 8 << 20},
		{"redirect loop", nil, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/metrics", http.StatusFound) },
			"stopped after 10 redirects", 0, 0, 8 << 20},
		{"error with endless body", nil, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			endless(w, "# again and again\n")
		}, "server returned HTTP status 503 Service Unavailable", 0, 24 << 20, 8 << 20},
		{"invalid UTF-8", nil, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(text(w), "a{x=\"\xff\"} 1\n") },
			"invalid UTF-8 label value", 11, 0, 8 << 20},
		{"no content type", nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "a 1\n")
		}, "fallback_scrape_protocol", 4, 0, 8 << 20},
		{"a million labels", func(c *JobConfig) { c.LabelLimit = 30 }, func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(text(w), "a{"+strings.Repeat(`l="1",`, 1_000_000)+"} 1\n")
		}, "line too long (limit 4194304)", 6_000_006, 0, 256 << 20},
		{"very many labels", func(c *JobConfig) { c.LabelLimit = 30 }, func(w http.ResponseWriter, _ *http.Request) { manyLabels(text(w), 100_000) },
			"label_limit exceeded (metric: a, number of labels: 100003, limit: 30)", 1_088_896, 0, 256 << 20},
		{"a long value", func(c *JobConfig) { c.LabelValueLengthLimit = 1000 }, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(text(w), "a{x=\"%s\"} 1\n", strings.Repeat("y", 2<<20))
		}, "label_value_length_limit exceeded (metric: a, label name: x, value: \"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\", length: 2097152, limit: 1000)", 2<<20 + 10, 0, 64 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var sent atomic.Int64
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				tc.serve(countingResponse{w, countingWriter{w, &sent}}, r)
			}))
			srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			srv.Start()
			defer srv.Close()
			s := newSingle(t, address(t, srv), tc.change)
			var got string
			mem := allocated(func() { got = s.scrapeError() })
			if !strings.Contains(got, tc.want) {
				t.Errorf("got error %.300q, want one with %q", got, tc.want)
			}
			if s.reports["up"] != 0 || s.reports["scrape_body_size_bytes"] != tc.size || s.samples != len(reportNames) {
				t.Errorf("got %d samples with reports %v, want %d bytes and the reports only", s.samples, s.reports, int64(tc.size))
			}
			if tc.sent > 0 && sent.Load() > tc.sent {
				t.Errorf("the server could send %d bytes, want at most %d", sent.Load(), tc.sent)
			}
			if mem > tc.memory {
				t.Errorf("%d bytes allocated, want at most %d", mem, tc.memory)
			}
		})
	}
}

// countingResponse is a response whose body is counted.
type countingResponse struct {
	http.ResponseWriter
	count countingWriter
}

func (c countingResponse) Write(p []byte) (int, error) { return c.count.Write(p) }
func (c countingResponse) Flush()                      { c.ResponseWriter.(http.Flusher).Flush() }
func (c countingResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return c.ResponseWriter.(http.Hijacker).Hijack()
}

// bomb answers with mebibytes of a line, packed: a member of one of them, again
// and again.
func bomb(w http.ResponseWriter, line string, mebibytes int) {
	var member bytes.Buffer
	z := gzip.NewWriter(&member)
	io.WriteString(z, strings.Repeat(line, 1+1<<20/len(line)))
	z.Close()
	w.Header().Set("Content-Encoding", "gzip")
	for range mebibytes {
		w.Write(member.Bytes())
	}
}

func manyLabels(w io.Writer, n int) {
	b := bufio.NewWriter(w)
	b.WriteString("a{")
	for i := range n {
		fmt.Fprintf(b, "l%d=\"%d\",", i, i%10)
	}
	b.WriteString("} 1\n")
	b.Flush()
}

func TestGzipBombWithoutLimitIsBounded(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", textType)
		bomb(w, "# "+strings.Repeat("nothing ", 1000)+"\n", 65) // few lines: reading them is not what is looked at
	}))
	defer srv.Close()
	s := newSingle(t, address(t, srv), func(c *JobConfig) { c.Interval, c.Timeout = time.Hour, time.Hour })
	s.fetcher.maxBody = 64 << 20
	var got string
	mem := allocated(func() { got = s.scrapeError() })
	if want := "body exceeds 67108864 bytes"; got != want || s.reports["up"] != 0 {
		t.Errorf("got error %q with reports %v, want error %q", got, s.reports, want)
	}
	if mem > 16<<20 {
		t.Errorf("%d bytes allocated for a bomb", mem)
	}
}

func TestLargeBodyIsRefusedWhileManyAreReceived(t *testing.T) {
	var sent atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", textType)
		endless(countingWriter{w, &sent}, "# again and again\n")
	}))
	defer srv.Close()
	s := newSingle(t, address(t, srv), nil)
	s.env.inFlight.n.Store(maxInFlight) // as if others had it all
	if got := s.scrapeError(); !strings.Contains(got, "body exceeds 16777216 bytes while") {
		t.Errorf("got error %q", got)
	}
	if n := s.env.inFlight.n.Load(); n != maxInFlight {
		t.Errorf("%d bytes in flight after the scrape, want %d", n, maxInFlight)
	}
	if sent.Load() > 2*fairRawBody {
		t.Errorf("the server could send %d bytes", sent.Load())
	}
}

func TestOtherTargetsGoOnBesideHostileOnes(t *testing.T) {
	t.Parallel() // it waits most of the time
	stop := make(chan struct{})
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", textType)
		io.WriteString(w, "a 1\n")
	}))
	defer good.Close()
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", textType)
		switch r.URL.Query().Get("how") {
		case "endless":
			endless(w, "# again and again\n")
		case "hang":
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		case "bomb":
			bomb(w, "# nothing\n", 64)
		}
	}))
	defer hostile.Close()
	defer close(stop)
	var mu sync.Mutex
	ups := map[string][]float64{}
	enough := make(chan struct{})
	m, err := New(Options{ReloadInterval: 10 * time.Millisecond, Sink: sinkFunc(func(b *template.Batch) error {
		mu.Lock()
		defer mu.Unlock()
		var sb labels.ScratchBuilder
		for _, p := range b.Parts {
			for it := p.Block.Slots(); it.Next(); {
				if l := it.Series(&sb); l.Get("__name__") == "up" {
					ups[l.Get("how")] = append(ups[l.Get("how")], p.Values[it.Slot])
				}
			}
		}
		for _, how := range []string{"good", "endless", "hang", "bomb"} {
			if len(ups[how]) < 3 {
				return nil
			}
		}
		select {
		case <-enough:
		default:
			close(enough)
		}
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	change, err := m.Prepare(Config{Jobs: []JobConfig{*testJob(func(c *JobConfig) {
		c.Interval, c.Timeout, c.BodySizeLimit = 500*time.Millisecond, 500*time.Millisecond, 1<<20
	})}})
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	target := func(s *httptest.Server, how string) model.LabelSet {
		return model.LabelSet{"__address__": model.LabelValue(address(t, s)), "how": model.LabelValue(how), "__param_how": model.LabelValue(how)}
	}
	updates := make(chan []discovery.Update, 1)
	updates <- []discovery.Update{{Job: "job", Groups: []group.Group{group.Of(&targetgroup.Group{Source: "s", Targets: []model.LabelSet{
		target(good, "good"), target(hostile, "endless"), target(hostile, "hang"), target(hostile, "bomb"),
	}})}}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- m.Run(ctx, updates) }()
	select {
	case <-enough:
	case <-time.After(30 * time.Second):
		t.Error("no three scrapes of every target within 30 s")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for how, all := range ups {
		want := 0.0
		if how == "good" {
			want = 1
		}
		if slices.ContainsFunc(all, func(v float64) bool { return v != want }) {
			t.Errorf("%s: up is %v, want %v throughout", how, all, want)
		}
	}
}

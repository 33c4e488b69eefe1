package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// receiver takes remote write 1.x and 2.0, counts, prints and forgets: for
// trying the agent out, and for seeing what goes over the wire.
type receiver struct {
	print bool

	mu    sync.Mutex // guards out and total
	out   *bufio.Writer
	total tally
}

// tally is what has arrived.
type tally struct {
	requests, samples, stale, histograms, exemplars, metadata, refused int
	wireBytes, rawBytes                                                int
	newest                                                             int64 // timestamp, ms
	messages                                                           [2]int
}

const (
	maxWireBody = 32 << 20  // of a request
	maxRawBody  = 128 << 20 // when unpacked
)

// receive serves until ctx ends and prints a line of rates every interval.
func receive(ctx context.Context, address string, print bool, every time.Duration, out io.Writer) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	r := &receiver{print: print, out: bufio.NewWriter(out)}
	srv := &http.Server{Handler: r, ReadTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	r.say("receiving on http://%s/api/v1/write\n", ln.Addr())

	tick := time.NewTicker(every)
	defer tick.Stop()
	last, lastAt := tally{}, time.Now()
	for {
		select {
		case now := <-tick.C:
			last = r.report(last, now.Sub(lastAt), now)
			lastAt = now
		case err := <-served:
			return err
		case <-ctx.Done():
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if err := srv.Shutdown(grace); err != nil {
				srv.Close() // a sender that does not finish its request
			}
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			fmt.Fprintf(r.out, "in all: %d requests, %d samples, %d stale markers, %d exemplars, %d histograms, %d metadata, %d refused requests\n",
				r.total.requests, r.total.samples, r.total.stale, r.total.exemplars, r.total.histograms, r.total.metadata, r.total.refused)
			return r.out.Flush()
		}
	}
}

func (r *receiver) say(format string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format, a...)
	r.out.Flush()
}

// report prints what came since last, unless nothing did.
func (r *receiver) report(last tally, d time.Duration, now time.Time) tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.total
	if t.requests == last.requests && t.refused == last.refused {
		return t
	}
	per := func(n int) float64 { return float64(n) / d.Seconds() }
	samples := t.samples + t.stale - last.samples - last.stale
	line := fmt.Sprintf("%s  %6.1f requests/s  %8.0f samples/s", now.Format(time.TimeOnly), per(t.requests-last.requests), per(samples))
	if samples > 0 {
		line += fmt.Sprintf("  %5.1f bytes/sample  newest %.1f s old", float64(t.wireBytes-last.wireBytes)/float64(samples), float64(now.UnixMilli()-t.newest)/1000)
	}
	if n := t.stale - last.stale; n > 0 {
		line += fmt.Sprintf("  %d stale markers", n)
	}
	if n := t.refused - last.refused; n > 0 {
		line += fmt.Sprintf("  %d refused", n)
	}
	fmt.Fprintln(r.out, line)
	r.out.Flush()
	return t
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		http.Error(w, "a remote write receiver takes POST", http.StatusMethodNotAllowed)
		return
	}
	got, text, err := r.decode(w, req)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.total.refused++
		fmt.Fprintf(r.out, "refused: %v\n", err)
		r.out.Flush()
		code := http.StatusBadRequest
		if errors.Is(err, errUnsupported) {
			code = http.StatusUnsupportedMediaType
		}
		http.Error(w, err.Error(), code)
		return
	}
	r.total.add(got)
	if r.print {
		r.out.WriteString(text)
		r.out.Flush()
	}
	h := w.Header()
	h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(got.samples+got.stale))
	h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(got.histograms))
	h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(got.exemplars))
	w.WriteHeader(http.StatusNoContent)
}

func (t *tally) add(o tally) {
	t.requests++
	t.samples += o.samples
	t.stale += o.stale
	t.histograms += o.histograms
	t.exemplars += o.exemplars
	t.metadata += o.metadata
	t.wireBytes += o.wireBytes
	t.rawBytes += o.rawBytes
	t.newest = max(t.newest, o.newest)
	t.messages[0] += o.messages[0]
	t.messages[1] += o.messages[1]
}

var errUnsupported = errors.New("unsupported")

// decode reads a request: what it holds, and its text when that is wanted.
func (r *receiver) decode(w http.ResponseWriter, req *http.Request) (t tally, text string, err error) {
	if enc := req.Header.Get("Content-Encoding"); enc != "snappy" {
		return t, "", fmt.Errorf("%w content encoding %q, want snappy", errUnsupported, enc)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxWireBody))
	if err != nil {
		return t, "", fmt.Errorf("read body: %w", err)
	}
	t.wireBytes = len(body)
	n, err := snappy.DecodedLen(body)
	if err == nil && n > maxRawBody {
		err = fmt.Errorf("%d bytes unpacked, at most %d are taken", n, maxRawBody)
	}
	var raw []byte
	if err == nil {
		raw, err = snappy.Decode(nil, body)
	}
	if err != nil {
		return t, "", fmt.Errorf("unpack body: %w", err)
	}
	t.rawBytes = len(raw)
	typ, params, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || typ != "application/x-protobuf" {
		return t, "", fmt.Errorf("%w content type %q", errUnsupported, req.Header.Get("Content-Type"))
	}
	var b strings.Builder
	if params["proto"] == messageV2 {
		t.messages[1]++
		err = r.decodeV2(raw, &t, &b)
	} else {
		t.messages[0]++
		err = r.decodeV1(raw, &t, &b)
	}
	return t, b.String(), err
}

// sample counts one sample and prints it.
func (r *receiver) sample(t *tally, b *strings.Builder, series string, v float64, ts int64) {
	if value.IsStaleNaN(v) {
		t.stale++
	} else {
		t.samples++
	}
	t.newest = max(t.newest, ts)
	if !r.print {
		return
	}
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if math.Float64bits(v) == value.StaleNaN {
		text = "stale"
	}
	fmt.Fprintf(b, "%s %s %d\n", series, text, ts)
}

// seriesText writes labels in the exposition's form.
func seriesText(n int, label func(i int) (name, value string)) string {
	var metric, rest strings.Builder
	for i := range n {
		name, v := label(i)
		if name == "__name__" {
			metric.WriteString(v)
			continue
		}
		if rest.Len() > 0 {
			rest.WriteByte(',')
		}
		fmt.Fprintf(&rest, "%s=%q", name, v)
	}
	return metric.String() + "{" + rest.String() + "}"
}

func (r *receiver) decodeV1(raw []byte, t *tally, b *strings.Builder) error {
	var req prompb.WriteRequest
	if err := req.Unmarshal(raw); err != nil {
		return fmt.Errorf("decode %s: %w", messageV1, err)
	}
	for i := range req.Timeseries {
		ts := &req.Timeseries[i]
		var series string
		if r.print {
			series = seriesText(len(ts.Labels), func(i int) (string, string) { return ts.Labels[i].Name, ts.Labels[i].Value })
		}
		for _, s := range ts.Samples {
			r.sample(t, b, series, s.Value, s.Timestamp)
		}
		t.histograms += len(ts.Histograms)
		t.exemplars += len(ts.Exemplars)
	}
	t.metadata += len(req.Metadata)
	if r.print {
		for _, m := range req.Metadata {
			fmt.Fprintf(b, "# %s %s %q %q\n", m.MetricFamilyName, strings.ToLower(m.Type.String()), m.Help, m.Unit)
		}
	}
	return nil
}

func (r *receiver) decodeV2(raw []byte, t *tally, b *strings.Builder) error {
	var req writev2.Request
	if err := req.Unmarshal(raw); err != nil {
		return fmt.Errorf("decode %s: %w", messageV2, err)
	}
	if len(req.Symbols) == 0 || req.Symbols[0] != "" {
		return errors.New("the first symbol is not the empty string")
	}
	for i := range req.Timeseries {
		ts := &req.Timeseries[i]
		if len(ts.LabelsRefs)%2 != 0 {
			return errors.New("odd number of label references")
		}
		for _, ref := range ts.LabelsRefs {
			if int(ref) >= len(req.Symbols) {
				return fmt.Errorf("label reference %d of %d symbols", ref, len(req.Symbols))
			}
		}
		if len(ts.Samples) == 0 && len(ts.Histograms) == 0 {
			return errors.New("a series without sample or histogram")
		}
		var series string
		if r.print {
			series = seriesText(len(ts.LabelsRefs)/2, func(i int) (string, string) {
				return req.Symbols[ts.LabelsRefs[2*i]], req.Symbols[ts.LabelsRefs[2*i+1]]
			})
		}
		for _, s := range ts.Samples {
			r.sample(t, b, series, s.Value, s.Timestamp)
		}
		t.histograms += len(ts.Histograms)
		t.exemplars += len(ts.Exemplars)
		if ts.Metadata.Type != writev2.Metadata_METRIC_TYPE_UNSPECIFIED || ts.Metadata.HelpRef != 0 {
			t.metadata++
		}
	}
	return nil
}

package scrape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/common/model"

	"promagent/config/httpclient"
)

// Bounds on what a target may send, whatever the configuration says.
const (
	maxRawBody   = 256 << 20 // of a body as it comes over the wire
	maxBody      = 1 << 30   // of a body unpacked
	maxInFlight  = 256 << 20 // of all bodies being received, together
	fairRawBody  = 16 << 20  // what a body may take while the others take all of maxInFlight
	maxWindow    = 8 << 20   // of zstd: more is refused
	maxPooledRaw = 1 << 20   // buffers larger than this are not kept
)

// protocols are the content types that names in the configuration stand for,
// those included that are not read here.
var protocols = map[string]string{
	"PrometheusProto":      "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
	"PrometheusText0.0.4":  "text/plain;version=0.0.4",
	"PrometheusText1.0.0":  "text/plain;version=1.0.0",
	"OpenMetricsText0.0.1": "application/openmetrics-text;version=0.0.1",
	"OpenMetricsText1.0.0": "application/openmetrics-text;version=1.0.0",
	"OpenMetricsText2.0.0": "application/openmetrics-text;version=2.0.0",
}

// notRead are the protocols that targets are not asked for: nothing here would read them.
var notRead = map[string]bool{"PrometheusProto": true, "OpenMetricsText2.0.0": true}

// protocolType is the media type of a protocol's name, without parameters; ""
// for none.
func protocolType(name string) string {
	mediaType, _, _ := strings.Cut(protocols[name], ";")
	return mediaType
}

// acceptHeader asks for the protocols in their order, with the weights that
// Prometheus gives them; one that is not asked for leaves its weight unused.
func acceptHeader(names []string, escaping string) string {
	var parts []string
	weight := len(protocols) + 1
	for _, name := range names {
		if notRead[name] {
			weight--
			continue
		}
		typ := protocols[name]
		if strings.Contains(typ, "version=1.0.0") && escaping != "" {
			typ += ";" + model.EscapingKey + "=" + escaping
		}
		parts = append(parts, typ+";q=0."+strconv.Itoa(weight))
		weight--
	}
	return strings.Join(append(parts, "*/*;q=0."+strconv.Itoa(weight)), ",")
}

// fetcher gets bodies with a job's HTTP client, or with one like it that dials
// a target's unix socket.
type fetcher struct {
	client    *http.Client
	like      func(httpclient.DialFunc) (*http.Client, error) // another client of the job
	header    http.Header
	bodyLimit int64 // of the job, unpacked bytes; 0: none
	maxBody   int64 // unpacked bytes, where the job has no limit

	mu      sync.Mutex
	sockets map[string]*http.Client // by path; made when they are first needed
}

// newFetcher returns a job's fetcher; dial is how it connects to targets, nil: as usual.
func newFetcher(c *JobConfig, userAgent string, dial httpclient.DialFunc) (*fetcher, error) {
	f := &fetcher{header: http.Header{}, bodyLimit: c.BodySizeLimit, maxBody: maxBody, sockets: map[string]*http.Client{}}
	f.like = func(d httpclient.DialFunc) (*http.Client, error) {
		if dial != nil {
			d = dial
		}
		client, err := httpclient.New(c.HTTP, c.Job, httpclient.Options{Dial: d})
		if err != nil {
			return nil, fmt.Errorf("error creating HTTP client: %w", err)
		}
		return client, nil
	}
	var err error
	if f.client, err = f.like(nil); err != nil {
		return nil, err
	}
	f.header.Set("Accept", acceptHeader(c.Protocols, c.EscapingScheme))
	f.header.Set("Accept-Encoding", "identity")
	if c.EnableCompression {
		f.header.Set("Accept-Encoding", "zstd,gzip;q=0.9") // both are known to servers that list them by name only
	}
	f.header.Set("User-Agent", userAgent)
	return f, nil
}

// clientFor is the client to ask a target with. One of a unix socket may need
// files that are not there just now: then that scrape fails, and the next one tries again.
func (f *fetcher) clientFor(t *target) (*http.Client, error) {
	if t.socket == "" {
		return f.client, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.sockets[t.socket]; c != nil {
		return c, nil
	}
	c, err := f.like(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", t.socket)
	})
	if err == nil {
		f.sockets[t.socket] = c
	}
	return c, err
}

// closeIdle closes the connections that no request uses.
func (f *fetcher) closeIdle() {
	f.client.CloseIdleConnections()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.sockets {
		c.CloseIdleConnections()
	}
}

// body is a response as received: still packed.
type body struct {
	raw         *bytes.Buffer
	contentType string
	encoding    string
	in          *inFlight
	taken       int64
	max         int64 // unpacked bytes
}

// release gives the buffer back.
func (b *body) release() {
	b.in.give(b.taken)
	if b.raw.Cap() <= maxPooledRaw {
		b.raw.Reset()
		rawBuffers.Put(b.raw)
	}
	b.raw = nil
}

var rawBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// inFlight counts the bytes of bodies being received.
type inFlight struct{ n atomic.Int64 }

func (i *inFlight) give(n int64) { i.n.Add(-n) }

// get fetches a target, and counts what it receives. ctx ends with the scrape's timeout.
func (f *fetcher) get(ctx context.Context, t *target, in *inFlight) (*body, error) {
	client, err := f.clientFor(t)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range f.header {
		req.Header[k] = v
	}
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", strconv.FormatFloat(t.timeout.Seconds(), 'f', -1, 64))
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again; what it says does not matter
		return nil, fmt.Errorf("server returned HTTP status %s", resp.Status)
	}
	b := &body{raw: rawBuffers.Get().(*bytes.Buffer), contentType: resp.Header.Get("Content-Type"), encoding: resp.Header.Get("Content-Encoding"), in: in, max: f.maxBody}
	if err := b.receive(resp.Body, f.bodyLimit); err != nil {
		b.release()
		return nil, err
	}
	return b, nil
}

// receive reads the body as it comes. limit bounds an unpacked one.
func (b *body) receive(r io.Reader, limit int64) error {
	if b.encoding == "gzip" || b.encoding == "zstd" {
		limit = 0 // counts what comes out
	}
	for {
		if b.raw.Available() < 512 {
			b.raw.Grow(max(4<<10, b.raw.Len())) // doubles
		}
		chunk := b.raw.AvailableBuffer()
		n, err := r.Read(chunk[:cap(chunk)])
		b.raw.Write(chunk[:n])
		b.taken += int64(n)
		total := b.in.n.Add(int64(n))
		size := int64(b.raw.Len())
		switch {
		case limit > 0 && size >= limit:
			return errBodyLimit
		case size > maxRawBody:
			return fmt.Errorf("body exceeds %d bytes", maxRawBody)
		case total > maxInFlight && size > fairRawBody:
			return fmt.Errorf("body exceeds %d bytes while %d bytes of other targets are being received", fairRawBody, total-size)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

var (
	gzipReaders sync.Pool
	zstdReaders sync.Pool
)

// unpack calls f with the body's text. Reading more of it than limit bytes
// (0: the hard bound) fails.
func (b *body) unpack(limit int64, f func(*limited) error) error {
	var r io.Reader = bytes.NewReader(b.raw.Bytes())
	switch b.encoding {
	case "gzip":
		z, ok := gzipReaders.Get().(*gzip.Reader)
		if !ok {
			z = new(gzip.Reader)
		}
		defer gzipReaders.Put(z)
		if err := z.Reset(r); err != nil {
			return err
		}
		r = z
	case "zstd":
		z, ok := zstdReaders.Get().(*zstd.Decoder)
		if !ok {
			var err error
			if z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow)); err != nil {
				return err
			}
		}
		defer func() {
			_ = z.Reset(nil) // lets go of the body
			zstdReaders.Put(z)
		}()
		if err := z.Reset(r); err != nil {
			return err
		}
		r = z
	}
	if limit == 0 {
		return f(&limited{r: r, left: b.max, err: fmt.Errorf("body exceeds %d bytes", b.max)})
	}
	return f(&limited{r: r, left: limit, err: errBodyLimit})
}

// limited fails when it has read as many bytes as it may: a body of exactly
// the limit exceeds it, as in Prometheus.
type limited struct {
	r      io.Reader
	left   int64
	err    error
	n      int64 // bytes read
	failed error // what reading ended with, unless that was the end of the body
}

func (l *limited) Read(p []byte) (int, error) {
	if l.failed != nil {
		return 0, l.failed
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.n += int64(n)
	switch l.left -= int64(n); {
	case l.left <= 0:
		l.failed = l.err
	case err != nil && err != io.EOF:
		l.failed = err
	default:
		return n, err
	}
	return n, l.failed
}

// timeoutError names the scrape's timeout rather than the context's.
func timeoutError(err error, d time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("scrape exceeded its timeout of %s: %w", d, err)
	}
	return err
}

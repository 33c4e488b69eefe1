package remotewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/storage/remote/azuread"
	"github.com/prometheus/prometheus/storage/remote/googleiam"
	"github.com/prometheus/sigv4"

	"promagent/config/httpclient"
)

const (
	maxAnswer    = 64 << 10    // bytes read of a receiver's answer, so that its connection can be used again
	maxMessage   = 1024        // bytes of it that go into an error
	answerTime   = time.Second // for reading them: the status says all that matters
	maxUnasked   = 512 << 10   // bytes that a connection may bring without a byte being sent on it
	maxRedirects = 10
	answerBuffer = 1 << 10 // bytes: answers are short, and no more than their heads matters
)

// errLongAnswer is an answer whose headers do not end in maxUnasked bytes.
var errLongAnswer = errors.New("the answer is too long")

// Client makes single attempts to deliver a request to one remote.
type Client struct {
	http     *http.Client
	inner    interface{ CloseIdleConnections() } // below what sets headers and signs
	url      string
	timeout  time.Duration
	retry429 bool
	headers  http.Header

	mu     sync.Mutex // guards what follows
	users  int        // requests under way
	closed bool       // when there are none, no connection is kept
}

// NewClient returns the client of a remote, with all that its block says of
// authentication, TLS, proxies and headers.
func NewClient(cfg Config, userAgent string) (*Client, error) {
	return newClient(cfg, userAgent, net.DefaultResolver)
}

func newClient(cfg Config, userAgent string, names resolver) (*Client, error) {
	dial := (&net.Dialer{}).DialContext
	if cfg.RoundRobinDNS {
		dial = roundRobin{names, dial}.dial
	}
	c, err := httpclient.New(cfg.HTTP, "remote_storage_write_client", httpclient.Options{Dial: bounded(dial), AnswerBuffer: answerBuffer})
	if err != nil {
		return nil, fmt.Errorf("HTTP client of remote %s: %w", cfg.RemoteName, err)
	}
	if c.CheckRedirect == nil {
		c.CheckRedirect = checkRedirect
	}
	inner := &http.Client{Transport: c.Transport}
	rt := c.Transport
	if len(cfg.Headers) > 0 {
		rt = &headerSetter{cfg.Headers, rt}
	}
	if cfg.SigV4 != nil && err == nil {
		rt, err = sigv4.NewSigV4RoundTripper(cfg.SigV4, rt)
	}
	if cfg.AzureAD != nil && err == nil {
		rt, err = azuread.NewAzureADRoundTripper(cfg.AzureAD, rt)
	}
	if cfg.GoogleIAM != nil && err == nil {
		rt, err = googleiam.NewRoundTripper(cfg.GoogleIAM, rt)
	}
	if err != nil {
		return nil, fmt.Errorf("authentication of remote %s: %w", cfg.RemoteName, err)
	}
	c.Transport = rt
	h := http.Header{}
	h.Set("Content-Encoding", "snappy")
	h.Set("User-Agent", userAgent)
	if cfg.V2() {
		h.Set("Content-Type", "application/x-protobuf;proto="+MessageV2)
		h.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	} else {
		h.Set("Content-Type", "application/x-protobuf")
		h.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	}
	return &Client{http: c, inner: inner, url: cfg.URL.String(), timeout: cfg.RemoteTimeout, retry429: cfg.Queue.RetryOnRateLimit, headers: h}, nil
}

// checkRedirect follows what sends the same request elsewhere. A redirect that
// would make a GET of it delivers nothing, whatever its target answers: it is
// the answer itself.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if req.Method != http.MethodPost {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	return nil
}

// headerSetter sets the configured headers on the first request's host only:
// a redirect elsewhere must not carry them away, nor one that leaves TLS.
type headerSetter struct {
	headers map[string]string
	next    http.RoundTripper
}

func (s *headerSetter) RoundTrip(req *http.Request) (*http.Response, error) {
	own := true
	for r := req; r.Response != nil && r.Response.Request != nil; { // redirected
		from := r.Response.Request
		own = own && from.URL.Host == r.URL.Host && (from.URL.Scheme == r.URL.Scheme || r.URL.Scheme == "https")
		r = from
	}
	if own {
		req = req.Clone(req.Context())
		for k, v := range s.headers {
			if strings.EqualFold(k, "host") {
				continue
			}
			req.Header.Set(k, v)
		}
	}
	return s.next.RoundTrip(req)
}

// Response is what a receiver says of a request that it has accepted.
type Response struct {
	Status    int
	Confirmed bool // it says how much it has written:
	Samples   int
	Histograms,
	Exemplars int
}

// SendError is a request that was not accepted.
type SendError struct {
	Status      int // 0: there was no answer
	Recoverable bool
	RetryAfter  time.Duration // as the receiver asked; 0: it did not
	Response    Response      // what it says it has written all the same
	Err         error
}

func (e *SendError) Error() string { return e.Err.Error() }
func (e *SendError) Unwrap() error { return e.Err }

// Store makes one attempt to deliver body, which is compressed, and must not be
// changed any more: a receiver may answer before it has read all of it. attempt is 0
// for the first, and sent with the others. An error is a *SendError.
func (c *Client) Store(ctx context.Context, body []byte, attempt int) (Response, error) {
	return c.store(ctx, &reading{bytes: body}, attempt)
}

// reading is a request's body, which the transport opens again after a redirect
// or a connection that was closed.
type reading struct {
	bytes []byte
	open  atomic.Int32 // readers
}

// reader is one of a body.
type reader struct {
	bytes.Reader
	body   *reading
	closed atomic.Bool
}

// goesOn says whether the transport may still read.
func (b *reading) goesOn() bool { return b.open.Load() > 0 }

func (b *reading) reader() (io.ReadCloser, error) {
	b.open.Add(1)
	r := &reader{body: b}
	r.Reset(b.bytes)
	return r, nil
}

func (r *reader) Close() error {
	if !r.closed.Swap(true) {
		r.body.open.Add(-1)
	}
	return nil
}

// store is Store with a body that knows who reads it.
func (c *Client) store(ctx context.Context, body *reading, attempt int) (Response, error) {
	c.enter()
	defer c.leave()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, nil)
	if err != nil {
		return Response{}, &SendError{Err: fmt.Errorf("make request: %w", err)}
	}
	req.GetBody, req.ContentLength = body.reader, int64(len(body.bytes))
	req.Body, _ = body.reader() // which has no error
	for k, v := range c.headers {
		req.Header[k] = v
	}
	if attempt > 0 {
		req.Header.Set("Retry-Attempt", strconv.Itoa(attempt))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Response{}, &SendError{Recoverable: true, Err: err}
	}
	defer resp.Body.Close()
	defer time.AfterFunc(answerTime, cancel).Stop()
	text, readErr := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	if readErr == nil {
		_, readErr = io.CopyN(io.Discard, resp.Body, maxAnswer)
	}
	out := Response{Status: resp.StatusCode}
	out.Samples, out.Confirmed = written(resp.Header, "Samples", out.Confirmed)
	out.Histograms, out.Confirmed = written(resp.Header, "Histograms", out.Confirmed)
	out.Exemplars, out.Confirmed = written(resp.Header, "Exemplars", out.Confirmed)
	if resp.StatusCode/100 == 2 {
		return out, nil
	}
	message := strings.TrimSpace(string(text))
	if message == "" && readErr != nil && !errors.Is(readErr, io.EOF) {
		message = readErr.Error()
	}
	e := &SendError{
		Status: resp.StatusCode, Response: out,
		Err: fmt.Errorf("server returned HTTP status %s: %s", resp.Status, message),
	}
	if resp.StatusCode/100 == 5 || resp.StatusCode == http.StatusTooManyRequests && c.retry429 {
		e.Recoverable, e.RetryAfter = true, retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return out, e
}

// close has the client keep no connections from now on. Who has it still may
// make requests, and those under way get their answers: a transport may make a
// connection idle before it hands out the answer that came on it, and closing
// it in between would turn the answer into an error.
func (c *Client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.letGo()
}

func (c *Client) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users++
}

func (c *Client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users--
	c.letGo()
}

// letGo closes the connections when nobody may need them. c.mu is held, so
// that nobody begins a request meanwhile.
func (c *Client) letGo() {
	if c.closed && c.users == 0 {
		c.inner.CloseIdleConnections()
	}
}

// written reads one of 2.0's headers; had says whether another was there.
func written(h http.Header, what string, had bool) (n int, confirmed bool) {
	v := h.Get("X-Prometheus-Remote-Write-" + what + "-Written")
	if v == "" {
		return 0, had
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		n = 0
	}
	return n, true
}

// retryAfter reads a Retry-After header: seconds, or a date. What lies in the
// past or is neither counts as not asked.
func retryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(n, 0), 365*24*3600)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// bounded dials connections that a receiver cannot fill memory with.
func bounded(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &boundedConn{Conn: c}, nil
	}
}

// boundedConn fails when it has read maxUnasked bytes since the last write.
type boundedConn struct {
	net.Conn
	read atomic.Int64
}

func (c *boundedConn) Read(b []byte) (int, error) {
	if c.read.Load() > maxUnasked {
		return 0, errLongAnswer
	}
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

func (c *boundedConn) Write(b []byte) (int, error) {
	c.read.Store(0)
	return c.Conn.Write(b)
}

type resolver interface {
	LookupHost(context.Context, string) ([]string, error)
}

// roundRobin dials a random one of a host's addresses, so that the
// connections of many shards spread over all of them.
type roundRobin struct {
	names resolver
	next  dialFunc
}

func (r roundRobin) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return r.next(ctx, network, addr)
	}
	addrs, err := r.names.LookupHost(ctx, host)
	if err != nil || len(addrs) == 0 {
		return r.next(ctx, network, addr)
	}
	return r.next(ctx, network, net.JoinHostPort(addrs[rand.IntN(len(addrs))], port))
}

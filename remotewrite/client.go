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
	"time"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/storage/remote/azuread"
	"github.com/prometheus/prometheus/storage/remote/googleiam"
	"github.com/prometheus/sigv4"
)

const (
	maxAnswer  = 64 << 10 // bytes read of a receiver's answer, so that its connection can be used again
	maxMessage = 1024     // bytes of it that go into an error
)

// Client makes single attempts to deliver a request to one remote.
type Client struct {
	http     *http.Client
	url      string
	timeout  time.Duration
	retry429 bool
	headers  http.Header
}

// NewClient returns the client of a remote, with all that its block says of
// authentication, TLS, proxies and headers.
func NewClient(cfg Config, userAgent string) (*Client, error) {
	var opts []commonconfig.HTTPClientOption
	if cfg.RoundRobinDNS {
		opts = append(opts, commonconfig.WithDialContextFunc(roundRobin{net.DefaultResolver, &net.Dialer{}}.dial))
	}
	c, err := commonconfig.NewClientFromConfig(cfg.HTTP, "remote_storage_write_client", opts...)
	if err != nil {
		return nil, fmt.Errorf("HTTP client of remote %s: %w", cfg.RemoteName, err)
	}
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
	return &Client{http: c, url: cfg.URL.String(), timeout: cfg.RemoteTimeout, retry429: cfg.Queue.RetryOnRateLimit, headers: h}, nil
}

// headerSetter sets the configured headers on the first request's host only:
// a redirect elsewhere must not carry them away.
type headerSetter struct {
	headers map[string]string
	next    http.RoundTripper
}

func (s *headerSetter) RoundTrip(req *http.Request) (*http.Response, error) {
	first := req
	for first.Response != nil && first.Response.Request != nil { // redirected
		first = first.Response.Request
	}
	if first.URL.Host == req.URL.Host {
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

// Store makes one attempt to deliver body, which is compressed. attempt is 0
// for the first, and sent with the others. An error is a *SendError.
func (c *Client) Store(ctx context.Context, body []byte, attempt int) (Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return Response{}, &SendError{Err: fmt.Errorf("make request: %w", err)}
	}
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

// close lets go of idle connections.
func (c *Client) close() { c.http.CloseIdleConnections() }

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

// roundRobin dials a random one of a host's addresses, so that the
// connections of many shards spread over all of them.
type roundRobin struct {
	resolver interface {
		LookupHost(context.Context, string) ([]string, error)
	}
	dialer interface {
		DialContext(context.Context, string, string) (net.Conn, error)
	}
}

func (r roundRobin) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return r.dialer.DialContext(ctx, network, addr)
	}
	addrs, err := r.resolver.LookupHost(ctx, host)
	if err != nil || len(addrs) == 0 {
		return r.dialer.DialContext(ctx, network, addr)
	}
	return r.dialer.DialContext(ctx, network, net.JoinHostPort(addrs[rand.IntN(len(addrs))], port))
}

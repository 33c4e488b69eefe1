package watch

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

const (
	protobufType = "application/vnd.kubernetes.protobuf"
	jsonType     = "application/json"

	// What is asked for, the best first: not every server has protobuf, or can
	// give metadata alone. What comes is said by the answer.
	wholeObjects = protobufType + ", " + jsonType
	metadataList = protobufType + asList + ", " + jsonType + asList + ", " + wholeObjects
	metadataItem = protobufType + asItem + ", " + jsonType + asItem + ", " + wholeObjects
	asList       = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	asItem       = ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

	// lost is how long a connection that was cut without a word looks alive.
	lost = 7 * time.Second
	// maxRefusal is how much of the body of a refusal is read.
	maxRefusal = 64 << 10
)

// Client talks to one API server. Any number of goroutines may use it.
type Client struct {
	http *http.Client
	base *url.URL
}

// NewClient makes a client for the server that cfg names. It connects to
// nothing. cfg is not changed; its Timeout does not count, a watch is long.
func NewClient(cfg *rest.Config) (*Client, error) {
	own := rest.CopyConfig(cfg)
	own.Timeout = 0
	if own.Dial == nil && own.Transport == nil {
		own.Dial = Dial
	}
	base, _, err := rest.DefaultServerUrlFor(own)
	if err != nil {
		return nil, fmt.Errorf("read address of API server %q: %w", own.Host, err)
	}
	h, err := rest.HTTPClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("make HTTP client of API server: %w", err)
	}
	return &Client{http: h, base: base}, nil
}

// Dial connects such that a connection that is cut without a word is noticed
// within 8 s. It is for transports that are made elsewhere, too.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout: 5 * time.Second,
		// Probes at 3, 4, 5 and 6 s of silence, the end at 7.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 3 * time.Second, Interval: time.Second, Count: 4},
		// Probes are not sent while something sent waits to be acknowledged.
		Control: limitUnacknowledged,
	}
	return d.DialContext(ctx, network, address)
}

// CloseIdleConnections closes the connections that nothing uses. The way to
// them is through wrappers that http.Client does not see through.
func (c *Client) CloseIdleConnections() { utilnet.CloseIdleConnectionsFor(c.http.Transport) }

// get asks for path with the parameters and gives an answer with its content
// type, protobufType or jsonType. Another answer is a *refusal or an error that
// says what came.
func (c *Client) get(ctx context.Context, path string, values url.Values, accept string, zipped bool) (*http.Response, string, error) {
	u := *c.base
	u.RawQuery = values.Encode()
	raw := strings.TrimSuffix(u.EscapedPath(), "/") + path
	plain, err := url.PathUnescape(raw)
	if err != nil {
		return nil, "", fmt.Errorf("make path %q: %w", raw, err)
	}
	u.Path, u.RawPath = plain, raw
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", accept)
	// Said in any case: without it the transport asks for gzip on its own, and
	// a watch through a compressor may hold events back.
	req.Header.Set("Accept-Encoding", "identity")
	if zipped {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("ask API server: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		body, err := content(resp)
		if err != nil {
			return nil, "", newRefusal(resp, nil)
		}
		// What cannot be read of the body is missing from the message, no more.
		b, _ := io.ReadAll(io.LimitReader(body, maxRefusal))
		return nil, "", newRefusal(resp, b)
	}
	given := resp.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(given)
	if err != nil || media != protobufType && media != jsonType {
		resp.Body.Close()
		return nil, "", garbled("the content type is %q, neither %s nor %s", clip(given), protobufType, jsonType)
	}
	return resp, media, nil
}

// clip shortens what a server says to what a line of a log can hold.
func clip(s string) string {
	const most = 300
	s = strings.ToValidUTF8(strings.TrimSpace(s), "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

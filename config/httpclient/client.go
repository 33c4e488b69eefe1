// Package httpclient makes the HTTP clients of the configuration's blocks: those
// that prometheus/common makes, with connections that take a third of the memory.
// An agent has one per target and one per shard, and they are most of what
// either costs.
//
// New asks prometheus/common for a transport, and for nothing else where the block
// has credentials at most: then it sees the transport, and can set what the
// configuration cannot. Other blocks get the client of prometheus/common as it is.
package httpclient

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/mwitkow/go-conntrack"
	"github.com/prometheus/common/config"
)

// requestBuffer is what a connection collects before it writes, bytes: a
// request's head is not much longer, and bodies go past it.
const requestBuffer = 1 << 10

// DialFunc dials an address of a network.
type DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// Options are what the configuration does not say.
type Options struct {
	Dial DialFunc // for the target's address; nil: as usual
	// AnswerBuffer is what a connection reads at once, bytes; 0: as usual, which
	// is also the bound of a chunk's extensions and of a trailer.
	AnswerBuffer int
}

// New returns the client of a block. Its connections are counted under the name.
func New(cfg config.HTTPClientConfig, name string, o Options) (*http.Client, error) {
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	open := cfg
	open.Authorization, open.BasicAuth, open.BearerToken, open.BearerTokenFile = nil, nil, "", ""
	rt, err := config.NewRoundTripperFromConfig(open, name, config.WithDialContextFunc(dial))
	if err != nil {
		return nil, err
	}
	t, ok := rt.(*http.Transport)
	if !ok || hasReferences(&cfg) {
		return config.NewClientFromConfig(cfg, name, config.WithDialContextFunc(dial))
	}
	t.ReadBufferSize, t.WriteBufferSize = o.AnswerBuffer, requestBuffer
	t.DialContext = counted(name, dial)
	c := &http.Client{Transport: withCredentials(t, &cfg)}
	if !cfg.FollowRedirects {
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return c, nil
}

// hasReferences says whether the credentials are in a secret manager, which only
// prometheus/common knows to ask, or to refuse.
func hasReferences(cfg *config.HTTPClientConfig) bool {
	return cfg.Authorization != nil && cfg.Authorization.CredentialsRef != "" ||
		cfg.BasicAuth != nil && (cfg.BasicAuth.UsernameRef != "" || cfg.BasicAuth.PasswordRef != "")
}

// withCredentials sets the Authorization header as prometheus/common does.
func withCredentials(rt http.RoundTripper, cfg *config.HTTPClientConfig) http.RoundTripper {
	if a := cfg.Authorization; a != nil {
		rt = config.NewAuthorizationCredentialsRoundTripper(a.Type, secret(string(a.Credentials), a.CredentialsFile), rt)
	}
	if cfg.BearerToken != "" || cfg.BearerTokenFile != "" {
		rt = config.NewAuthorizationCredentialsRoundTripper("Bearer", secret(string(cfg.BearerToken), cfg.BearerTokenFile), rt)
	}
	if b := cfg.BasicAuth; b != nil {
		rt = config.NewBasicAuthRoundTripper(secret(b.Username, b.UsernameFile), secret(string(b.Password), b.PasswordFile), rt)
	}
	return rt
}

// secret reads a secret; nil when there is none.
func secret(text, file string) config.SecretReader {
	switch {
	case text != "":
		return config.NewInlineSecret(text)
	case file != "":
		return config.NewFileSecret(file)
	}
	return nil
}

// counted dials connections that net_conntrack_dialer_* count. prometheus/common
// has each of them keep a log of events as well, several kilobytes of it, for a page that
// nobody serves.
func counted(name string, dial DialFunc) DialFunc {
	dial = conntrack.NewDialContextFunc(conntrack.DialWithName(name), conntrack.DialWithDialContextFunc(dial))
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &conn{c}, nil
	}
}

// conn writes bodies through shared buffers. io.Copy would make one for each.
type conn struct{ net.Conn }

var copyBuffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// ReadFrom writes what r has.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	b := copyBuffers.Get().(*[16 << 10]byte)
	defer copyBuffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, r, b[:])
}

package remotewrite

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	commonconfig "github.com/prometheus/common/config"
)

// front is a receiver behind a server and a network that a test can spoil.
// What is set takes effect while it is spoiled.
type front struct {
	*receiver
	address string // of the server that is spoiled
	secure  bool   // by TLS; while it is spoiled, with a certificate that has expired

	answers func(w http.ResponseWriter, q *request) int                       // in the receiver's place
	serves  func(w http.ResponseWriter, r *http.Request, next http.Handler)   // in the server's; next is the receiver
	dials   func(ctx context.Context, network, host string) (net.Conn, error) // in the network's
	pace    int                                                               // bytes that a connection moves in a millisecond
	cuts    bool                                                              // it begins with a reset of all connections

	spoiled atomic.Bool
	epoch   atomic.Int32 // requests of another one are not taken, see gate.next; 0: all are
	met     atomic.Int64 // requests and connections that met the fault

	guard  sync.Mutex // guards what follows
	healed chan struct{}
	conns  map[*frontConn]struct{}
}

// newFront returns a healthy front; set says what its fault will be.
func newFront(t testing.TB, set func(*front)) *front {
	f := &front{healed: make(chan struct{}), conns: map[*frontConn]struct{}{}}
	f.receiver = newReceiver(t, func(w http.ResponseWriter, q *request) int {
		if n := f.epoch.Load(); n > 0 && q.header.Get("X-Epoch") != fmt.Sprint(n) {
			return http.StatusServiceUnavailable
		}
		if f.answers != nil && f.spoiled.Load() {
			f.met.Add(1)
			return f.answers(w, q)
		}
		return http.StatusNoContent
	})
	if set != nil {
		set(f)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next := http.HandlerFunc(f.receiver.serve)
		if f.serves != nil && f.spoiled.Load() {
			f.met.Add(1)
			f.serves(w, r, next)
			return
		}
		next(w, r)
	}))
	srv.Listener = &frontListener{srv.Listener, f}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes
	if f.secure {
		srv.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if f.spoiled.Load() {
				f.met.Add(1)
				return authority().expired, nil
			}
			return authority().good, nil
		}}
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	t.Cleanup(f.heal) // before: requests may hang
	f.address = srv.URL
	return f
}

// spoil begins the fault.
func (f *front) spoil() {
	f.guard.Lock()
	defer f.guard.Unlock()
	f.spoiled.Store(true)
	if f.cuts {
		for c := range f.conns {
			c.reset()
		}
	}
}

// heal ends it.
func (f *front) heal() {
	f.guard.Lock()
	defer f.guard.Unlock()
	if f.spoiled.Swap(false) {
		close(f.healed)
		f.healed = make(chan struct{})
	}
}

// outlast waits for the fault's end, or enough.
func (f *front) outlast(enough <-chan struct{}) {
	f.guard.Lock()
	healed := f.healed
	f.guard.Unlock()
	if f.spoiled.Load() {
		select {
		case <-healed:
		case <-enough:
		}
	}
}

// hang waits for the fault's end, or the request's, and does not answer it.
func (f *front) hang(r *http.Request) {
	f.outlast(r.Context().Done())
	panic(http.ErrAbortHandler)
}

// felt waits until n more requests or connections have met the fault.
func (f *front) felt(n int64) {
	f.t.Helper()
	n += f.met.Load()
	eventually(f.t, "the fault is felt", func() bool { return f.met.Load() >= n })
}

// remote is the configuration of a remote there.
func (f *front) remote() Config {
	cfg := remoteConfig(f.t, f.address)
	if f.secure {
		cfg.HTTP.TLSConfig = commonconfig.TLSConfig{CA: authority().pem, ServerName: authorityHost}
	}
	return cfg
}

// next begins an epoch for a remote: what it sent before is not taken any more.
func (f *front) next(cfg Config) Config {
	cfg.Headers = map[string]string{"X-Epoch": fmt.Sprint(f.epoch.Add(1))}
	return cfg
}

// client is a client whose network can be spoiled.
func (f *front) client(cfg Config) *Client {
	c := testClient(f.t, cfg)
	tr := c.http.Transport.(*http.Transport)
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if f.spoiled.Load() {
			f.met.Add(1)
			return f.dials(ctx, network, addr)
		}
		return dial(ctx, network, addr)
	}
	return c
}

// unwritten takes the series out of a request before the receiver keeps it.
func (q *request) unwritten(refused func(series string) bool) {
	var order []string
	for _, s := range q.order {
		if refused(s) {
			q.samples -= len(q.series[s])
			continue
		}
		order = append(order, s)
	}
	q.order = order
}

type frontListener struct {
	net.Listener
	f *front
}

func (l *frontListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	fc := &frontConn{c.(*net.TCPConn), l.f}
	l.f.guard.Lock()
	l.f.conns[fc] = struct{}{}
	l.f.guard.Unlock()
	return fc, nil
}

// frontConn is the receiver's side of a connection.
type frontConn struct {
	*net.TCPConn
	f *front
}

// some are the bytes that may be moved next.
func (c *frontConn) some(b []byte) []byte {
	if c.f.pace == 0 || !c.f.spoiled.Load() || len(b) == 0 {
		return b
	}
	c.f.met.Add(1)
	time.Sleep(time.Millisecond)
	return b[:min(len(b), c.f.pace)]
}

func (c *frontConn) Read(b []byte) (int, error) { return c.TCPConn.Read(c.some(b)) }

func (c *frontConn) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = c.TCPConn.Write(c.some(b[n:]))
		n += k
	}
	return n, err
}

func (c *frontConn) Close() error {
	c.f.guard.Lock()
	delete(c.f.conns, c)
	c.f.guard.Unlock()
	return c.TCPConn.Close()
}

// reset ends the connection at once, and what is on its way with it.
func (c *frontConn) reset() {
	_ = c.SetLinger(0)
	_ = c.TCPConn.Close()
}

// hijacked takes the connection over; nil: it has ended.
func hijacked(w http.ResponseWriter) *frontConn {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return nil
	}
	return c.(*frontConn)
}

// deadPort is an address that refuses connections as long as the test runs:
// nobody else can have it.
func deadPort(t testing.TB) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	a := sa.(*syscall.SockaddrInet4)
	return (&net.TCPAddr{IP: a.Addr[:], Port: a.Port}).String()
}

// authorityHost is the name that the certificates are for.
const authorityHost = "receiver.test"

// certificates of one authority.
type certificates struct {
	pem           string // of the authority
	good, expired *tls.Certificate
}

var authority = sync.OnceValue(func() certificates {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	must(err)
	leaf := func(until time.Time) *tls.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(2), DNSNames: []string{authorityHost}, NotBefore: now.Add(-24 * time.Hour), NotAfter: until,
		}, ca, key.Public(), key)
		must(err)
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	return certificates{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), leaf(now.Add(24 * time.Hour)), leaf(now.Add(-time.Hour)),
	}
})

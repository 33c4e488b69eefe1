package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// logBuffer is a log that is written to and read at once.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve opens the server's sockets and serves until the test or stop ends it.
func serve(t testing.TB, s *Server) (addrs []string, stop func() error) {
	t.Helper()
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	for _, ln := range s.listeners {
		addrs = append(addrs, ln.Addr().String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return addrs, stop
}

// client is a client whose connections end with the test.
func client(t testing.TB, c *tls.Config) *http.Client {
	tr := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

func TestListensOnEveryAddressAndSaysSoOnce(t *testing.T) {
	var log logBuffer
	s := newServer(t, &calls{}, func(o *Options) {
		o.ListenAddresses = []string{"127.0.0.1:0", "127.0.0.1:0"}
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	addrs, stop := serve(t, s)
	c := client(t, nil)
	for _, addr := range addrs {
		res, err := c.Get("http://" + addr + "/-/ready")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s: %d", addr, res.StatusCode)
		}
	}
	c.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Errorf("stopped server returned %v", err)
	}
	for _, addr := range addrs {
		if n := strings.Count(log.String(), "msg=\"Listening on\" address="+addr+"\n"); n != 1 {
			t.Errorf("%s is named %d times in the log:\n%s", addr, n, log.String())
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Errorf("%s still takes connections", addr)
		}
	}
}

func TestTakenAddressIsNamedAndTheOthersAreFreed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	s := newServer(t, &calls{}, func(o *Options) { o.ListenAddresses = []string{free.Addr().String(), taken.Addr().String()} })
	err = s.Listen()
	if err == nil || !strings.Contains(err.Error(), "listen on "+taken.Addr().String()+": ") || !strings.Contains(err.Error(), "address already in use") {
		t.Fatalf("got %v", err)
	}
	again, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Fatalf("the first address is still held: %v", err)
	}
	again.Close()
}

// ask sends one request over a connection of its own, which stays open.
func ask(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
	return c, bufio.NewReader(c)
}

func answered(t *testing.T, c net.Conn, r *bufio.Reader, within time.Duration) bool {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(within))
	_, err := r.Peek(1)
	return err == nil
}

func TestConnectionsBeyondTheLimitWaitForAPlaceOverAllListeners(t *testing.T) {
	s := newServer(t, &calls{}, func(o *Options) {
		o.ListenAddresses, o.MaxConnections = []string{"127.0.0.1:0", "127.0.0.1:0"}, 2
	})
	addrs, _ := serve(t, s)
	// both places on one listener: an idle listener holds none
	first, r1 := ask(t, addrs[0])
	second, r2 := ask(t, addrs[0])
	if !answered(t, first, r1, 10*time.Second) || !answered(t, second, r2, 10*time.Second) {
		t.Fatal("connections within the limit are not answered")
	}
	for i, addr := range addrs {
		third, r3 := ask(t, addr)
		if answered(t, third, r3, 100*time.Millisecond) {
			t.Errorf("listener %d: a connection beyond the limit is answered", i)
		}
		[]net.Conn{first, second}[i].Close()
		if !answered(t, third, r3, 10*time.Second) {
			t.Errorf("listener %d: a connection that waited is not answered when there is a place", i)
		}
	}
}

func TestRequestThatDoesNotEndIsCutAtTheReadTimeout(t *testing.T) {
	s := newServer(t, &calls{}, func(o *Options) { o.ReadTimeout = 200 * time.Millisecond })
	addrs, _ := serve(t, s)
	begin := time.Now()
	c, err := net.Dial("tcp", addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n") // and no end
	c.SetReadDeadline(begin.Add(30 * time.Second))
	answer, err := io.ReadAll(c)
	if took := time.Since(begin); err != nil || strings.Contains(string(answer), "200 OK") || took < 200*time.Millisecond {
		t.Errorf("after %v: %q, %v; want the end of the connection", took, answer, err)
	}
}

func TestStopDoesNotWaitForConnectionsThatWaitForAPlace(t *testing.T) {
	s := newServer(t, &calls{}, func(o *Options) { o.MaxConnections = 1 })
	addrs, stop := serve(t, s)
	first, r := ask(t, addrs[0])
	if !answered(t, first, r, 10*time.Second) {
		t.Fatal("not answered")
	}
	waiting, rw := ask(t, addrs[0])
	begin := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("the server took %v to stop", d)
	}
	waiting.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := rw.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("the connection that waited was left open: %v", err)
	}
}

func TestStopCutsRequestsThatDoNotEnd(t *testing.T) {
	entered := make(chan struct{})
	s := newServer(t, &calls{}, func(o *Options) {
		o.Config = func() string { close(entered); select {} }
	})
	addrs, stop := serve(t, s)
	got := make(chan error, 1)
	c := client(t, nil)
	go func() {
		_, err := c.Get("http://" + addrs[0] + "/api/v1/status/config")
		got <- err
	}()
	<-entered
	begin := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("the server took %v to stop", d)
	}
	if err := <-got; err == nil {
		t.Error("the request was answered")
	}
}

// certificate writes a self-signed certificate for 127.0.0.1 and its key.
func certificate(t *testing.T, dir string) (pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sesame is the bcrypt hash, of the lowest cost, of "open sesame".
const sesame = "$2a$04$ENHCf5vRmuJNgjC.64lpLejOV3ALzfxG5o4kHIn8D.AbHBUlz3/pa"

func TestWebConfigFileGuardsEveryPathOnEveryListener(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	file := filepath.Join(dir, "web.yml")
	write(t, file, "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\nbasic_auth_users:\n  ali: "+sesame+"\n")
	var log logBuffer
	s := newServer(t, &calls{}, func(o *Options) {
		o.WebConfigFile, o.ListenAddresses = file, []string{"127.0.0.1:0", "127.0.0.1:0"}
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	addrs, _ := serve(t, s)
	c := client(t, &tls.Config{RootCAs: pool})
	for _, addr := range addrs {
		for _, path := range []string{"/-/healthy", "/-/ready", "/metrics", "/api/v1/targets", "/agent", "/nothing"} {
			for _, login := range []struct {
				user, password string
				code           int
			}{{"", "", 401}, {"ali", "wrong", 401}, {"baba", "open sesame", 401}, {"ali", "open sesame", 200}} {
				req, err := http.NewRequest("GET", "https://"+addr+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				if login.user != "" {
					req.SetBasicAuth(login.user, login.password)
				}
				res, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				want := login.code
				if want == 200 && path == "/nothing" {
					want = 404
				}
				if res.StatusCode != want {
					t.Errorf("%s as %q: %d, want %d", path, login.user, res.StatusCode, want)
				}
				if challenge := res.Header.Get("WWW-Authenticate"); (want == 401) != strings.HasPrefix(challenge, "Basic") {
					t.Errorf("%s as %q: WWW-Authenticate %q", path, login.user, challenge)
				}
				if res.Header.Get("X-Frame-Options") != "deny" || res.ProtoMajor != 2 {
					t.Errorf("%s: HTTP/%d, headers %v", path, res.ProtoMajor, res.Header)
				}
			}
		}
		if res, err := client(t, nil).Get("http://" + addr + "/-/healthy"); err == nil {
			res.Body.Close()
			if res.StatusCode == 200 {
				t.Error("answered without TLS")
			}
		}
	}

	// users and certificates are read again without a restart
	write(t, file, "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\nbasic_auth_users:\n  baba: "+sesame+"\n")
	renewed := certificate(t, dir)
	req, err := http.NewRequest("GET", "https://"+addrs[0]+"/-/healthy", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("baba", "open sesame")
	res, err := client(t, &tls.Config{RootCAs: renewed}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("a new user with a new certificate: %d", res.StatusCode)
	}
}

func TestRateLimitCountsARequestOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	write(t, file, "rate_limit:\n  burst: 4\n  interval: 1h\n")
	s := newServer(t, &calls{}, func(o *Options) { o.WebConfigFile, o.ListenAddresses = file, []string{"127.0.0.1:0", "127.0.0.1:0"} })
	addrs, _ := serve(t, s)
	c := client(t, nil)
	for i := range 5 {
		res, err := c.Get("http://" + addrs[0] + "/-/healthy")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if want := map[bool]int{true: 200, false: 429}[i < 4]; res.StatusCode != want {
			t.Errorf("request %d: %d, want %d", i+1, res.StatusCode, want)
		}
	}
}

func TestBadWebConfigFileIsRefusedByName(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, text, want string }{
		{"unknown field", "tls_serverconfig: {}\n", "tls_serverconfig"},
		{"missing certificate", "tls_server_config:\n  cert_file: none.pem\n  key_file: none.key\n", "none.pem"},
		{"client CA unused", "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: cert.pem\n", "Client"},
		{"password in clear", "basic_auth_users:\n  ali: secret\n", "hashedSecret too short"},
		{"unknown header", "http_server_config:\n  headers:\n    X-Mine: a\n", "X-Mine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			certificate(t, dir)
			o := options(t, &calls{})
			o.WebConfigFile = filepath.Join(dir, "web.yml")
			write(t, o.WebConfigFile, c.text)
			_, err := New(o)
			if err == nil || !strings.Contains(err.Error(), o.WebConfigFile) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want the file's name and %q", err, c.want)
			}
		})
	}
	o := options(t, &calls{})
	o.WebConfigFile = filepath.Join(dir, "missing.yml")
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), o.WebConfigFile) {
		t.Errorf("a missing file: got %v", err)
	}
}

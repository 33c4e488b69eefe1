package remotewrite

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/storage/remote/azuread"
	"github.com/prometheus/prometheus/storage/remote/googleiam"
	"github.com/prometheus/sigv4"
)

// A transport may make a connection idle before it hands out the answer that
// came on it; who closes idle connections then would make a failure of it, and
// the request would be sent again.
func TestAClientThatIsClosedGetsTheAnswersUnderWay(t *testing.T) {
	r := newReceiver(t, nil)
	for range 100 {
		c := testClient(t, remoteConfig(t, r.srv.URL))
		idle := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{PutIdleConn: func(error) {
			idle = true
			c.close()
			runtime.Gosched()
		}})
		if _, err := c.Store(ctx, snappy.Encode(nil, nil), 0); err != nil {
			t.Fatalf("the request was answered: %v", err)
		}
		if !idle {
			t.Fatal("the connection was not kept")
		}
	}
}

func TestAClientThatIsClosedKeepsNoConnection(t *testing.T) {
	var closed atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	cfg := remoteConfig(t, srv.URL)
	cfg.Headers = map[string]string{"X-Scope-OrgID": "team"} // what sets them is around the transport
	c := testClient(t, cfg)
	for n := range int32(3) { // those who had it before may begin a request later
		if _, err := c.Store(t.Context(), snappy.Encode(nil, nil), 0); err != nil {
			t.Fatal(err)
		}
		c.close()
		eventually(t, "the connection is closed", func() bool { return closed.Load() == n+1 })
	}
	if _, err := c.Store(t.Context(), snappy.Encode(nil, nil), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is closed without another call", func() bool { return closed.Load() == 4 })
}

// remoteConfig is the configuration of a remote at the address, with limits
// that suit a test.
func remoteConfig(t testing.TB, address string) Config {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		RemoteName: "test", URL: u, ProtobufMessage: MessageV1, RemoteTimeout: 10 * time.Second, SendExemplars: true,
		HTTP: commonconfig.HTTPClientConfig{FollowRedirects: true},
		Queue: QueueConfig{
			Capacity: 1000, MinShards: 1, MaxShards: 1, MaxSamplesPerSend: 100, BatchSendDeadline: 10 * time.Millisecond,
			MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
		},
	}
}

func testClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := NewClient(cfg, "Prometheus/3.14.0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// sendError is err as a SendError; the test fails when it is none.
func sendError(t testing.TB, err error) *SendError {
	t.Helper()
	var se *SendError
	if !errors.As(err, &se) {
		t.Fatalf("got error %v of type %T, want a *SendError", err, err)
	}
	return se
}

func TestRequestsCarryTheProtocolsHeaders(t *testing.T) {
	body := []byte("not looked at")
	for _, tc := range []struct {
		message, contentType, version string
		attempt                       int
		retry                         string
	}{
		{MessageV1, "application/x-protobuf", "0.1.0", 0, ""},
		{MessageV1, "application/x-protobuf", "0.1.0", 3, "3"},
		{MessageV2, "application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0", 0, ""},
		{MessageV2, "application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0", 12, "12"},
	} {
		t.Run(fmt.Sprint(tc.message, tc.attempt), func(t *testing.T) {
			var got *http.Request
			var gotBody []byte
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got, gotBody = r, readAll(r.Body)
				w.WriteHeader(http.StatusNoContent)
			}))
			defer srv.Close()
			cfg := remoteConfig(t, srv.URL+"/api/v1/write?tenant=a")
			cfg.ProtobufMessage = tc.message
			cfg.Headers = map[string]string{"X-Scope-OrgID": "team", "host": "elsewhere"}
			if _, err := testClient(t, cfg).Store(t.Context(), body, tc.attempt); err != nil {
				t.Fatal(err)
			}
			if got.Method != "POST" || got.RequestURI != "/api/v1/write?tenant=a" || got.Proto != "HTTP/1.1" || !bytes.Equal(gotBody, body) {
				t.Errorf("got %s %s %s with %q", got.Method, got.RequestURI, got.Proto, gotBody)
			}
			if got.Host != cfg.URL.Host {
				t.Errorf("got host %s, want %s", got.Host, cfg.URL.Host)
			}
			for k, want := range map[string]string{
				"Content-Encoding": "snappy", "Content-Type": tc.contentType, "User-Agent": "Prometheus/3.14.0",
				"X-Prometheus-Remote-Write-Version": tc.version, "Retry-Attempt": tc.retry, "X-Scope-Orgid": "team",
			} {
				if v := strings.Join(got.Header.Values(k), ","); v != want {
					t.Errorf("%s: got %q, want %q", k, v, want)
				}
			}
		})
	}
}

func readAll(r io.Reader) []byte {
	b, _ := io.ReadAll(r)
	return b
}

func TestAnswersAreFinalOrToBeTriedAgain(t *testing.T) {
	for _, tc := range []struct {
		status      int
		retry429    bool
		ok          bool
		recoverable bool
	}{
		{200, false, true, false},
		{204, false, true, false},
		{299, false, true, false},
		{300, false, false, false},
		{304, false, false, false},
		{400, false, false, false},
		{401, false, false, false},
		{404, false, false, false},
		{408, false, false, false},
		{413, false, false, false},
		{415, false, false, false},
		{429, false, false, false},
		{429, true, false, true},
		{500, false, false, true},
		{503, false, false, true},
		{599, false, false, true},
	} {
		t.Run(fmt.Sprint(tc.status, tc.retry429), func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(tc.status)
				if tc.status != 204 && tc.status != 304 {
					fmt.Fprintf(w, " the reason \n%s", strings.Repeat("x", 5000))
				}
			}))
			defer srv.Close()
			cfg := remoteConfig(t, srv.URL)
			cfg.Queue.RetryOnRateLimit = tc.retry429
			resp, err := testClient(t, cfg).Store(t.Context(), nil, 0)
			if resp.Status != tc.status {
				t.Errorf("got status %d, want %d", resp.Status, tc.status)
			}
			if tc.ok {
				if err != nil {
					t.Errorf("got error %v", err)
				}
				return
			}
			se := sendError(t, err)
			wait := time.Duration(0)
			if tc.recoverable {
				wait = 7 * time.Second
			}
			if se.Status != tc.status || se.Recoverable != tc.recoverable || se.RetryAfter != wait {
				t.Errorf("got status %d, recoverable %v, after %v; want %d, %v, %v", se.Status, se.Recoverable, se.RetryAfter, tc.status, tc.recoverable, wait)
			}
			if text := err.Error(); !strings.Contains(text, fmt.Sprint("server returned HTTP status ", tc.status)) || len(text) > maxMessage+100 ||
				tc.status != 304 && !strings.Contains(text, ": the reason \nxxx") {
				t.Errorf("got error %q", text)
			}
		})
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"":                                     0,
		"0":                                    0,
		"120":                                  2 * time.Minute,
		"-5":                                   0,
		"99999999999":                          365 * 24 * time.Hour,
		"1.5":                                  0,
		"soon":                                 0,
		now.Add(90e9).Format(http.TimeFormat):  90 * time.Second,
		now.Add(-1e9).Format(http.TimeFormat):  0,
		now.Add(time.Hour).Format(time.RFC850): time.Hour,
	} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("%q: got %v, want %v", v, got, want)
		}
	}
}

func TestReceiversSayWhatTheyHaveWritten(t *testing.T) {
	for _, tc := range []struct {
		name    string
		headers map[string]string
		status  int
		want    Response
	}{
		{"nothing said", nil, 204, Response{Status: 204}},
		{"all", map[string]string{"Samples": "10", "Histograms": "2", "Exemplars": "3"}, 200,
			Response{Status: 200, Confirmed: true, Samples: 10, Histograms: 2, Exemplars: 3}},
		{"samples alone", map[string]string{"Samples": "10"}, 200, Response{Status: 200, Confirmed: true, Samples: 10}},
		{"exemplars alone", map[string]string{"Exemplars": "1"}, 200, Response{Status: 200, Confirmed: true, Exemplars: 1}},
		{"nonsense", map[string]string{"Samples": "many", "Histograms": "-3", "Exemplars": "1"}, 200, Response{Status: 200, Confirmed: true, Exemplars: 1}},
		{"a refusal in part", map[string]string{"Samples": "4"}, 400, Response{Status: 400, Confirmed: true, Samples: 4}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for k, v := range tc.headers {
					w.Header().Set("X-Prometheus-Remote-Write-"+k+"-Written", v)
				}
				w.WriteHeader(tc.status)
			}))
			defer srv.Close()
			cfg := remoteConfig(t, srv.URL)
			cfg.ProtobufMessage = MessageV2
			got, err := testClient(t, cfg).Store(t.Context(), nil, 0)
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if tc.status == 400 {
				if se := sendError(t, err); se.Response != tc.want {
					t.Errorf("got %+v with the error, want %+v", se.Response, tc.want)
				}
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRequestsAreAuthenticated(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		set  func(*Config)
		want string // prefix
	}{
		{"basic", func(c *Config) {
			c.HTTP.BasicAuth = &commonconfig.BasicAuth{Username: "me", Password: "secret"}
		}, "Basic bWU6c2VjcmV0"},
		{"user of the URL", func(c *Config) { c.URL.User = url.UserPassword("me", "secret") }, "Basic bWU6c2VjcmV0"},
		{"bearer", func(c *Config) {
			c.HTTP.Authorization = &commonconfig.Authorization{Type: "Bearer", Credentials: "token"}
		}, "Bearer token"},
		{"another type, from a file", func(c *Config) {
			c.HTTP.Authorization = &commonconfig.Authorization{Type: "Key", CredentialsFile: file}
		}, "Key from the file"},
		{"sigv4", func(c *Config) {
			c.SigV4 = &sigv4.SigV4Config{Region: "eu-west-1", AccessKey: "AKID", SecretKey: "secret"}
		}, "AWS4-HMAC-SHA256 Credential=AKID/"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got string
			var body []byte
			srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got, body = r.Header.Get("Authorization"), readAll(r.Body)
			}))
			defer srv.Close()
			cfg := remoteConfig(t, srv.URL)
			tc.set(&cfg)
			if _, err := testClient(t, cfg).Store(t.Context(), []byte("body"), 0); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(got, tc.want) || string(body) != "body" {
				t.Errorf("got %q with body %q, want %q", got, body, tc.want)
			}
		})
	}
}

func TestCloudAuthenticationIsTakenUp(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "a@b.iam.gserviceaccount.com", "token_uri": "http://127.0.0.1:1/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, account, 0o600); err != nil {
		t.Fatal(err)
	}
	const id = "00000000-a12b-3cd4-e56f-000000000000"
	for _, tc := range []struct {
		name string
		set  func(*Config)
		fail bool
	}{
		{"azuread", func(c *Config) {
			c.AzureAD = &azuread.AzureADConfig{Cloud: azuread.AzurePublic, OAuth: &azuread.OAuthConfig{ClientID: id, ClientSecret: "s", TenantID: id}}
		}, false},
		{"google", func(c *Config) { c.GoogleIAM = &googleiam.Config{CredentialsFile: file} }, false},
		{"google without its file", func(c *Config) { c.GoogleIAM = &googleiam.Config{CredentialsFile: file + "x"} }, true},
		{"TLS without its file", func(c *Config) { c.HTTP.TLSConfig.CAFile = file + "x" }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := remoteConfig(t, "http://127.0.0.1:1")
			tc.set(&cfg)
			_, err := NewClient(cfg, "x")
			if (err != nil) != tc.fail {
				t.Errorf("got error %v, want one: %v", err, tc.fail)
			}
			if err != nil && !strings.Contains(err.Error(), "remote test") {
				t.Errorf("the error %q does not name the remote", err)
			}
		})
	}
}

func TestTLSReceiversAreVerified(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes
	srv.StartTLS()
	defer srv.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	for _, tc := range []struct {
		name string
		tls  commonconfig.TLSConfig
		ok   bool
	}{
		{"its authority is known", commonconfig.TLSConfig{CA: ca}, true},
		{"its authority is not known", commonconfig.TLSConfig{}, false},
		{"another name is expected", commonconfig.TLSConfig{CA: ca, ServerName: "other.invalid"}, false},
		{"nothing is verified", commonconfig.TLSConfig{InsecureSkipVerify: true}, true},
		{"it speaks too old a version", commonconfig.TLSConfig{CA: ca, MaxVersion: commonconfig.TLSVersion(tls.VersionTLS11)}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := remoteConfig(t, srv.URL)
			cfg.HTTP.TLSConfig = tc.tls
			_, err := testClient(t, cfg).Store(t.Context(), []byte("body"), 0)
			if tc.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if se := sendError(t, err); !se.Recoverable || se.Status != 0 {
				t.Errorf("got %+v, want a recoverable failure without status", se)
			}
		})
	}
}

func TestTheTimeoutHoldsForEveryAttempt(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		readAll(r.Body)
		<-release
	}))
	defer srv.Close()
	defer close(release)
	cfg := remoteConfig(t, srv.URL)
	cfg.RemoteTimeout = 30 * time.Millisecond
	c := testClient(t, cfg)
	for range 2 {
		begin := time.Now()
		_, err := c.Store(t.Context(), []byte("body"), 0)
		if se := sendError(t, err); !se.Recoverable || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %+v, want a recoverable timeout", se)
		}
		if d := time.Since(begin); d < 30*time.Millisecond || d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Store(ctx, nil, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
}

// raw serves connections by hand: f gets each after its request has been read.
func raw(t *testing.T, f func(net.Conn)) (address string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		readAll(r.Body)
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		f(c)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestHostileReceiversAreSurvived(t *testing.T) {
	write := func(c net.Conn, s string) error { _, err := io.WriteString(c, s); return err }
	forever := func(c net.Conn, s string) {
		for write(c, s) == nil {
		}
	}
	long := strings.Repeat("x", 4000)
	for _, tc := range []struct {
		name        string
		serve       func(net.Conn)
		status      int // 0: no answer
		accepted    bool
		recoverable bool
		is          error
	}{
		{"a body without end, accepted", func(c net.Conn) {
			write(c, "HTTP/1.1 200 OK\r\n\r\n")
			forever(c, long)
		}, 200, true, false, nil},
		{"a body without end, refused", func(c net.Conn) {
			write(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			forever(c, long)
		}, 400, false, false, nil},
		{"chunks without end", func(c net.Conn) {
			write(c, "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
			forever(c, "1\r\nx\r\n")
		}, 500, false, true, nil},
		{"headers without end", func(c net.Conn) {
			write(c, "HTTP/1.1 200 OK\r\n")
			for i := 0; write(c, fmt.Sprintf("X-%d: %s\r\n", i, long)) == nil; i++ {
			}
		}, 0, false, true, errLongAnswer},
		{"one header without end", func(c net.Conn) {
			write(c, "HTTP/1.1 200 OK\r\nX: ")
			forever(c, long)
		}, 0, false, true, errLongAnswer},
		{"early hints without end", func(c net.Conn) {
			forever(c, "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n")
		}, 0, false, true, nil},
		{"no HTTP", func(c net.Conn) { forever(c, long) }, 0, false, true, nil},
		{"no answer", func(net.Conn) {}, 0, false, true, nil},
		{"a reset in the status", func(c net.Conn) {
			write(c, "HTTP/1.1 20")
			c.(*net.TCPConn).SetLinger(0)
		}, 0, false, true, nil},
		{"a reset in the body of a success", func(c net.Conn) {
			write(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			c.(*net.TCPConn).CloseWrite()
		}, 200, true, false, nil},
		{"an end in the body of a refusal", func(c net.Conn) {
			write(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\nhalf")
			c.(*net.TCPConn).CloseWrite()
		}, 400, false, false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := testClient(t, remoteConfig(t, raw(t, tc.serve)))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			resp, err := c.Store(t.Context(), []byte("body"), 0)
			runtime.ReadMemStats(&after)
			// What is read, the slices that it is collected in, and what the
			// receiver of this test takes itself.
			if n := after.TotalAlloc - before.TotalAlloc; n > 64*maxUnasked {
				t.Errorf("%d bytes were allocated", n)
			}
			if resp.Status != tc.status {
				t.Errorf("got status %d, want %d", resp.Status, tc.status)
			}
			if tc.accepted {
				if err != nil {
					t.Error(err)
				}
				return
			}
			se := sendError(t, err)
			if se.Status != tc.status || se.Recoverable != tc.recoverable || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("got %+v: %v", se, err)
			}
			if len(err.Error()) > maxMessage+5000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// trickle writes s bit by bit until the other end has had enough, and closes
// gone then.
func trickle(c net.Conn, s string, gone chan<- struct{}) {
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	defer close(gone)
	for i := 0; ; i = (i + 1) % len(s) {
		<-t.C
		if _, err := io.WriteString(c, s[i:i+1]); err != nil {
			return
		}
	}
}

func TestATrickledAnswerDoesNotHoldAShard(t *testing.T) {
	t.Run("headers, until the timeout", func(t *testing.T) {
		gone := make(chan struct{})
		cfg := remoteConfig(t, raw(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			trickle(c, "X: y\r\n", gone)
		}))
		cfg.RemoteTimeout = 50 * time.Millisecond
		_, err := testClient(t, cfg).Store(t.Context(), nil, 0)
		if se := sendError(t, err); !se.Recoverable || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want a timeout", err)
		}
		<-gone
	})
	t.Run("the body, for a moment", func(t *testing.T) {
		gone := make(chan struct{})
		cfg := remoteConfig(t, raw(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			trickle(c, "x", gone)
		}))
		cfg.RemoteTimeout = time.Hour
		begin := time.Now()
		resp, err := testClient(t, cfg).Store(t.Context(), nil, 0)
		if err != nil || resp.Status != 200 {
			t.Errorf("got %+v, %v; want a success", resp, err)
		}
		if d := time.Since(begin); d > 20*answerTime {
			t.Errorf("it took %v", d)
		}
		<-gone
	})
}

func TestRedirectsDeliverTheBodyOrCountAsRefused(t *testing.T) {
	type seen struct{ method, body, header, auth string }
	var elsewhere atomic.Pointer[seen]
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere.Store(&seen{r.Method, string(readAll(r.Body)), r.Header.Get("X-Secret"), r.Header.Get("Authorization")})
	}))
	defer other.Close()
	otherURL := strings.Replace(other.URL, "127.0.0.1", "localhost", 1) // another host
	for _, tc := range []struct {
		name   string
		status int
		target string
		follow bool
		want   int // status; 0: no answer
		got    *seen
	}{
		{"to elsewhere, the same request", 307, otherURL, true, 200, &seen{"POST", "body", "", ""}},
		{"for good", 308, otherURL, true, 200, &seen{"POST", "body", "", ""}},
		{"as a GET", 302, otherURL, true, 302, nil},
		{"as a GET for good", 301, otherURL, true, 301, nil},
		{"see other", 303, otherURL, true, 303, nil},
		{"not to be followed", 307, other.URL, false, 307, nil},
		{"in a circle", 307, "/", true, 0, nil},
		{"to nowhere", 307, "http://127.0.0.1:1/", true, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			elsewhere.Store(nil)
			var requests atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				if r.Header.Get("X-Secret") != "s" || r.Header.Get("Authorization") == "" {
					t.Errorf("the remote's own headers are %v", r.Header)
				}
				w.Header().Set("Location", tc.target)
				w.WriteHeader(tc.status)
			}))
			defer srv.Close()
			cfg := remoteConfig(t, srv.URL)
			cfg.HTTP.FollowRedirects = tc.follow
			cfg.HTTP.BasicAuth = &commonconfig.BasicAuth{Username: "me", Password: "secret"}
			cfg.Headers = map[string]string{"X-Secret": "s"}
			resp, err := testClient(t, cfg).Store(t.Context(), []byte("body"), 0)
			if resp.Status != tc.want {
				t.Errorf("got status %d, want %d", resp.Status, tc.want)
			}
			if tc.want == 200 {
				if err != nil {
					t.Error(err)
				}
			} else if se := sendError(t, err); se.Recoverable != (tc.want == 0) {
				t.Errorf("recoverable: %v for %v", se.Recoverable, err)
			}
			got := elsewhere.Load()
			if (got == nil) != (tc.got == nil) || got != nil && *got != *tc.got {
				t.Errorf("elsewhere: got %+v, want %+v", got, tc.got)
			}
			if n := requests.Load(); n > maxRedirects {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// fakeNames resolves every host to the same addresses.
type fakeNames struct {
	addrs []string
	err   error
}

func (f fakeNames) LookupHost(context.Context, string) ([]string, error) { return f.addrs, f.err }

func TestRoundRobinDNSDialsAllAddresses(t *testing.T) {
	for _, tc := range []struct {
		name  string
		names fakeNames
		addr  string
		want  []string
	}{
		{"all of them", fakeNames{addrs: []string{"10.0.0.1", "10.0.0.2", "::1"}}, "host:80", []string{"10.0.0.1:80", "10.0.0.2:80", "[::1]:80"}},
		{"none", fakeNames{}, "host:80", []string{"host:80"}},
		{"no answer", fakeNames{err: errors.New("down")}, "host:80", []string{"host:80"}},
		{"no port", fakeNames{addrs: []string{"10.0.0.1"}}, "host", []string{"host"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			r := roundRobin{tc.names, func(_ context.Context, _, addr string) (net.Conn, error) {
				got = append(got, addr)
				return nil, io.EOF
			}}
			for range 200 {
				if _, err := r.dial(t.Context(), "tcp", tc.addr); err != io.EOF {
					t.Fatal(err)
				}
			}
			slices.Sort(got)
			if got = slices.Compact(got); !slices.Equal(got, tc.want) {
				t.Errorf("dialled %v, want %v", got, tc.want)
			}
		})
	}
}

func TestRoundRobinDNSTakesEffect(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	cfg := remoteConfig(t, strings.Replace(srv.URL, "127.0.0.1", "receiver.invalid", 1))
	for _, on := range []bool{false, true} {
		cfg.RoundRobinDNS = on
		c, err := newClient(cfg, "x", fakeNames{addrs: []string{"127.0.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		if _, err := c.Store(t.Context(), nil, 0); (err == nil) != on {
			t.Errorf("round_robin_dns %v: got %v", on, err)
		}
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		readAll(r.Body)
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, strings.Repeat("x", 10*maxMessage))
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	c := testClient(t, remoteConfig(t, srv.URL))
	body := make([]byte, 100<<10)
	for range 20 {
		if se := sendError(t, func() error { _, err := c.Store(t.Context(), body, 0); return err }()); se.Status != 400 {
			t.Fatal(se)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 20 requests", n)
	}
}

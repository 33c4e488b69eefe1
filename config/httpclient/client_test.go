package httpclient

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/config"
	"golang.org/x/net/trace"
)

// TestRequestsAreThoseOfPrometheus asks the same of a client of ours and of one
// that prometheus/common makes, here and across redirects.
func TestRequestsAreThoseOfPrometheus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+r.Header.Get("X-Own")+" "+string(body))
	}
	other := httptest.NewServer(http.HandlerFunc(echo))
	defer other.Close()
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		echo(w, r)
		switch r.URL.Path {
		case "/here":
			http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
		case "/away":
			http.Redirect(w, r, elsewhere+"/there", http.StatusTemporaryRedirect)
		}
	}))
	defer srv.Close()

	for name, block := range map[string]string{
		"nothing":                "",
		"no redirects":           "follow_redirects: false",
		"no HTTP/2":              "enable_http2: false",
		"a password":             "basic_auth: {username: u, password: p}",
		"a password in a file":   "basic_auth: {username: u, password_file: " + file + "}",
		"a user without one":     "basic_auth: {username: u}",
		"a name in a file":       "basic_auth: {username_file: " + file + ", password: p}",
		"a token":                "authorization: {credentials: c}",
		"a token in a file":      "authorization: {credentials_file: " + file + "}",
		"a type of its own":      "authorization: {type: Odd, credentials: c}",
		"a type alone":           "authorization: {type: Odd}",
		"an old token":           "bearer_token: c",
		"an old token in file":   "bearer_token_file: " + file,
		"a file that is gone":    "basic_auth: {username: u, password_file: " + file + ".gone}",
		"a header":               "http_headers: {X-Own: {values: [v]}}\nbasic_auth: {username: u, password: p}",
		"a certificate is gone":  "tls_config: {ca_file: " + file + ".gone}",
		"no certificate":         "tls_config: {ca_file: " + file + "}",
		"a name for TLS":         "tls_config: {server_name: other, insecure_skip_verify: true}",
		"a reference":            "basic_auth: {username: u, password_ref: r}",
		"a reference to a name":  "basic_auth: {username_ref: r, password: p}",
		"a reference to a token": "authorization: {credentials_ref: r}",
	} {
		cfg := config.DefaultHTTPClientConfig
		loaded, err := config.LoadHTTPConfig(block)
		if block != "" {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			cfg = *loaded
		}
		// answers tells all that comes of a client, for comparison.
		answers := func(c *http.Client, err error) string {
			if err != nil {
				return "cannot be made: " + err.Error()
			}
			got = nil
			var all []string
			for _, path := range []string{"/", "/here", "/away"} {
				resp, err := c.Post(srv.URL+path, "text/plain", strings.NewReader("body"))
				if err != nil {
					all = append(all, err.Error())
					continue
				}
				resp.Body.Close()
				all = append(all, resp.Status)
			}
			c.CloseIdleConnections()
			return strings.Join(append(all, got...), "\n")
		}
		theirs := answers(config.NewClientFromConfig(cfg, "theirs"))
		if ours := answers(New(cfg, "ours", Options{})); ours != theirs {
			t.Errorf("%s: ours:\n%s\ntheirs:\n%s", name, ours, theirs)
		}
	}
}

// TestConnectionsAreCountedAndKeepNoLog looks at a connection that has carried a
// body of many buffers both ways.
func TestConnectionsAreCountedAndKeepNoLog(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("0123456789"), 100_000)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Write(body)
	}))
	defer srv.Close()
	dialled := 0
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled++
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	c, err := New(config.DefaultHTTPClientConfig, "counted", Options{Dial: dial, AnswerBuffer: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		resp, err := c.Post(srv.URL, "text/plain", bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back of %d, %v", len(got), len(want), err)
		}
	}
	if n := counter(t, "net_conntrack_dialer_conn_established_total", "counted"); n != 1 || dialled != 1 {
		t.Errorf("%v connections counted of %d; want one", n, dialled)
	}
	events := httptest.NewRecorder()
	trace.RenderEvents(events, httptest.NewRequest("GET", "/debug/events", nil), true)
	if strings.Contains(events.Body.String(), "net.ClientConn.counted") {
		t.Error("the connection keeps a log of events")
	}
	c.CloseIdleConnections()
}

// counter is the value of a counter of connections by the name of their dialer.
func counter(t *testing.T, name, dialer string) float64 {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == dialer {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no %s of %s", name, dialer)
	return 0
}

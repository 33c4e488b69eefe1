package httpclient

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/config"
)

// What a block says of the client is done by prometheus/common for the most
// part. These tests see that it reaches it, key by key: the client of a block
// does what that of prometheus/common does, and what the key asks for.

// notes is what servers have seen.
type notes struct {
	mu   sync.Mutex
	text string
}

func (n *notes) add(format string, a ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text += fmt.Sprintf(format, a...) + "\n"
}

func (n *notes) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	text := n.text
	n.text = ""
	return text
}

// sameAsTheirs asks for url with the client of a block and with the one that
// prometheus/common makes, and fails unless the same comes of both, with the
// wanted text in it. Addresses are dialled as dial does; nil: as usual.
func sameAsTheirs(t *testing.T, name, block, url string, seen *notes, dial DialFunc, want ...string) {
	t.Helper()
	cfg, err := config.LoadHTTPConfig(block)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	outcome := func(c *http.Client, err error) string {
		if err != nil {
			return "cannot be made: " + err.Error()
		}
		defer c.CloseIdleConnections()
		resp, err := c.Get(url)
		if err != nil {
			return seen.take() + err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return seen.take() + resp.Status + " " + string(body)
	}
	ours := outcome(New(*cfg, "ours", Options{Dial: dial}))
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	theirs := outcome(config.NewClientFromConfig(*cfg, "theirs", config.WithDialContextFunc(dial)))
	if ours != theirs {
		t.Errorf("%s: ours:\n%s\ntheirs:\n%s", name, ours, theirs)
	}
	for _, text := range want {
		if !strings.Contains(ours, text) {
			t.Errorf("%s: no %q in\n%s", name, text, ours)
		}
	}
}

func writeSecret(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// tokenServer grants tokens and tells what was asked of it.
func tokenServer(seen *notes) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		user, password, _ := r.BasicAuth()
		assertion := strings.Split(r.Form.Get("assertion"), ".")
		r.Form.Del("assertion")
		seen.add("token: %s %s %s", user, password, r.Form.Encode())
		for _, part := range assertion[:len(assertion)-1] {
			text, _ := base64.RawURLEncoding.DecodeString(part)
			var fields map[string]any
			_ = json.Unmarshal(text, &fields)
			for _, ofTheMoment := range []string{"iat", "exp", "nbf", "jti"} {
				delete(fields, ofTheMoment)
			}
			seen.add("%v", fields)
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token": "granted", "token_type": "Bearer", "expires_in": 3600}`)
	}))
}

func TestTokensAreFetchedAsByPrometheus(t *testing.T) {
	t.Parallel()
	seen := new(notes)
	tokens := tokenServer(seen)
	defer tokens.Close()
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen.add("target: %s", r.Header.Get("Authorization")) }))
	defer target.Close()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	inline, err := json.Marshal(private)
	if err != nil {
		t.Fatal(err)
	}
	const jwt = "grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', "
	for name, tc := range map[string]struct {
		keys string
		want []string
	}{
		"secret":         {"client_secret: hidden", []string{"token: me hidden grant_type=client_credentials"}},
		"secret in file": {"client_secret_file: " + writeSecret(t, "from the file"), []string{"token: me from+the+file grant_type"}},
		"scopes":         {"client_secret: hidden, scopes: [one, two]", []string{"scope=one+two"}},
		"parameters":     {"client_secret: hidden, endpoint_params: {resource: r, x: y}", []string{"resource=r", "x=y"}},
		"key":            {jwt + "client_certificate_key: " + string(inline), []string{"grant-type%3Ajwt-bearer", "alg:RS256", "iss:me", "sub:me"}},
		"key in file":    {jwt + "client_certificate_key_file: " + writeSecret(t, private), []string{"alg:RS256", "sub:me"}},
		"claims": {jwt + "client_certificate_key: " + string(inline) + ", client_certificate_key_id: k1, signature_algorithm: RS512, iss: issuer, audience: all, claims: {own: claim}, scopes: [s]",
			[]string{"alg:RS512", "kid:k1", "iss:issuer", "aud:all", "own:claim", "scope:s"}},
	} {
		block := "oauth2: {client_id: me, token_url: '" + tokens.URL + "', " + tc.keys + "}"
		sameAsTheirs(t, name, block, target.URL, seen, nil, append(tc.want, "target: Bearer granted", "200 OK")...)
	}
}

func TestProxiesAreAskedAsByPrometheus(t *testing.T) {
	seen := new(notes)
	tokens := tokenServer(seen)
	defer tokens.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.add("proxy: %s %s %s", r.Method, r.RequestURI, r.Header.Get("X-Via"))
		switch {
		case r.Method == http.MethodConnect:
			w.WriteHeader(http.StatusForbidden)
		case r.Host == "token.example":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"access_token": "granted", "token_type": "Bearer", "expires_in": 3600}`)
		}
	}))
	defer proxy.Close()
	direct := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen.add("direct: %s", r.Host) }))
	defer direct.Close()
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.Contains(addr, ".example:") { // there is no such name
			addr = direct.Listener.Addr().String()
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	for name, tc := range map[string]struct{ keys, url, want string }{
		"proxy":           {"proxy_url: '" + proxy.URL + "'", "http://target.example/m", "proxy: GET http://target.example/m"},
		"none for a host": {"proxy_url: '" + proxy.URL + "', no_proxy: 'other.example,target.example'", "http://target.example/m", "direct: target.example"},
		"environment":     {"proxy_from_environment: true", "http://target.example/m", "proxy: GET http://target.example/m"},
		"none":            {"", "http://target.example/m", "direct: target.example"},
		"header":          {"proxy_url: '" + proxy.URL + "', proxy_connect_header: {X-Via: [agent]}", "https://target.example/m", "proxy: CONNECT target.example:443 agent"},
	} {
		sameAsTheirs(t, name, "{"+tc.keys+"}", tc.url, seen, dial, tc.want)
		// the token may have a proxy of its own
		block := "oauth2: {client_id: me, client_secret: s, token_url: '" + strings.Replace(tc.url, "target", "token", 1) + "', " +
			strings.Replace(tc.keys, "target", "token", 1) + "}"
		sameAsTheirs(t, name+", of the token", block, "http://target.example/m", seen, dial, strings.NewReplacer("target", "token", "GET", "POST").Replace(tc.want))
	}
}

func TestProtocolIsHTTP2WhenThatIsEnabled(t *testing.T) {
	t.Parallel()
	seen := new(notes)
	target := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen.add("%s", r.Proto) }))
	target.EnableHTTP2 = true
	target.StartTLS()
	defer target.Close()
	for keys, want := range map[string]string{"enable_http2: true": "HTTP/2.0", "enable_http2: false": "HTTP/1.1", "": "HTTP/2.0"} {
		sameAsTheirs(t, keys, keys+"\ntls_config: {insecure_skip_verify: true}", target.URL, seen, nil, want)
	}
}

// certificate makes one, with its key, as PEM; signed by itself without a signer.
func certificate(t *testing.T, name string, signer *tls.Certificate) (cert, key string, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: signer == nil, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, with := c, any(private)
	if signer != nil {
		parent, with = signer.Leaf, signer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, private.Public(), with)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}))
	if pair, err = tls.X509KeyPair([]byte(cert), []byte(key)); err != nil {
		t.Fatal(err)
	}
	return cert, key, pair
}

func TestTLSIsSpokenAsByPrometheus(t *testing.T) {
	t.Parallel()
	ca, _, authority := certificate(t, "authority", nil)
	_, _, server := certificate(t, "target.example", &authority)
	cert, key, _ := certificate(t, "agent", &authority)
	pool := x509.NewCertPool()
	pool.AddCert(authority.Leaf)
	seen := new(notes)
	serve := func(highest uint16) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who := "nobody"
			if len(r.TLS.PeerCertificates) > 0 {
				who = r.TLS.PeerCertificates[0].Subject.CommonName
			}
			seen.add("%s, from %s", tls.VersionName(r.TLS.Version), who)
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"access_token": "granted", "token_type": "Bearer", "expires_in": 3600}`)
		}))
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes
		s.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool, MaxVersion: highest}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	today, older := serve(tls.VersionTLS13), serve(tls.VersionTLS12)
	text := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	caFile, certFile, keyFile := writeSecret(t, ca), writeSecret(t, cert), writeSecret(t, key)
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer plain.Close()
	for name, tc := range map[string]struct{ keys, url, want string }{
		"unknown authority":        {"min_version: TLS12", today, "unknown authority"},
		"authority":                {"ca: " + text(ca), today, "TLS 1.3, from nobody"},
		"authority in file":        {"ca_file: " + caFile, today, "TLS 1.3, from nobody"},
		"name":                     {"server_name: target.example, ca_file: " + caFile, today, "TLS 1.3"},
		"wrong name":               {"server_name: other.example, ca: " + text(ca), today, "not other.example"},
		"unverified":               {"insecure_skip_verify: true", today, "TLS 1.3, from nobody"},
		"certificate":              {"ca: " + text(ca) + ", cert: " + text(cert) + ", key: " + text(key), today, "from agent"},
		"certificate in files":     {"ca_file: " + caFile + ", cert_file: " + certFile + ", key_file: " + keyFile, today, "from agent"},
		"certificate, key in file": {"ca: " + text(ca) + ", cert: " + text(cert) + ", key_file: " + keyFile, today, "from agent"},
		"version at most":          {"max_version: TLS12, ca: " + text(ca), today, "TLS 1.2"},
		"version at least":         {"min_version: TLS13, ca: " + text(ca), older, "protocol version"},
		"version at least, older":  {"min_version: TLS12, ca: " + text(ca), older, "TLS 1.2"},
	} {
		sameAsTheirs(t, name, "tls_config: {"+tc.keys+"}", tc.url, seen, nil, tc.want)
		block := "oauth2: {client_id: me, client_secret: s, token_url: '" + tc.url + "', tls_config: {" + tc.keys + "}}"
		sameAsTheirs(t, name+", of the token", block, plain.URL, seen, nil, tc.want)
	}
}

// There is no secret manager that a reference could be about, in Prometheus neither.
func TestReferencesToSecretsAreRefused(t *testing.T) {
	t.Parallel()
	seen := new(notes)
	tokens := tokenServer(seen)
	defer tokens.Close()
	for _, block := range []string{
		"basic_auth: {username_ref: r, password: p}", "basic_auth: {username: u, password_ref: r}", "authorization: {credentials_ref: r}",
		"oauth2: {client_id: me, token_url: '" + tokens.URL + "', client_secret_ref: r}",
		"oauth2: {client_id: me, token_url: '" + tokens.URL + "', grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', client_certificate_key_ref: r}",
		"tls_config: {ca_ref: r}", "tls_config: {cert_ref: r, key: k}", "tls_config: {cert: c, key_ref: r}",
		"oauth2: {client_id: me, token_url: '" + tokens.URL + "', client_secret: s, tls_config: {ca_ref: r}}",
		"oauth2: {client_id: me, token_url: '" + tokens.URL + "', client_secret: s, tls_config: {cert_ref: r, key: k}}",
	} {
		sameAsTheirs(t, block, block, tokens.URL, seen, nil, "ref")
	}
}

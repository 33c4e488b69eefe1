package web

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"promagent/remotewrite"
	"promagent/scrape"
)

func TestRoutePrefixAndExternalURL(t *testing.T) {
	for _, c := range []struct {
		name, external, prefix string
		redirects              map[string]string // path -> location
		found, missing         []string
	}{
		{
			name: "none", external: "http://h:9090", prefix: "/",
			redirects: map[string]string{
				"/": "/agent", "/alertmanager-discovery": "/agent", "/config": "/agent", "/flags": "/agent", "/graph": "/agent", "/service-discovery": "/agent", "/status": "/agent", "/targets": "/agent",
				"/graph?g0.expr=up": "/agent",
			},
			found:   []string{"/-/healthy", "/metrics", "/agent", "/api/v1/targets", "/version", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine"},
			missing: []string{"/x/-/healthy", "/x"},
		},
		{
			name: "path of the external URL", external: "http://h/x/y", prefix: "/x/y",
			redirects: map[string]string{"/": "/x/y", "/x/y": "/x/y/agent", "/x/y/": "/x/y/agent", "/x/y/targets": "/x/y/agent"},
			found:     []string{"/x/y/-/healthy", "/x/y/metrics", "/x/y/agent", "/x/y/api/v1/targets", "/x/y/version", "/x/y/debug/pprof/", "/x/y/debug/pprof/goroutine"},
			missing:   []string{"/-/healthy", "/metrics", "/api/v1/targets", "/debug/pprof/"},
		},
		{
			name: "a proxy that strips the path", external: "https://h/x", prefix: "/",
			redirects: map[string]string{"/": "/x/agent", "/flags": "/x/agent"},
			found:     []string{"/-/healthy", "/api/v1/targets"},
			missing:   []string{"/x/-/healthy"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, &calls{}, func(o *Options) { o.ExternalURL, o.RoutePrefix = mustURL(t, c.external), c.prefix })
			for path, want := range c.redirects {
				if res, _ := do(t, s.Handler(), "GET", path); res.StatusCode != 302 || res.Header.Get("Location") != want {
					t.Errorf("%s: %d to %q, want 302 to %q", path, res.StatusCode, res.Header.Get("Location"), want)
				}
			}
			for _, path := range c.found {
				if res, _ := do(t, s.Handler(), "GET", path); res.StatusCode != 200 {
					t.Errorf("%s: %d, want 200", path, res.StatusCode)
				}
			}
			for _, path := range c.missing {
				if res, _ := do(t, s.Handler(), "GET", path); res.StatusCode != 404 {
					t.Errorf("%s: %d, want 404", path, res.StatusCode)
				}
			}
			base := strings.TrimSuffix(c.prefix, "/")
			if res, _ := do(t, s.Handler(), "GET", base+"/debug/pprof"); res.StatusCode != 301 || res.Header.Get("Location") != base+"/debug/pprof/" {
				t.Errorf("/debug/pprof: %d to %q", res.StatusCode, res.Header.Get("Location"))
			}
			_, page := do(t, s.Handler(), "GET", base+"/agent")
			if link := `href="` + mustURL(t, c.external).Path + `/metrics"`; !strings.Contains(page, link) {
				t.Errorf("the page does not link to %s", link)
			}
		})
	}
}

func TestGlobalURL(t *testing.T) {
	for _, c := range []struct{ external, listen, target, want string }{
		{"http://h.example:9090", "0.0.0.0:9090", "http://localhost:9100/metrics?a=b", "http://h.example:9100/metrics?a=b"},
		{"http://h.example:9090", "0.0.0.0:9090", "http://127.0.0.1:9100/metrics", "http://h.example:9100/metrics"},
		{"http://h.example:9090", "0.0.0.0:9090", "http://[::1]:9100/metrics", "http://h.example:9100/metrics"},
		{"https://h.example/agent", "0.0.0.0:9090", "http://localhost:9090/metrics", "https://h.example/metrics"},
		{"https://h.example:8443/agent", "[::]:9090", "http://127.0.0.1:9090/metrics", "https://h.example:8443/metrics"},
		{"https://h.example", "0.0.0.0:9090", "https://localhost:9100/metrics", "https://h.example:9100/metrics"},
		{"http://[2001:db8::1]", "0.0.0.0:9090", "http://localhost:9090/metrics", "http://[2001:db8::1]/metrics"},
		{"http://[2001:db8::1]:80", "0.0.0.0:9090", "http://localhost:9100/metrics", "http://[2001:db8::1]:9100/metrics"},
		{"http://h.example:9090", "0.0.0.0:9090", "http://10.0.0.1:9090/metrics", "http://10.0.0.1:9090/metrics"},
		{"http://h.example:9090", "0.0.0.0:9090", "http://localhost/metrics", "http://h.example/metrics"},
		{"https://h.example", "0.0.0.0:9090", "https://127.0.0.1/metrics", "https://h.example/metrics"},
		{"http://[2001:db8::1]:80", "0.0.0.0:9090", "http://[::1]/metrics", "http://[2001:db8::1]/metrics"},
		{"http://[2001:db8::1]", "0.0.0.0:9090", "http://localhost/metrics", "http://[2001:db8::1]/metrics"},
		{"https://h.example", "0.0.0.0:80", "http://localhost/metrics", "http://h.example/metrics"},
		{"http://h.example:9090", "0.0.0.0:9090", "http://localhost.example/metrics", "http://localhost.example/metrics"},
		{"http://h.example:9090", "nonsense", "http://localhost/metrics", "http://localhost/metrics"},
		// From here on the table of Prometheus's own test.
		{"http://127.0.0.1:9090", "127.0.0.1:9090", "http://127.0.0.1:9090", "http://127.0.0.1:9090"},
		{"https://prometheus.io", "127.0.0.1:9090", "http://127.0.0.1:9090", "https://prometheus.io"},
		{"https://prometheus.io", "127.0.0.1:9090", "http://example.com", "http://example.com"},
		{"https://prometheus.io", "127.0.0.1:9090", "http://localhost:8080", "http://prometheus.io:8080"},
		{"https://prometheus.io", "127.0.0.1:9090", "http://[::1]:8080", "http://prometheus.io:8080"},
		{"https://prometheus.io", "127.0.0.1:9090", "http://localhost", "http://prometheus.io"},
		{"https://[::1]", "[::1]:9090", "http://localhost:9091", "http://[::1]:9091"},
		{"https://[::1]:9090", "[::1]:9090", "http://localhost:9091", "http://[::1]:9091"},
	} {
		s := &Server{o: Options{ExternalURL: mustURL(t, c.external), ListenAddresses: []string{c.listen}}}
		if got := s.globalURL(c.target); got != c.want {
			t.Errorf("external %s, listening on %s: %s became %s, want %s", c.external, c.listen, c.target, got, c.want)
		}
	}
}

func TestPageShowsWhatRuns(t *testing.T) {
	s := newServer(t, &calls{}, func(o *Options) {
		o.PageTitle = `<script>"title"`
		o.Remotes = func() []remotewrite.RemoteStatus {
			return []remotewrite.RemoteStatus{{Name: "central", URL: "http://c/", Failing: true, BehindSamples: 42}, {Name: "other", URL: "http://o/"},
				{Name: "strict", URL: "http://s/", Refusing: true, RefusedSamples: 12345, LastError: "server returned HTTP status 400 Bad Request: <b>out of bounds", LastErrorTime: o.Now().Add(-3 * time.Second)}}
		}
	})
	const path = "/agent"
	res, body := do(t, s.Handler(), "GET", path)
	if got := res.Header.Get("Content-Type"); res.StatusCode != 200 || got != "text/html; charset=utf-8" {
		t.Errorf("%s: %d, content type %q", path, res.StatusCode, got)
	}
	for _, want := range []string{"central", "42 samples", "retrying", "delivering", "refusing", "12345", "3s ago", "400 Bad Request: &lt;b&gt;out of bounds", "http://localhost:8080/metrics", "connection refused",
		"1 of 2 up, 3 dropped by relabelling", "2s ago", "never", "scrape_interval: 15s", "&lt;script&gt;"} {
		if !strings.Contains(body, want) {
			t.Errorf("%s does not show %q", path, want)
		}
	}
	if strings.Contains(body, "<script>") || strings.Contains(body, "<a>:2") {
		t.Errorf("%s shows a label or title unescaped", path)
	}
	if !strings.Contains(res.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%s: content security policy %q", path, res.Header.Get("Content-Security-Policy"))
	}
	empty := newServer(t, &calls{}, func(o *Options) {
		o.Remotes = func() []remotewrite.RemoteStatus { return nil }
		o.Pools = func() []scrape.PoolStatus { return []scrape.PoolStatus{{Job: "lonely"}} }
	})
	if _, body := do(t, empty.Handler(), "GET", "/agent"); !strings.Contains(body, "No targets.") || !strings.Contains(body, "No remote_write is configured") {
		t.Errorf("the page of an agent without targets and remotes says\n%s", body)
	}
}

func TestVersionIsTheBuild(t *testing.T) {
	res, body := do(t, newServer(t, &calls{}).Handler(), "GET", "/version")
	if got := res.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	if got := fields(t, body); res.StatusCode != 200 || got["version"] != "3.16.0+prom-agent.1.2.3" || got["goVersion"] != "go1.26" {
		t.Errorf("got %d %v", res.StatusCode, got)
	}
}

func TestUserAssets(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte("an asset"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"/", "/p"} {
		s := newServer(t, &calls{}, func(o *Options) { o.UserAssets, o.RoutePrefix = dir, prefix })
		base := strings.TrimSuffix(prefix, "/")
		if res, body := do(t, s.Handler(), "GET", base+"/user/a.txt"); res.StatusCode != 200 || body != "an asset" {
			t.Errorf("prefix %s: %d %q", prefix, res.StatusCode, body)
		}
		if res, _ := do(t, s.Handler(), "GET", base+"/user/../helpers_test.go"); res.StatusCode == 200 {
			t.Errorf("prefix %s: a path out of the directory is served", prefix)
		}
	}
	if res, _ := do(t, newServer(t, &calls{}).Handler(), "GET", "/user/a.txt"); res.StatusCode != 404 {
		t.Errorf("without a directory: %d, want 404", res.StatusCode)
	}
}

func TestOwnMetrics(t *testing.T) {
	o := options(t, &calls{})
	o.RoutePrefix = "/p"
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	get := func() string {
		res, body := do(t, s.Handler(), "GET", "/p/metrics")
		if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
			t.Fatalf("metrics: %d %q", res.StatusCode, res.Header.Get("Content-Type"))
		}
		return body
	}
	lines := func(body string, want ...string) {
		t.Helper()
		for _, line := range want {
			if !strings.Contains(body, "\n"+line+"\n") {
				t.Errorf("no line %s", line)
			}
		}
	}
	lines(get(), `prometheus_ready 0`, `prometheus_http_requests_total{code="200",handler="/api/v1/targets"} 0`, `prometheus_http_requests_total{code="200",handler="/-/healthy"} 0`,
		`prometheus_http_requests_total{code="200",handler="/metrics"} 0`, `promhttp_metric_handler_requests_in_flight 1`)
	do(t, s.Handler(), "GET", "/p/api/v1/targets") // not ready
	s.SetReady()
	do(t, s.Handler(), "GET", "/p/api/v1/targets")
	do(t, s.Handler(), "POST", "/p/api/v1/query")
	lines(get(), `prometheus_ready 1`, `prometheus_http_requests_total{code="200",handler="/api/v1/targets"} 1`, `prometheus_http_requests_total{code="503",handler="/api/v1/targets"} 1`,
		`prometheus_http_requests_total{code="422",handler="/api/v1/query"} 1`, `prometheus_http_requests_total{code="200",handler="/metrics"} 1`,
		`prometheus_http_request_duration_seconds_bucket{handler="/api/v1/targets",le="0.1"} 2`, `prometheus_http_request_duration_seconds_bucket{handler="/api/v1/targets",le="120"} 2`,
		`prometheus_http_response_size_bytes_bucket{handler="/api/v1/targets",le="100"} 1`, `prometheus_http_response_size_bytes_bucket{handler="/api/v1/targets",le="1e+09"} 2`)
	s.SetStopping()
	lines(get(), `prometheus_ready 0`)
	for accept, want := range map[string]string{
		"application/openmetrics-text;version=1.0.0": "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
		"application/openmetrics-text":               "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.9": "application/vnd.google.protobuf",
	} {
		if res, _ := do(t, s.Handler(), "GET", "/p/metrics", "Accept", accept); !strings.HasPrefix(res.Header.Get("Content-Type"), want) {
			t.Errorf("Accept %s: got %s", accept, res.Header.Get("Content-Type"))
		}
	}
}

// The handlers that the server counts requests of, held against the code of Prometheus.
func TestHandlersAreNamedAsInPrometheus(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]bool{"/agent": true} // and what the code names in strings alone
	for file, c := range map[string]struct{ pattern, prefix string }{
		"web/web.go":        {`router\.(?:Get|Head|Post|Put)\("(/[^"]*)"`, ""},
		"web/api/v1/api.go": {`\br\.(?:Get|Post|Put|Options)\("(/[^"]*)"`, "/api/v1"},
	} {
		code, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), file))
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(c.pattern).FindAllStringSubmatch(string(code), -1) {
			theirs[c.prefix+found[1]] = true
		}
		if list := regexp.MustCompile(`(?s)newUIReactRouterPaths = \[\]string\{(.*?)\}`).FindStringSubmatch(string(code)); list != nil {
			for _, found := range regexp.MustCompile(`"(/[^"]*)"`).FindAllStringSubmatch(list[1], -1) {
				theirs[found[1]] = true
			}
		}
	}
	if len(theirs) < 60 {
		t.Fatalf("%d routes found in the code of Prometheus", len(theirs))
	}
	missing := []string{
		"/api/v1/features", "/api/v1/notifications/live", "/api/v1/openapi.yaml", "/api/v1/scrape_pools/config", "/api/v1/status/self_metrics", "/api/v1/targets/relabel_steps",
		"/api/v1/query_cost", "/api/v1/query_range_cost", // with a feature of the server
	}
	o := options(t, &calls{})
	o.UserAssets = t.TempDir()
	o.RoutePrefix = "/p"
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	_, body := do(t, s.Handler(), "GET", "/p/metrics")
	ours := map[string]bool{}
	for _, found := range regexp.MustCompile(`prometheus_http_requests_total\{code="200",handler="(.*?)"\}`).FindAllStringSubmatch(body, -1) {
		ours[found[1]] = true
	}
	for name := range theirs {
		if ours[name] == slices.Contains(missing, name) {
			t.Errorf("%s: shown is %v", name, ours[name])
		}
	}
	for name := range ours {
		if !theirs[name] && name != "/api/v1/status/remotes" {
			t.Errorf("%s is no handler of Prometheus", name)
		}
	}
	for path, handler := range map[string]string{
		"/p": "/", "/": "/", "/p/": "/", "/p/debug/pprof/cmdline": "/debug/*subpath", "/p/user/x": "/user/*filepath", "/p/api/v1/label/job/values": "/api/v1/label/:name/values",
	} {
		requests := func() (n float64) {
			_, body := do(t, s.Handler(), "GET", "/p/metrics")
			for _, found := range regexp.MustCompile(`prometheus_http_requests_total\{code="\d+",handler="`+regexp.QuoteMeta(handler)+`"\} (\d+)`).FindAllStringSubmatch(body, -1) {
				v, err := strconv.ParseFloat(found[1], 64)
				if err != nil {
					t.Fatal(err)
				}
				n += v
			}
			return n
		}
		before := requests()
		do(t, s.Handler(), "GET", path)
		if got := requests() - before; got != 1 {
			t.Errorf("%s counts as %v requests of %s", path, got, handler)
		}
	}
}

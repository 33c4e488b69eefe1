package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/golang/snappy"

	"promagent/scrape"
)

// data is the answer's data, of a request that must succeed.
func data(t testing.TB, h http.Handler, path string) any {
	t.Helper()
	res, body := do(t, h, "GET", path)
	if res.StatusCode != 200 {
		t.Fatalf("%s: %d %s", path, res.StatusCode, body)
	}
	if got := res.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: content type %q", path, got)
	}
	env := fields(t, body)
	if env["status"] != "success" {
		t.Errorf("%s: status %v", path, env["status"])
	}
	if len(env) != 2 {
		t.Errorf("%s: the envelope has %d fields, want status and data: %v", path, len(env), env)
	}
	return env["data"]
}

// parse decodes the JSON that a test wants.
func parse(t testing.TB, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

const (
	betaActive = `{"discoveredLabels":{"__address__":"b:1"},"labels":{"instance":"b:1","job":"beta"},"scrapePool":"beta",
		"scrapeUrl":"http://b:1/metrics","globalUrl":"http://b:1/metrics","lastError":"","lastScrape":"0001-01-01T00:00:00Z",
		"lastScrapeDuration":0,"health":"unknown","scrapeInterval":"1m","scrapeTimeout":"10s"}`
	alphaActive = `{"discoveredLabels":{"__address__":"localhost:8080","job":"alpha"},"labels":{"instance":"localhost:8080","job":"alpha"},"scrapePool":"alpha",
		"scrapeUrl":"http://localhost:8080/metrics","globalUrl":"http://agent.example:8080/metrics","lastError":"","lastScrape":"2026-02-03T04:05:06.789Z",
		"lastScrapeDuration":0.25,"health":"up","scrapeInterval":"15s","scrapeTimeout":"10000ms"},
		{"discoveredLabels":{"__address__":"<a>:2"},"labels":{"instance":"<a>:2","job":"alpha"},"scrapePool":"alpha",
		"scrapeUrl":"http://a:2/metrics","globalUrl":"http://a:2/metrics","lastError":"connection refused","lastScrape":"2026-02-03T04:05:06.789Z",
		"lastScrapeDuration":0,"health":"down","scrapeInterval":"15s","scrapeTimeout":"10000ms"}`
	alphaDropped = `{"discoveredLabels":{"__address__":"gone:1"},"scrapePool":"alpha"}`
)

func TestAPIAnswers(t *testing.T) {
	s := newServer(t, &calls{})
	for _, c := range []struct{ path, want string }{
		{"/notifications", `[]`},
		{"/scrape_pools", `{"scrapePools":["alpha","beta"]}`},
		{"/targets", `{"activeTargets":[` + alphaActive + `,` + betaActive + `],"droppedTargets":[` + alphaDropped + `],"droppedTargetCounts":{"alpha":3,"beta":0}}`},
		{"/targets?state=any", `{"activeTargets":[` + alphaActive + `,` + betaActive + `],"droppedTargets":[` + alphaDropped + `],"droppedTargetCounts":{"alpha":3,"beta":0}}`},
		{"/targets?state=active", `{"activeTargets":[` + alphaActive + `,` + betaActive + `],"droppedTargets":[],"droppedTargetCounts":null}`},
		{"/targets?state=Active&scrapePool=beta", `{"activeTargets":[` + betaActive + `],"droppedTargets":[],"droppedTargetCounts":null}`},
		{"/targets?state=dropped", `{"activeTargets":[],"droppedTargets":[` + alphaDropped + `],"droppedTargetCounts":{"alpha":3,"beta":0}}`},
		{"/targets?scrapePool=beta", `{"activeTargets":[` + betaActive + `],"droppedTargets":[],"droppedTargetCounts":{"alpha":3,"beta":0}}`},
		{"/targets?scrapePool=none", `{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{"alpha":3,"beta":0}}`},
		{"/targets?state=nonsense", `{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":null}`},
		{"/status/config", `{"yaml":"global:\n  scrape_interval: 15s\n"}`},
		{"/status/flags", `{"config.file":"prometheus.yml","web.max-connections":"512"}`},
		{"/status/buildinfo", `{"version":"3.16.0+prom-agent.1.2.3","revision":"abc","branch":"main","buildUser":"u@h","buildDate":"today","goVersion":"go1.26"}`},
		{"/status/runtimeinfo", `{"startTime":"2026-02-03T04:05:06.789Z","CWD":"/data","hostname":"h","serverTime":"2026-02-03T04:05:06.789Z",
			"reloadConfigSuccess":true,"lastConfigTime":"2026-02-03T04:05:06.789Z","corruptionCount":2,"goroutineCount":7,"GOMAXPROCS":2,
			"GOMEMLIMIT":1073741824,"GOGC":"50","GODEBUG":"","storageRetention":"80%"}`},
		{"/status/walreplay", `{"min":0,"max":0,"current":0}`},
	} {
		if got, want := data(t, s.Handler(), "/api/v1"+c.path), parse(t, c.want); !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %v\nwant %v", c.path, got, want)
		}
	}
}

func TestAPIWithoutAnyJob(t *testing.T) {
	s := newServer(t, &calls{}, func(o *Options) { o.Pools = func() []scrape.PoolStatus { return nil } })
	for path, want := range map[string]string{
		"/targets":      `{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}`,
		"/scrape_pools": `{"scrapePools":[]}`,
	} {
		if got := data(t, s.Handler(), "/api/v1"+path); !reflect.DeepEqual(got, parse(t, want)) {
			t.Errorf("%s: got %v, want %s", path, got, want)
		}
	}
}

func TestRemotesAreListed(t *testing.T) {
	list, ok := data(t, newServer(t, &calls{}).Handler(), "/api/v1/status/remotes").([]any)
	if !ok || len(list) != 1 {
		t.Fatalf("got %v, want a list of one remote", list)
	}
	if r := list[0].(map[string]any); r["name"] != "central" || r["failing"] != true {
		t.Errorf("got %v", r)
	}
}

func TestWhatOnlyAServerAnswersIsUnavailable(t *testing.T) {
	s := newServer(t, &calls{})
	for _, c := range []string{
		"GET /query", "POST /query", "GET /query_range", "POST /query_range", "GET /query_exemplars", "POST /query_exemplars",
		"GET /format_query", "POST /format_query", "GET /parse_query", "POST /parse_query", "GET /labels", "POST /labels",
		"GET /label/job/values", "GET /series", "POST /series", "GET /alertmanagers", "GET /alerts", "GET /rules", "GET /status/tsdb",
		"GET /status/tsdb/blocks", "POST /admin/tsdb/delete_series", "PUT /admin/tsdb/delete_series", "POST /admin/tsdb/clean_tombstones",
		"PUT /admin/tsdb/clean_tombstones", "POST /admin/tsdb/snapshot", "PUT /admin/tsdb/snapshot",
	} {
		method, path, _ := strings.Cut(c, " ")
		res, body := do(t, s.Handler(), method, "/api/v1"+path)
		want := map[string]any{"status": "error", "errorType": "execution", "error": "unavailable with Prometheus Agent"}
		if got := fields(t, body); res.StatusCode != 422 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d %v, want 422 %v", c, res.StatusCode, got, want)
		}
		if got := res.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: content type %q", c, got)
		}
	}
}

func TestReceiversAreOff(t *testing.T) {
	s := newServer(t, &calls{})
	for path, want := range map[string]string{
		"/api/v1/write":           "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n",
		"/api/v1/otlp/v1/metrics": "otlp write receiver needs to be enabled with --web.enable-otlp-receiver\n",
	} {
		if res, body := do(t, s.Handler(), "POST", path); res.StatusCode != 404 || body != want {
			t.Errorf("%s: %d %q, want 404 %q", path, res.StatusCode, body, want)
		}
	}
}

func TestUnknownPathsAndMethodsAreAnsweredInText(t *testing.T) {
	s := newServer(t, &calls{})
	for _, c := range []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/nothing", 404, "404 page not found\n"},
		{"GET", "/api/v1/nothing", 404, "404 page not found\n"},
		{"GET", "/api/v1/", 404, "404 page not found\n"},
		{"POST", "/api/v1/nothing", 404, "404 page not found\n"},
		{"GET", "/debug/nothing", 404, "404 page not found\n"},
		{"GET", "/consoles/index.html", 404, "404 page not found\n"},
		{"POST", "/api/v1/targets", 405, "Method Not Allowed\n"},
		{"DELETE", "/api/v1/series", 405, "Method Not Allowed\n"},
		{"PUT", "/metrics", 405, "Method Not Allowed\n"},
	} {
		res, body := do(t, s.Handler(), c.method, c.path)
		if res.StatusCode != c.code || body != c.body || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s %s: %d %q of type %q, want %d %q", c.method, c.path, res.StatusCode, body, res.Header.Get("Content-Type"), c.code, c.body)
		}
	}
}

func TestSearchIsDisabled(t *testing.T) {
	s := newServer(t, &calls{})
	for _, path := range []string{"metric_names", "label_names", "label_values"} {
		for _, method := range []string{"GET", "POST"} {
			res, body := do(t, s.Handler(), method, "/api/v1/search/"+path)
			want := map[string]any{"status": "error", "errorType": "unavailable", "error": "search API disabled"}
			if got := fields(t, body); res.StatusCode != 500 || !reflect.DeepEqual(got, want) {
				t.Errorf("%s %s: %d %v, want 500 %v", method, path, res.StatusCode, got, want)
			}
		}
	}
}

func TestWhoAsksForSamplesIsToldThatThereAreNone(t *testing.T) {
	const none = "unsupported operation with WAL-only storage\n"
	s := newServer(t, &calls{})
	if res, body := do(t, s.Handler(), "GET", "/federate?match[]=up"); res.StatusCode != 500 || body != none {
		t.Errorf("federate: %d %q", res.StatusCode, body)
	}
	for name, c := range map[string]struct {
		body []byte
		code int
		want string
	}{
		"no body":         {nil, 400, "snappy: corrupt input\n"},
		"another body":    {[]byte("hello"), 400, "snappy: corrupt input\n"},
		"a huge body":     {snappy.Encode(nil, make([]byte, 2<<20)), 400, "snappy: decoded block is too large\n"},
		"a query":         {snappy.Encode(nil, []byte{10, 0}), 500, none},
		"a plain request": {snappy.Encode(nil, nil), 500, none},
	} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("POST", "/api/v1/read", bytes.NewReader(c.body)))
		if w.Code != c.code || w.Body.String() != c.want {
			t.Errorf("%s: %d %q, want %d %q", name, w.Code, w.Body, c.code, c.want)
		}
	}
}

func TestCORS(t *testing.T) {
	s := newServer(t, &calls{})
	for _, c := range []struct{ method, path, origin, allowed string }{
		{"GET", "/api/v1/targets", "", ""},
		{"GET", "/api/v1/targets", "https://a.example", "https://a.example"},
		{"GET", "/api/v1/targets", "https://a.example.evil", ""},
		{"GET", "/api/v1/targets", "x https://a.example", ""},
		{"GET", "/api/v1/query", "http://b.example", "http://b.example"},
		{"GET", "/api/v1/status/walreplay", "http://b.example", "http://b.example"},
		{"OPTIONS", "/api/v1/targets", "http://b.example", "http://b.example"},
		{"OPTIONS", "/api/v1/query_range", "http://evil.example", ""},
		{"OPTIONS", "/api/v1/whatever", "http://b.example", "http://b.example"},
	} {
		var header []string
		if c.origin != "" {
			header = []string{"Origin", c.origin}
		}
		res, body := do(t, s.Handler(), c.method, c.path, header...)
		if c.method == "OPTIONS" && (res.StatusCode != 204 || body != "") {
			t.Errorf("%+v: %d %q, want an empty 204", c, res.StatusCode, body)
		}
		h := res.Header
		if vary := strings.Join(h.Values("Vary"), ","); !strings.Contains(vary, "Origin") {
			t.Errorf("%+v: Vary %q does not name Origin", c, vary)
		}
		if got := h.Get("Access-Control-Allow-Origin"); got != c.allowed {
			t.Errorf("%+v: Allow-Origin %q, want %q", c, got, c.allowed)
		}
		want := map[string]string{
			"Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, Origin", "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
			"Access-Control-Expose-Headers": "Date",
		}
		for name, v := range want {
			if c.origin == "" {
				v = ""
			}
			if got := h.Get(name); got != v {
				t.Errorf("%+v: %s %q, want %q", c, name, got, v)
			}
		}
	}
	if res, _ := do(t, s.Handler(), "GET", "/metrics", "Origin", "https://a.example"); res.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("/metrics may be read by other origins; only the API is meant to be")
	}
}

func TestLargeAnswersAreCompressedOnRequest(t *testing.T) {
	s := newServer(t, &calls{}, func(o *Options) { o.Config = func() string { return strings.Repeat("a long line of config\n", 1000) } })
	plain, body := do(t, s.Handler(), "GET", "/api/v1/status/config")
	if enc := plain.Header.Get("Content-Encoding"); enc != "" || len(body) < 20000 {
		t.Errorf("without being asked: encoding %q, %d bytes", enc, len(body))
	}
	packed, small := do(t, s.Handler(), "GET", "/api/v1/status/config", "Accept-Encoding", "gzip")
	if enc := packed.Header.Get("Content-Encoding"); enc != "gzip" || len(small) > len(body)/10 {
		t.Errorf("asked for gzip: encoding %q, %d bytes of %d", enc, len(small), len(body))
	}
}

func TestValueThatJSONCannotHoldIsAnInternalError(t *testing.T) {
	w := httptest.NewRecorder()
	answer(func(*http.Request) (any, *apiError) { return func() {}, nil }).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if got := fields(t, w.Body.String()); w.Code != 500 || got["errorType"] != "internal" {
		t.Errorf("got %d %v", w.Code, got)
	}
}

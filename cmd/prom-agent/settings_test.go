package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"promagent/config/settings"
)

func TestFlagsThatDoNothingAreSaid(t *testing.T) {
	const text = "These settings of Prometheus do not apply to prom-agent and have no effect"
	a := startAgent(t, "", "--no-storage.agent.wal-compression", "--storage.agent.wal-truncate-frequency=1h", "--storage.agent.retention.max-time=5h",
		"--web.enable-remote-write-receiver", "--enable-feature=search-api,st-storage", "--no-web.enable-otlp-receiver", "--no-auto-gomaxprocs")
	got := a.waitFor(`level=INFO .*` + text + `.*" settings="(.*)"\n`)[1]
	if want := "--no-auto-gomaxprocs, --no-storage.agent.wal-compression, --storage.agent.wal-truncate-frequency, --enable-feature=search-api"; got != want {
		t.Errorf("the line names %s, want %s", got, want)
	}
	if n := strings.Count(a.output(), text); n != 1 {
		t.Errorf("%d lines", n)
	}
	for _, want := range []string{`--web.enable-remote-write-receiver`, `"--enable-feature=st-storage"`} {
		a.waitFor(`level=WARN .*msg="This setting is not implemented yet and has no effect: .*" setting=` + want + `\n`)
	}
	if n := strings.Count(a.output(), "is not implemented yet"); n != 2 || strings.Contains(a.output(), "Feature enabled") {
		t.Errorf("%d warnings, want 2, and no feature is enabled", n)
	}
	res, err := http.Post(a.url+"/api/v1/write", "application/x-protobuf", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 404 {
		t.Errorf("a sender gets %d, want 404: it shall not try again", res.StatusCode)
	}
	if quiet := startAgent(t, "", "--storage.agent.retention.max-time=5h"); strings.Contains(quiet.output(), "have no effect") || strings.Contains(quiet.output(), "has no effect") {
		t.Error("there is such a line when no such flag is given")
	}
}

// Each flag that does nothing, with a value that asks for something.
func TestEveryFlagThatDoesNothingIsSaid(t *testing.T) {
	for _, s := range settings.All() {
		if s.Kind != settings.Flag || s.Status != settings.NotYet && s.Status != settings.NoMeaning {
			continue
		}
		value := map[string]string{"true": "false", "false": "true"}[s.Default]
		if value == "" {
			value = "1" + s.Default
		}
		f := flags{given: map[string]bool{s.Name: true}, values: map[string]string{s.Name: value}}
		for v, want := range map[string]bool{value: true, s.Default: false} {
			var log strings.Builder
			f.values[s.Name] = v
			settings.Log(slog.New(slog.NewTextHandler(&log, nil)), f.idle())
			if said := strings.Contains(log.String(), s.Name) && strings.Contains(log.String(), "no effect"); said != want {
				t.Errorf("%s=%s: logged %q", s, v, log.String())
			}
		}
	}
}

func TestReloadsSayWhatDoesNothing(t *testing.T) {
	a := startAgent(t, "")
	writeFile(t, a.file, "global: {scrape_native_histograms: true}\nscrape_configs: [{job_name: a}]\nremote_write: [{url: 'http://127.0.0.1:1/', tls_config: {ca_file: missing}}]\n")
	if code, body := a.request("POST", "/-/reload"); code != 500 {
		t.Fatalf("a reload without the remote's CA: %d %s", code, body)
	}
	if strings.Contains(a.output(), "This setting is not implemented") {
		t.Error("a config that is refused is spoken of, which it would be at every try")
	}
	writeFile(t, a.file, "global: {scrape_native_histograms: true, evaluation_interval: 15s}\nscrape_configs: [{job_name: a}]\n")
	if code, body := a.request("POST", "/-/reload"); code != 200 {
		t.Fatalf("reload: %d %s", code, body)
	}
	a.waitFor(`level=WARN .*msg="This setting is not implemented yet and has no effect: native histograms .*" setting=scrape_native_histograms in=global\n`)
	a.waitFor(`level=INFO .*do not apply to prom-agent.*" settings=global.evaluation_interval\n`)
}

func TestLogLevelOfTheConfigGoesBeforeTheFlagUntilItIsTakenOut(t *testing.T) {
	target, _ := exporter(t)
	jobs := "scrape_configs:\n" + job("a", target)
	a := startAgent(t, jobs)
	reload := func(config string, logged bool) {
		t.Helper()
		before := strings.Count(a.output(), "Completed loading of configuration file")
		writeFile(t, a.file, config)
		if code, body := a.request("POST", "/-/reload"); code != 200 {
			t.Fatalf("reload: %d %s", code, body)
		}
		if got := strings.Count(a.output(), "Completed loading of configuration file") > before; got != logged {
			if logged { // the line may still be on its way
				until(t, "the reload is logged", func() bool {
					return strings.Count(a.output(), "Completed loading of configuration file") > before
				})
				return
			}
			t.Errorf("with %q an info line is written", strings.SplitN(config, "\n", 2)[0])
		}
	}
	reload("runtime: {log_level: error}\n"+jobs, false)
	reload("runtime: {log_level: INFO}\n"+jobs, true)
	reload("runtime: {log_level: warn}\n"+jobs, false)
	reload(jobs, true)

	quiet := startAgent(t, "runtime: {log_level: info}\n", "--log.level=info")
	if n := strings.Count(quiet.output(), "level=INFO"); n == 0 {
		t.Error("no info line")
	}
	writeFile(t, a.file, "runtime: {log_level: loud}\n")
	if code, body := a.request("POST", "/-/reload"); code != 500 || !strings.Contains(body, "loud") {
		t.Errorf("an unknown level: %d %s", code, body)
	}
}

func TestGOGCOfTheConfigIsAppliedAndShown(t *testing.T) {
	t.Setenv("GOGC", "")
	a := startAgent(t, "runtime: {gogc: 33}\n")
	shown := func(want string) {
		t.Helper()
		if _, body := a.request("GET", "/api/v1/status/runtimeinfo"); !strings.Contains(body, `"GOGC":"`+want+`"`) {
			t.Errorf("runtimeinfo does not show %s: %s", want, body)
		}
		inYAML := want
		if want == "off" {
			inYAML = "-1"
		}
		if _, body := a.request("GET", "/api/v1/status/config"); !strings.Contains(body, `\n  gogc: `+inYAML+`\n`) {
			t.Errorf("the config does not show %s: %s", inYAML, body)
		}
		if got := a.metric("go_gc_gogc_percent"); want != "off" && got != want {
			t.Errorf("go_gc_gogc_percent is %s, want %s", got, want)
		}
	}
	shown("33")
	for config, want := range map[string]string{"": "50", "runtime: {gogc: 120}\n": "120", "runtime: {gogc: -1}\n": "off"} {
		writeFile(t, a.file, config)
		a.request("POST", "/-/reload")
		shown(want)
	}
}

func TestListeningIsLoggedOnce(t *testing.T) {
	a := startAgent(t, "")
	if n := strings.Count(a.output(), `msg="Listening on"`); n != 1 {
		t.Errorf("%d times", n)
	}
}

func TestLogOfPrometheusIsNamedAndLeft(t *testing.T) {
	const text = "The log of a Prometheus agent is left as it is"
	fresh := startAgent(t, "")
	if strings.Contains(fresh.output(), text) {
		t.Error("one is named where there is none")
	}
	fresh.signal(syscall.SIGTERM)
	fresh.end()
	old := filepath.Join(fresh.data, "wal", "checkpoint.00000001", "00000000")
	if err := os.MkdirAll(filepath.Dir(old), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, old, "twelve bytes")
	again := start(t, "--config.file="+fresh.file, "--storage.agent.path="+fresh.data, "--web.listen-address=127.0.0.1:0")
	if got := again.waitFor(text + `.* dir=(\S+) bytes=(\d+)`); got[1] != filepath.Join(fresh.data, "wal") || got[2] != "12" {
		t.Errorf("named as %q", got[1:])
	}
	again.waitFor("Server is ready")
	if b, err := os.ReadFile(old); err != nil || string(b) != "twelve bytes" {
		t.Errorf("it was changed: %q, %v", b, err)
	}
}

func TestMetricsAreServedBeforeTheFirstScrape(t *testing.T) {
	a := startAgent(t, "scrape_configs:\n- job_name: rare\n  scrape_interval: 1d\n  static_configs: [{targets: ['127.0.0.1:1', '127.0.0.1:2']}]\n")
	until(t, "the targets are there", func() bool {
		_, body := a.request("GET", "/api/v1/targets?state=active")
		return strings.Count(body, `"health":"unknown"`) == 2
	})
	if got := a.metric("prometheus_agent_active_series"); got != "0" {
		t.Errorf("prometheus_agent_active_series is %s before the first scrape", got)
	}
}

func TestMemoryLimitIsAShareOfWhatThereIs(t *testing.T) {
	for _, name := range []string{"GOMEMLIMIT", "AUTOMEMLIMIT"} { // they go before the flags
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	limit := func() int64 { return debug.SetMemoryLimit(-1) }
	before := limit()
	defer debug.SetMemoryLimit(before)
	a := &agent{flags: &flags{memLimitRatio: 0.5}, log: slog.New(slog.DiscardHandler)}
	a.limitMemory(t.Context())
	if limit() != before {
		t.Errorf("the limit is %d with the flag off, was %d", limit(), before)
	}
	a.flags.autoGOMEMLIMIT = true
	a.limitMemory(t.Context())
	half := limit()
	a.flags.memLimitRatio, a.flags.memLimitRefresh = 0.25, model.Duration(5*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a.limitMemory(ctx)
	quarter := limit()
	if half == before || quarter < half/2-1 || quarter > half/2+1 {
		t.Errorf("the limit is %d at half, %d at a quarter", half, quarter)
	}
	debug.SetMemoryLimit(half)
	until(t, "the limit is looked up again", func() bool { return limit() == quarter })
}

func TestLogIsWrittenInTheFormatOfTheFlag(t *testing.T) {
	for format, want := range map[string]string{"logfmt": `level=INFO .*msg="Server is ready to receive web requests."`, "json": `\{.*"level":"INFO".*"msg":"Server is ready to receive web requests."`} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "prometheus.yml"), "")
		p := start(t, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.agent.path="+dir, "--web.listen-address=127.0.0.1:0", "--log.format="+format)
		p.waitFor(want)
	}
}

// What a block says of its HTTP client reaches the client of that block; what a
// client makes of it is tested in config/httpclient.
func TestHTTPBlocksReachTheirClients(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]string{} // by path, what the requests say of themselves
	var target string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		path := r.URL.Path
		if strings.Contains(path, "/pods") {
			path = "/pods"
		}
		seen[path] = r.Header.Get("X-Block") + " " + r.Header.Get("Authorization")
		switch path {
		case "/sd":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `[{"targets": [%q]}]`, target)
		case "/pods":
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	target = srv.Listener.Addr().String()
	block := func(name string) string {
		return fmt.Sprintf("http_headers: {X-Block: {values: [%s]}}, authorization: {type: Of, credentials: %s}", name, name)
	}
	startAgent(t, fmt.Sprintf(`
scrape_configs:
- {job_name: a, scrape_interval: 100ms, scrape_timeout: 100ms, %s, http_sd_configs: [{url: '%s/sd', %s}]}
- {job_name: b, kubernetes_sd_configs: [{role: pod, api_server: '%s', %s}]}
remote_write: [{url: '%s/write', %s}]
`, block("scrape"), srv.URL, block("discovery"), srv.URL, block("kubernetes"), srv.URL, block("remote")))
	for path, name := range map[string]string{"/metrics": "scrape", "/sd": "discovery", "/pods": "kubernetes", "/write": "remote"} {
		want := name + " Of " + name
		until(t, path+" gets a request of "+want, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return seen[path] == want
		})
	}
}

func TestStaticTargetsHaveTheLabelsOfTheirGroup(t *testing.T) {
	a := startAgent(t, "scrape_configs: [{job_name: a, static_configs: [{targets: ['127.0.0.1:1'], labels: {zone: z1}}, {targets: ['127.0.0.1:2']}]}]\n")
	until(t, "both targets are there", func() bool {
		_, body := a.request("GET", "/api/v1/targets?state=active")
		return strings.Contains(body, `"labels":{"instance":"127.0.0.1:1","job":"a","zone":"z1"}`) && strings.Contains(body, `"labels":{"instance":"127.0.0.1:2","job":"a"}`)
	})
}

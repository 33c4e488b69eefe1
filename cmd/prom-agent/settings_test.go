package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFlagsThatDoNothingAreNamedInOneLine(t *testing.T) {
	const text = "These flags are accepted for compatibility with Prometheus and do nothing here"
	a := startAgent(t, "", "--no-storage.agent.wal-compression", "--storage.agent.wal-truncate-frequency=1h", "--storage.agent.retention.max-time=5h",
		"--web.enable-remote-write-receiver", "--no-auto-gomaxprocs")
	got := a.waitFor(`level=INFO .*` + text + `" flags="(.*)"\n`)[1]
	if want := "--storage.agent.wal-compression --storage.agent.wal-truncate-frequency --web.enable-remote-write-receiver --no-auto-gomaxprocs"; got != want {
		t.Errorf("the line names %s, want %s", got, want)
	}
	if n := strings.Count(a.output(), text); n != 1 {
		t.Errorf("%d lines", n)
	}
	res, err := http.Post(a.url+"/api/v1/write", "application/x-protobuf", strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 404 {
		t.Errorf("a sender gets %d, want 404: it shall not try again", res.StatusCode)
	}
	if quiet := startAgent(t, "", "--storage.agent.retention.max-time=5h", "--auto-gomaxprocs"); strings.Contains(quiet.output(), text) {
		t.Error("there is such a line when no such flag is given")
	}
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

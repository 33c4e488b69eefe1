package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// exporter serves metrics and counts the scrapes.
func exporter(t testing.TB) (addr string, scrapes *atomic.Int32) {
	scrapes = new(atomic.Int32)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# HELP some_total Some.\n# TYPE some_total counter\nsome_total{a=\"b c\"} %d\nother 1.5\n", scrapes.Add(1))
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String(), scrapes
}

func job(name, target string) string {
	return fmt.Sprintf("- job_name: %s\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\n  static_configs:\n  - targets: ['%s']\n", name, target)
}

// until waits for ok to become true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not so", what)
		}
	}
}

func TestReloadAppliesAGoodConfigAndLeavesTheOldOneForABrokenOne(t *testing.T) {
	reloads := map[string]func(a *agentProcess, good bool){
		"SIGHUP": func(a *agentProcess, good bool) {
			completed, failed := strings.Count(a.output(), "Completed loading of configuration file"), strings.Count(a.output(), "Error reloading config")
			a.signal(syscall.SIGHUP)
			until(a.t, "the reload is logged", func() bool {
				if good {
					return strings.Count(a.output(), "Completed loading of configuration file") > completed
				}
				return strings.Count(a.output(), "Error reloading config") > failed
			})
		},
		"POST": func(a *agentProcess, good bool) {
			code, body := a.request("POST", "/-/reload")
			if good && (code != 200 || body != "") {
				a.t.Errorf("reload of a good config: %d %q", code, body)
			}
			if !good && (code != 500 || !strings.HasPrefix(body, "failed to reload config: ") || !strings.Contains(body, "scrape_intervall")) {
				a.t.Errorf("reload of a broken config: %d %q", code, body)
			}
		},
		"auto": func(a *agentProcess, good bool) {}, // by itself
	}
	for name, reload := range reloads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, _ := exporter(t)
			var more []string
			if name == "auto" {
				more = []string{"--enable-feature=auto-reload-config", "--config.auto-reload-interval=1s"}
			}
			a := startAgent(t, "scrape_configs:\n"+job("first", target), more...)
			pools := func() string { _, body := a.request("GET", "/api/v1/scrape_pools"); return body }
			successful := func(want string) {
				t.Helper()
				until(t, "prometheus_config_last_reload_successful is "+want, func() bool { return a.metric("prometheus_config_last_reload_successful") == want })
			}
			runtimeinfo := func(want string) {
				t.Helper()
				if _, body := a.request("GET", "/api/v1/status/runtimeinfo"); !strings.Contains(body, `"reloadConfigSuccess":`+want) {
					t.Errorf("runtimeinfo does not say %s: %s", want, body)
				}
			}
			successful("1")
			since := a.metric("prometheus_config_last_reload_success_timestamp_seconds")

			writeFile(t, a.file, "scrape_configs:\n- job_name: broken\n  scrape_intervall: 1s\n")
			reload(a, false)
			successful("0")
			runtimeinfo("false")
			if got := pools(); !strings.Contains(got, `["first"]`) {
				t.Errorf("after a broken config the pools are %s", got)
			}
			if got := a.metric("prometheus_config_last_reload_success_timestamp_seconds"); got != since {
				t.Errorf("the time of the last success moved from %s to %s", since, got)
			}
			if _, body := a.request("GET", "/api/v1/status/config"); !strings.Contains(body, "job_name: first") {
				t.Errorf("the config shown is not the one that runs: %s", body)
			}

			writeFile(t, a.file, "scrape_configs:\n"+job("second", target)+job("third", target))
			reload(a, true)
			successful("1")
			runtimeinfo("true")
			if got := pools(); !strings.Contains(got, `["second","third"]`) {
				t.Errorf("after a good config the pools are %s", got)
			}
			if got := a.metric("prometheus_config_last_reload_success_timestamp_seconds"); got == since {
				t.Error("the time of the last success did not move")
			}
			until(t, "both jobs are scraped", func() bool {
				_, body := a.request("GET", "/api/v1/targets?state=active")
				return strings.Count(body, `"health":"up"`) == 2
			})
		})
	}
}

func TestReloadThatAStageRefusesChangesNothing(t *testing.T) {
	target, _ := exporter(t)
	a := startAgent(t, "scrape_configs:\n"+job("first", target))
	writeFile(t, a.file, "scrape_configs:\n"+job("second", target)+"remote_write:\n- url: https://127.0.0.1:1/\n  tls_config: {ca_file: missing-ca.pem}\n")
	if code, body := a.request("POST", "/-/reload"); code != 500 || !strings.Contains(body, "missing-ca.pem") {
		t.Errorf("got %d %q", code, body)
	}
	if _, body := a.request("GET", "/api/v1/scrape_pools"); !strings.Contains(body, `["first"]`) {
		t.Errorf("the pools are %s", body)
	}
	if got := a.metric("prometheus_config_last_reload_successful"); got != "0" {
		t.Errorf("prometheus_config_last_reload_successful is %s", got)
	}
}

func TestScrapeConfigFilesAreWatchedToo(t *testing.T) {
	target, _ := exporter(t)
	dir := t.TempDir()
	more := filepath.Join(dir, "more.yml")
	writeFile(t, more, "scrape_configs:\n"+job("first", target))
	a := startAgent(t, "scrape_config_files: ['"+more+"']\n", "--config.auto-reload", "--config.auto-reload-interval=1s")
	writeFile(t, more, "scrape_configs:\n"+job("second", target))
	until(t, "the changed file is applied", func() bool {
		_, body := a.request("GET", "/api/v1/scrape_pools")
		return strings.Contains(body, `["second"]`)
	})
	if n := strings.Count(a.output(), "Configuration file change detected"); n != 1 {
		t.Errorf("%d changes are logged, want 1", n)
	}
}

// deafRemote takes connections and never answers.
func deafRemote(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	return ln.Addr().String()
}

// closedPort is an address that refuses connections.
func closedPort(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestSignalEndsTheAgentInTimeWithADeadRemote(t *testing.T) {
	for name, c := range map[string]struct {
		signal syscall.Signal
		remote func(testing.TB) string
		say    string
		within time.Duration
	}{
		"SIGTERM, port closed":   {syscall.SIGTERM, closedPort, "Received an OS signal, exiting gracefully...", 3 * time.Second},
		"SIGINT, port closed":    {syscall.SIGINT, closedPort, "Received an OS signal, exiting gracefully...", 3 * time.Second},
		"SIGTERM, never answers": {syscall.SIGTERM, deafRemote, "Received an OS signal, exiting gracefully...", 8 * time.Second},
		"POST /-/quit":           {0, closedPort, "Received termination request via web service, exiting gracefully...", 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, scrapes := exporter(t)
			a := startAgent(t, "scrape_configs:\n"+job("a", target)+"remote_write:\n- url: http://"+c.remote(t)+"/\n  remote_timeout: 10s\n  queue_config: {batch_send_deadline: 100ms}\n",
				"--storage.remote.flush-deadline=5s")
			until(t, "three scrapes", func() bool { return scrapes.Load() >= 3 })
			begin := time.Now()
			if c.signal != 0 {
				a.signal(c.signal)
			} else if code, body := a.request("POST", "/-/quit"); code != 200 || body != "Requesting termination... Goodbye!" {
				t.Errorf("quit: %d %q", code, body)
			}
			if code := a.end(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if d := time.Since(begin); d > c.within {
				t.Errorf("it took %v, want at most %v", d, c.within)
			}
			for _, want := range []string{c.say, "See you next time!"} {
				if !strings.Contains(a.output(), want) {
					t.Errorf("%q is not in the log", want)
				}
			}
			if _, err := os.Stat(filepath.Join(a.data, "lock")); !os.IsNotExist(err) {
				t.Errorf("the lock file is left: %v", err)
			}
		})
	}
}

func TestSecondSignalChangesNothing(t *testing.T) {
	target, scrapes := exporter(t)
	a := startAgent(t, "scrape_configs:\n"+job("a", target)+"remote_write:\n- url: http://"+deafRemote(t)+"/\n  queue_config: {batch_send_deadline: 100ms}\n", "--storage.remote.flush-deadline=1s")
	until(t, "a scrape", func() bool { return scrapes.Load() >= 1 })
	a.signal(syscall.SIGTERM)
	a.waitFor("exiting gracefully")
	a.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	if code := a.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestKilledAgentStartsAgainAndSaysSo(t *testing.T) {
	target, scrapes := exporter(t)
	a := startAgent(t, "scrape_configs:\n"+job("a", target))
	if got := a.metric("prometheus_agent_clean_start"); got != "1" {
		t.Errorf("prometheus_agent_clean_start is %s at the first start", got)
	}
	until(t, "two scrapes", func() bool { return scrapes.Load() >= 2 })
	a.signal(syscall.SIGKILL)
	<-a.done
	again := start(t, "--config.file="+a.file, "--storage.agent.path="+a.data, "--web.listen-address=127.0.0.1:0")
	again.waitFor("A lockfile from a previous execution already existed")
	again.waitFor("Server is ready to receive web requests")
	again.signal(syscall.SIGTERM)
	if code := again.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

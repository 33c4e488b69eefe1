package main

import (
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// Operators look for these lines of Prometheus: alerts and scripts grep for them.
func TestLinesOfPrometheusAtStartReloadAndEnd(t *testing.T) {
	t.Setenv("GOGC", "")
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	writeFile(t, file, "")
	cmd := exec.Command(agentBinary, "--config.file=prometheus.yml", "--storage.agent.path=data", "--web.listen-address=127.0.0.1:0",
		"--web.enable-lifecycle", "--config.auto-reload", "--config.auto-reload-interval=1h")
	cmd.Dir = dir
	p := startCommand(t, cmd)
	a := &agentProcess{process: p, url: "http://" + p.waitFor(`msg="Listening on" component=web address=(\S+)\n`)[1]}
	p.waitFor("Server is ready to receive web requests.")
	ordered := func(text string, lines ...string) {
		t.Helper()
		for _, line := range lines {
			at := regexp.MustCompile(line).FindStringIndex(text)
			if at == nil {
				t.Fatalf("no line %s, or not in this place", line)
			}
			text = text[at[1]:]
		}
	}
	const loading = `level=INFO .*msg="Loading configuration file" filename=prometheus.yml\n`
	const completed = `level=INFO .*msg="Completed loading of configuration file" .*filename=prometheus.yml totalDuration=\S+\n`
	const ready = `level=INFO .*msg="Server is ready to receive web requests."\n`
	ordered(p.output(), `msg="Automatic configuration file reloading enabled" interval=1h0m0s\n`, loading, `msg="updated GOGC" old=100 new=50\n`, completed, ready)

	if code, body := a.request("POST", "/-/reload"); code != 200 {
		t.Fatalf("reload: %d %s", code, body)
	}
	p.waitFor(ready + `(?s).*` + loading + `(?s).*` + completed)
	writeFile(t, file, "global: [")
	const refused = `failed to reload config: couldn't load configuration (--config.file="prometheus.yml"): parsing YAML file prometheus.yml: `
	if code, body := a.request("POST", "/-/reload"); code != 500 || !strings.HasPrefix(body, refused) {
		t.Errorf("reload of a broken file: %d %s", code, body)
	}
	p.waitFor(`level=ERROR .*msg="Error reloading config" err="couldn't load configuration`)
	writeFile(t, file, "remote_write: [{url: 'https://a/', tls_config: {ca_file: none.pem}}]")
	if code, body := a.request("POST", "/-/reload"); code != 500 ||
		!strings.HasPrefix(body, `failed to reload config: one or more errors occurred while applying the new configuration (--config.file="prometheus.yml"): `) ||
		!strings.Contains(body, "none.pem") {
		t.Errorf("reload of a file that a stage refuses: %d %s", code, body)
	}
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	ordered(p.output(), `level=WARN .*msg="Received an OS signal, exiting gracefully..." signal=terminated\n`, `level=INFO .*msg="See you next time!"\n`)
}

func TestLinesOfPrometheusForWhatEndsTheStart(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	writeFile(t, file, "")
	noCA := filepath.Join(dir, "noca.yml")
	writeFile(t, noCA, "remote_write: [{url: 'https://a/', tls_config: {ca_file: none.pem}}]")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--web.listen-address=" + ln.Addr().String()}, `msg="Unable to start web listener" err="listen`},
		{[]string{"--web.config.file=missing.yml"}, `msg="Unable to validate web configuration file" err=`},
		{[]string{"--storage.agent.path=" + file}, `msg="Fatal error" err="opening storage failed: `},
		{[]string{"--config.file=" + noCA}, `msg="Fatal error" err="error loading config from \"` + noCA + `\": one or more errors`},
	} {
		args := append([]string{"--web.listen-address=127.0.0.1:0"}, c.args...)
		if !strings.HasPrefix(c.args[0], "--config") {
			args = append(args, emptyConfig(t))
		}
		if strings.HasPrefix(c.args[0], "--web.listen") {
			args = args[1:]
		}
		got := runToEnd(t, args...)
		if got.code != 1 || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%v: no %s: %+v", c.args, c.want, got)
		}
	}
}

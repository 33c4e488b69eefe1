package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestBadConfigEndsTheStartWithFileFieldAndValue(t *testing.T) {
	for _, c := range []struct {
		name, text string
		code       int
		want       []string
	}{
		{"not YAML", "global: [", 2, []string{"did not find expected node content"}},
		{"unknown field", "global:\n  scrape_intervall: 15s\n", 2, []string{"line 2", "scrape_intervall"}},
		{"bad duration", "global:\n  scrape_interval: 15x\n", 2, []string{"15x"}},
		{"timeout above interval", "scrape_configs:\n- job_name: a\n  scrape_interval: 1s\n  scrape_timeout: 2s\n", 2, []string{"scrape timeout greater than scrape interval", `"a"`}},
		{"job twice", "scrape_configs:\n- job_name: a\n- job_name: a\n", 2, []string{`"a"`}},
		{"bad regex", "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - regex: '('\n", 2, []string{"missing closing )", "("}},
		{"unknown action", "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - action: dorp\n", 2, []string{"dorp"}},
		{"remote without URL", "remote_write:\n- name: a\n", 2, []string{"url"}},
		{"two remotes of one name", "remote_write:\n- {url: 'http://a/', name: x}\n- {url: 'http://b/', name: x}\n", 2, []string{"x"}},
		{"missing CA of a remote", "remote_write:\n- url: https://a/\n  tls_config: {ca_file: missing-ca.pem}\n", 1, []string{"missing-ca.pem"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "bad.yml")
			writeFile(t, file, c.text)
			got := runToEnd(t, "--config.file="+file, "--web.listen-address=127.0.0.1:0")
			if got.code != c.code {
				t.Errorf("code %d, want %d", got.code, c.code)
			}
			if c.code == 2 && !strings.Contains(got.stderr, "Error loading config (--config.file="+file+")") {
				t.Error("the file is not named")
			}
			for _, want := range c.want {
				if !strings.Contains(strings.ReplaceAll(got.stderr, `\"`, `"`), want) {
					t.Errorf("no %q in the log", want)
				}
			}
			if t.Failed() {
				t.Log(got.stderr)
			}
		})
	}
}

func TestMissingConfigIsNamedWithItsWholePath(t *testing.T) {
	got := runToEnd(t, "--config.file=missing.yml")
	if got.code != 2 || !strings.Contains(got.stderr, "--config.file=missing.yml") || !strings.Contains(got.stderr, "/missing.yml") || !strings.Contains(got.stderr, "no such file or directory") {
		t.Errorf("%+v", got)
	}
	if got := runToEnd(t, "--config.file=."); got.code != 2 || !strings.Contains(got.stderr, "is a directory") {
		t.Errorf("a directory as config: %+v", got)
	}
}

func TestScrapeConfigFileIsNamedWhenItIsBroken(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "main.yml"), "scrape_config_files: [more.yml]\n")
	writeFile(t, filepath.Join(dir, "more.yml"), "scrape_configs:\n- job_name: a\n  metrics_paht: /x\n")
	got := runToEnd(t, "--config.file="+filepath.Join(dir, "main.yml"))
	if got.code != 2 || !strings.Contains(got.stderr, "more.yml") || !strings.Contains(got.stderr, "metrics_paht") {
		t.Errorf("%+v", got)
	}
}

// emptyConfig writes a config without jobs and returns the flag that names it.
func emptyConfig(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	writeFile(t, file, "")
	return "--config.file=" + file
}

func TestDataDirectoryThatIsAFileEndsTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data")
	writeFile(t, file, "precious")
	for _, path := range []string{file, filepath.Join(file, "below")} {
		got := runToEnd(t, emptyConfig(t), "--storage.agent.path="+path, "--web.listen-address=127.0.0.1:0")
		if got.code != 1 || !strings.Contains(got.stderr, "opening storage failed: ") || !strings.Contains(got.stderr, file) || !strings.Contains(got.stderr, "not a directory") {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file was changed: %q %v", b, err)
	}
}

// runAsNobody runs the command without the rights of root, which no mode of a directory binds.
func runAsNobody(t *testing.T, args ...string) outcome {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), agentBinary, args...)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var stdout, stderr strings.Builder
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestReadOnlyDataDirectoryEndsTheStart(t *testing.T) {
	dir, err := os.MkdirTemp("", "prom-agent-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	writeFile(t, filepath.Join(dir, "prometheus.yml"), "")
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{data, dir} {
		if err := os.Chmod(d, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{data, filepath.Join(dir, "new")} {
		got := runAsNobody(t, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.agent.path="+path, "--web.listen-address=127.0.0.1:0")
		if got.code != 1 || !strings.Contains(got.stderr, "opening storage failed: ") || !strings.Contains(got.stderr, path) || !strings.Contains(got.stderr, "permission denied") {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestDataDirectoryOfARunningAgentIsNotTaken(t *testing.T) {
	a := startAgent(t, "")
	got := runToEnd(t, emptyConfig(t), "--storage.agent.path="+a.data, "--web.listen-address=127.0.0.1:0")
	if got.code != 1 || !strings.Contains(got.stderr, "lock DB directory: "+filepath.Join(a.data, "lock")+" is held by another process") {
		t.Errorf("%+v", got)
	}
	if code, _ := a.request("GET", "/-/ready"); code != 200 {
		t.Errorf("the first agent answers %d", code)
	}
}

func TestTakenPortEndsTheStartAndFreesTheDataDirectory(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	data := filepath.Join(t.TempDir(), "data")
	got := runToEnd(t, emptyConfig(t), "--storage.agent.path="+data, "--web.listen-address="+ln.Addr().String())
	if got.code != 1 || !strings.Contains(got.stderr, fmt.Sprintf("listen on %s: ", ln.Addr())) || !strings.Contains(got.stderr, "address already in use") {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(filepath.Join(data, "lock")); !os.IsNotExist(err) {
		t.Errorf("the lock file is left: %v", err)
	}
}

func TestBadWebConfigEndsTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	writeFile(t, file, "tls_server_config:\n  cert_file: missing.pem\n  key_file: missing.key\n")
	for path, want := range map[string]string{file: "missing.pem", file + ".none": "no such file or directory"} {
		got := runToEnd(t, emptyConfig(t), "--web.config.file="+path, "--web.listen-address=127.0.0.1:0")
		if got.code != 1 || !strings.Contains(got.stderr, path) || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestFailedStartSaysWhyOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data")
	writeFile(t, file, "")
	for _, args := range [][]string{{"--storage.agent.path=" + file}, {"--web.config.file=missing.yml"}, {"--web.listen-address=256.0.0.1:1"}} {
		got := runToEnd(t, append([]string{emptyConfig(t)}, args...)...)
		if n := strings.Count(got.stderr, "level=ERROR"); n != 1 || got.stdout != "" {
			t.Errorf("%v: %d errors are logged: %+v", args, n, got)
		}
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// agentBinary is the command under test, built once by TestMain.
var agentBinary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "prom-agent-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := os.Chmod(dir, 0o755); err != nil { // a test runs the binary as another user
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		agentBinary = filepath.Join(dir, "prom-agent")
		if out, err := exec.Command("go", "build", "-race=false", "-o", agentBinary, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// patience is how long a test waits for what should take milliseconds.
const patience = 30 * time.Second

// outcome is what a process that has ended left.
type outcome struct {
	code           int
	stdout, stderr string
}

// runToEnd runs the command in a directory of its own until it ends by itself.
func runToEnd(t testing.TB, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, agentBinary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// process is the command at work.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed at its end

	mu    sync.Mutex
	text  string        // all that it wrote
	wrote chan struct{} // closed and made anew with every line
}

// start runs the command; it is killed at the end of the test.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(agentBinary, args...))
}

// startCommand runs cmd as start does, in a directory of its own unless it has one.
func startCommand(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, done: make(chan struct{}), wrote: make(chan struct{})}
	if cmd.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewReader(r)
		for {
			line, err := lines.ReadString('\n')
			p.mu.Lock()
			p.text += line
			close(p.wrote)
			p.wrote = make(chan struct{})
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() {
		p.cmd.Wait()
		w.Close()
		<-read
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%v wrote:\n%s", cmd.Args, p.output())
		}
	})
	return p
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text
}

// waitFor waits until the process has written what pattern matches, and returns its groups.
func (p *process) waitFor(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	late := time.After(patience)
	for {
		p.mu.Lock()
		found, next := re.FindStringSubmatch(p.text), p.wrote
		p.mu.Unlock()
		if found != nil {
			return found
		}
		select {
		case <-next:
		case <-p.done:
			if found := re.FindStringSubmatch(p.output()); found != nil {
				return found
			}
			p.t.Fatalf("the process ended without writing %q", pattern)
		case <-late:
			p.t.Fatalf("the process did not write %q", pattern)
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// end waits for the process and returns its exit code.
func (p *process) end() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("the process does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// agentProcess is a running agent that is ready.
type agentProcess struct {
	*process
	url  string // of its HTTP server
	file string // its config
	data string // its data directory
}

// startAgent runs an agent on config, with a free port, and waits until it is ready.
func startAgent(t testing.TB, config string, args ...string) *agentProcess {
	t.Helper()
	dir := t.TempDir()
	a := &agentProcess{file: filepath.Join(dir, "prometheus.yml"), data: filepath.Join(dir, "data")}
	writeFile(t, a.file, config)
	a.process = start(t, append([]string{"--config.file=" + a.file, "--storage.agent.path=" + a.data, "--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle",
		"--scrape.discovery-reload-interval=20ms"}, args...)...)
	a.url = "http://" + a.waitFor(`msg="Listening on" component=web address=(\S+)\n`)[1]
	a.waitFor(`Server is ready to receive web requests`)
	return a
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

var impatient = &http.Client{Timeout: patience}

// request asks the agent's server.
func (a *agentProcess) request(method, path string) (code int, body string) {
	a.t.Helper()
	req, err := http.NewRequest(method, a.url+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	res, err := impatient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// metric is the text of the value that the agent shows for a series.
func (a *agentProcess) metric(series string) string {
	a.t.Helper()
	code, body := a.request("GET", "/metrics")
	if code != 200 {
		a.t.Fatalf("/metrics: %d %s", code, body)
	}
	_, rest, ok := strings.Cut(body, "\n"+series+" ")
	if !ok {
		a.t.Fatalf("/metrics has no %s", series)
	}
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

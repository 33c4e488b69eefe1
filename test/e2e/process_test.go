// Package e2e runs the agent's binary with real parts beside it: Debian's
// node_exporter and Prometheus, and the current Prometheus, all on loopback
// with free ports. The environment names the binaries: PROM_AGENT,
// PROMETHEUS (the current one), and optionally PROMETHEUS_DEBIAN and NODE_EXPORTER.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

var (
	agentBinary      = envOr("PROM_AGENT", "../../prom-agent")
	currentBinary    = os.Getenv("PROMETHEUS")
	debianBinary     = envOr("PROMETHEUS_DEBIAN", "prometheus")
	nodeExporterName = envOr("NODE_EXPORTER", "prometheus-node-exporter")
)

// process is a program under test, ended with the test.
type process struct {
	t    testing.TB
	name string
	addr string // of its HTTP server
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// start runs a program that serves HTTP on addr and waits until GET path answers 200.
func start(t testing.TB, name, addr, ready string, argv ...string) *process {
	t.Helper()
	return startUntil(t, name, addr, func(p *process) error {
		_, err := p.get(ready)
		return err
	}, argv...)
}

// startUntil runs a program that serves on addr and waits until ready returns nil.
func startUntil(t testing.TB, name, addr string, ready func(*process) error, argv ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, addr: addr, log: filepath.Join(t.TempDir(), name+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v (make e2e installs what is missing)", name, err)
	}
	out.Close()
	go func() { p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.end(syscall.SIGKILL)
		if t.Failed() {
			b, _ := os.ReadFile(p.log)
			t.Logf("%s said:\n%s", name, b[max(0, len(b)-6000):])
		}
	})
	eventually(t, 2*time.Minute, name+" is ready", func() error {
		select {
		case <-p.done:
			b, _ := os.ReadFile(p.log)
			t.Fatalf("%s ended at start:\n%s", name, b[max(0, len(b)-3000):])
		default:
		}
		return ready(p)
	})
	return p
}

// end signals the process and waits for it.
func (p *process) end(sig syscall.Signal) {
	p.t.Helper()
	p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
		p.t.Errorf("%s did not end within 20 s of %v", p.name, sig)
	}
}

func (p *process) get(path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, b)
	}
	return string(b), err
}

// metric is the sum of a metric's samples on the process's /metrics.
func (p *process) metric(name string) float64 {
	p.t.Helper()
	text, err := p.get("/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	var sum float64
	for line := range strings.SplitSeq(text, "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			p.t.Fatalf("%s: %v", line, err)
		}
		sum += v
	}
	return sum
}

// series is one series of a PromQL answer.
type series struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any
}

func (s series) value() float64 {
	v, _ := strconv.ParseFloat(s.Value[1].(string), 64)
	return v
}

// query asks the process for an instant vector or a range selector.
func (p *process) query(expr string) ([]series, error) {
	body, err := p.get("/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct{ Result []series }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return nil, err
	}
	return answer.Data.Result, nil
}

// eventually tries f until it returns nil or the time is up.
func eventually(t testing.TB, limit time.Duration, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", limit, what, err)
		}
		time.Sleep(100 * time.Millisecond) // real processes: nothing to wait on
	}
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

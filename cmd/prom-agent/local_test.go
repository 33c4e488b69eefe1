package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLocalDeploymentIsValidAndStartsQuietly(t *testing.T) {
	file, err := filepath.Abs("../../deploy/local/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	if got := executed(t, "check", "config", file); got.code != 0 {
		t.Errorf("check config: %+v", got)
	}
	p := start(t, "--config.file="+file, "--storage.agent.path="+t.TempDir(), "--web.listen-address=127.0.0.1:0", "--scrape.discovery-reload-interval=10ms", "--storage.remote.flush-deadline=1s")
	p.waitFor("Server is ready")
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for line := range strings.Lines(p.output()) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "discovery") {
			t.Errorf("at the start it logs %s", line)
		}
	}
}

// localRun is deploy/local/run with ports and a directory for temporary files
// of its own.
func localRun(t testing.TB, port, receiverPort string) (p *process, temporary string) {
	t.Helper()
	script, err := filepath.Abs("../../deploy/local/run")
	if err != nil {
		t.Fatal(err)
	}
	temporary = t.TempDir()
	cmd := exec.Command(script)
	cmd.Env = append(os.Environ(), "PROM_AGENT="+agentBinary, "TMPDIR="+temporary, "PORT="+port, "RECEIVER_PORT="+receiverPort)
	return startCommand(t, cmd), temporary
}

func portOf(t testing.TB, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestSignalsEndTheLocalRunWithoutALeftover(t *testing.T) {
	// Who was started by nohup ignores the hangup, as do all that it starts.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangup) })
	for _, signals := range [][]syscall.Signal{
		{syscall.SIGINT}, {syscall.SIGINT, syscall.SIGINT}, {syscall.SIGINT, syscall.SIGTERM}, {syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT}, {syscall.SIGHUP},
	} {
		t.Run(fmt.Sprint(signals), func(t *testing.T) {
			t.Parallel()
			agent, receiver := closedPort(t), closedPort(t)
			p, temporary := localRun(t, portOf(t, agent), portOf(t, receiver))
			p.waitFor("receiving on ")
			until(t, "the agent is ready", func() bool {
				res, err := impatient.Get("http://" + agent + "/-/ready")
				if err != nil {
					return false
				}
				res.Body.Close()
				return res.StatusCode == http.StatusOK
			})
			for i, s := range signals {
				if i > 0 { // while it cleans up
					time.Sleep(20 * time.Millisecond)
				}
				if err := p.cmd.Process.Signal(s); err != nil {
					break // it has ended
				}
			}
			if code := p.end(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			for _, address := range []string{agent, receiver} {
				if c, err := net.Dial("tcp", address); err == nil {
					c.Close()
					t.Errorf("%s is still served", address)
				}
			}
			if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
			if !strings.Contains(p.output(), "in all: ") {
				t.Error("the receiver did not end in order")
			}
		})
	}
}

func TestLocalRunNamesAPortThatIsTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken, free := portOf(t, ln.Addr().String()), portOf(t, closedPort(t))
	for _, c := range []struct{ port, receiverPort, remedy string }{{taken, free, " PORT="}, {free, taken, " RECEIVER_PORT="}} {
		p, temporary := localRun(t, c.port, c.receiverPort)
		if code := p.end(); code != 1 || !strings.Contains(p.output(), "port "+taken+" is taken") || !strings.Contains(p.output(), c.remedy) {
			t.Errorf("code %d: %s", code, p.output())
		}
		if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
}

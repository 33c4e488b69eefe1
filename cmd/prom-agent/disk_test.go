package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// volume is where a test's agent keeps its log, and how it gets full.
type volume struct {
	command func(binary string, args ...string) *exec.Cmd
	fill    func(p *process)
	empty   func(p *process)
	error   string // of a write, as the agent logs it
}

// tmpfs is a small volume at dir that only the agent's process sees. As anybody
// but root, the process gets a user namespace of its own for it.
func tmpfs(t *testing.T, dir string) volume {
	own := "-m"
	if os.Getuid() != 0 {
		own = "-rm"
	}
	command := func(binary string, args ...string) *exec.Cmd {
		script := `mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"`
		return exec.Command("unshare", append([]string{own, "sh", "-c", script, dir, binary}, args...)...)
	}
	ballast := func(p *process) string { return filepath.Join(inside(p, dir), "ballast") }
	fill := func(p *process) {
		f, err := os.Create(ballast(p))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for size := 1 << 20; size > 0; { // to the last byte
			if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
				size /= 2
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	empty := func(p *process) {
		if err := os.Remove(ballast(p)); err != nil {
			t.Fatal(err)
		}
	}
	return volume{command, fill, empty, "no space left on device"}
}

// inside is the path of what a process sees as dir.
func inside(p *process, dir string) string {
	return fmt.Sprintf("/proc/%d/root%s", p.cmd.Process.Pid, dir)
}

// sizeLimit is a limit on the size of the agent's files, which needs no rights:
// none grows beyond what the largest has when it is full.
func sizeLimit(t *testing.T, dir string) volume {
	limit := func(p *process, bytes uint64) {
		if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(p *process) {
		fi, err := os.Stat(segmentFile(t, filepath.Join(dir, "data")))
		if err != nil {
			t.Fatal(err)
		}
		limit(p, uint64(max(fi.Size(), 8192))) // positions are rewritten in place
	}
	empty := func(p *process) { limit(p, unix.RLIM_INFINITY) }
	return volume{exec.Command, fill, empty, "file too large"}
}

func TestAgentGoesOnWhileItsDiskIsFull(t *testing.T) {
	volumes := map[string]func(*testing.T, string) volume{"files may not grow": sizeLimit}
	if out, err := tmpfs(t, t.TempDir()).command("true").CombinedOutput(); err == nil {
		volumes["full tmpfs"] = tmpfs
	} else { // in a container without the right to mount
		t.Logf("no tmpfs can be mounted here: %v: %s", err, out)
	}
	for name, of := range volumes {
		t.Run(name, func(t *testing.T) { goesOnWhileFull(t, of) })
	}
}

func goesOnWhileFull(t *testing.T, of func(*testing.T, string) volume) {
	var targets []*numbered
	var addresses []string
	for range crashTargets {
		n := newNumbered(t)
		targets, addresses = append(targets, n), append(addresses, "'"+n.Listener.Addr().String()+"'")
	}
	receiver := newAccountant(t, targets)
	receiver.mood(204, 0)
	dir, other := t.TempDir(), t.TempDir()
	v := of(t, dir)
	file := filepath.Join(other, "prometheus.yml")
	writeFile(t, file, fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}
scrape_configs:
- job_name: crash
  static_configs: [{targets: [%[2]s]}]
remote_write:
- url: %[3]s
  queue_config: {batch_send_deadline: 100ms, min_backoff: 10ms, max_backoff: 100ms, max_samples_per_send: 500}
`, crashInterval, strings.Join(addresses, ", "), receiver.URL))
	a := &agentProcess{file: file, data: filepath.Join(dir, "data")}
	a.process = startCommand(t, v.command(agentBinary, "--config.file="+file, "--storage.agent.path="+a.data,
		"--web.listen-address=127.0.0.1:0", "--scrape.discovery-reload-interval=10ms"))
	a.url = "http://" + a.waitFor(`msg="Listening on" component=web address=(\S+)\n`)[1]
	a.waitFor(`Server is ready to receive web requests`)
	second := int(time.Second/crashInterval) * crashTargets * crashSeries
	goesOn := func(when string) {
		t.Helper()
		before := receiver.received()
		receiver.more(second, patience)
		if n := receiver.received() - before; n < second {
			t.Fatalf("%s: %d samples come in %s, want a second's %d", when, n, patience, second)
		}
	}
	memory := func() int {
		t.Helper()
		n, err := strconv.ParseFloat(a.metric("prom_agent_log_memory_bytes"), 64)
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	goesOn("before")
	if got := a.metric("prom_agent_log_disk_failing"); got != "0" {
		t.Errorf("prom_agent_log_disk_failing is %s before", got)
	}

	v.fill(a.process)
	until(t, "the disk is said to fail", func() bool { return a.metric("prom_agent_log_disk_failing") == "1" })
	held := memory()
	goesOn("while the disk is full")
	receiver.mood(503, 0)
	until(t, "a remote that fails", func() bool { return a.metric("prom_agent_log_disk_failing") == "1" && memory() > held })
	if code, body := a.request("GET", "/-/ready"); code != 200 {
		t.Errorf("/-/ready while the disk is full: %d %s", code, body)
	}
	receiver.mood(204, 0)
	goesOn("after an outage while the disk is full")
	if got := a.metric("prom_agent_log_disk_failing"); got != "1" {
		t.Errorf("prom_agent_log_disk_failing is %s while the disk is full", got)
	}
	if got := a.metric("prometheus_tsdb_wal_writes_failed_total"); got == "0" {
		t.Error("no failed writes are counted")
	}
	if !strings.Contains(a.output(), v.error) {
		t.Errorf("%q is not logged", v.error)
	}

	v.empty(a.process)
	until(t, "the disk is said to be well", func() bool { return a.metric("prom_agent_log_disk_failing") == "0" && memory() == 0 })
	goesOn("afterwards")
	if got := a.metric("prom_agent_log_dropped_samples_total"); got != "0" {
		t.Errorf("%s samples were dropped", got)
	}
	// The directory stays when the process that sees it has ended.
	root, err := os.Open(inside(a.process, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	a.signal(syscall.SIGTERM)
	if code := a.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	samples, repeated, _, complaints := receiver.settle()
	for _, c := range complaints[:min(20, len(complaints))] {
		t.Error(c)
	}
	if repeated != 0 {
		t.Errorf("%d samples came twice", repeated)
	}
	got := executed(t, "wal", "verify", fmt.Sprintf("/proc/%d/fd/%d/data", os.Getpid(), root.Fd()))
	found := regexp.MustCompile(`^sound; read \d+ segments of \d+ bytes with (\d+) samples, 1 positions\n$`).FindStringSubmatch(got.stdout)
	if got.code != 0 || found == nil {
		t.Fatalf("wal verify: %+v", got)
	}
	if n, err := strconv.Atoi(found[1]); err != nil || n < samples {
		t.Errorf("the log has %d samples, %d came", n, samples)
	}
}

// received is the number of samples that have come.
func (a *accountant) received() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

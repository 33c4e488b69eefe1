package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// onTmpfs gives the agent a small volume of its own for its log, which nobody
// else sees.
func (s *site) onTmpfs() {
	s.t.Helper()
	data := filepath.Join(s.dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		s.t.Fatal(err)
	}
	unshare := []string{"unshare", "-m"}
	if os.Getuid() != 0 {
		unshare = []string{"unshare", "-rm"}
	}
	s.command = append(unshare, "sh", "-c", `mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"`, data)
	if out, err := exec.Command(s.command[0], append(s.command[1:], "true")...).CombinedOutput(); err != nil {
		s.t.Fatalf("a tmpfs cannot be mounted; run it under test/netns: %v: %s", err, out)
	}
}

// inside is the path of what the agent sees in its data directory.
func (s *site) inside(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", s.agent.cmd.Process.Pid, filepath.Join(s.dir, "data", name))
}

// mount runs commands of mount and umount that change what the agent sees.
func (s *site) mount(script string) {
	s.t.Helper()
	argv := []string{"-t", fmt.Sprint(s.agent.cmd.Process.Pid), "-m", "sh", "-c", script, filepath.Join(s.dir, "data")}
	if os.Getuid() != 0 {
		argv = append([]string{"-U", "--preserve-credentials"}, argv...)
	}
	if out, err := exec.Command("nsenter", argv...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// failing waits until the agent says that its disk fails, or is well.
func (s *site) failing(want float64) {
	s.t.Helper()
	eventually(s.t, 20*time.Second, fmt.Sprintf("prom_agent_log_disk_failing is %v", want), func() error {
		if _, err := s.agent.get("/-/ready"); err != nil {
			s.t.Errorf("not ready: %v", err)
		}
		if got := s.agent.metric("prom_agent_log_disk_failing"); got != want {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
}

// fill takes the rest of the agent's volume, to the last byte.
func (s *site) fill() {
	s.t.Helper()
	f, err := os.Create(s.inside("ballast"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) empty() {
	s.t.Helper()
	if err := os.Remove(s.inside("ballast")); err != nil {
		s.t.Fatal(err)
	}
}

// The disk fills up while all is well, and an outage comes on top of it; and
// it fills up in an outage, and the receiver comes back before there is room.
func TestPrometheusGetsAllThroughAFullDisk(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		s.onTmpfs()
		s.startCentral()
		s.startAgent()
		s.scraped(2)
		s.failing(0)

		s.fill()
		s.failing(1)
		s.scraped(2)
		s.arrives(s.central, "", 20*time.Second)
		s.central.end(syscall.SIGKILL)
		s.scraped(4)
		s.failing(1)
		s.empty()
		s.failing(0)
		s.scraped(2)
		s.startCentral()
		s.arrives(s.central, "", 20*time.Second)

		s.central.end(syscall.SIGKILL)
		s.scraped(2)
		s.fill()
		s.failing(1)
		s.scraped(2)
		s.startCentral()
		s.arrives(s.central, "", 20*time.Second)
		s.empty()
		s.failing(0)
		s.scraped(1)
		s.arrives(s.central, "", 20*time.Second)
		s.liked(s.central)
	})
}

// The directory becomes read-only: a volume with files that are written to
// cannot be remounted so, but a mount over it makes every new file fail. The
// noise makes the log begin new ones.
func TestPrometheusGetsAllThroughAReadOnlyDisk(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		s.flags = []string{"--storage.agent.retention.max-size=1MB"}
		s.add(newNoisy(t))
		s.onTmpfs()
		s.startCentral()
		s.startAgent()
		s.scraped(2)
		s.failing(0)

		s.mount(`mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"`)
		s.failing(1)
		s.scraped(2)
		s.arrives(s.central, "", 20*time.Second)
		s.central.end(syscall.SIGKILL)
		s.scraped(2)
		s.startCentral()
		s.arrives(s.central, "", 20*time.Second)
		s.failing(1)
		if b, err := os.ReadFile(s.agent.log); err != nil || !bytes.Contains(b, []byte(syscall.EROFS.Error())) {
			t.Errorf("%q is not logged (%v)", syscall.EROFS.Error(), err)
		}
		s.mount(`umount "$0"`)
		s.failing(0)
		s.scraped(2)
		s.arrives(s.central, "", 20*time.Second)
		s.liked(s.central)
	})
}

package waltest

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"promagent/wal"
)

var _ wal.FS = (*FS)(nil)

func create(t *testing.T, m *FS, name string) wal.File {
	t.Helper()
	f, err := m.OpenRW(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCrashKeepsWhatWasSyncedAndSomeOfTheRest(t *testing.T) {
	tails := map[int]bool{}
	present, renamed := 0, 0
	const rounds = 200
	for seed := range uint64(rounds) {
		m := New()
		must(t, m.MkdirAll("/d"))
		f := create(t, m, "/d/a")
		_, err := f.WriteAt([]byte("synced"), 0)
		must(t, err)
		must(t, f.Sync())
		must(t, m.SyncDir("/d"))
		_, err = f.WriteAt([]byte("tail"), 6)
		must(t, err)
		g := create(t, m, "/d/b")
		must(t, g.Sync())
		must(t, m.Rename("/d/a", "/d/c"))

		after := m.Crash(seed)
		if err := m.SyncDir("/d"); !errors.Is(err, ErrCrashed) {
			t.Fatalf("the crashed file system still works: %v", err)
		}
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, ErrCrashed) {
			t.Fatalf("a file of the crashed file system still works: %v", err)
		}
		b, err := after.ReadFile("/d/a")
		if err != nil {
			renamed++
			b, err = after.ReadFile("/d/c")
			must(t, err)
		} else if _, err := after.ReadFile("/d/c"); err == nil {
			t.Fatal("a file has its old and its new name")
		}
		rest, ok := strings.CutPrefix(string(b), "synced")
		if !ok || !strings.HasPrefix("tail", rest) {
			t.Fatalf("seed %d: got %q", seed, b)
		}
		tails[len(rest)] = true
		if _, err := after.ReadFile("/d/b"); err == nil {
			present++
		}
	}
	if len(tails) != 5 {
		t.Errorf("tails of %d lengths, want 5", len(tails))
	}
	for what, n := range map[string]int{"created": present, "renamed": renamed} {
		if n < rounds/4 || n > rounds*3/4 {
			t.Errorf("%s files survived %d of %d times", what, n, rounds)
		}
	}
}

func TestFailedSyncIsNotMadeGoodByALaterOne(t *testing.T) {
	lost := 0
	for i := range 50 {
		m := New()
		f := create(t, m, "/a")
		must(t, m.SyncDir("/"))
		for range i {
			m.rng.Uint64() // another outcome each time
		}
		_, err := f.WriteAt([]byte("bytes"), 0)
		must(t, err)
		m.FailOp(m.Ops(), syscall.EIO)
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("got %v, want EIO", err)
		}
		must(t, f.Sync())
		b, err := m.ReadFile("/a")
		must(t, err)
		if string(b) != "bytes" {
			t.Fatalf("a running process reads %q", b)
		}
		if b, err = m.Crash(1).ReadFile("/a"); err != nil || string(b) != "bytes" {
			lost++
		}
	}
	if lost == 0 || lost == 50 {
		t.Errorf("lost %d of 50 times", lost)
	}
}

func TestOperationsFailAsTold(t *testing.T) {
	m := New()
	f := create(t, m, "/a")
	m.FailOp(m.Ops(), syscall.ENOSPC)
	n, err := f.WriteAt([]byte("123456"), 0)
	if n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("short write: got %d, %v", n, err)
	}
	m.SetFault(nil)
	m.SetCapacity(5)
	if n, err := f.WriteAt([]byte("3456"), 3); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full: got %d, %v", n, err)
	}
	if n, err := f.WriteAt([]byte("abcde"), 0); n != 5 || err != nil {
		t.Errorf("in place on a full disk: got %d, %v", n, err)
	}
	if free, total, err := m.Free("/"); free != 0 || total != 5 || err != nil {
		t.Errorf("free: got %d of %d, %v", free, total, err)
	}
	m.SetQuota(m.Used() + 1)
	if n, err := f.WriteAt([]byte("fgh"), 5); n != 1 || !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("over quota: got %d, %v", n, err)
	}
	if free, total, err := m.Free("/"); free < 1<<30 || total < 1<<30 || err != nil {
		t.Errorf("free, with a quota: got %d of %d, %v", free, total, err)
	}
	m.SetCapacity(0)
	m.SetReadOnly(true)
	if _, err := m.OpenRW("/b"); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "/b") {
		t.Errorf("read-only: got %v", err)
	}
	m.SetReadOnly(false)
	must(t, f.Close())
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second close: got %v", err)
	}
	if _, err := m.Create("/a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create: got %v", err)
	}
	if _, err := m.Open("/missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: got %v", err)
	}
	if n := m.OpenFiles(); n != 0 {
		t.Errorf("%d files open, want 0", n)
	}
}

func TestKilledProcessLeavesAllItWrote(t *testing.T) {
	m := New()
	f := create(t, m, "/a")
	_, err := f.WriteAt([]byte("bytes"), 0)
	must(t, err)
	after := m.Kill()
	if b, err := after.ReadFile("/a"); err != nil || string(b) != "bytes" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, ErrCrashed) {
		t.Errorf("the dead process writes: %v", err)
	}
}

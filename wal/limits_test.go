package wal_test

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

func TestFullDiskTakesTheNewestAndTheOldestGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		disk.SetCapacity(64 << 10)
		r := start(t, disk, wal.Options{SyncInterval: time.Second, MaxBytes: 1 << 40, FreePercent: 1e-9, MemoryBytes: 16 << 10})
		c := r.log.Cursor("slow")
		c.Set(r.mustAppend(1, 1000), nil)
		time.Sleep(time.Second)
		const last = 120 // 250 kB
		refused := 0
		for n := 2; n <= last; n++ {
			if _, err := r.append(n, 1000); errors.Is(err, wal.ErrNotOnDisk) {
				refused++
			} else if err != nil {
				t.Fatalf("append %d: %v", n, err)
			}
			if n%5 == 0 {
				r.age(3 * time.Hour)
			}
			time.Sleep(time.Second)
		}
		st := r.log.Stats()
		for range 20 { // the last may wait for retention to make room
			if !st.NotOnDisk && st.MemoryBytes == 0 {
				break
			}
			time.Sleep(time.Second)
			st = r.log.Stats()
		}
		got := r.mustRead()
		if !ascending(got) || got[len(got)-1] != last || len(got) < 20 {
			t.Errorf("read %v", got)
		}
		if !slices.Equal(got, numbers(got[0], last)) {
			t.Errorf("read %v: something in the middle is missing", got)
		}
		if st.NotOnDisk || st.MemoryBytes != 0 || st.DroppedUnwritten != 0 || st.Truncations == 0 || st.WritesFailed == 0 || refused > 60 {
			t.Errorf("%d appends were told that the disk is full; %+v", refused, st)
		}
		r.mustStop()
		r = start(t, disk, wal.Options{SyncInterval: time.Second})
		if again := r.mustRead(); !slices.Equal(again, got) {
			t.Errorf("after a start: read %v, want %v", again, got)
		}
		r.mustStop()
	})
}

func TestSlowCursorLearnsWhatRetentionTook(t *testing.T) {
	const last = 200
	for name, o := range map[string]wal.Options{
		"size":        {MaxBytes: 64 << 10},
		"size in %":   {MaxPercent: 25},
		"full volume": {FreePercent: 75},
		"age":         {MaxAge: 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const capacity = 256 << 10
				disk := waltest.New()
				disk.SetCapacity(capacity)
				o.SyncInterval = time.Second
				r := start(t, disk, o)
				c := r.log.Cursor("slow")
				for n := 1; n <= last; n++ {
					pos := r.mustAppend(n, 400)
					if n == 3 {
						c.Set(pos, nil) // the first two groups are done
					}
					if n%5 == 0 {
						r.age(3 * time.Hour)
						time.Sleep(2 * time.Second)
					}
				}
				low, _, _ := c.Load()
				got, _, err := r.read(low)
				if err != nil {
					t.Fatal(err)
				}
				if len(got) == 0 || !slices.Equal(got, numbers(got[0], last)) || got[0] <= 6 {
					t.Fatalf("read %v", got)
				}
				before, ok := r.log.SamplesBefore(r.log.Next(low).Segment)
				if lost, want := before-4, uint64(2*(got[0]-3)); !ok || lost != want {
					t.Errorf("the cursor has lost %d samples, want %d", lost, want)
				}
				switch st := r.log.Stats(); {
				case name == "age" && len(got) != 35: // the eighth segment is 24 h and some seconds old
					t.Errorf("%d groups are left", len(got))
				case name != "age" && (st.Bytes > 68<<10 || st.Bytes < 32<<10):
					t.Errorf("the log has %d bytes", st.Bytes)
				}
				if n := len(disk.Names()); n > 1+r.log.Stats().Segments {
					t.Errorf("%d files of %d segments", n, r.log.Stats().Segments)
				}
				r.mustStop()
			})
		})
	}
}

func TestSegmentsThatEverybodyHasAreDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		r := start(t, disk, wal.Options{SyncInterval: time.Hour})
		fast, slow := r.log.Cursor("fast"), r.log.Cursor("slow")
		var at []wal.Pos
		for n := 1; n <= 4; n++ {
			at = append(at, r.mustAppend(n, 10))
			r.age(3 * time.Hour)
		}
		fast.Set(at[3], nil)
		slow.Set(at[1], nil)
		time.Sleep(2 * time.Second)
		r.wantRead(numbers(2, 4))
		// Just before retention deletes what the slow one no longer needs, the
		// process may die: its position must be in its file by then.
		slow.Set(at[3], []byte("there"))
		var saved bool
		name := ""
		disk.SetFault(func(op waltest.Op) *waltest.Fault {
			switch {
			case op.Kind == waltest.Write && strings.Contains(op.Name, ".cur"):
				saved = true
			case op.Kind == waltest.Remove && strings.HasSuffix(op.Name, ".seg") && !saved:
				name = op.Name
			}
			return nil
		})
		time.Sleep(2 * time.Second)
		disk.SetFault(nil)
		if !saved || name != "" {
			t.Errorf("position saved: %v; deleted before that: %q", saved, name)
		}
		r.wantRead([]int{4})
		r.mustStop()
	})
}

func TestLimitHoldsFromTheStart(t *testing.T) {
	disk := waltest.New()
	disk.SetCapacity(1 << 20)
	for _, c := range []struct {
		o    wal.Options
		want int64
	}{
		{wal.Options{MaxBytes: 1000}, 1000},
		{wal.Options{MaxPercent: 50}, 1 << 19},
		{wal.Options{MaxPercent: 50, MaxBytes: 1000}, 1000},
	} {
		c.o.FS, c.o.NoLock = disk, true
		l, err := wal.Open(dataDir, c.o)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Stats().LimitBytes; got != c.want {
			t.Errorf("%+v: the limit is %d, want %d", c.o, got, c.want)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDirectoryThatTakesNoFilesIsNamed(t *testing.T) {
	disk := waltest.New()
	disk.SetReadOnly(true)
	_, err := wal.Open(dataDir, wal.Options{FS: disk, NoLock: true})
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), dataDir) {
		t.Errorf("read-only: got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := wal.Open(file, wal.Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file in its place: got %v", err)
	}
	lock := filepath.Join(t.TempDir(), "lock")
	if err := os.Mkdir(lock, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := wal.Open(filepath.Dir(lock), wal.Options{}); err == nil || !strings.Contains(err.Error(), lock) {
		t.Errorf("a lock file that cannot be made: got %v", err)
	}
}

const holdEnv = "PROMAGENT_WAL_TEST_HOLD"

// TestMain lets the test binary be the other process that holds a lock.
func TestMain(m *testing.M) {
	dir := os.Getenv(holdEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := wal.Open(dir, wal.Options{}); err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("held\n")
	io.Copy(io.Discard, os.Stdin) // until it is killed
}

func TestLockOfAnotherProcessIsNamed(t *testing.T) {
	dir := t.TempDir()
	open := func(want int) {
		t.Helper()
		l, err := wal.Open(dir, wal.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Stats().CleanStart; got != want {
			t.Errorf("clean start is %d, want %d", got, want)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, "lock")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the lock file after a clean end: %v", err)
		}
	}
	open(1)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command(exe)
	other.Env = append(os.Environ(), holdEnv+"="+dir)
	in, err := other.StdinPipe()
	out, oerr := other.StdoutPipe()
	if err = errors.Join(err, oerr, other.Start()); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = wal.Open(dir, wal.Options{})
	if err == nil || !strings.Contains(err.Error(), "lock DB directory") || !strings.Contains(err.Error(), filepath.Join(dir, "lock")) {
		t.Errorf("got %v", err)
	}
	l, err := wal.Open(dir, wal.Options{NoLock: true})
	if err != nil {
		t.Fatalf("without lock: %v", err)
	}
	if got := l.Stats().CleanStart; got != -1 {
		t.Errorf("clean start is %d without lock, want -1", got)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // killed
	open(0)
	open(1)
}

func TestOneHolderOfTheLockAtATime(t *testing.T) {
	dir := t.TempDir()
	var holders, opened atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				l, err := wal.Open(dir, wal.Options{FS: waltest.New()})
				if err != nil {
					if !strings.Contains(err.Error(), "another process") {
						t.Errorf("open: %v", err)
					}
					continue
				}
				if holders.Add(1) != 1 {
					t.Error("two logs hold the lock")
				}
				opened.Add(1)
				holders.Add(-1)
				if err := l.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if opened.Load() == 0 {
		t.Error("nobody got the lock")
	}
}

package wal_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

// outcome is what a run of the script promised.
type outcome struct {
	appended []int // taken, on disk or not
	written  []int // Append said that they are on disk
	saved    int   // the group that the cursor was last set to, 0: none
	stopped  error
}

// script opens a log, appends, rolls to further segments, saves a cursor, lets
// retention delete, and closes. An error means that Open failed.
func script(t *testing.T, disk *waltest.FS, o wal.Options) (out outcome, err error) {
	t.Helper()
	r, err := tryStart(t, disk, o)
	if err != nil {
		return out, err
	}
	cursor := r.log.Cursor("remote")
	var got []int
	var at wal.Pos
	for n := 1; n <= 12; n++ {
		pos, err := r.append(n, 40)
		switch {
		case err == nil:
			out.written = append(out.written, n)
		case !errors.Is(err, wal.ErrNotOnDisk):
			t.Fatalf("append %d: %v", n, err)
		}
		out.appended = append(out.appended, n)
		if n%4 == 0 {
			cursor.Set(pos, fmt.Append(nil, "state ", n))
			out.saved = n
			time.Sleep(1100 * time.Millisecond) // cursors and retention have their turn
		}
		if n%3 == 0 {
			r.age(3 * time.Hour) // the segment ends by age
		}
		for range 2 { // one read may fail
			var more []int
			more, at, err = r.read(at)
			got = append(got, more...)
			if err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("read after append %d: %v", n, err)
		}
		if !slices.Equal(got, out.appended) {
			t.Fatalf("after append %d: read %v", n, got)
		}
	}
	out.stopped = r.stop()
	return out, nil
}

// checkAfter opens the log again and holds it to what was promised.
func checkAfter(t *testing.T, disk *waltest.FS, out outcome, promised []int) {
	t.Helper()
	r := start(t, disk, wal.Options{SyncInterval: time.Second})
	defer r.mustStop()
	cursor := r.log.Cursor("remote")
	low, state, ok := cursor.Load()
	from := 0
	if ok {
		if _, err := fmt.Sscanf(string(state), "state %d", &from); err != nil {
			t.Fatalf("the cursor's state is %q", state)
		}
	}
	if from > out.saved {
		t.Fatalf("the cursor is at %d, it was set to %d", from, out.saved)
	}
	r.mustAppend(100, 10)
	got, _, err := r.read(low)
	if err != nil {
		t.Fatal(err)
	}
	if !ascending(got) {
		t.Fatalf("read %v", got)
	}
	for _, n := range append(slices.Clone(promised), 100) {
		if n >= max(from, out.saved) && !slices.Contains(got, n) {
			t.Fatalf("group %d is lost: read %v from %d on", n, got, from)
		}
	}
}

func TestAnyFailedOperationLosesNothing(t *testing.T) {
	type variant struct {
		name  string
		err   error
		o     wal.Options
		crash bool
	}
	for _, v := range []variant{
		{"EIO", syscall.EIO, wal.Options{SyncInterval: 500 * time.Millisecond}, false},
		{"ENOSPC", syscall.ENOSPC, wal.Options{SyncInterval: 500 * time.Millisecond}, false},
		{"EIO and power loss", syscall.EIO, wal.Options{}, true},
	} {
		t.Run(v.name, func(t *testing.T) {
			ops := 0
			synctest.Test(t, func(t *testing.T) {
				disk := waltest.New()
				out, err := script(t, disk, v.o)
				if err = errors.Join(err, out.stopped); err != nil {
					t.Fatal(err)
				}
				ops = disk.Ops()
				if n := disk.OpenFiles(); n != 0 {
					t.Fatalf("%d files are open after the end", n)
				}
				checkAfter(t, disk, out, out.appended)
			})
			if ops < 50 {
				t.Fatalf("the script takes %d operations only", ops)
			}
			for i := range ops {
				synctest.Test(t, func(t *testing.T) {
					defer func() {
						if t.Failed() {
							t.Logf("operation %d failed", i)
						}
					}()
					disk := waltest.New()
					disk.FailOp(i, v.err)
					out, err := script(t, disk, v.o)
					disk.SetFault(nil)
					if err != nil && (!errors.Is(err, v.err) || !strings.Contains(err.Error(), dataDir)) {
						t.Fatalf("open: %v", err)
					}
					if n := disk.OpenFiles(); n != 0 {
						t.Fatalf("%d files are open after the end", n)
					}
					promised := out.appended
					if out.stopped != nil {
						promised = out.written
					}
					if v.crash {
						promised = out.written
						disk = disk.Crash(uint64(i))
					}
					checkAfter(t, disk, out, promised)
				})
			}
		})
	}
}

func TestOneFailedOperationOnAnOldLogLosesNothing(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.EMFILE, syscall.ENOSPC} {
		old, _, at := twoSegments(t)
		run := func(t *testing.T, fail int) (ops int) {
			disk := with(t, old, "", nil)
			if fail >= 0 {
				disk.FailOp(fail, fault)
			}
			want := numbers(1, 8)
			r, err := tryStart(t, disk, wal.Options{SyncInterval: time.Second})
			if err == nil {
				got, _, err := r.read(wal.Pos{})
				if err != nil {
					got, _, err = r.read(wal.Pos{})
				}
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("read %v, %v", got, err)
				}
				if _, err := r.append(9, 10); err != nil && !errors.Is(err, wal.ErrNotOnDisk) {
					t.Fatalf("append: %v", err)
				}
				cursorOf(t, r.log, "remote").Set(at[3], []byte("newest"))
				time.Sleep(2 * time.Second)
				if r.stop() == nil {
					want = append(want, 9)
				}
			} else if !errors.Is(err, fault) || !strings.Contains(err.Error(), dataDir) {
				t.Fatalf("open: %v", err)
			}
			ops = disk.Ops()
			disk.SetFault(nil)
			if n := disk.OpenFiles(); n != 0 {
				t.Fatalf("%d files are open after the end", n)
			}
			again := look(t, disk)
			if got := again.mustRead(); !slices.Equal(got[:min(len(got), len(want))], want) {
				t.Fatalf("read %v, want %v", got, want)
			}
			if low, state, _ := cursorOf(t, again.log, "remote").Load(); low != at[2] && low != at[3] {
				t.Fatalf("the cursor is at %v, %q", low, state)
			}
			return ops
		}
		ops := 0
		synctest.Test(t, func(t *testing.T) { ops = run(t, -1) })
		for i := range ops {
			synctest.Test(t, func(t *testing.T) {
				defer func() {
					if t.Failed() {
						t.Logf("operation %d failed with %v", i, fault)
					}
				}()
				run(t, i)
			})
		}
	}
}

// broken fails every operation of the given kinds.
func broken(err error, kinds ...waltest.Kind) func(waltest.Op) *waltest.Fault {
	return func(op waltest.Op) *waltest.Fault {
		if slices.Contains(kinds, op.Kind) {
			return &waltest.Fault{Err: err, Written: op.Len / 3}
		}
		return nil
	}
}

func TestEndOfLogIsKeptInMemoryAndCaughtUp(t *testing.T) {
	for name, kinds := range map[string][]waltest.Kind{
		"writes": {waltest.Write}, "creates": {waltest.OpenRW}, "syncs": {waltest.Sync}, "directory syncs": {waltest.SyncDir},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := waltest.New()
				r := start(t, disk, wal.Options{})
				r.mustAppend(1, 10)
				r.age(3 * time.Hour)
				disk.SetFault(broken(syscall.EIO, kinds...))
				for n := 2; n <= 20; n++ {
					if _, err := r.append(n, 10); !errors.Is(err, wal.ErrNotOnDisk) {
						t.Fatalf("append %d: got %v, want ErrNotOnDisk", n, err)
					}
					if n%7 == 0 {
						r.age(3 * time.Hour)
					}
				}
				if st := r.log.Stats(); !st.NotOnDisk || st.MemoryBytes == 0 || st.WritesFailed == 0 {
					t.Errorf("while the disk fails: %+v", st)
				}
				r.wantRead(numbers(1, 20))
				disk.SetFault(nil)
				time.Sleep(10 * time.Second)
				if st := r.log.Stats(); st.NotOnDisk || st.MemoryBytes != 0 || st.DroppedUnwritten != 0 {
					t.Errorf("after the disk works again: %+v", st)
				}
				r.mustAppend(21, 10)
				r.wantRead(numbers(1, 21))
				r.mustStop()
				r = start(t, disk.Crash(1), wal.Options{})
				r.wantRead(numbers(1, 21))
				r.mustStop()
			})
		})
	}
}

func TestMemoryBoundDropsTheOldestUnwrittenAndCountsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const memory = 64 << 10
		disk := waltest.New()
		r := start(t, disk, wal.Options{SyncInterval: time.Second, MemoryBytes: memory})
		for n := range 5 {
			r.mustAppend(n, 1000)
		}
		disk.SetFault(broken(syscall.EIO, waltest.Write))
		unwritten := r.log.End()
		var dropped []wal.Header
		for n := 5; n < 200; n++ {
			if _, err := r.append(n, 1000); !errors.Is(err, wal.ErrNotOnDisk) {
				t.Fatalf("append %d: %v", n, err)
			}
			if m := r.log.Stats().MemoryBytes; m > memory {
				t.Fatalf("%d bytes in memory, the bound is %d", m, memory)
			}
			if n == 5 {
				if dropped, _, _ = r.log.Scan(nil, unwritten, wal.Pos{}, 0); len(dropped) != 2 {
					t.Fatalf("%d frames from %v on", len(dropped), unwritten)
				}
			}
		}
		for _, h := range dropped {
			if _, err := r.log.Read(h, nil); !errors.Is(err, wal.ErrGone) {
				t.Errorf("read of a frame that was dropped: %v", err)
			}
			if _, err := r.log.HeaderAt(h.Pos); !errors.Is(err, wal.ErrGone) {
				t.Errorf("header of a frame that was dropped: %v", err)
			}
		}
		got := r.mustRead()
		if !ascending(got) || got[len(got)-1] != 199 || !slices.Equal(got[:5], numbers(0, 4)) {
			t.Fatalf("read %v: not what was written and the newest", got)
		}
		st := r.log.Stats()
		if want := uint64(2 * (200 - len(got))); st.DroppedUnwritten != want {
			t.Errorf("%d samples counted as dropped, %d are missing", st.DroppedUnwritten, want)
		}
		disk.SetFault(nil)
		time.Sleep(10 * time.Second)
		r.wantRead(got)
		r.mustAppend(200, 10)
		r.mustStop()
		r = start(t, disk, wal.Options{SyncInterval: time.Second})
		r.wantRead(append(got, 200))
		r.mustStop()
	})
}

// stuck is a disk whose writes, to files of some name, hang.
type stuck struct {
	*waltest.FS
	opens   bool          // it is opening for writing that hangs
	suffix  string        // of the names; "": all files
	entered chan struct{} // told, when not nil, that a write hangs

	mu   sync.Mutex
	gate chan struct{} // nil: open
}

type stuckFile struct {
	wal.File
	disk *stuck
}

func (d *stuck) Create(name string) (wal.File, error) { return d.wrap(name, d.FS.Create) }
func (d *stuck) OpenRW(name string) (wal.File, error) { return d.wrap(name, d.FS.OpenRW) }

func (d *stuck) wrap(name string, open func(string) (wal.File, error)) (wal.File, error) {
	if d.opens {
		d.wait()
		return open(name)
	}
	f, err := open(name)
	if err != nil || !strings.HasSuffix(name, d.suffix) {
		return f, err
	}
	return stuckFile{f, d}, nil
}

func (f stuckFile) WriteAt(b []byte, off int64) (int, error) {
	f.disk.wait()
	return f.File.WriteAt(b, off)
}

// wait waits while the disk hangs.
func (d *stuck) wait() {
	d.mu.Lock()
	gate := d.gate
	d.mu.Unlock()
	if gate == nil {
		return
	}
	if d.entered != nil {
		select {
		case d.entered <- struct{}{}:
		default:
		}
	}
	<-gate
}

func (d *stuck) hang() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gate := make(chan struct{})
	d.gate = gate
	return func() {
		d.mu.Lock()
		d.gate = nil
		d.mu.Unlock()
		close(gate)
	}
}

func TestDiskThatHangsFillsMemoryToItsBoundOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const memory = 64 << 10
		disk := &stuck{FS: waltest.New()}
		r := start(t, disk, wal.Options{SyncInterval: time.Second, MemoryBytes: memory})
		r.mustAppend(0, 1000)
		release := disk.hang()
		for n := 1; n < 200; n++ {
			began := time.Now()
			if _, err := r.append(n, 1000); !errors.Is(err, wal.ErrNotOnDisk) {
				t.Fatalf("append %d: %v", n, err)
			}
			if took := time.Since(began); took > time.Second {
				t.Fatalf("append %d took %v", n, took)
			}
			if m := r.log.Stats().MemoryBytes; m > memory {
				t.Fatalf("%d bytes in memory, the bound is %d", m, memory)
			}
		}
		release()
		time.Sleep(10 * time.Second)
		got := r.mustRead()
		if !ascending(got) || got[0] != 0 || got[len(got)-1] != 199 {
			t.Errorf("read %v", got)
		}
		if st := r.log.Stats(); st.DroppedUnwritten != uint64(2*(200-len(got))) {
			t.Errorf("%d samples dropped, %d groups read", st.DroppedUnwritten, len(got))
		}
		r.mustStop()
		if n := disk.OpenFiles(); n != 0 {
			t.Errorf("%d files are open after the end", n)
		}
		r = start(t, disk, wal.Options{SyncInterval: time.Second})
		r.wantRead(got)
		r.mustStop()
	})
}

func TestSegmentDeletedWhileItsFileIsMadeLeavesNoFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuck{FS: waltest.New(), opens: true}
		release := disk.hang()
		r := start(t, disk, wal.Options{SyncInterval: time.Second, MaxAge: 4 * time.Hour})
		for n := 1; n <= 3; n++ { // each in a segment
			if _, err := r.append(n, 10); !errors.Is(err, wal.ErrNotOnDisk) {
				t.Fatalf("append %d: got %v, want ErrNotOnDisk", n, err)
			}
			r.age(3 * time.Hour)
		}
		time.Sleep(2 * time.Second)
		release()
		time.Sleep(2 * time.Second)
		r.wantRead([]int{3})
		if names, n := disk.Names(), r.log.Stats().Segments; len(names) != n {
			t.Errorf("files %v of %d segments", names, n)
		}
		r.mustAppend(4, 10)
		r.wantRead([]int{3, 4})
		r.mustStop()
		if n := disk.OpenFiles(); n != 0 {
			t.Errorf("%d files are open", n)
		}
	})
}

func TestNothingIsAddedToASegmentWhoseSyncFailed(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			disk := waltest.New()
			r := start(t, disk, wal.Options{SyncInterval: time.Second})
			time.Sleep(100 * time.Millisecond) // the header is written
			disk.SetFault(broken(syscall.EIO, waltest.Sync))
			time.Sleep(950 * time.Millisecond)
			disk.SetFault(nil)
			if n := r.log.Stats().SyncsFailed; n != 1 {
				t.Fatalf("%d syncs failed, want 1", n)
			}
			if _, err := r.append(1, 10); err != nil && !errors.Is(err, wal.ErrNotOnDisk) {
				t.Fatal(err) // ErrNotOnDisk: the writer has not tried again yet
			}
			if err := r.log.Sync(); err != nil {
				t.Fatal(err)
			}
			after := disk.Crash(seed)
			_ = r.stop() // fails: its disk is gone
			again := look(t, after)
			again.wantRead([]int{1})
		})
	}
}

package wal_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

// ill is a way in which a disk fails.
type ill struct {
	disk  wal.FS      // what the log writes to
	below *waltest.FS // where it ends
	begin func()
	end   func()
	state func(wal.Stats) bool // what is to be seen while it lasts
	makes bool                 // the newest gets room by the oldest
	loses bool                 // power loss takes what the failed sync was to store
}

func failing(s wal.Stats) bool { return s.NotOnDisk && s.WritesFailed > 0 && s.MemoryBytes > 0 }

// illDisks are the cells of the matrix, by the end of their tests' names.
var illDisks = map[string]func() ill{
	"Full": func() ill {
		d := waltest.New()
		return ill{d, d, func() { d.SetCapacity(d.Used() + 200) }, func() { d.SetCapacity(0) }, failing, true, false}
	},
	"Quota": func() ill {
		d := waltest.New()
		return ill{d, d, func() { d.SetQuota(d.Used() + 200) }, func() { d.SetQuota(0) }, failing, true, false}
	},
	"ReadOnly": func() ill {
		d := waltest.New()
		return ill{d, d, func() { d.SetReadOnly(true) }, func() { d.SetReadOnly(false) }, failing, false, false}
	},
	"EIOOnWrite": func() ill {
		d := waltest.New()
		return ill{d, d, func() { d.SetFault(broken(syscall.EIO, waltest.Write)) }, func() { d.SetFault(nil) }, failing, false, false}
	},
	"EIOOnFsync": func() ill {
		d := waltest.New()
		return ill{d, d, func() { d.SetFault(broken(syscall.EIO, waltest.Sync, waltest.SyncDir)) }, func() { d.SetFault(nil) },
			func(s wal.Stats) bool { return failing(s) && s.SyncsFailed > 0 }, false, true}
	},
	"SlowFsync": func() ill {
		d := &slow{FS: waltest.New()}
		return ill{d, d.FS, func() { d.takes.Store(int64(4 * time.Second)) }, func() { d.takes.Store(0) },
			func(wal.Stats) bool { return d.synced.Load() > 0 }, false, false}
	},
}

// slow is a disk whose syncs take a time.
type slow struct {
	*waltest.FS
	takes  atomic.Int64 // ns
	synced atomic.Int32 // syncs that took it
}

type slowFile struct {
	wal.File
	disk *slow
}

func (d *slow) Create(name string) (wal.File, error) { return d.wrap(d.FS.Create(name)) }
func (d *slow) OpenRW(name string) (wal.File, error) { return d.wrap(d.FS.OpenRW(name)) }

func (d *slow) wrap(f wal.File, err error) (wal.File, error) {
	if err != nil {
		return nil, err
	}
	return slowFile{f, d}, nil
}

func (f slowFile) Sync() error {
	if d := time.Duration(f.disk.takes.Load()); d > 0 {
		time.Sleep(d)
		f.disk.synced.Add(1)
	}
	return f.File.Sync()
}

// survive runs a log through a disk's illness: with what the memory holds
// nothing is lost, and beyond that the memory is bounded and the newest stays.
func survive(t *testing.T, name string) {
	for _, sync := range []time.Duration{0, time.Second} {
		t.Run("for a while, sync interval "+sync.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { surviveAWhile(t, illDisks[name](), sync) })
		})
	}
	t.Run("for long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { surviveLong(t, illDisks[name]()) })
	})
}

// takes appends a group, which must not take longer than a second nor be refused.
func (r *rig) takes(n, size int) {
	r.t.Helper()
	began := time.Now()
	if _, err := r.append(n, size); err != nil && !errors.Is(err, wal.ErrNotOnDisk) {
		r.t.Fatalf("append %d: %v", n, err)
	}
	if took := time.Since(began); took > time.Second {
		r.t.Fatalf("append %d took %v", n, took)
	}
}

func surviveAWhile(t *testing.T, d ill, sync time.Duration) {
	var longest atomic.Int64 // sync, ns
	r := start(t, d.disk, wal.Options{SyncInterval: sync, MaxBytes: 1 << 40, FreePercent: -1,
		ObserveSync: func(d time.Duration) { longest.Store(max(longest.Load(), int64(d))) }})
	for n := 1; n <= 10; n++ {
		r.mustAppend(n, 10)
	}
	time.Sleep(2 * time.Second)
	d.begin()
	seen := false
	for n := 11; n <= 60; n++ {
		r.takes(n, 100)
		if n%13 == 0 {
			r.age(3 * time.Hour) // the segment ends
		}
		time.Sleep(time.Second)
		r.wantRead(numbers(1, n))
		seen = seen || d.state(r.log.Stats())
	}
	if !seen {
		t.Errorf("the disk's state is not to be seen: %+v", r.log.Stats())
	}
	if s, ok := d.disk.(*slow); ok && longest.Load() < s.takes.Load() {
		t.Errorf("a sync took %v at most", time.Duration(longest.Load()))
	}
	d.end()
	time.Sleep(15 * time.Second)
	if st := r.log.Stats(); st.NotOnDisk || st.MemoryBytes != 0 || st.DroppedUnwritten != 0 || st.Truncations != 0 {
		t.Errorf("when the disk is well again: %+v", st)
	}
	r.mustAppend(61, 10)
	r.wantRead(numbers(1, 61))
	after := d.below.Kill
	if sync == 0 && !d.loses {
		after = func() *waltest.FS { return d.below.Crash(1) }
	}
	disk := after()
	_ = r.stop() // fails: its disk is gone
	r = start(t, disk, wal.Options{SyncInterval: time.Second})
	r.wantRead(numbers(1, 61))
	r.mustStop()
}

func surviveLong(t *testing.T, d ill) {
	const memory, last = 64 << 10, 200
	r := start(t, d.disk, wal.Options{SyncInterval: time.Second, MaxBytes: 1 << 40, FreePercent: -1, MemoryBytes: memory})
	for n := range 20 {
		r.mustAppend(n, 1000)
	}
	time.Sleep(2 * time.Second)
	d.begin()
	for n := 20; n <= last; n++ {
		r.takes(n, 1000)
		if m := r.log.Stats().MemoryBytes; m > memory {
			t.Fatalf("%d bytes in memory, the bound is %d", m, memory)
		}
		if n%20 == 0 {
			time.Sleep(6 * time.Second) // the writer has its turn
		}
	}
	got := r.mustRead()
	if !ascending(got) || got[len(got)-1] != last {
		t.Fatalf("read %v: not the newest, in order", got)
	}
	missing := uint64(2 * (last + 1 - len(got)))
	st := r.log.Stats()
	if !d.makes && st.DroppedUnwritten != missing || d.makes && (st.DroppedUnwritten > missing || st.DroppedUnwritten < missing && st.Truncations == 0) {
		t.Errorf("%d samples are missing: %+v", missing, st)
	}
	d.end()
	time.Sleep(15 * time.Second)
	r.wantRead(got)
	r.mustAppend(last+1, 10)
	if st := r.log.Stats(); st.NotOnDisk || st.MemoryBytes != 0 {
		t.Errorf("when the disk is well again: %+v", st)
	}
	r.mustStop()
	if n := d.below.OpenFiles(); n != 0 {
		t.Errorf("%d files are open", n)
	}
	r = start(t, d.below, wal.Options{SyncInterval: time.Second})
	again := r.mustRead() // and, it may be, what a write that failed had stored before it was dropped
	if kept := slices.DeleteFunc(slices.Clone(again), func(n int) bool { return n <= last && !slices.Contains(got, n) }); !ascending(again) || !slices.Equal(kept, append(got, last+1)) {
		t.Errorf("after a start: read %v, want %v and %d", again, got, last+1)
	}
	r.mustStop()
}

func TestFullDiskIsSurvived(t *testing.T)     { survive(t, "Full") }
func TestQuotaIsSurvived(t *testing.T)        { survive(t, "Quota") }
func TestReadOnlyDiskIsSurvived(t *testing.T) { survive(t, "ReadOnly") }
func TestEIOOnWriteIsSurvived(t *testing.T)   { survive(t, "EIOOnWrite") }
func TestEIOOnFsyncIsSurvived(t *testing.T)   { survive(t, "EIOOnFsync") }
func TestSlowFsyncIsSurvived(t *testing.T)    { survive(t, "SlowFsync") }

package wal_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

func TestNothingIsWrittenAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		l, err := wal.Open(dataDir, wal.Options{FS: disk, NoLock: true})
		if err != nil {
			t.Fatal(err)
		}
		// Nobody runs the log: what is appended stays in memory.
		if _, err := l.Append(l.Segment(), group(1, 10), nil); !errors.Is(err, wal.ErrNotOnDisk) {
			t.Fatalf("append: got %v, want ErrNotOnDisk", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		ops := disk.Ops()
		if err := l.Sync(); err == nil {
			t.Error("a closed log syncs")
		}
		if _, err := l.Append(l.Segment(), group(2, 10), nil); err == nil || errors.Is(err, wal.ErrNotOnDisk) || errors.Is(err, wal.ErrSegment) {
			t.Errorf("append to a closed log: got %v", err)
		}
		if n := disk.Ops() - ops; n != 0 {
			t.Errorf("%d operations after Close", n)
		}
		if err := l.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestCloseWakesWhoWaitsForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := wal.Open(dataDir, wal.Options{FS: waltest.New(), NoLock: true})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := l.Append(l.Segment(), group(1, 10), nil); !errors.Is(err, wal.ErrNotOnDisk) {
				t.Errorf("append: got %v, want ErrNotOnDisk", err)
			}
		})
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("the append has waited for %v", took)
		}
	})
}

func TestCloseWaitsForAWriteThatIsUnderWay(t *testing.T) {
	disk := &stuck{FS: waltest.New(), entered: make(chan struct{}, 1)}
	r := start(t, disk, wal.Options{SyncInterval: time.Hour})
	r.mustAppend(1, 10)
	release := disk.hang()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.append(2, 10); err != nil && !errors.Is(err, wal.ErrNotOnDisk) {
			t.Errorf("append: %v", err)
		}
	})
	<-disk.entered
	closed := make(chan error, 1)
	go func() { closed <- r.stop() }()
	select {
	case err := <-closed:
		t.Errorf("closed while a write was under way: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	wg.Wait()
	if n := disk.OpenFiles(); n != 0 {
		t.Errorf("%d files are open", n)
	}
	again := look(t, disk)
	again.wantRead([]int{1, 2})
}

func TestEndedSegmentsAreClosed(t *testing.T) {
	for _, interval := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			disk := waltest.New()
			r := start(t, disk, wal.Options{SyncInterval: interval})
			for n := range 20 {
				r.mustAppend(n, 10)
				r.age(3 * time.Hour)
				if n == 10 {
					disk.SetFault(broken(errors.New("broken"), waltest.Sync))
					time.Sleep(2 * time.Second)
					disk.SetFault(nil)
					time.Sleep(10 * time.Second)
				}
			}
			time.Sleep(10 * time.Second)
			if n := disk.OpenFiles(); n > 2 { // of the active segment, and perhaps of the last
				t.Errorf("interval %v: %d files are open", interval, n)
			}
			r.mustStop()
			r = start(t, disk, wal.Options{})
			r.wantRead(numbers(0, 19))
			r.mustStop()
		})
	}
}

// TestManyUseTheLogWhileItEnds is of use with the race detector above all.
func TestManyUseTheLogWhileItEnds(t *testing.T) {
	for range 5 {
		disk := waltest.New()
		r := start(t, disk, wal.Options{SyncInterval: time.Millisecond, MaxBytes: 50 << 10})
		var wg sync.WaitGroup
		var taken, over atomic.Int32
		for range 3 {
			wg.Go(func() {
				for over.Load() == 0 {
					n := int(taken.Add(1))
					_, err := r.log.Append(r.log.Segment(), group(n, 100), nil)
					switch {
					case err == nil, errors.Is(err, wal.ErrNotOnDisk), errors.Is(err, wal.ErrSegment):
					default:
						if over.Load() == 0 {
							t.Errorf("append: %v", err)
						}
						return
					}
				}
			})
		}
		for i := range 2 {
			wg.Go(func() {
				c := r.log.Cursor(fmt.Sprint(i))
				var at wal.Pos
				for over.Load() == 0 {
					_, end, err := r.read(at)
					if err != nil && over.Load() == 0 {
						t.Errorf("read: %v", err)
						return
					}
					at = end
					c.Set(at, nil)
					r.log.Stats()
				}
			})
		}
		wg.Go(func() {
			for over.Load() == 0 {
				if err := r.log.Sync(); err != nil && over.Load() == 0 {
					t.Errorf("sync: %v", err)
				}
			}
		})
		wg.Go(func() {
			for over.Load() == 0 {
				r.log.Retain()
			}
		})
		for taken.Load() < 1000 {
			<-r.log.Changed()
		}
		over.Store(1)
		if err := r.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		wg.Wait()
		if got, most := len(disk.Names()), r.log.Stats().Segments+len(cursorFiles(disk)); got > most {
			t.Errorf("%d files, want %d at most", got, most) // of the last segment there may be none
		}
		if st := r.log.Stats(); st.SyncsFailed+st.WritesFailed+st.TruncationsFailed+st.Corruptions+st.DroppedUnwritten != 0 || st.Truncations == 0 {
			t.Errorf("%+v", st)
		}
	}
}

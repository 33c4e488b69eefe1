package wal_test

import (
	"errors"
	"fmt"
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

func cursorOf(t *testing.T, l *wal.Log, name string) *wal.Cursor {
	t.Helper()
	c := l.Cursor(name)
	return c
}

// stateOf is what a new process finds of a cursor; "" when nothing.
func stateOf(t *testing.T, disk *waltest.FS, name string) string {
	t.Helper()
	_, state, _ := cursorOf(t, look(t, disk).log, name).Load()
	return string(state)
}

func cursorFiles(disk *waltest.FS) (names []string) {
	for _, n := range disk.Names() {
		if filepath.Base(filepath.Dir(n)) == "cursors" {
			names = append(names, filepath.Base(n))
		}
	}
	return names
}

func TestLookingAtALogChangesNothing(t *testing.T) {
	disk, _, _ := twoSegments(t)
	before := disk.Names()
	disk.SetFault(func(op waltest.Op) *waltest.Fault {
		switch op.Kind {
		case waltest.Create, waltest.OpenRW, waltest.Remove, waltest.Rename, waltest.Write:
			t.Errorf("%s %s", op.Kind, op.Name)
		}
		return nil
	})
	r := look(t, disk)
	r.wantRead(numbers(1, 8))
	if _, state, ok := cursorOf(t, r.log, "remote").Load(); !ok || string(state) != "newer" {
		t.Errorf("cursor: got %q, %v", state, ok)
	}
	cursorOf(t, r.log, "another")
	if err := r.log.Close(); err != nil {
		t.Error(err)
	}
	if after := disk.Names(); !slices.Equal(after, before) {
		t.Errorf("files %v, there were %v", after, before)
	}
}

func TestCursorIsWrittenInPlaceUntilItsStateGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		r := start(t, disk, wal.Options{SyncInterval: time.Second})
		pos := r.mustAppend(1, 10)
		c := cursorOf(t, r.log, "remote")
		c.Set(pos, []byte("first"))
		time.Sleep(time.Second)
		var made atomic.Int32
		disk.SetFault(func(op waltest.Op) *waltest.Fault {
			if op.Kind == waltest.Create {
				made.Add(1)
			}
			return nil
		})
		for i := range 50 {
			c.Set(pos, fmt.Append(nil, i))
			time.Sleep(time.Second)
		}
		if n := made.Load(); n != 0 {
			t.Errorf("%d files made for states that fit", n)
		}
		large := strings.Repeat("x", 10_000)
		c.Set(pos, []byte(large))
		time.Sleep(time.Second)
		if n := made.Load(); n != 1 {
			t.Errorf("%d files made for a state that does not fit, want 1", n)
		}
		r.mustStop()
		if n := disk.OpenFiles(); n != 0 {
			t.Errorf("%d files are open", n)
		}
		if got := stateOf(t, disk, "remote"); got != large {
			t.Errorf("got a state of %d bytes", len(got))
		}
	})
}

func TestWhatAnEarlierAttemptLeftDoesNotGetIntoACursor(t *testing.T) {
	disk, _, at := twoSegments(t)
	names := cursorFiles(disk)
	name := filepath.Join(dataDir, "log/cursors", names[0])
	// A longer file that was not renamed any more, with valid slots.
	synctest.Test(t, func(t *testing.T) {
		r := start(t, disk, wal.Options{SyncInterval: time.Second})
		cursorOf(t, r.log, "remote").Set(at[4], []byte(strings.Repeat("never saved", 1500)))
		r.mustStop()
	})
	stale := mustFile(t, disk, name)
	disk, _, _ = twoSegments(t)
	disk.WriteFile(name+".tmp", stale)
	synctest.Test(t, func(t *testing.T) {
		r := start(t, disk, wal.Options{SyncInterval: time.Second})
		cursorOf(t, r.log, "remote").Set(at[3], []byte(strings.Repeat("saved", 1000)))
		r.mustStop()
	})
	if got := stateOf(t, disk, "remote"); got != strings.Repeat("saved", 1000) {
		t.Errorf("got a state of %d bytes, %.20q", len(got), got)
	}
}

func TestRemovedCursorStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		r := start(t, disk, wal.Options{SyncInterval: time.Second})
		pos := r.mustAppend(1, 10)
		c := cursorOf(t, r.log, "remote")
		c.Set(pos, []byte("state"))
		time.Sleep(time.Second)
		r.mustStop()

		r = start(t, disk, wal.Options{SyncInterval: time.Second})
		c = cursorOf(t, r.log, "remote") // of an earlier process, not written to yet
		if err := r.log.RemoveCursor("remote"); err != nil {
			t.Fatal(err)
		}
		c.Set(pos, []byte("its owner does not know yet"))
		time.Sleep(time.Second)
		if names := cursorFiles(disk); len(names) != 0 {
			t.Errorf("files %v", names)
		}
		if names := r.log.Cursors(); len(names) != 0 {
			t.Errorf("cursors %v", names)
		}
		after := disk.Crash(1)
		_ = r.stop() // fails: its disk is gone
		if got := stateOf(t, after, "remote"); got != "" {
			t.Errorf("a crash brings back %q", got)
		}
	})
}

func TestCursorWhoseSyncFailedIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		r := start(t, disk, wal.Options{SyncInterval: time.Hour})
		pos := r.mustAppend(1, 10)
		c := cursorOf(t, r.log, "remote")
		c.Set(pos, []byte("first"))
		time.Sleep(time.Second)
		disk.SetFault(broken(syscall.EIO, waltest.Sync))
		c.Set(pos, []byte("second"))
		time.Sleep(10 * time.Second)
		disk.SetFault(nil)
		time.Sleep(time.Second)
		after := disk.Crash(7)
		_ = r.stop() // fails: its disk is gone
		if got := stateOf(t, after, "remote"); got != "second" {
			t.Errorf("got %q", got)
		}
	})
}

func TestFileThatCannotBeReadNowIsNotGivenUp(t *testing.T) {
	for _, suffix := range []string{".cur", "1.seg"} {
		disk, _, _ := twoSegments(t)
		before := disk.Names()
		disk.SetFault(func(op waltest.Op) *waltest.Fault {
			if op.Kind == waltest.Open && strings.HasSuffix(op.Name, suffix) {
				return &waltest.Fault{Err: syscall.EMFILE}
			}
			return nil
		})
		_, err := wal.Open(dataDir, wal.Options{FS: disk, NoLock: true})
		if !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), suffix) {
			t.Errorf("%s: got %v", suffix, err)
		}
		disk.SetFault(nil)
		if after := disk.Names(); !slices.Equal(after, before) {
			t.Errorf("files %v, there were %v", after, before)
		}
		r := look(t, disk)
		r.wantRead(numbers(1, 8))
		if got := stateOf(t, disk, "remote"); got != "newer" {
			t.Errorf("%s: got %q", suffix, got)
		}
	}
}

func TestMediumThatHasLostBytesCostsTheRestOfTheSegment(t *testing.T) {
	disk, first, at := twoSegments(t)
	r := look(t, disk)
	disk.SetFault(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Read && op.Name == first && op.Off == int64(at[2].Offset) {
			return &waltest.Fault{Err: syscall.EIO}
		}
		return nil
	})
	r.wantRead([]int{1, 2, 6, 7, 8})
	if n := r.log.Stats().Corruptions; n != 1 {
		t.Errorf("%d corruptions counted, want 1", n)
	}
}

func TestHangingCursorKeepsNobodyWaiting(t *testing.T) {
	disk := &stuck{FS: waltest.New(), suffix: ".cur.tmp", entered: make(chan struct{}, 1)}
	r := start(t, disk, wal.Options{SyncInterval: time.Second})
	release := disk.hang()
	c := cursorOf(t, r.log, "remote")
	c.Set(r.mustAppend(1, 10), []byte("first"))
	<-disk.entered
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 2; n < 50; n++ {
			pos, err := r.append(n, 10)
			if err != nil {
				t.Errorf("append %d: %v", n, err)
			}
			c.Set(pos, fmt.Append(nil, n))
			c.Load()
			r.log.Stats()
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("a cursor whose file hangs keeps others waiting")
	}
	release()
	<-done
	r.mustStop()
	if got := stateOf(t, disk.FS, "remote"); got != "49" {
		t.Errorf("got %q", got)
	}
}

func TestCursorsAreUsedByManyAtOnce(t *testing.T) {
	disk := waltest.New()
	r := start(t, disk, wal.Options{SyncInterval: 10 * time.Millisecond})
	pos := r.mustAppend(1, 10)
	var wg sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprint("remote ", i%2)
		wg.Go(func() {
			for n := range 200 {
				c := r.log.Cursor(name)
				c.Set(pos, fmt.Append(nil, n))
				c.Load()
				r.log.Cursors()
				var err error
				switch n % 20 {
				case 7:
					err = r.log.RenameCursors(map[string]string{name: "renamed"})
				case 14:
					err = r.log.RemoveCursor(name)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	cursorOf(t, r.log, "last").Set(pos, []byte("last"))
	r.mustStop()
	if n := disk.OpenFiles(); n != 0 {
		t.Errorf("%d files are open", n)
	}
	if got := stateOf(t, disk, "last"); got != "last" {
		t.Errorf("got %q", got)
	}
}

// A segment may have been in memory alone when the process was killed, or the
// disk was full. Another one with its id would be behind the positions in it.
func TestIDOfASegmentThatAPositionSpeaksOfIsNotUsedAgain(t *testing.T) {
	points := func(state []byte) ([]wal.Pos, error) {
		if string(state) == "nonsense" {
			return nil, errors.New("not a state")
		}
		return []wal.Pos{{Segment: 3, Offset: 48}, {Segment: 7, Offset: 900}}, nil
	}
	for state, want := range map[string]uint64{"two positions": 8, "nonsense": 4} {
		disk := waltest.New()
		open := func() *wal.Log {
			l, err := wal.Open("/data", wal.Options{FS: disk, NoLock: true, Points: points})
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		l := open()
		cursorOf(t, l, "remote").Set(wal.Pos{Segment: 3, Offset: 48}, []byte(state))
		l.SaveCursors()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open()
		if got := l.Segment(); got != want {
			t.Errorf("%s: the next segment is %d, want %d", state, got, want)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

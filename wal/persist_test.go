package wal_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

func TestAPositionThatSomebodyWaitsForIsWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		r := start(t, disk, wal.Options{SyncInterval: time.Second})
		pos := r.mustAppend(1, 10)
		c := cursorOf(t, r.log, "remote")
		begin := time.Now()
		for _, state := range []string{"first", "second", "third"} {
			c.Set(pos, []byte(state))
			if !c.Persist(time.Second) {
				t.Errorf("%s: not written", state)
			}
			if got := stateOf(t, disk, "remote"); got != state {
				t.Errorf("a new process finds %q, want %q", got, state)
			}
		}
		if !c.Persist(time.Second) {
			t.Error("what has not moved is not there")
		}
		if d := time.Since(begin); d > 0 {
			t.Errorf("that took %v", d)
		}
		r.mustStop()
	})
}

func TestADiskThatFailsOrHangsKeepsNobodyWaitingForAPosition(t *testing.T) {
	const patience = 20 * time.Millisecond
	waits := func(t *testing.T, c *wal.Cursor, want bool, least, most time.Duration) {
		t.Helper()
		begin := time.Now()
		if got := c.Persist(patience); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
		if d := time.Since(begin); d < least || d > most {
			t.Errorf("that took %v, want %v to %v", d, least, most)
		}
	}
	t.Run("it fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			disk := waltest.New()
			r := start(t, disk, wal.Options{SyncInterval: time.Second})
			c := cursorOf(t, r.log, "remote")
			asked := 0 // of the disk
			disk.SetFault(func(op waltest.Op) *waltest.Fault {
				if strings.Contains(op.Name, ".cur") {
					asked++
					return &waltest.Fault{Err: errors.New("no")}
				}
				return nil
			})
			c.Set(r.mustAppend(1, 10), []byte("first"))
			waits(t, c, false, 0, 0)
			once := asked
			for range 100 {
				waits(t, c, false, 0, 0)
			}
			if asked > once {
				t.Errorf("a disk that fails is asked %d times more", asked-once)
			}
			disk.SetFault(nil)
			time.Sleep(time.Second) // it is tried again several times a second
			waits(t, c, true, 0, 0)
			c.Set(wal.Pos{}, []byte("second"))
			waits(t, c, true, 0, 0)
			r.mustStop()
		})
	})
	t.Run("it hangs", func(t *testing.T) {
		disk := &stuck{FS: waltest.New(), suffix: ".cur.tmp", entered: make(chan struct{}, 1)}
		r := start(t, disk, wal.Options{SyncInterval: time.Second})
		release := disk.hang()
		c := cursorOf(t, r.log, "remote")
		c.Set(r.mustAppend(1, 10), []byte("first"))
		waits(t, c, false, patience, time.Minute)
		for range 100 {
			waits(t, c, false, 0, time.Minute) // without patience: 2 s otherwise
		}
		release()
		for !c.Persist(time.Minute) { // as soon as the attempt under way has ended
			time.Sleep(time.Millisecond)
		}
		r.mustStop()
	})
	t.Run("nobody writes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, waltest.New(), wal.Options{SyncInterval: time.Second})
			c := cursorOf(t, r.log, "remote")
			r.mustStop()
			c.Set(wal.Pos{}, []byte("too late"))
			waits(t, c, false, patience, patience)
			waits(t, c, false, 0, 0)
		})
	})
}

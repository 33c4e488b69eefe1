package wal_test

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

// states is what each cursor of the log holds, by name.
func states(t *testing.T, l *wal.Log) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range l.Cursors() {
		c := cursorOf(t, l, name)
		if c.Name() != name {
			t.Errorf("cursor %q is named %q", name, c.Name())
		}
		_, state, _ := c.Load()
		all[name] = string(state)
	}
	return all
}

func wantStates(t *testing.T, l *wal.Log, want map[string]string) {
	t.Helper()
	if got := states(t, l); !maps.Equal(got, want) {
		t.Errorf("got cursors %q, want %q", got, want)
	}
}

// withCursors runs a log on the disk with a cursor of each name, whose state is
// its name.
func withCursors(t *testing.T, disk *waltest.FS, names ...string) (*rig, map[string]*wal.Cursor) {
	t.Helper()
	r := start(t, disk, wal.Options{SyncInterval: time.Second})
	pos := r.mustAppend(1, 10)
	held := map[string]*wal.Cursor{}
	for _, n := range names {
		held[n] = cursorOf(t, r.log, n)
		held[n].Set(pos, []byte(n))
	}
	time.Sleep(time.Second)
	return r, held
}

var renamings = []struct {
	name   string
	there  []string
	to     map[string]string
	after  map[string]string // state by name
	reused []string          // names that are free afterwards
}{
	{"to a new name", []string{"a", "b"}, map[string]string{"a": "c"}, map[string]string{"c": "a", "b": "b"}, []string{"a"}},
	{"to another's name", []string{"a", "b"}, map[string]string{"a": "b"}, map[string]string{"b": "a"}, []string{"a"}},
	{"two swap", []string{"a", "b", "c"}, map[string]string{"a": "b", "b": "a"}, map[string]string{"a": "b", "b": "a", "c": "c"}, nil},
	{"round and over another", []string{"a", "b", "c", "d"}, map[string]string{"a": "b", "b": "c", "c": "d"}, map[string]string{"b": "a", "c": "b", "d": "c"}, []string{"a"}},
	{"nothing", []string{"a"}, map[string]string{"a": "a", "x": "y"}, map[string]string{"a": "a"}, []string{"x", "y"}},
}

func TestRenamedCursorsAreHeldOnAndLast(t *testing.T) {
	for _, tc := range renamings {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := waltest.New()
				r, held := withCursors(t, disk, tc.there...)
				if err := r.log.RenameCursors(tc.to); err != nil {
					t.Fatal(err)
				}
				wantStates(t, r.log, tc.after)
				// Who holds a cursor goes on with it, and the old names are free for others.
				pos := r.mustAppend(2, 10)
				want := map[string]string{}
				for name, state := range tc.after {
					held[state].Set(pos, []byte(state+" moved on"))
					want[name] = state + " moved on"
				}
				for _, name := range tc.reused {
					cursorOf(t, r.log, name).Set(pos, []byte("new "+name))
					want[name] = "new " + name
				}
				r.mustStop()
				if n := disk.OpenFiles(); n != 0 {
					t.Errorf("%d files are open", n)
				}
				if files := cursorFiles(disk); len(files) != len(want) {
					t.Errorf("files %q for %d cursors", files, len(want))
				}
				wantStates(t, look(t, disk).log, want)
			})
		})
	}
}

// A rename is all there or not at all, wherever the process is killed, the
// power goes, or the disk fails.
func TestRenamedCursorsSurviveACrashAtEveryPoint(t *testing.T) {
	for _, tc := range renamings {
		before := map[string]string{}
		for _, name := range tc.there {
			before[name] = name
		}
		for _, end := range []struct {
			name  string
			crash func(*waltest.FS, uint64) *waltest.FS
		}{
			{"killed", func(d *waltest.FS, _ uint64) *waltest.FS { return d.Kill() }},
			{"power loss", (*waltest.FS).Crash},
		} {
			t.Run(tc.name+", "+end.name, func(t *testing.T) {
				for at, reached := 0, true; reached; at++ {
					for seed := range uint64(4) {
						synctest.Test(t, func(t *testing.T) {
							disk := waltest.New()
							r, held := withCursors(t, disk, tc.there...)
							var n atomic.Int64
							begin := disk.Ops()
							disk.SetFault(func(op waltest.Op) *waltest.Fault {
								n.Store(int64(op.N - begin))
								if op.N-begin < at {
									return nil
								}
								return &waltest.Fault{Err: syscall.EIO, Written: op.Len / 2}
							})
							err := r.log.RenameCursors(tc.to)
							reached = n.Load() >= int64(at)
							now := states(t, r.log)
							if err != nil && !maps.Equal(now, before) || err == nil && !maps.Equal(now, tc.after) {
								t.Fatalf("operation %d: error %v, and cursors %q", at, err, now)
							}
							for state, c := range held {
								if _, got, _ := c.Load(); string(got) != state {
									t.Errorf("a cursor that was held has state %q, want %q", got, state)
								}
							}
							after := end.crash(disk, seed)
							_ = r.stop() // fails: its disk is gone
							got := states(t, look(t, after).log)
							if !maps.Equal(got, tc.after) && (err == nil || !maps.Equal(got, before)) {
								t.Fatalf("operation %d: error %v, then cursors %q", at, err, got)
							}
							// The next process finishes it, and so does the one after.
							r = start(t, after, wal.Options{SyncInterval: time.Second})
							r.mustStop()
							wantStates(t, look(t, after).log, got)
							if files := cursorFiles(after); len(slices.DeleteFunc(files, func(n string) bool { return filepath.Ext(n) == ".tmp" })) != len(got) {
								t.Errorf("operation %d: files %q for %d cursors", at, files, len(got))
							}
						})
					}
				}
			})
		}
	}
}

// A disk that fails for a while delays what is on it, and mixes up nothing,
// whatever happens to the cursors meanwhile.
func TestRenamedCursorsWaitForTheDisk(t *testing.T) {
	for at := range 25 {
		synctest.Test(t, func(t *testing.T) {
			disk := waltest.New()
			r, held := withCursors(t, disk, "a", "b", "c")
			begin := disk.Ops()
			disk.SetFault(func(op waltest.Op) *waltest.Fault {
				if op.N-begin < at {
					return nil
				}
				return &waltest.Fault{Err: syscall.EIO}
			})
			err := r.log.RenameCursors(map[string]string{"a": "b", "b": "c"})
			want := map[string]string{"a": "a", "b": "b", "c": "c"}
			if err == nil {
				want = map[string]string{"b": "a", "c": "b"}
			}
			if err := r.log.RemoveCursor("b"); err == nil {
				delete(want, "b")
			}
			if _, there := want["a"]; !there {
				pos, _, _ := held["c"].Load()
				cursorOf(t, r.log, "a").Set(pos, []byte("new"))
				want["a"] = "new"
			}
			time.Sleep(time.Second)
			wantStates(t, r.log, want)
			disk.SetFault(nil)
			time.Sleep(time.Second)
			wantStates(t, r.log, want)
			if err := r.log.RenameCursors(map[string]string{"a": "last"}); err != nil {
				t.Errorf("operation %d: %v", at, err)
			}
			want["last"] = want["a"]
			delete(want, "a")
			r.mustStop()
			wantStates(t, look(t, disk).log, want)
		})
	}
}

func TestRenamesThatCannotBeReadNowAreNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := waltest.New()
		r, _ := withCursors(t, disk, "a", "b")
		renamed := false
		disk.SetFault(func(op waltest.Op) *waltest.Fault {
			if renamed && op.Kind != waltest.Close { // nothing after the file of the renames
				return &waltest.Fault{Err: syscall.EIO}
			}
			renamed = renamed || op.Kind == waltest.SyncDir
			return nil
		})
		if err := r.log.RenameCursors(map[string]string{"a": "b", "b": "a"}); err != nil {
			t.Fatal(err)
		}
		after := disk.Kill()
		_ = r.stop() // fails: its disk is gone
		name := filepath.Join(dataDir, "log/cursors/renames")
		after.SetFault(func(op waltest.Op) *waltest.Fault {
			if op.Kind == waltest.Open && op.Name == name {
				return &waltest.Fault{Err: syscall.EMFILE}
			}
			return nil
		})
		if _, err := wal.Open(dataDir, wal.Options{FS: after, NoLock: true}); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("got %v", err)
		}
		after.SetFault(nil)
		wantStates(t, look(t, after).log, map[string]string{"a": "b", "b": "a"})

		// Of no use at all: the log opens, and says so.
		after.WriteFile(name, fmt.Append(nil, "nonsense"))
		l := look(t, after).log
		wantStates(t, l, map[string]string{"a": "a", "b": "b"})
		if n := l.Stats().Corruptions; n != 1 {
			t.Errorf("%d corruptions counted, want 1", n)
		}
	})
}

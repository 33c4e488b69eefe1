package wal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

// life is what several processes, one after the other, have promised.
type life struct {
	t        *testing.T
	rng      *rand.Rand
	next     int          // number of the next group
	durable  map[int]bool // groups that survive whatever comes
	appended map[int]bool
	low      int // lowest group that is asked for: what retention may delete lies before
	at       int // group of the cursor now
	saved    int // highest group that a cursor was set to
	kept     int // group of the cursor when it was last synced: it never falls behind
}

// check reads the log and the cursor after a crash.
func (l *life) check(r *rig) {
	l.t.Helper()
	cursor := r.log.Cursor("remote")
	low, state, ok := cursor.Load()
	at := 0
	if ok {
		if _, err := fmt.Sscanf(string(state), "state %d", &at); err != nil {
			l.t.Fatalf("the cursor's state is %q", state)
		}
	}
	if at < l.kept || at > l.saved {
		l.t.Fatalf("the cursor is at group %d; it was synced at %d and set to %d at most", at, l.kept, l.saved)
	}
	l.at = at
	got, end, err := r.read(wal.Pos{})
	if err != nil {
		l.t.Fatal(err)
	}
	if !ascending(got) {
		l.t.Fatalf("read %v", got)
	}
	for _, n := range got {
		if !l.appended[n] {
			l.t.Fatalf("group %d was never appended", n)
		}
	}
	for n := range l.durable {
		if n >= l.low && !slices.Contains(got, n) {
			l.t.Fatalf("group %d was synced and is lost; read %v from %d on", n, got, l.low)
		}
	}
	from := r.log.Next(low)
	if end.Less(from) {
		l.t.Fatalf("the cursor leads to %v, the log ends at %v", from, end)
	}
	rest, _, err := r.read(low)
	if err != nil {
		l.t.Fatal(err)
	}
	for n := range l.durable {
		if n >= max(at, l.low) && !slices.Contains(rest, n) {
			l.t.Fatalf("group %d was synced and is lost to the cursor at %v", n, low)
		}
	}
	// What a crash has taken does not come back; what retention has deleted may.
	for n := range l.appended {
		if n >= l.low && !slices.Contains(got, n) {
			delete(l.appended, n)
		}
	}
}

// run is the life of one process.
func (l *life) run(disk *waltest.FS) *waltest.FS {
	o := wal.Options{}
	if l.rng.IntN(2) == 0 {
		o.SyncInterval = 200 * time.Millisecond
	}
	r := start(l.t, disk, o)
	l.check(r)
	cursor := r.log.Cursor("remote")
	var mine []int
	moved := false
	settle := func() {
		for _, n := range mine {
			l.durable[n] = true
		}
	}
	for range l.rng.IntN(20) {
		switch l.rng.IntN(8) {
		case 0, 1, 2, 3:
			l.append(r, &mine, o.SyncInterval == 0)
		case 4:
			r.age(3 * time.Hour)
		case 5:
			if err := r.log.Sync(); err != nil {
				l.t.Fatal(err)
			}
			settle()
		case 6:
			time.Sleep(time.Duration(l.rng.IntN(2000)) * time.Millisecond)
		case 7:
			pos := l.append(r, &mine, o.SyncInterval == 0)
			moved = true
			l.at, l.saved = l.next-1, l.next-1
			// A state that outgrows its slot now and then.
			cursor.Set(pos, fmt.Appendf(nil, "state %d %*d", l.saved, l.rng.IntN(6000), 0))
			l.low = l.saved
			if l.rng.IntN(3) == 0 {
				time.Sleep(6 * time.Second)
				l.kept = l.at
				settle()
			}
		}
	}
	switch l.rng.IntN(4) {
	case 0:
		r.mustStop()
		settle()
		if moved { // else its file is as the process before left it
			l.kept = l.at
		}
		return disk.Crash(l.rng.Uint64())
	case 1:
		after := disk.Kill()
		_ = r.stop() // fails: its disk is another's now
		return after
	}
	after := disk.Crash(l.rng.Uint64())
	_ = r.stop() // fails: its disk is gone
	return after
}

func (l *life) append(r *rig, mine *[]int, synced bool) wal.Pos {
	l.t.Helper()
	n := l.next
	l.next++
	pos := r.mustAppend(n, l.rng.IntN(300))
	l.appended[n] = true
	*mine = append(*mine, n)
	if synced {
		l.durable[n] = true
	}
	return pos
}

func TestCrashesLoseNothingThatWasSynced(t *testing.T) {
	const seeds = 600
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			l := &life{t: t, rng: rand.New(rand.NewPCG(seed, 3)), next: 1, durable: map[int]bool{}, appended: map[int]bool{}}
			disk := waltest.New()
			for range 6 {
				disk = l.run(disk)
			}
			r := start(t, disk, wal.Options{SyncInterval: time.Second})
			l.check(r)
			r.mustStop()
		})
		if t.Failed() {
			return
		}
	}
}

func TestKilledProcessLosesNothingThatAppendTook(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 4))
			disk := waltest.New()
			var want []int
			for n := 0; n < 40; {
				r := start(t, disk, wal.Options{SyncInterval: time.Hour})
				r.wantRead(want)
				for range rng.IntN(6) {
					r.mustAppend(n, 20)
					want = append(want, n)
					n++
				}
				disk = disk.Kill()
				if err := r.stop(); !errors.Is(err, waltest.ErrCrashed) && err != nil {
					t.Fatal(err)
				}
			}
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
	}
}

package record

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"promagent/template"
	"promagent/wal"
	"promagent/wal/waltest"
)

// smallLog is a log of three segments of two blocks, with a position at its
// end and the names of two more that are to change places.
func smallLog(t testing.TB) *waltest.FS {
	t.Helper()
	disk := waltest.New()
	now := time.UnixMilli(1_700_000_000_000)
	l, err := wal.Open("/data", wal.Options{FS: disk, NoLock: true, SyncInterval: time.Minute, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore(l, Options{RingBytes: 1})
	r := rand.New(rand.NewPCG(1, 20))
	a, b := template.Part{Block: testBlock("a", 2)}, template.Part{Block: testBlock("b", 3)}
	var low wal.Pos
	for range 3 {
		for range 2 {
			now = now.Add(15 * time.Second)
			randomPart(r, &a, now.UnixMilli())
			randomPart(r, &b, now.UnixMilli())
			low = l.End()
			if err := s.Append(&template.Batch{Time: now.UnixMilli(), Parts: []template.Part{a, b}}); err != nil && !errors.Is(err, wal.ErrNotOnDisk) {
				t.Fatal(err)
			}
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		now = now.Add(3 * time.Hour) // the segment ends by age
	}
	for _, name := range []string{"remote", "x", "y"} {
		c := l.Cursor(name)
		c.Set(low, []byte("state"))
	}
	l.SaveCursors()
	disk.SetFault(func(op waltest.Op) *waltest.Fault { // the file of the new names stays
		if op.Kind == waltest.Remove && strings.HasSuffix(op.Name, "/renames") {
			return &waltest.Fault{Err: syscall.EIO}
		}
		return nil
	})
	if err := l.RenameCursors(map[string]string{"x": "y", "y": "x"}); err != nil {
		t.Fatal(err)
	}
	disk.SetFault(nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return disk
}

// copied is a disk of the same files, but for one. When that is a segment, the
// positions are left out.
func copied(t testing.TB, disk *waltest.FS, name string, b []byte) *waltest.FS {
	t.Helper()
	other := waltest.New()
	if err := other.MkdirAll("/data/log/cursors"); err != nil {
		t.Fatal(err)
	}
	for _, n := range disk.Names() {
		if strings.HasSuffix(name, ".seg") && !strings.HasSuffix(n, ".seg") {
			continue // the positions are of no interest
		}
		content := b
		if n != name {
			var err error
			if content, err = disk.ReadFile(n); err != nil {
				t.Fatal(err)
			}
		}
		if n != name || b != nil {
			other.WriteFile(n, content)
		}
	}
	return other
}

// found is what a check and a reader find in a log.
type found struct {
	sum     Checked
	damages []wal.Damage
	times   []int64 // of the samples that can be read, by sample
}

func lookInto(t testing.TB, disk *waltest.FS, points func([]byte) ([]wal.Pos, error)) (f found) {
	t.Helper()
	l, err := wal.Open("/data", wal.Options{FS: disk, NoLock: true, SyncInterval: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := NewStore(l, Options{RingBytes: 1})
	if f.sum, err = s.Check(Check{Points: points, Damage: func(d wal.Damage) error { f.damages = append(f.damages, d); return nil }}); err != nil {
		t.Fatal(err)
	}
	for at := (wal.Pos{}); ; {
		es, next, err := s.Entries(nil, at, 4)
		if err != nil {
			t.Fatal(err)
		}
		for i := range es {
			add := func(int, *template.Part, int64) error {
				for range es[i].Samples {
					f.times = append(f.times, es[i].Time)
				}
				return nil
			}
			if err := s.LoadEach(es[i:i+1], add, func(int, error) {}); err != nil {
				t.Fatal(err)
			}
		}
		if next == at {
			return f
		}
		at = next
	}
}

// lostTimes are those of the samples that are in whole and not in f.
func (f *found) lostTimes(whole []int64) (lost []int64) {
	rest := f.times
	for _, at := range whole {
		if len(rest) > 0 && rest[0] == at {
			rest = rest[1:]
			continue
		}
		lost = append(lost, at)
	}
	return lost
}

// holdTo checks that f names the damage of a file and just what it costs.
func (f *found) holdTo(t testing.TB, what, file string, whole []int64, mayBeMore bool) {
	t.Helper()
	if len(f.damages) == 0 {
		t.Fatalf("%s is not named", what)
	}
	var named uint64
	atLeast := false
	var from, to int64
	for _, d := range f.damages {
		if d.File != file {
			t.Fatalf("%s: named is %+v", what, d)
		}
		named += d.Samples
		atLeast = atLeast || d.AtLeast
		if from == 0 || d.From < from {
			from = d.From
		}
		to = max(to, d.To)
	}
	lost := f.lostTimes(whole)
	if n := uint64(len(lost)); n < named || n != named && (!atLeast || !mayBeMore) {
		t.Fatalf("%s: %d samples are lost, named are %+v", what, n, f.damages)
	}
	for _, at := range lost {
		if at < from || to != 0 && at > to {
			t.Fatalf("%s: a sample of %d is lost, named are %+v", what, at, f.damages)
		}
	}
	if f.sum.Samples != uint64(len(f.times)) {
		t.Fatalf("%s: %d samples can be read, the check says %d", what, len(f.times), f.sum.Samples)
	}
}

// Every bit of every file is covered by a checksum or must be zero, so that no
// bit may be flipped without being named.
func TestEveryFlippedBitIsNamedWithWhatItCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := smallLog(t)
		whole := lookInto(t, disk, nil)
		if len(whole.damages) != 0 || whole.sum.Segments != 3 || whole.sum.Cursors != 4 || len(whole.times) < 20 || whole.sum.Samples != uint64(len(whole.times)) {
			t.Fatalf("of the whole log: %+v, %d samples read", whole, len(whole.times))
		}
		names := disk.Names()
		for _, name := range names {
			b, err := disk.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			segment := strings.HasSuffix(name, ".seg")
			if !segment && b[24] != byte(len("remote")) && !strings.HasSuffix(name, "/renames") {
				continue // a position is like the other
			}
			for bit := range len(b) * 8 {
				switch {
				case !segment && bit%(8*4096) > 8*100 && bit%9973 != 0: // the zeros behind a position
					continue
				case (segment && !strings.Contains(name, "2.seg") || strings.HasSuffix(name, "/renames")) && bit%8 != bit/8%7: // one of a byte
					continue
				}
				b[bit/8] ^= 1 << (bit % 8)
				f := lookInto(t, copied(t, disk, name, b), nil)
				f.holdTo(t, fmt.Sprintf("bit %d of %s", bit, name), name, whole.times, strings.Contains(name, "3.seg"))
				b[bit/8] ^= 1 << (bit % 8)
			}
		}
	})
}

func TestEveryTruncationIsNamedWithWhatItCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := smallLog(t)
		whole := lookInto(t, disk, nil)
		for _, name := range disk.Names() {
			b, err := disk.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, ".seg") {
				continue
			}
			newest := strings.Contains(name, "3.seg")
			for n := range len(b) {
				f := lookInto(t, copied(t, disk, name, b[:n]), nil)
				if newest && len(f.damages) == 0 {
					continue // nothing is left of a group, or of the file
				}
				f.holdTo(t, fmt.Sprintf("%d bytes of %s", n, name), name, whole.times, newest || strings.Contains(name, "1.seg") && n < 48) // without its header nobody knows how many there were before the second
			}
		}
	})
}

func TestPositionsThatPointAtNothingAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := smallLog(t)
		for _, c := range []struct {
			p    wal.Pos
			want string
		}{
			{wal.Pos{}, ""},
			{wal.Pos{Segment: 1, Offset: 48}, ""},
			{wal.Pos{Segment: 1, Offset: 49}, "the position 1/49 of remote is not where a frame begins"},
			{wal.Pos{Segment: 2, Offset: 1 << 30}, "of remote is 1073"},
			{wal.Pos{Segment: 3, Offset: 1 << 30}, "the position 3/1073741824 of remote is beyond the log's end"},
			{wal.Pos{Segment: 4, Offset: 48}, "the position 4/48 of remote is beyond the log's end"},
		} {
			f := lookInto(t, disk, func([]byte) ([]wal.Pos, error) { return []wal.Pos{c.p}, nil })
			var got []string
			for _, d := range f.damages {
				got = append(got, d.What)
			}
			named := slices.ContainsFunc(got, func(what string) bool { return strings.Contains(what, c.want) })
			if c.want == "" && len(got) != 0 || c.want != "" && (len(got) != 3 || !named) { // of remote, x and y
				t.Errorf("%s: %q, want %q", c.p, got, c.want)
			}
		}
		f := lookInto(t, disk, func([]byte) ([]wal.Pos, error) { return nil, errors.New("no state of mine") })
		if len(f.damages) != 3 || !strings.HasPrefix(f.damages[0].What, "the state of ") || !strings.HasSuffix(f.damages[0].What, ": no state of mine") {
			t.Errorf("%+v", f.damages)
		}
		f = lookInto(t, copied(t, disk, disk.Names()[0], nil), func([]byte) ([]wal.Pos, error) { return []wal.Pos{{Segment: 1, Offset: 77}}, nil })
		if len(f.damages) != 0 {
			t.Errorf("a position before the oldest segment is named: %+v", f.damages)
		}
	})
}

func TestSegmentThatIsWrittenOrDeletedMeanwhileIsNoDamage(t *testing.T) {
	disk := smallLogIn(t)
	names := slices.DeleteFunc(disk.Names(), func(n string) bool { return !strings.HasSuffix(n, ".seg") })
	oldest, newest := names[0], names[2]
	whole, err := disk.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		begin  int // bytes of the newest segment at the start
		during func(*waltest.FS)
		after  time.Duration
		sound  bool
		grows  bool
		count  int // of segments
	}{
		{"the rest of a group comes", len(whole) - 5, func(d *waltest.FS) { d.WriteFile(newest, whole) }, 50 * time.Millisecond, true, true, 3},
		{"the rest of a header comes", 20, func(d *waltest.FS) { d.WriteFile(newest, whole) }, 50 * time.Millisecond, true, true, 3},
		{"the newest goes", len(whole) - 5, func(d *waltest.FS) { d.Remove(newest) }, 50 * time.Millisecond, true, true, 3},
		{"the oldest goes", len(whole), func(d *waltest.FS) { d.Remove(oldest) }, 0, true, false, 2},
		{"nothing comes", len(whole) - 5, func(*waltest.FS) {}, 0, false, false, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := copied(t, disk, newest, whole[:c.begin])
				l, err := wal.Open("/data", wal.Options{FS: d, NoLock: true, SyncInterval: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				if c.after == 0 {
					c.during(d)
				} else {
					time.AfterFunc(c.after, func() { c.during(d) })
				}
				var damages []wal.Damage
				sum, err := NewStore(l, Options{}).Check(Check{Damage: func(d wal.Damage) error { damages = append(damages, d); return nil }})
				if err != nil {
					t.Fatal(err)
				}
				if len(damages) == 0 != c.sound || sum.Growing != c.grows || sum.Segments != c.count {
					t.Errorf("%+v, damaged: %+v", sum, damages)
				}
			})
		})
	}
}

// smallLogIn is smallLog outside of a bubble.
func smallLogIn(t *testing.T) (disk *waltest.FS) {
	synctest.Test(t, func(t *testing.T) { disk = smallLog(t) })
	return disk
}

func TestCheckEndsWithTheErrorOfWhoIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := smallLog(t)
		name := disk.Names()[0]
		b, err := disk.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[50] ^= 1
		enough := errors.New("enough")
		for what, c := range map[string]Check{
			"segment": {Segment: func(Segment) error { return enough }},
			"damage":  {Damage: func(wal.Damage) error { return enough }},
		} {
			l, err := wal.Open("/data", wal.Options{FS: copied(t, disk, name, b), NoLock: true, SyncInterval: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := NewStore(l, Options{}).Check(c); !errors.Is(err, enough) {
				t.Errorf("%s: got %v", what, err)
			}
			l.Close()
		}
	})
}

func TestDiskThatCannotBeReadNowEndsACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := smallLog(t)
		l, err := wal.Open("/data", wal.Options{FS: disk, NoLock: true, SyncInterval: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		disk.SetFault(func(op waltest.Op) *waltest.Fault {
			if op.Kind == waltest.Open {
				return &waltest.Fault{Err: syscall.EMFILE}
			}
			return nil
		})
		if _, err := NewStore(l, Options{}).Check(Check{}); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("got %v", err)
		}
	})
}

// What the medium does not give is lost as what does not check is.
func TestBytesThatTheMediumHasLostAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := smallLog(t)
		whole := lookInto(t, disk, nil)
		names := disk.Names()
		for _, name := range names {
			if !strings.HasSuffix(name, ".seg") {
				continue
			}
			b, err := disk.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for at := int64(0); at < int64(len(b)); at += 7 {
				d := copied(t, disk, "", nil)
				d.SetFault(func(op waltest.Op) *waltest.Fault {
					if op.Kind == waltest.Read && op.Name == name && op.Off <= at && at < op.Off+int64(op.Len) {
						return &waltest.Fault{Err: syscall.EIO}
					}
					return nil
				})
				f := lookInto(t, d, nil)
				f.holdTo(t, fmt.Sprintf("byte %d of %s", at, name), name, whole.times, !strings.Contains(name, "2.seg"))
			}
		}
	})
}

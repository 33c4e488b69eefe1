package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

// look opens a log that nobody runs, only to read it.
func look(t *testing.T, disk wal.FS) *rig {
	t.Helper()
	l, err := wal.Open(dataDir, wal.Options{FS: disk, NoLock: true})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return &rig{t: t, log: l}
}

// twoSegments is a disk with groups 1 to 5 in one segment and 6 to 8 in the
// next, a cursor at group 3, and the first segment's name.
func twoSegments(t *testing.T) (disk *waltest.FS, first string, at []wal.Pos) {
	t.Helper()
	disk = waltest.New()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, disk, wal.Options{SyncInterval: time.Second})
		for n := 1; n <= 8; n++ {
			at = append(at, r.mustAppend(n, n))
			if n == 5 {
				r.age(3 * time.Hour)
			}
		}
		c := r.log.Cursor("remote")
		c.Set(at[2], []byte("older"))
		time.Sleep(time.Second)
		c.Set(at[2], []byte("newer"))
		r.mustStop()
	})
	first = fmt.Sprintf("%s/log/%020d.seg", dataDir, at[0].Segment)
	if at[4].Segment != at[0].Segment || at[5].Segment == at[0].Segment {
		t.Fatalf("groups at %v", at)
	}
	return disk, first, at
}

// with is the disk with another content of a file.
func with(t *testing.T, disk *waltest.FS, name string, b []byte) *waltest.FS {
	t.Helper()
	after := waltest.New()
	for _, n := range disk.Names() {
		old, err := disk.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		after.WriteFile(n, old)
	}
	if err := after.MkdirAll(dataDir + "/log/cursors"); err != nil {
		t.Fatal(err)
	}
	if name != "" {
		after.WriteFile(name, b)
	}
	return after
}

func mustFile(t *testing.T, disk *waltest.FS, name string) []byte {
	t.Helper()
	b, err := disk.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFlippedBitCostsAtMostTheRestOfItsSegment(t *testing.T) {
	disk, first, at := twoSegments(t)
	whole := mustFile(t, disk, first)
	for bit := range len(whole) * 8 {
		b := slices.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		r := look(t, with(t, disk, first, b))
		got := r.mustRead()
		off := uint32(bit / 8)
		hit := slices.IndexFunc(at[:5], func(p wal.Pos) bool { return p.Offset > off }) // number of the group that is hit
		if hit < 0 {
			hit = 5
		}
		spared := off >= 44 && off < 48 // zeros that mean nothing
		frame := at[max(hit-1, 0)].Offset
		size := uint32(28 + 4 + hit + 1)
		body := hit > 0 && (off-frame)%size >= 28
		var want []int
		switch {
		case spared:
			want = numbers(1, 8)
		case hit == 0:
			want = numbers(6, 8)
		case body && off-frame < size: // its first half; the other half is read alone
			want = slices.Concat(numbers(1, 5), numbers(6, 8))
		case body:
			want = slices.Concat(numbers(1, hit-1), numbers(hit+1, 8))
		default:
			want = slices.Concat(numbers(1, hit-1), numbers(6, 8))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("bit %d of byte %d, group %d: read %v, want %v", bit%8, off, hit, got, want)
		}
		counted := uint64(1)
		if spared || body {
			counted = 0
		}
		if st := r.log.Stats(); st.Corruptions != counted {
			t.Fatalf("bit %d of byte %d: %d corruptions counted, want %d", bit%8, off, st.Corruptions, counted)
		}
		if got := r.mustRead(); !slices.Equal(got, want) || r.log.Stats().Corruptions != counted {
			t.Fatalf("bit %d of byte %d: another reader sees %v, %d corruptions", bit%8, off, got, r.log.Stats().Corruptions)
		}
	}
}

func TestFlippedBitInABodyIsToldToItsReader(t *testing.T) {
	disk, first, at := twoSegments(t)
	b := mustFile(t, disk, first)
	b[at[1].Offset+28] ^= 4
	r := look(t, with(t, disk, first, b))
	hs, _, err := r.log.Scan(nil, at[1], wal.Pos{}, 1)
	if err != nil || len(hs) != 2 {
		t.Fatalf("scan: %d headers, %v", len(hs), err)
	}
	if _, err := r.log.Read(hs[0], nil); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	if _, err := r.log.Read(hs[1], nil); err != nil {
		t.Errorf("the frame after it: %v", err)
	}
}

func TestTruncationCostsTheRestOfItsSegment(t *testing.T) {
	disk, first, at := twoSegments(t)
	whole := mustFile(t, disk, first)
	for n := range len(whole) + 1 {
		r := look(t, with(t, disk, first, whole[:n]))
		left := slices.IndexFunc(at[1:5], func(p wal.Pos) bool { return n < int(p.Offset) })
		if left < 0 {
			left = 4
			if n == len(whole) {
				left = 5
			}
		}
		want := slices.Concat(numbers(1, left), numbers(6, 8))
		if got := r.mustRead(); !slices.Equal(got, want) {
			t.Fatalf("cut at %d: read %v, want %v", n, got, want)
		}
		counted := uint64(1)
		if n >= 48 && slices.ContainsFunc(at[:5], func(p wal.Pos) bool { return n == int(p.Offset) }) || n == len(whole) {
			counted = 0 // nothing tells that there was more
		}
		if st := r.log.Stats(); st.Corruptions != counted {
			t.Fatalf("cut at %d: %d corruptions counted, want %d", n, st.Corruptions, counted)
		}
		// A position that the file no longer reaches leads to the next segment.
		if p := r.log.Next(at[4]); n < int(at[4].Offset) && p.Segment != at[5].Segment {
			t.Fatalf("cut at %d: %v leads to %v", n, at[4], p)
		}
	}
}

func TestDamagedCursorIsAsItWasOrNew(t *testing.T) {
	disk, _, at := twoSegments(t)
	i := slices.IndexFunc(disk.Names(), func(n string) bool { return strings.HasSuffix(n, ".cur") })
	name := disk.Names()[i]
	whole := mustFile(t, disk, name)
	check := func(what string, b []byte, states ...string) {
		t.Helper()
		after := with(t, disk, name, b)
		r := look(t, after)
		c := r.log.Cursor("remote")
		low, state, ok := c.Load()
		if !slices.Contains(states, string(state)) || ok && low != at[2] {
			t.Fatalf("%s: got %v, %q, want one of %q", what, low, state, states)
		}
		_, kept := after.ReadFile(name + ".bad")
		if n := r.log.Stats().Corruptions; !ok && (n != 1 || kept != nil) {
			t.Fatalf("%s: %d corruptions counted, its file kept aside: %v", what, n, kept)
		}
	}
	for i := range whole {
		for _, flip := range []byte{1, 0x80, 0xff} {
			if i%4096 > 256 && i%512 != 0 { // zeros
				continue
			}
			b := slices.Clone(whole)
			b[i] ^= flip
			check(fmt.Sprintf("byte %d", i), b, "older", "newer")
		}
	}
	for n := 0; n < len(whole); n += 61 {
		check(fmt.Sprintf("cut at %d", n), whole[:n], "")
	}
	hostile := func(payload []byte) []byte {
		b := append([]byte("PROMACUR"), 1, 0, 0, 0)
		b = binary.LittleEndian.AppendUint64(b, 9)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
		b = append(b, payload...)
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		return append(b, make([]byte, 8192-len(b))...)
	}
	for _, n := range []uint64{1, 12, 13, 1 << 31, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1, 1<<64 - 12, 1<<64 - 13} {
		check(fmt.Sprintf("a name of %d bytes", n), hostile(append(binary.AppendUvarint(nil, n), "123456789012"...)), "")
	}
	check("an empty payload", hostile(nil), "")
	check("an endless length", hostile(slices.Repeat([]byte{0xff}, 40)), "")
}

func TestNewSegmentIsNewerThanAnyPositionThatWasSaved(t *testing.T) {
	disk, first, at := twoSegments(t)
	bare := waltest.New()
	for _, n := range disk.Names() {
		if strings.HasSuffix(n, ".cur") {
			bare.WriteFile(n, mustFile(t, disk, n))
		}
	}
	r := look(t, bare)
	if id := r.log.Segment(); id <= at[2].Segment {
		t.Errorf("segment %d is begun, a cursor has seen %v", id, at[2])
	}
	foreign := with(t, disk, dataDir+"/log/7777.seg", mustFile(t, disk, first))
	foreign.WriteFile(dataDir+"/log/18446744073709551615.seg", nil)
	r = look(t, foreign)
	r.wantRead(numbers(1, 8))
	if id, st := r.log.Segment(), r.log.Stats(); id != 3 || st.Corruptions != 0 {
		t.Errorf("files that are not the log's: segment %d is begun, %d corruptions", id, st.Corruptions)
	}
	alien := with(t, disk, strings.Replace(first, "0001.", "7777.", 1), []byte("no segment"))
	r = look(t, alien)
	if id := r.log.Segment(); id != 7778 {
		t.Errorf("segment %d is begun, there is a file of number 7777", id)
	}
	if n, ok := r.log.SamplesBefore(7777); ok {
		t.Errorf("%d samples before a segment whose header cannot be read", n)
	}
}

// frame is a frame with a valid header, whatever it claims.
func frame(length uint32, body []byte) []byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	b := binary.LittleEndian.AppendUint32(nil, length)
	b = binary.LittleEndian.AppendUint32(b, 2|1<<8)
	b = binary.LittleEndian.AppendUint64(b, 1)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(body, table))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, table))
	return append(b, body...)
}

// allocated is the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestClaimedLengthsAreNotBelieved(t *testing.T) {
	disk, first, _ := twoSegments(t)
	whole := mustFile(t, disk, first)
	end := wal.Pos{Segment: 1, Offset: uint32(len(whole))}
	for _, n := range []uint32{100, 200 << 20, 256 << 20, 1<<32 - 1} {
		r := look(t, with(t, disk, first, append(slices.Clone(whole), frame(n, []byte("short"))...)))
		if got := allocated(func() { r.wantRead(numbers(1, 8)) }); got > 1<<20 {
			t.Errorf("length %d: reading allocates %d bytes", n, got)
		}
		h, err := r.log.HeaderAt(end)
		if err == nil {
			got := allocated(func() { _, err = r.log.Read(h, nil) })
			if got > 1<<20 {
				t.Errorf("length %d: one body allocates %d bytes", n, got)
			}
		}
		if !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("length %d: got %v, want ErrCorrupt", n, err)
		}
	}
}

func TestOpeningHoldsFewHeadersInMemory(t *testing.T) {
	disk, first, _ := twoSegments(t)
	const frames = 100_000
	b := mustFile(t, disk, first)
	b = append(b, slices.Repeat(frame(0, nil), frames)...)
	only := waltest.New()
	only.WriteFile(first, b)
	if err := only.MkdirAll(dataDir + "/log/cursors"); err != nil {
		t.Fatal(err)
	}
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, peak := live(), uint64(0)
	only.SetFault(func(op waltest.Op) *waltest.Fault {
		if op.N%10_000 == 9_999 {
			peak = max(peak, live())
		}
		return nil
	})
	r := look(t, only)
	if n := r.log.SamplesTotal(); n != frames+10 {
		t.Errorf("%d samples counted, want %d", n, frames+10)
	}
	if peak < before/2 || peak > before+2<<20 { // all headers at once are 5.6 MB
		t.Errorf("%d bytes are live while the log opens, %d before", peak, before)
	}
}

func TestNewestSegmentThatCannotBeReadDoesNotKeepTheLogFromOpening(t *testing.T) {
	disk, first, at := twoSegments(t)
	second := strings.Replace(first, "0001.", "0002.", 1)
	reads := 0
	disk.SetFault(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Read && op.Name == second {
			if reads++; reads > 1 { // the header is read
				return &waltest.Fault{Err: syscall.EIO}
			}
		}
		return nil
	})
	r := look(t, disk)
	disk.SetFault(nil)
	if reads < 2 || r.log.Segment() <= at[5].Segment {
		t.Errorf("%d reads, segment %d", reads, r.log.Segment())
	}
	r.wantRead(numbers(1, 8))
}

func TestEmptyFileOfAKilledProcessIsRemovedWithoutAWord(t *testing.T) {
	disk := waltest.New()
	var lines bytes.Buffer
	open := func() *wal.Log {
		l, err := wal.Open("/data", wal.Options{FS: disk, NoLock: true, SyncInterval: time.Minute, Logger: slog.New(slog.NewTextHandler(&lines, nil))})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := "/data/log/" + "00000000000000000007.seg"
	f, err := disk.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	l = open()
	defer l.Close()
	if s := l.Stats(); s.Corruptions != 0 || s.Current != 8 {
		t.Errorf("%d corruptions, current segment %d", s.Corruptions, s.Current)
	}
	if _, err := disk.Open(name); err == nil {
		t.Error("the empty file is still there")
	}
	if lines.Len() > 0 {
		t.Errorf("said: %s", lines.String())
	}
}

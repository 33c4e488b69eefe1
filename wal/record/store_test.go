package record

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"promagent/template"
	"promagent/wal"
)

// faultyFS is the real file system with switches.
type faultyFS struct {
	readOnly
	full    *atomic.Bool // writes fail
	unready *atomic.Bool // opening for reading fails
}

type faultyFile struct {
	readOnlyFile
	full *atomic.Bool
}

func (f faultyFile) WriteAt(b []byte, off int64) (int, error) {
	if f.full.Load() {
		return 0, syscall.EDQUOT
	}
	return f.File.WriteAt(b, off)
}

func (f faultyFile) Sync() error { return f.File.Sync() }

func (faultyFS) MkdirAll(dir string) error    { return os.MkdirAll(dir, 0o777) }
func (faultyFS) Remove(name string) error     { return os.Remove(name) }
func (faultyFS) Rename(from, to string) error { return os.Rename(from, to) }
func (faultyFS) Free(string) (free, all uint64, err error) {
	return 1 << 40, 1 << 40, nil
}

func (f faultyFS) Open(name string) (wal.File, error) {
	if f.unready.Load() {
		return nil, syscall.EMFILE
	}
	return f.readOnly.Open(name)
}

func (f faultyFS) OpenRW(name string) (wal.File, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	return faultyFile{readOnlyFile{file}, f.full}, nil
}

func newFaultyFS() faultyFS { return faultyFS{full: new(atomic.Bool), unready: new(atomic.Bool)} }

// appendRandom appends n scrapes of the block and returns what readers must see.
func appendRandom(t testing.TB, s *Store, r *rand.Rand, p *template.Part, n int) (want []string) {
	t.Helper()
	for range n {
		now := int64(1_700_000_000_000 + r.IntN(1e6))
		randomPart(r, p, now)
		if err := s.Append(&template.Batch{Time: now, Parts: []template.Part{*p}}); err != nil {
			t.Fatal(err)
		}
		want = append(want, p.Block.Target.Get("instance")+" "+text(p, now))
	}
	return want
}

func sameTexts(t testing.TB, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d records, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("record %d: got %s, want %s", i, got[i], want[i])
		}
	}
}

func TestRecordsGoOnInTheNextSegment(t *testing.T) {
	dir := t.TempDir()
	var now atomic.Int64
	now.Store(1_700_000_000)
	o := wal.Options{Now: func() time.Time { return time.Unix(now.Load(), 0) }}
	s, stop := openStore(t, dir, o, 1)
	r := rand.New(rand.NewPCG(1, 1))
	a, b := template.Part{Block: testBlock("a", 70)}, template.Part{Block: testBlock("b", 40)}
	var want []string
	for range 5 {
		want = append(want, appendRandom(t, s, r, &a, 3)...)
		want = append(want, appendRandom(t, s, r, &b, 2)...)
		now.Add(3 * 3600) // a segment ends at an age of two hours
	}
	got, es := readAll(t, s, wal.Pos{})
	sameTexts(t, got, want)
	segments := map[uint64]bool{}
	for i := range es {
		segments[es[i].Pos.Segment] = true
		if es[i].Anchor().Segment != es[i].Pos.Segment {
			t.Errorf("entry at %s leans on an anchor at %s", es[i].Pos, es[i].Anchor())
		}
	}
	if len(segments) < 5 {
		t.Errorf("all is in %d segments, want 5 at least", len(segments))
	}
	stop()
	s, stop = openStore(t, dir, wal.Options{}, 1)
	defer stop()
	want = append(want, appendRandom(t, s, r, &a, 3)...)
	got, _ = readAll(t, s, wal.Pos{})
	sameTexts(t, got, want)
}

func TestBatchesAreAcceptedWithoutADisk(t *testing.T) {
	dir, disk := t.TempDir(), newFaultyFS()
	s, stop := openStore(t, dir, wal.Options{FS: disk}, 1)
	r := rand.New(rand.NewPCG(1, 2))
	p := template.Part{Block: testBlock("a", 30)}
	want := appendRandom(t, s, r, &p, 3)
	disk.full.Store(true)
	want = append(want, appendRandom(t, s, r, &p, 40)...)
	got, _ := readAll(t, s, wal.Pos{})
	sameTexts(t, got, want)
	if st := s.Stats(); st.NotOnDisk == 0 || st.Batches != 43 {
		t.Errorf("got %+v, want 43 batches, some of them not on disk", st)
	}
	disk.full.Store(false)
	stop() // writes all
	s, stop = openStore(t, dir, wal.Options{FS: disk}, 1)
	defer stop()
	got, _ = readAll(t, s, wal.Pos{})
	sameTexts(t, got, want)
}

func TestARefusedBatchLeavesNothingBehind(t *testing.T) {
	s, stop := openStore(t, t.TempDir(), wal.Options{}, 1)
	r := rand.New(rand.NewPCG(1, 3))
	p := template.Part{Block: testBlock("a", 30)}
	want := appendRandom(t, s, r, &p, 2)

	closed, stopClosed := openStore(t, t.TempDir(), wal.Options{}, 1)
	stopClosed()
	refused := p
	randomPart(r, &refused, 5)
	if err := closed.Append(&template.Batch{Time: 5, Parts: []template.Part{refused}}); err == nil {
		t.Fatal("a closed log took a batch")
	}
	want = append(want, appendRandom(t, s, r, &p, 2)...)
	got, _ := readAll(t, s, wal.Pos{})
	sameTexts(t, got, want)
	stop()
}

// flip turns a byte of a file.
func flip(t *testing.T, path string, off int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[off] ^= 0x40
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func segmentFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("segments: %v, %v", files, err)
	}
	return files[0]
}

func TestACorruptBodyCostsWhatLeansOnIt(t *testing.T) {
	const records, bad = 3 * keyEvery, keyEvery + 10
	dir := t.TempDir()
	s, stop := openStore(t, dir, wal.Options{}, 1)
	r := rand.New(rand.NewPCG(1, 4))
	p := template.Part{Block: testBlock("a", 30)}
	want := appendRandom(t, s, r, &p, records)
	_, es := readAll(t, s, wal.Pos{})
	stop()
	flip(t, segmentFile(t, dir), int64(es[bad].End().Offset)-1)

	s, stop = openStore(t, dir, wal.Options{}, 1)
	defer stop()
	es, _, err := s.Entries(nil, wal.Pos{}, records+1)
	if err != nil || len(es) != records {
		t.Fatalf("got %d entries, %v", len(es), err)
	}
	for _, alone := range []bool{false, true} {
		var got, lost []int
		var samples uint64
		load := func(es []Entry, first int) {
			if err := s.LoadEach(es, func(i int, p *template.Part, at int64) error {
				if text := "a " + text(p, at); text != want[first+i] {
					t.Errorf("record %d: got %s, want %s", first+i, text, want[first+i])
				}
				got = append(got, first+i)
				return nil
			}, func(i int, err error) {
				if !errors.Is(err, wal.ErrCorrupt) {
					t.Errorf("record %d is lost for %v, want corruption", first+i, err)
				}
				lost = append(lost, first+i)
				samples += uint64(es[i].Samples)
			}); err != nil {
				t.Fatal(err)
			}
		}
		before := s.Stats()
		if alone {
			for i := range es {
				load(es[i:i+1], i)
			}
		} else {
			load(es, 0)
		}
		if len(lost) != 2*keyEvery-bad || lost[0] != bad || lost[len(lost)-1] != 2*keyEvery-1 || len(got)+len(lost) != records {
			t.Errorf("alone=%v: lost %v, want %d to %d", alone, lost, bad, 2*keyEvery-1)
		}
		if st := s.Stats(); st.Unreadable-before.Unreadable != uint64(len(lost)) || st.UnreadableSamples-before.UnreadableSamples != samples {
			t.Errorf("alone=%v: got %+v, want %d records and %d samples more than %+v", alone, st, len(lost), samples, before)
		}
	}
}

func TestACorruptAnchorCostsItsBlockInTheSegment(t *testing.T) {
	dir := t.TempDir()
	s, stop := openStore(t, dir, wal.Options{}, 1)
	r := rand.New(rand.NewPCG(1, 5))
	a, b := template.Part{Block: testBlock("a", 30)}, template.Part{Block: testBlock("b", 30)}
	appendRandom(t, s, r, &a, 1)
	want := appendRandom(t, s, r, &b, 1)
	appendRandom(t, s, r, &a, 1)
	want = append(want, appendRandom(t, s, r, &b, 1)...)
	_, es := readAll(t, s, wal.Pos{})
	stop()
	flip(t, segmentFile(t, dir), int64(es[0].Anchor().Offset)+40)

	s, stop = openStore(t, dir, wal.Options{}, 1)
	defer stop()
	es, _, err := s.Entries(nil, wal.Pos{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	lost := 0
	for i := range es {
		if err := s.LoadEach(es[i:i+1], func(_ int, p *template.Part, at int64) error {
			got = append(got, p.Block.Target.Get("instance")+" "+text(p, at))
			return nil
		}, func(int, error) { lost++ }); err != nil {
			t.Fatal(err)
		}
	}
	sameTexts(t, got, want)
	if lost != 2 {
		t.Errorf("%d records are lost, want 2", lost)
	}
}

func TestADiskThatCannotBeReadNowLosesNothing(t *testing.T) {
	dir, disk := t.TempDir(), newFaultyFS()
	s, stop := openStore(t, dir, wal.Options{FS: disk}, 1)
	p := template.Part{Block: testBlock("a", 30)}
	want := appendRandom(t, s, rand.New(rand.NewPCG(1, 6)), &p, 3)
	stop()
	s, stop = openStore(t, dir, wal.Options{FS: disk}, 1)
	defer stop()
	es, _, err := s.Entries(nil, wal.Pos{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	s.log.Close() // lets go of the open files
	disk.unready.Store(true)
	never := func(i int, err error) { t.Errorf("entry %d is given up: %v", i, err) }
	if err := s.LoadEach(es, func(int, *template.Part, int64) error { return errors.New("called") }, never); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got %v, want the disk's error", err)
	}
	disk.unready.Store(false)
	var got []string
	if err := s.LoadEach(es, func(_ int, p *template.Part, at int64) error {
		got = append(got, "a "+text(p, at))
		return nil
	}, never); err != nil {
		t.Fatal(err)
	}
	sameTexts(t, got, want)
}

func TestRingAndFileGiveEqualParts(t *testing.T) {
	dir := t.TempDir()
	s, stop := openStore(t, dir, wal.Options{}, 1<<30)
	p := template.Part{Block: testBlock("a", 50)}
	want := appendRandom(t, s, rand.New(rand.NewPCG(1, 7)), &p, 70)
	ring, es := readAll(t, s, wal.Pos{})
	sameTexts(t, ring, want)
	for i := range es {
		if s.ring.get(es[i].Pos) == nil {
			t.Fatalf("entry %d is not in the ring", i)
		}
	}
	cold := NewStore(s.log, Options{RingBytes: 1})
	file, _ := readAll(t, cold, wal.Pos{})
	sameTexts(t, file, want)

	// Every other one in the ring.
	for i := 0; i < len(es); i += 2 {
		delete(s.ring.parts, es[i].Pos)
	}
	mixed, _ := readAll(t, s, wal.Pos{})
	sameTexts(t, mixed, want)
	got := 0
	if err := s.Load(es, func(i int, p *template.Part, at int64) error {
		got++
		if text := "a " + text(p, at); text != want[i] {
			t.Errorf("record %d: got %s, want %s", i, text, want[i])
		}
		return nil
	}); err != nil || got != len(es) {
		t.Errorf("got %d of %d entries, %v", got, len(es), err)
	}
	stop()
}

func TestTheRingIsBounded(t *testing.T) {
	s, stop := openStore(t, t.TempDir(), wal.Options{}, 20_000)
	defer stop()
	p := template.Part{Block: testBlock("a", 500), Values: make([]float64, 500)}
	for i := range 20 {
		if err := s.Append(&template.Batch{Time: int64(i), Parts: []template.Part{p}}); err != nil {
			t.Fatal(err)
		}
		s.ring.get(s.End()) // somebody keeps up
	}
	if len(s.ring.parts) != 4 || s.ring.bytes > 20_000 {
		t.Errorf("%d parts of %d bytes, want 4 of at most 20000", len(s.ring.parts), s.ring.bytes)
	}
}

func TestABlockInUseIsSharedWithReaders(t *testing.T) {
	dir := t.TempDir()
	s, stop := openStore(t, dir, wal.Options{}, 1)
	r := rand.New(rand.NewPCG(1, 8))
	p := template.Part{Block: testBlock("a", 50)}
	appendRandom(t, s, r, &p, 2)
	_, es := readAll(t, s, wal.Pos{})
	old := es[0].Anchor()
	if b, err := s.Block(old); err != nil || b != p.Block {
		t.Errorf("got block %p, %v, want the scrape's, %p", b, err, p.Block)
	}
	stop()

	// The next process finds the block of an earlier segment among its own, by content.
	s, stop = openStore(t, dir, wal.Options{}, 1)
	defer stop()
	p = template.Part{Block: testBlock("a", 50)}
	appendRandom(t, s, r, &p, 1)
	if b, err := s.Block(old); err != nil || b != p.Block {
		t.Errorf("got block %p, %v, want the scrape's, %p", b, err, p.Block)
	}
	// What nobody uses is decoded, and not kept beyond the bound.
	s.blocks.limit = 1
	p = template.Part{Block: testBlock("b", 1)}
	appendRandom(t, s, r, &p, 1) // in the ring now, in place of the other
	runtime.GC()
	runtime.GC()
	if s.blocks.find(old) != nil {
		t.Error("the store keeps a block alive that no scrape uses")
	}
	b, err := s.Block(old)
	if err != nil || b.Len() != 50 {
		t.Fatalf("got %v, %v", b, err)
	}
	if again, err := s.Block(old); err != nil || again != b {
		t.Errorf("got another block, %v", err)
	}
	if s.blocks.order.Len() != 1 {
		t.Errorf("%d decoded blocks are kept, want 1", s.blocks.order.Len())
	}
}

func TestKnownAnchorsAreBounded(t *testing.T) {
	c := blocks{limit: 1 << 20}
	b := testBlock("a", 1)
	for i := range uint64(3 * maxAnchors) {
		c.register(wal.Pos{Segment: i}, content{1}, b, i/2)
	}
	if n := len(c.byAnchor); n > 2*maxAnchors {
		t.Errorf("%d anchors are known, want %d at most", n, 2*maxAnchors)
	}
	if c.find(wal.Pos{Segment: 3*maxAnchors - 1}) != b {
		t.Error("the newest is not known")
	}
	runtime.KeepAlive(b)
}

func TestTheNewestTimeIsKnownAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s, stop := openStore(t, dir, wal.Options{}, 1)
	if _, at := s.Newest(); at != 0 {
		t.Errorf("got %d of an empty log", at)
	}
	p := template.Part{Block: testBlock("a", 3), Values: make([]float64, 3)}
	for _, at := range []int64{1000, 3000, 2000} {
		if err := s.Append(&template.Batch{Time: at, Parts: []template.Part{p}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, at := s.Newest(); at != 3000 {
			t.Errorf("got %d, want 3000", at)
		}
		stop()
		s, stop = openStore(t, dir, wal.Options{}, 1)
	}
	stop()
}

func TestManyAppendAndRead(t *testing.T) {
	s, stop := openStore(t, t.TempDir(), wal.Options{}, 50_000)
	defer stop()
	const targets, scrapes = 8, 80
	var mu sync.Mutex // guards want
	want := map[string][]string{}
	var writers sync.WaitGroup
	for g := range targets {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 9))
			name := fmt.Sprint("t", g)
			p := template.Part{Block: testBlock(name, 20)}
			q := template.Part{Block: testBlock(name, 10)}
			for i := range scrapes {
				now := int64(i)
				randomPart(r, &p, now)
				randomPart(r, &q, now)
				mu.Lock()
				want[name] = append(want[name], text(&p, now), text(&q, now))
				mu.Unlock()
				if err := s.Append(&template.Batch{Time: now, Parts: []template.Part{p, q}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			got := map[string][]string{}
			at, n := wal.Pos{}, 0
			for n < targets*scrapes*2 {
				changed := s.Changed()
				es, next, err := s.Entries(nil, at, 5)
				if err != nil {
					t.Error(err)
					return
				}
				for i := range es {
					if i > 0 && !es[i-1].Pos.Less(es[i].Pos) {
						t.Errorf("%s follows %s", es[i].Pos, es[i-1].Pos)
					}
					if err := s.Load(es[i:i+1], func(_ int, p *template.Part, at int64) error {
						name := p.Block.Target.Get("instance")
						got[name] = append(got[name], text(p, at))
						n++
						return nil
					}); err != nil {
						t.Error(err)
					}
				}
				if len(es) == 0 && next == at {
					<-changed
				}
				at = next
			}
			mu.Lock()
			defer mu.Unlock()
			for name := range want {
				if !slices.Equal(got[name], want[name]) {
					t.Errorf("what was read of %s is not what was appended", name)
				}
			}
		})
	}
	writers.Wait()
	readers.Wait()
}

func TestALogCanBeLookedAtWhileItIsInUse(t *testing.T) {
	dir := t.TempDir()
	s, stop := openStore(t, dir, wal.Options{}, 1)
	defer stop()
	block := testBlock("a", 3)
	batches := []template.Batch{
		{Time: 1000, Parts: []template.Part{{Block: block, Values: []float64{1, 2.5, 3}, Starts: []int64{0, 500, 0}}}},
		{Time: 2000, Parts: []template.Part{{Block: block, Values: []float64{2, 2.5, 0}, States: []template.State{0, 2, 1},
			Times: []int64{1500, template.NoTime, template.NoTime},
			Extra: []template.Extra{{Slot: 0, Kind: template.Sample, Time: 1600, Value: 7}, {Slot: 0, Kind: template.Exemplar, Time: 1400, Value: 9, Labels: []string{"trace_id", "x"}}}}}},
	}
	for i := range batches {
		if err := s.Append(&batches[i]); err != nil {
			t.Fatal(err)
		}
	}
	files := func() (all []string) {
		err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
			all = append(all, fmt.Sprint(path, fi.Size(), fi.ModTime()))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := files()
	look, done, err := OpenReadOnly(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := look.Dump(&out); err != nil {
		t.Fatal(err)
	}
	const name = `{__name__="metric", i="%d", instance="a", job="test"}`
	want := strings.NewReplacer("#0", fmt.Sprintf(name, 0), "#1", fmt.Sprintf(name, 1), "#2", fmt.Sprintf(name, 2)).Replace(
		`1970-01-01T00:00:01.000Z #0 1
1970-01-01T00:00:01.000Z #1 2.5 start=1970-01-01T00:00:00.500Z
1970-01-01T00:00:01.000Z #2 3
1970-01-01T00:00:01.500Z #0 2
1970-01-01T00:00:01.600Z #0 7
exemplar 1970-01-01T00:00:01.400Z #0 9 {trace_id="x"}
1970-01-01T00:00:02.000Z #2 stale
`)
	if out.String() != want {
		t.Errorf("got\n%s, want\n%s", out.String(), want)
	}
	var all []Segment
	if err := checkAll(look, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("got %+v, want one segment", all)
	}
	got := all[0]
	if got.Anchors != 1 || got.Records != 2 || got.Slots != 3 || got.Samples != 6 || got.From != 1000 || got.To != 2000 || got.Torn || got.Unreadable != 0 || got.BytesPerSample() == 0 {
		t.Errorf("got %+v", got)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	if after := files(); !slices.Equal(after, before) {
		t.Errorf("the directory was changed: %v, before %v", after, before)
	}
	if _, _, err := OpenReadOnly(filepath.Join(dir, "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v of a directory that does not exist", err)
	}
}

// checkAll collects the segments that a check finds.
func checkAll(s *Store, all *[]Segment) error {
	_, err := s.Check(Check{Segment: func(s Segment) error { *all = append(*all, s); return nil }})
	return err
}

func TestDamageIsSeen(t *testing.T) {
	dir := t.TempDir()
	s, stop := openStore(t, dir, wal.Options{}, 1)
	p := template.Part{Block: testBlock("a", 30)}
	appendRandom(t, s, rand.New(rand.NewPCG(1, 10)), &p, 5)
	_, es := readAll(t, s, wal.Pos{})
	stop()
	file := segmentFile(t, dir)
	flip(t, file, int64(es[2].End().Offset)-1)
	if err := os.Truncate(file, int64(es[4].End().Offset)-1); err != nil {
		t.Fatal(err)
	}
	look, done, err := OpenReadOnly(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	var all []Segment
	if err := checkAll(look, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || !all[0].Torn || all[0].Unreadable != 2 || all[0].Records != 4 {
		t.Errorf("got %+v, want 4 records, two of them unreadable, and a torn end", all)
	}
	var out bytes.Buffer
	if err := look.Dump(&out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "# "); n != 2 { // the corrupt one, and the one after it
		t.Errorf("%d records are said to be unreadable, want 2:\n%s", n, out.String())
	}
}

package record

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
	"promagent/wal"
)

// testBlock has n slots of one schema.
func testBlock(target string, n int) *template.Block {
	b := template.NewBuilder(labels.FromStrings("instance", target, "job", "test"))
	sc := template.Intern(template.Schema{Name: "metric", Labels: []string{"i"}, Family: "metric", Type: "gauge", Help: "A metric."})
	for i := range n {
		b.Add(sc, []string{fmt.Sprint(i)})
	}
	return b.Block()
}

// randomPart moves a part on by one scrape: every kind of value, state, time and extra.
func randomPart(r *rand.Rand, p *template.Part, t int64) {
	n := p.Block.Len()
	if p.Values == nil {
		p.Values = make([]float64, n)
	}
	p.States, p.Times, p.Starts, p.Extra = nil, nil, nil, nil
	if r.IntN(3) == 0 {
		p.States = make([]template.State, n)
	}
	if r.IntN(3) == 0 {
		p.Times = make([]int64, n)
	}
	if r.IntN(4) == 0 {
		p.Starts = make([]int64, n)
	}
	for i := range n {
		if p.States != nil {
			p.States[i] = template.State(r.IntN(3))
		}
		if p.Times != nil {
			p.Times[i] = template.NoTime
			if r.IntN(2) == 0 {
				p.Times[i] = t - r.Int64N(20000)
			}
		}
		if p.Starts != nil && r.IntN(2) == 0 {
			p.Starts[i] = t - r.Int64N(1e9)
		}
		switch r.IntN(12) {
		case 0, 1, 2:
		case 3:
			p.Values[i] += float64(r.IntN(100))
		case 4:
			p.Values[i] = math.Round(p.Values[i]*100)/100 + float64(r.IntN(100))/100
		case 5:
			p.Values[i] = r.NormFloat64()
		case 6:
			p.Values[i] = math.Float64frombits(r.Uint64())
		case 7:
			p.Values[i] = [...]float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), 1 << 53, 1<<53 - 1, -1 << 53, 1 << 62, math.MaxFloat64, 5e-324}[r.IntN(11)]
		case 8:
			p.Values[i] = float64(r.Int64())
		default:
			p.Values[i] = float64(r.IntN(1000)) / [...]float64{1, 10, 1000, 1e7}[r.IntN(4)]
		}
	}
	for i := range n {
		if r.IntN(20) == 0 {
			p.Extra = append(p.Extra, template.Extra{Slot: i, Kind: template.Sample, Time: t - 5, Value: r.Float64()})
		}
		if r.IntN(20) == 0 {
			p.Extra = append(p.Extra, template.Extra{Slot: i, Kind: template.Exemplar, Time: t, Value: 1, Labels: []string{"trace_id", fmt.Sprint(r.Uint64())}})
		}
	}
}

// text renders a part for comparison: bits of what is defined.
func text(p *template.Part, t int64) string {
	out := fmt.Sprint(t, p.Samples(), p.Extra)
	for i := range p.Block.Len() {
		switch p.State(i) {
		case template.Value:
			ts, start := int64(template.NoTime), int64(0)
			if p.Times != nil {
				ts = p.Times[i]
			}
			if p.Starts != nil {
				start = p.Starts[i]
			}
			out += fmt.Sprintf(" %x@%d<%d", math.Float64bits(p.Values[i]), ts, start)
		default:
			out += fmt.Sprint(" ", p.State(i))
		}
	}
	return out
}

func openStore(t testing.TB, dir string, o wal.Options, ring int64) (s *Store, stop func()) {
	t.Helper()
	if o.SyncInterval == 0 {
		o.SyncInterval = time.Hour
	}
	l, err := wal.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return NewStore(l, Options{RingBytes: ring}), func() {
		cancel()
		<-done
		l.Close()
	}
}

// readAll reads the whole log from a position.
func readAll(t testing.TB, s *Store, from wal.Pos) (texts []string, es []Entry) {
	t.Helper()
	for {
		got, next, err := s.Entries(nil, from, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			n := len(texts)
			if err := s.Load([]Entry{e}, func(_ int, p *template.Part, at int64) error {
				texts = append(texts, p.Block.Target.Get("instance")+" "+text(p, at))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if len(texts) != n+1 {
				t.Fatalf("entry at %s was not readable", e.Pos)
			}
		}
		es = append(es, got...)
		if next == from {
			return texts, es
		}
		from = next
	}
}

func TestWhatWasAppendedIsReadFromEveryPlaceAndAfterARestart(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		dir := t.TempDir()
		var want []string
		for range 3 { // processes
			ring := int64(1)
			if r.IntN(2) == 0 {
				ring = 1 << 20
			}
			s, stop := openStore(t, dir, wal.Options{}, ring)
			a, b := testBlock("a", 1+r.IntN(80)), testBlock("b", 1+r.IntN(80))
			pa, pb := template.Part{Block: a}, template.Part{Block: b}
			for range 1 + r.IntN(70) {
				now := int64(1_700_000_000_000 + r.IntN(1e6))
				randomPart(r, &pa, now)
				randomPart(r, &pb, now)
				batch := template.Batch{Time: now, Parts: []template.Part{pa, pb}[:1+r.IntN(2)]}
				if err := s.Append(&batch); err != nil {
					t.Fatal(err)
				}
				for i := range batch.Parts {
					want = append(want, batch.Parts[i].Block.Target.Get("instance")+" "+text(&batch.Parts[i], now))
				}
			}
			got, es := readAll(t, s, wal.Pos{})
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("seed %d: read %d records, appended %d; or they differ", seed, len(got), len(want))
			}
			// Entries of one block, several at a time and from any one on.
			byBlock := map[BlockID][]int{}
			for i, e := range es {
				byBlock[e.Anchor()] = append(byBlock[e.Anchor()], i)
			}
			for _, indexes := range byBlock {
				first := r.IntN(len(indexes))
				var some []Entry
				for _, i := range indexes[first:] {
					some = append(some, es[i])
				}
				n := 0
				if err := s.Load(some, func(i int, p *template.Part, at int64) error {
					n++
					if got := p.Block.Target.Get("instance") + " " + text(p, at); got != want[indexes[first+i]] {
						t.Fatalf("seed %d: got %s, want %s", seed, got, want[indexes[first+i]])
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if n != len(some) {
					t.Fatalf("seed %d: %d of %d entries loaded", seed, n, len(some))
				}
			}
			stop()
		}
	}
}

// seedBodies are records of all kinds of parts of the block.
func seedBodies(b *template.Block, n int) (bodies [][]byte) {
	r := rand.New(rand.NewPCG(1, 2))
	p := template.Part{Block: b}
	var e encoder
	for range n {
		randomPart(r, &p, 1000)
		bodies = append(bodies, e.next(nil, &p, 1000))
	}
	return bodies
}

func FuzzDecodeRecord(f *testing.F) {
	b := testBlock("a", 50)
	for _, body := range seedBodies(b, 10) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := parseLinks(body)
		if err != nil {
			return
		}
		var c column
		c.reset(b)
		if err := c.decode(body, l, 1000); err != nil {
			if !errors.Is(err, wal.ErrCorrupt) {
				t.Fatalf("%v is not said to be corruption", err)
			}
			return
		}
		// What can be decoded is a part: it can be encoded, and is the same then.
		p := c.part
		want := text(&p, 1000)
		var st template.LogState
		again := AppendRecord(nil, &p, 1000, true, &st)
		if l, err = parseLinks(again); err != nil {
			t.Fatal(err)
		}
		var d column
		d.reset(b)
		if err := d.decode(again, l, 1000); err != nil {
			t.Fatal(err)
		}
		if got := text(&d.part, 1000); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

func FuzzDecodeAnchor(f *testing.F) {
	f.Add(AppendAnchor(nil, testBlock("a", 50)))
	f.Add(AppendAnchor(nil, shapes(100)[3].block))
	f.Fuzz(func(t *testing.T, body []byte) {
		if n, err := s2.DecodedLen(body); err == nil && n > 1<<20 {
			return // what a body claims may be allocated
		}
		b, err := DecodeAnchor(body)
		if err != nil {
			return
		}
		again, err := DecodeAnchor(AppendAnchor(nil, b))
		if err != nil {
			t.Fatal(err)
		}
		if again.Len() != b.Len() || !bytes.Equal(again.AppendTo(nil), b.AppendTo(nil)) {
			t.Fatal("does not round trip")
		}
	})
}

// chain is a block's records without a log: what a reader gets that begins at the key.
type chain struct {
	block  *template.Block
	bodies [][]byte
	want   []string
}

func (c *chain) check(t *testing.T) {
	t.Helper()
	for start := range c.bodies {
		key := start - start%keyEvery
		var col column
		col.reset(c.block)
		for i := key; i <= min(start+1, len(c.bodies)-1); i++ {
			l, err := parseLinks(c.bodies[i])
			if err == nil {
				err = col.decode(c.bodies[i], l, int64(i))
			}
			if err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
			if i < start {
				continue
			}
			if got := text(&col.part, int64(i)); got != c.want[i] {
				t.Fatalf("record %d, read from %d on: got %s, want %s", i, start, got, c.want[i])
			}
		}
	}
}

// The bytes say what 40 scrapes expose: pieces of them are states, times and
// values, as raw bits or moved by what the scrape before had.
func FuzzRoundTrip(f *testing.F) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 11))
		b := make([]byte, 4000)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b, uint8(7+seed))
	}
	f.Add(bytes.Repeat([]byte{3, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f}, 40), uint8(1)) // NaN
	f.Add(bytes.Repeat([]byte{2, 0x80}, 40), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, slots uint8) {
		n := 1 + int(slots)%70
		c := chain{block: testBlock("a", n)}
		p := template.Part{Block: c.block, Values: make([]float64, n)}
		take := func(k int) (u uint64) {
			for i := range min(k, len(data)) {
				u |= uint64(data[i]) << (8 * i)
			}
			data = data[min(k, len(data)):]
			return u
		}
		var e encoder
		for scrape := range 40 {
			shape := take(1)
			p.States, p.Times, p.Starts, p.Extra = nil, nil, nil, nil
			if shape&1 != 0 {
				p.States = make([]template.State, n)
			}
			if shape&2 != 0 {
				p.Times = make([]int64, n)
			}
			if shape&4 != 0 {
				p.Starts = make([]int64, n)
			}
			for i := range n {
				if p.States != nil {
					p.States[i] = template.State(take(1) % 3)
				}
				if p.Times != nil {
					p.Times[i] = int64(take(2)) - 1000
					if shape&8 != 0 {
						p.Times[i] = int64(take(8))
					}
				}
				if p.Starts != nil {
					p.Starts[i] = int64(take(1)) * 1e9
				}
				switch op := take(1); op % 6 {
				case 0:
				case 1:
					p.Values[i] += float64(int8(take(1)))
				case 2:
					p.Values[i] = float64(int64(take(8)))
				case 3:
					p.Values[i] = math.Float64frombits(take(8))
				case 4:
					p.Values[i] = float64(int32(take(4))) / math.Pow(10, float64(op/6%16))
				case 5:
					p.Values[i] += float64(int16(take(2))) / math.Pow(10, float64(op/6%10))
				}
			}
			if shape&16 != 0 {
				p.Extra = append(p.Extra, template.Extra{Slot: int(take(1)) % n, Kind: template.Sample, Time: int64(take(8)), Value: math.Float64frombits(take(8))})
			}
			c.bodies = append(c.bodies, e.next(nil, &p, int64(scrape)))
			c.want = append(c.want, text(&p, int64(scrape)))
		}
		c.check(t)
	})
}

func TestDecimalsAreFewBytes(t *testing.T) {
	for _, c := range []struct {
		name    string
		at      func(i int) float64
		perNext float64 // bytes of a record after the key, its head excluded
	}{
		{"seconds of a CPU, in hundredths", func(i int) float64 { return float64(123456700+i*1417) / 100 }, 3},
		{"seconds of a container, in nanoseconds", func(i int) float64 { return float64(12345678901234+i*1234567) / 1e9 }, 5},
		{"a temperature", func(i int) float64 { return 21.5 + float64(i%3)/10 }, 2},
		{"bytes that move by whole numbers", func(i int) float64 { return float64(1<<36 + i*3000) }, 3},
		{"a fraction that moves by whole numbers", func(i int) float64 { return 8123.03125 + float64(i*20) }, 2},
		{"numbers of pages", func(i int) float64 { return float64((1<<20 + i*i*i*77777) * 4096) }, 7},
	} {
		block := testBlock("a", 1)
		var e encoder
		total := 0
		ch := chain{block: block}
		for i := range keyEvery {
			p := template.Part{Block: block, Values: []float64{c.at(i)}}
			body := e.next(nil, &p, int64(i))
			ch.bodies, ch.want = append(ch.bodies, body), append(ch.want, text(&p, int64(i)))
			if i > 1 { // the second announces the decimals at the latest
				total += len(body) - 11
			}
		}
		ch.check(t)
		if got := float64(total) / (keyEvery - 2); got > c.perNext {
			t.Errorf("%s: %.1f bytes, want at most %.1f", c.name, got, c.perNext)
		}
	}
}

func TestStartsAreWrittenOnce(t *testing.T) {
	const n = 100
	block := testBlock("a", n)
	p := template.Part{Block: block, Values: make([]float64, n), Starts: make([]int64, n)}
	for i := range p.Starts {
		p.Starts[i] = 1_700_000_000_000 + int64(i*i*7919)
	}
	var e encoder
	ch := chain{block: block}
	for i := range keyEvery + 4 {
		p.States = nil
		switch i {
		case 3: // a slot without a value keeps its start
			p.States = make([]template.State, n)
			p.States[7] = template.Absent
		case 5:
			p.Starts[9]++
		}
		body := e.next(nil, &p, int64(i))
		ch.bodies, ch.want = append(ch.bodies, body), append(ch.want, text(&p, int64(i)))
		if full := i%keyEvery == 0 || i == 5; full != (len(body) > 100) {
			t.Errorf("record %d takes %d bytes", i, len(body))
		}
	}
	ch.check(t)
}

func TestOldTimestampsAreFewBytes(t *testing.T) {
	// As in cAdvisor: each of 50 containers is measured at a time of its own, 20 metrics long.
	const n = 1000
	r := rand.New(rand.NewPCG(5, 5))
	p := template.Part{Block: testBlock("a", n), Values: make([]float64, n), Times: make([]int64, n)}
	var e encoder
	total := 0
	for scrape := range 10 {
		for i := range 50 {
			at := int64(scrape*15000) - r.Int64N(10000)
			for k := i; k < n; k += 50 {
				p.Times[k] = at
			}
		}
		total += len(e.next(nil, &p, int64(scrape*15000)))
	}
	if got := float64(total) / (10 * n); got > 0.5 {
		t.Errorf("%.2f bytes per sample for times, want at most 0.5", got)
	}
}

func TestEncodingAndDecodingDoNotAllocate(t *testing.T) {
	s := shapes(1000)[3]
	columns := s.columns(keyEvery)
	p := template.Part{Block: s.block}
	var e encoder
	var buf []byte
	var c column
	c.reset(s.block)
	got := testing.AllocsPerRun(100, func() {
		p.Values = columns[e.n%keyEvery]
		buf = e.next(buf[:0], &p, 1000)
		l, err := parseLinks(buf)
		if err == nil {
			err = c.decode(buf, l, 1000)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations per record, want none", got)
	}
}

// go test ./wal/record -run Golden -update writes the current format's bytes;
// those of older formats stay as they are.
var update = flag.Bool("update", false, "write testdata anew")

func TestGoldensOfFormat1AreRead(t *testing.T) {
	dir := filepath.Join("testdata", "v1")
	b := testBlock("golden", 12)
	r := rand.New(rand.NewPCG(1, 1))
	p := template.Part{Block: b}
	var e encoder
	var want strings.Builder
	files := map[string][]byte{"anchor.bin": AppendAnchor(nil, b)}
	for i := range 6 {
		randomPart(r, &p, 1000)
		files[fmt.Sprintf("record%d.bin", i)] = e.next(nil, &p, 1000)
		fmt.Fprintln(&want, text(&p, 1000))
	}
	files["want.txt"] = []byte(want.String())
	if *update {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		for name, body := range files {
			if err := os.WriteFile(filepath.Join(dir, name), body, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(name string) []byte {
		body, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	block, err := DecodeAnchor(read("anchor.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(block.AppendTo(nil), b.AppendTo(nil)) {
		t.Error("the golden anchor is another block")
	}
	var c column
	c.reset(block)
	var got strings.Builder
	for i := range 6 {
		name := fmt.Sprintf("record%d.bin", i)
		body := read(name)
		l, err := parseLinks(body)
		if err == nil {
			err = c.decode(body, l, 1000)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		fmt.Fprintln(&got, text(&c.part, 1000))
		if l.flags&(flagTimes|flagStarts) == 0 && !bytes.Equal(body, files[name]) { // S2 may pack otherwise elsewhere
			t.Errorf("%s: records are written otherwise now; is that version %d?", name, version)
		}
	}
	if got.String() != string(read("want.txt")) {
		t.Errorf("got %s, want %s", got.String(), read("want.txt"))
	}
}

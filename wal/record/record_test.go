package record

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

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
		got, next, err := s.Entries(from, 7)
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
				byBlock[e.Block] = append(byBlock[e.Block], i)
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

func FuzzDecodeRecord(f *testing.F) {
	b := testBlock("a", 50)
	r := rand.New(rand.NewPCG(1, 2))
	p := template.Part{Block: b}
	var e encoder
	for range 10 {
		randomPart(r, &p, 1000)
		f.Add(e.next(nil, &p, 1000))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		l, err := parseLinks(body)
		if err != nil {
			return
		}
		var c column
		c.reset(b)
		if c.decode(body, l, 1000) == nil && c.part.Samples() < 0 {
			t.Fatal("negative number of samples")
		}
	})
}

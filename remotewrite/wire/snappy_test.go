package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/relabel"
)

// packs checks that Snappy's decoders read what it makes, and returns its length.
func packs(t *testing.T, s *Snappy, src []byte) int {
	t.Helper()
	packed := s.Append([]byte("before"), src)
	if !bytes.HasPrefix(packed, []byte("before")) {
		t.Fatal("what was before is gone")
	}
	packed = packed[len("before"):]
	for name, decode := range map[string]func(dst, src []byte) ([]byte, error){"s2": s2.Decode, "snappy": snappy.Decode} {
		got, err := decode(nil, packed)
		if err != nil || !bytes.Equal(got, src) {
			t.Fatalf("%s reads %d bytes of %d: %v", name, len(got), len(src), err)
		}
	}
	if most := snappy.MaxEncodedLen(len(src)); len(packed) > most {
		t.Errorf("%d bytes became %d, at most %d", len(src), len(packed), most)
	}
	return len(packed)
}

// backlog is the request of a target's series in a window: labels, and then
// samples of which a share moves.
func backlog(rnd *rand.Rand, series, samples int) []byte {
	e := NewEncoder(false)
	plan := NewPlans(relabel.Rules{}, labels.FromStrings("cluster", "x")).Block(podBlock("http_requests_total", "10.0.0.1:80", series))
	times := make([]int64, samples)
	for i := range times {
		times[i] = 1_700_000_000_000 + 15_000*int64(i) + rnd.Int64N(3)
	}
	values := make([]float64, samples)
	for slot := range series {
		v := float64(rnd.IntN(1 << 20))
		for i := range values {
			switch slot % 3 {
			case 0:
				v += float64(rnd.IntN(1000))
			case 1:
				v = rnd.Float64()
			}
			values[i] = v
		}
		e.Add(plan, slot, Samples{Times: times, Values: values})
	}
	return bytes.Clone(e.Request())
}

func TestABacklogIsPackedAsSmallAsByS2Better(t *testing.T) {
	t.Parallel()
	var s Snappy
	ours, better, fast := 0, 0, 0
	for seed := range uint64(20) {
		raw := backlog(rand.New(rand.NewPCG(seed, 1)), 20+int(seed), 64)
		ours += packs(t, &s, raw)
		better += len(s2.EncodeSnappyBetter(nil, raw))
		fast += len(s2.EncodeSnappy(nil, raw))
	}
	t.Logf("ours %d, better %d, fast %d", ours, better, fast)
	if ours > better {
		t.Errorf("%d bytes; the better encoder of s2 makes %d, the fast one %d", ours, better, fast)
	}
}

func TestSnappyPacksWhateverItGets(t *testing.T) {
	t.Parallel()
	var s Snappy
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 15, 16, 17, 18, 25, 59, 60, 61, 255, 256, 257, 2047, 2048, 2049, pieceSize - 1, pieceSize, pieceSize + 1, 3*pieceSize + 20} {
		packs(t, &s, make([]byte, n))
		for _, letters := range []int{2, 3, 256} {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(rnd.IntN(letters))
			}
			packs(t, &s, b)
		}
		period := make([]byte, n) // copies of every length and offset
		for i := range period {
			period[i] = byte(i % (1 + n/3))
			if rnd.IntN(100) == 0 {
				period[i] = byte(rnd.IntN(256))
			}
		}
		packs(t, &s, period)
	}
}

func FuzzSnappy(f *testing.F) {
	f.Add([]byte("a request, a request, a request, and another one"), uint16(3))
	f.Add(backlog(rand.New(rand.NewPCG(1, 1)), 5, 20), uint16(40))
	f.Fuzz(func(t *testing.T, b []byte, times uint16) {
		var s Snappy
		packs(t, &s, b)
		for len(b) > 0 && len(b) < 1<<17 && times > 0 { // the same again, shifted and changed
			b = append(b, b[len(b)/3:]...)
			b[int(times)%len(b)]++
			times /= 2
		}
		packs(t, &s, b)
		packs(t, &s, b[:len(b)/2]) // with the tables of the one before
	})
}

func BenchmarkPackABacklog(b *testing.B) {
	raw := backlog(rand.New(rand.NewPCG(1, 1)), 31, 64)
	var s Snappy
	dst := make([]byte, 0, s2.MaxEncodedLen(len(raw)))
	for name, pack := range map[string]func() []byte{
		"ours":   func() []byte { return s.Append(dst, raw) },
		"better": func() []byte { return s2.EncodeSnappyBetter(dst[:cap(dst)], raw) },
		"fast":   func() []byte { return s2.EncodeSnappy(dst[:cap(dst)], raw) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				pack()
			}
			b.ReportMetric(float64(len(pack()))/float64(31*64), "B/sample")
		})
	}
}

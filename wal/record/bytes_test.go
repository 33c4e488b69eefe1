package record

import (
	"testing"

	"promagent/template"
)

// encoder is what the log keeps of a block between records.
type encoder struct {
	st template.LogState
	n  int
}

func (e *encoder) next(dst []byte, p *template.Part, t int64) []byte {
	key := e.n%keyEvery == 0
	e.n++
	e.st.Key, e.st.Last = 48, 48
	return AppendRecord(dst, p, t, key, &e.st)
}

// The budget is of the log as a whole: an anchor in about 50 records, keys included.
func TestRecordsAndAnchorsAreSmall(t *testing.T) {
	const scrapes, series = 64, 1000
	records, anchors := 0, 0
	all := shapes(series)
	for _, s := range all {
		anchor := len(AppendAnchor(nil, s.block))
		raw := len(s.block.AppendTo(nil))
		var e encoder
		keys, diffs := 0, 0
		for i, v := range s.columns(scrapes) {
			n := len(e.next(nil, &template.Part{Block: s.block, Values: v}, 1000))
			if i%keyEvery == 0 {
				keys += n
			} else {
				diffs += n
			}
		}
		t.Logf("shape=%s %.2f bytes per sample (keys %.2f, others %.2f); anchor %.1f bytes per series, %.1f packed", s.name,
			float64(keys+diffs)/(scrapes*series), float64(keys)/(scrapes/keyEvery*series),
			float64(diffs)/((scrapes-scrapes/keyEvery)*series), float64(raw)/series, float64(anchor)/series)
		records += keys + diffs
		anchors += anchor
	}
	samples := float64(len(all) * scrapes * series)
	perSample := float64(records) / samples
	t.Logf("all shapes: %.2f bytes per sample, %.2f with anchors", perSample, perSample+float64(anchors)/samples)
	if perSample > 1.9 {
		t.Errorf("%.2f bytes per sample over all shapes, at most 1.9 are allowed", perSample)
	}
	if perSeries := float64(anchors) / float64(len(all)*series); perSeries > 12 {
		t.Errorf("%.1f bytes per series in anchors, at most 12 are allowed", perSeries)
	}
}

// go test -run '^$' -bench 'Record|Anchor' -benchmem ./wal/record
func BenchmarkAppendRecord(b *testing.B) {
	for _, s := range shapes(1000) {
		b.Run("shape="+s.name, func(b *testing.B) {
			columns := s.columns(keyEvery)
			p := template.Part{Block: s.block}
			var e encoder
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				p.Values = columns[e.n%keyEvery]
				buf = e.next(buf[:0], &p, 1000)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(e.n*s.block.Len()), "ns/sample")
		})
	}
}

func BenchmarkDecodeRecord(b *testing.B) {
	for _, s := range shapes(1000) {
		b.Run("shape="+s.name, func(b *testing.B) {
			var e encoder
			var bodies [keyEvery][]byte
			for i, v := range s.columns(keyEvery) {
				bodies[i] = e.next(nil, &template.Part{Block: s.block, Values: v}, 1000)
			}
			var c column
			c.reset(s.block)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				body := bodies[i%keyEvery]
				l, err := parseLinks(body)
				if err == nil {
					err = c.decode(body, l, 1000)
				}
				if err != nil {
					b.Fatal(err)
				}
				i++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i*s.block.Len()), "ns/sample")
		})
	}
}

func BenchmarkAppendAnchor(b *testing.B) {
	s := shapes(1000)[0]
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendAnchor(buf[:0], s.block)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*s.block.Len()), "ns/series")
}

package record

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
	"promagent/wal"
)

func TestTheRingKeepsTheNewestPartsForWhoReadsThem(t *testing.T) {
	b := template.NewBuilder(labels.EmptyLabels())
	b.Add(template.Intern(template.Schema{Name: "m"}), nil)
	block := b.Block()
	r := ring{limit: 10 * 136}
	next := uint32(0)
	at := func(n uint32) wal.Pos { return wal.Pos{Segment: 1, Offset: n} }
	put := func(n int) {
		for range n {
			next++
			r.put(at(next), &template.Part{Block: block, Values: []float64{float64(next)}}, int64(next))
		}
	}
	has := func(want int) {
		t.Helper()
		if len(r.parts) != want || len(r.order) != want || r.bytes != int64(want)*136 {
			t.Errorf("at %d: the ring has %d parts of %d bytes, want %d", next, len(r.parts), r.bytes, want)
		}
	}
	put(5)
	has(5)
	for range 100 { // somebody keeps up
		put(1)
		if c := r.get(at(next)); c == nil || c.part.Values[0] != float64(next) || c.time != int64(next) {
			t.Fatalf("part %d: got %+v", next, c)
		}
	}
	has(10)
	put(9) // somebody is late
	if r.get(at(next-9)) == nil {
		t.Error("the oldest part is not there")
	}
	put(10) // an outage
	has(10)
	put(1)
	has(0)
	put(1000)
	r.get(at(next - 500)) // a backlog is read
	put(1)
	has(0)
	if got := r.newest(); got != int64(next) {
		t.Errorf("newest is %d, want %d", got, next)
	}
	r.get(at(next)) // its end
	put(3)
	has(3)
	if r.get(at(next)) == nil {
		t.Error("the ring has not begun anew")
	}
}

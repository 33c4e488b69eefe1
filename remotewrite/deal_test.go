package remotewrite

import (
	"slices"
	"testing"
	"time"

	"promagent/remotewrite/wire"
	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
)

// Stored positions rest on the choice of shards: a change needs another version
// of the state.
func TestSeriesOfAMetricAreTogetherInARun(t *testing.T) {
	const series, shards = 200, 8
	led, plan := dealt(t, Run, series, shards, series)
	for i := range led.lanes {
		n := 0
		led.lanes[i].each(func(b *batch) { n += b.samples() })
		if want := i == int(plan.Hash(0)%shards); (n == series) != want {
			t.Errorf("shard %d has %d of %d samples", i, n, series)
		}
	}
	if len(led.unfinished) > 0 {
		t.Error("a run has portions")
	}
}

func TestAWindowIsCutIntoPortionsWhereSeriesBegin(t *testing.T) {
	const series, shards = 200, 8
	led, _ := dealt(t, Window, series, shards, 70)
	slot := 0
	var sizes []int
	for _, b := range led.unfinished {
		sizes = append(sizes, b.samples())
		for _, s := range b.slots {
			if int(s) != slot {
				t.Fatalf("slot %d follows slot %d", s, slot-1)
			}
			slot++
		}
	}
	if want := []int{70, 70, 60}; !slices.Equal(sizes, want) {
		t.Errorf("portions of %v samples, want %v", sizes, want)
	}
	for i := range led.lanes {
		if b, _ := led.take(i, time.Now()); (b != nil) != (i < 2) {
			t.Errorf("shard %d took %v; two portions are full", i, b)
		}
	}
	led.flush()
	if b, _ := led.take(7, time.Now()); b == nil {
		t.Error("what is due is not taken")
	}
}

// dealt is a ledger to which an entry of so many series has been dealt.
func dealt(t *testing.T, kind Kind, series, shards, limit int) (*ledger, wire.BlockPlan) {
	block := oneMetric(series)
	plan := modelPlan(t, block)
	log := modelLog{perCall: 1}
	log.roll()
	e := modelEntry{part: template.Part{Block: block, Values: make([]float64, series)}}
	e.Entry = modelHeader(wal.Pos{Segment: 1, Offset: 68}, 1, series, 48)
	log.active().entries = []modelEntry{e}

	span := Span{kind, e.Pos, wal.Pos{Segment: 1, Offset: 98}, 0}
	s := State{Spans: []Span{span}}
	for range shards {
		s.Ats = append(s.Ats, span.begin())
	}
	led := newLedger(s, limits{batch: limit}, time.Now())
	st := steps(kind, []record.Entry{e.Entry})[0]
	var sh sheet
	if _, err := sh.load(&log, st, st.place(span), func(*template.Block) wire.BlockPlan { return plan }); err != nil {
		t.Fatal(err)
	}
	if !sh.deal(led, time.Now(), 0, false, &tally{}) {
		t.Fatal("no room")
	}
	return led, plan
}

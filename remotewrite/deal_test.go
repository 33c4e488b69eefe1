package remotewrite

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/remotewrite/wire"
	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
)

// Stored positions rest on the choice of shards, too: a change needs another
// version of the state.
func TestSeriesOfAMetricAreTogetherInARunAndSpreadInAWindow(t *testing.T) {
	const series, shards = 200, 8
	b := template.NewBuilder(labels.FromStrings("instance", "a", "job", "j"))
	for i := range series {
		b.Add(template.Intern(template.Schema{Name: "m", Labels: []string{"n"}}), []string{strconv.Itoa(i)})
	}
	block := b.Block()
	plan := modelPlan(t, block)
	log := modelLog{perCall: 1}
	log.roll()
	e := modelEntry{part: template.Part{Block: block, Values: make([]float64, series)}}
	e.Entry = modelHeader(wal.Pos{Segment: 1, Offset: 68}, 1, series, 48)
	log.active().entries = []modelEntry{e}

	var hasher template.SeriesHasher
	for _, tc := range []struct {
		kind        Kind
		most, least int // samples of the shard that has most
		of          func(slots *template.Slots) uint64
	}{
		{Run, series, series, func(slots *template.Slots) uint64 { return plan.Hash(slots.Slot) }},
		{Window, 3 * series / 2 / windowSpread, series / windowSpread, func(slots *template.Slots) uint64 { // positions on disk rest on it
			return plan.Hash(slots.Slot) + hasher.Hash(slots)%4*0x9e3779b97f4a7c15
		}},
	} {
		span := Span{tc.kind, e.Pos, wal.Pos{Segment: 1, Offset: 98}, 0}
		s := State{Spans: []Span{span}}
		for range shards {
			s.Ats = append(s.Ats, span.begin())
		}
		led := newLedger(s, limits{batch: series}, time.Now())
		st := steps(tc.kind, []record.Entry{e.Entry})[0]
		var sh sheet
		if _, err := sh.load(&log, st, st.place(span), func(*template.Block) wire.BlockPlan { return plan }); err != nil {
			t.Fatal(err)
		}
		if !sh.deal(led, time.Now(), 0, false, &tally{}) {
			t.Fatal("no room")
		}
		shard := map[int]int{} // of a slot
		most := 0
		for i := range led.lanes {
			n := 0
			led.lanes[i].each(func(b *batch) {
				n += b.samples()
				for _, slot := range b.slots {
					shard[int(slot)] = i
				}
			})
			most = max(most, n)
		}
		if most < tc.least || most > tc.most {
			t.Errorf("kind %d: a shard has %d of %d samples", tc.kind, most, series)
		}
		for it := block.Slots(); it.Next(); {
			if want := int(tc.of(&it) % shards); shard[it.Slot] != want {
				t.Fatalf("kind %d: slot %d is at shard %d, want %d", tc.kind, it.Slot, shard[it.Slot], want)
			}
		}
	}
}

package remotewrite

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
	"promagent/wal"
)

// A window that has to wait for the batches of a run has been planned with the
// first entries of the next segment at hand. When its data is no backlog any
// more, for batches have got more time or the clock was set back, the run in
// its place must end with the segment all the same.
func TestRunInPlaceOfAPlannedWindowEndsWithItsSegment(t *testing.T) {
	b := template.NewBuilder(labels.FromStrings("instance", "a", "job", "j"))
	b.Add(template.Intern(template.Schema{Name: "up"}), nil)
	block := b.Block()
	log := modelLog{perCall: 100}
	for segment := range 2 {
		log.roll()
		s := log.active()
		for i := range 3 {
			e := modelEntry{part: template.Part{Block: block, Values: []float64{0}}}
			e.Entry = modelHeader(wal.Pos{Segment: s.id, Offset: s.size + 20}, int64(3*segment+i), 1, s.size)
			s.size += 50
			s.entries = append(s.entries, e)
			log.count++
		}
	}
	start := wal.Pos{Segment: 1, Offset: log.segments[0].entries[0].Pos.Offset}
	first := Span{Run, start, wal.Pos{Segment: 1, Offset: start.Offset + 1}, 0}
	led := newLedger(State{Spans: []Span{first}, Ats: []At{first.begin()}}, limits{batch: 10, deadline: time.Hour}, time.Now())
	w := newWalk(&log, led, &sync.Mutex{})

	var got []wal.Pos
	advance := func(since int64) (v verdict) {
		t.Helper()
		st, v, gone, err := w.advance(since)
		if err != nil || gone.samples > 0 {
			t.Fatalf("%d samples lost, %v", gone.samples, err)
		}
		for _, e := range st.entries {
			got = append(got, e.Pos)
			if e.Pos.Segment != w.span.Start.Segment || e.Pos.Segment != w.span.End.Segment {
				t.Errorf("entry %v is in span %v", e.Pos, w.span)
			}
		}
		if v == stepped {
			led.batchFor(0, st.place(w.span), time.Now()).add(modelPlan(t, block), 0, 0, 0, 0)
			w.leave(st)
		}
		return v
	}
	if v := advance(100); v != stepped {
		t.Fatalf("verdict %d", v)
	}
	if v := advance(100); v != blocked { // a window, and the run's sample is not final
		t.Fatalf("verdict %d", v)
	}
	if !led.ready(0, time.Now()) {
		t.Error("the window waits for a batch that waits for its deadline")
	}
	for advance(0) == stepped {
		led.flush()
		led.take(0, time.Now())
		led.finished(0, time.Now())
	}
	var want []wal.Pos
	for _, s := range log.segments {
		for _, e := range s.entries {
			want = append(want, e.Pos)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(led.spans) != 1 || led.passed != log.count {
		t.Errorf("open spans %v, %d samples passed, want one and %d", led.spans, led.passed, log.count)
	}
}

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

// States of releases that did not finish a run before a window have both.
func TestStoredWindowWaitsForTheRunBeforeIt(t *testing.T) {
	run := Span{Run, wal.Pos{Segment: 1, Offset: 68}, wal.Pos{Segment: 1, Offset: 118}, 0}
	window := Span{Window, run.End, wal.Pos{Segment: 1, Offset: 168}, 1}
	log := modelLog{perCall: 100}
	log.roll()
	log.active().size = window.End.Offset
	for i, sp := range []Span{run, window} {
		log.active().entries = append(log.active().entries, modelEntry{Entry: modelHeader(sp.Start, int64(i), 1, 48)})
		log.count++
	}
	now := time.Now()
	led := newLedger(State{Spans: []Span{run, window}, Ats: []At{run.begin(), run.begin()}}, limits{batch: 10, deadline: time.Hour}, now)
	w := newWalk(&log, led, &sync.Mutex{})
	st, v, _, err := w.advance(0)
	if v != stepped || err != nil {
		t.Fatalf("verdict %d, %v", v, err)
	}
	led.batchFor(0, st.place(run), now).slots = []uint16{0}
	w.leave(st)
	for range 2 {
		if _, v, _, _ := w.advance(0); v != blocked {
			t.Fatalf("verdict %d while the run is not final", v)
		}
		led.take(0, now) // it is due
	}
	led.finished(0, now)
	if st, v, _, _ := w.advance(0); v != stepped || st.kind != Window {
		t.Errorf("verdict %d, kind %d", v, st.kind)
	}
}

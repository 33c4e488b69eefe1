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

// The log's segments but the newest are ended and whole. What a walk asks of
// it at their ends must not look like damage, also where it goes on from the
// state of a release whose spans end within their last frame.
func TestTheEndOfASegmentIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	l.clock -= time.Hour.Milliseconds()
	block := testTarget("a", 3)
	for range 5 {
		l.scrape(block)
	}
	l = l.reopened(dir)
	es, _, err := l.store.Entries(nil, wal.Pos{}, 100)
	if err != nil || len(es) != 5 {
		t.Fatalf("%d entries, %v", len(es), err)
	}
	at, before := oldest(l.store)
	all := Span{Kind: Window, Start: at, End: es[4].End(), Before: before}
	within := all
	within.End = es[4].Pos
	within.End.Offset++
	for name, s := range map[string]State{
		"a window that is opened":    beginningAt(at, before, &Config{}),
		"a window that is gone on":   {Spans: []Span{all}, Ats: []At{all.begin()}, Reader: all.begin()},
		"one that ends in its frame": {Spans: []Span{within}, Ats: []At{within.begin()}, Reader: within.begin()},
	} {
		led := newLedger(s, limits{batch: 1000, deadline: time.Hour}, time.Now())
		w := newWalk(l.store, led, &sync.Mutex{})
		n := 0
		for {
			st, v, gone, err := w.advance(time.Now().UnixMilli())
			if err != nil || gone.samples > 0 {
				t.Fatalf("%s: %d samples lost, %v", name, gone.samples, err)
			}
			if v != stepped {
				break
			}
			n += len(st.entries)
			w.leave(st)
		}
		if n != 5 || led.passed != uint64(l.count) {
			t.Errorf("%s: %d entries, %d samples passed", name, n, led.passed)
		}
		if end := led.last().End; led.last().Kind != Window || end != es[4].End() {
			t.Errorf("%s: the last span is %+v, and the segment ends at %v", name, *led.last(), es[4].End())
		}
	}
	if n := l.store.Log().Stats().Corruptions; n != 0 {
		t.Errorf("%d places are counted as damaged", n)
	}
}

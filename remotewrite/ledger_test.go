package remotewrite

import (
	"testing"
	"time"

	"promagent/wal"
)

// After a backlog there are few shards again, and the memory of the many is let go.
func TestFewerShardsKeepFewerBatches(t *testing.T) {
	start := wal.Pos{Segment: 1, Offset: 48}
	span := Span{Run, start, start, 0}
	s := State{Spans: []Span{span}}
	for range 50 {
		s.Ats = append(s.Ats, span.begin())
	}
	now := time.Now()
	l := newLedger(s, limits{batch: 1}, now)
	for i := range l.lanes {
		at := span.begin()
		at.Nth = uint32(i)
		l.batchFor(i, at, now)
		l.flush()
		l.take(i, now)
	}
	for i := range l.lanes {
		l.finished(i, now)
	}
	if got := len(l.pool); got != 50 {
		t.Fatalf("%d batches are kept for 50 shards", got)
	}
	l.reshard(2, now)
	if got := cap(l.pool); got > 2 {
		t.Errorf("%d batches are kept for 2 shards", got)
	}
}

func TestWhatHindersTheNextSpanIsDue(t *testing.T) {
	now := time.Now()
	span := func(offset uint32) Span {
		return Span{Window, wal.Pos{Segment: 1, Offset: offset}, wal.Pos{Segment: 1, Offset: offset + 100}, 0}
	}
	l := newLedger(State{Spans: []Span{span(100)}, Ats: []At{span(100).begin(), span(100).begin()}}, limits{batch: 10, deadline: time.Hour}, now)
	l.portion(span(100).begin(), 1, true, 1).slots = []uint16{0}
	if !l.mayOpen() || l.takeable() > 0 {
		t.Fatal("the second window waits for the first")
	}
	l.open(span(200))
	l.portion(span(200).begin(), 2, true, 1).slots = []uint16{0, 0}
	if l.mayOpen() {
		t.Error("the third window does not wait for the first")
	}
	if l.takeable() != 1 {
		t.Error("what is due cannot be taken")
	}
	l.take(0, now)
	l.finished(0, now)
	if !l.mayOpen() {
		t.Error("the third window waits for the second")
	}
}

// Two kills may leave two requests to be repeated as they were.
func TestShardsStayUntilAllThatWasInWorkIsRepeated(t *testing.T) {
	now := time.Now()
	start := wal.Pos{Segment: 1, Offset: 48}
	span := Span{Run, start, wal.Pos{Segment: 1, Offset: 1000}, 0}
	place := func(step uint32) At {
		a := span.begin()
		a.Step = step
		return a
	}
	l := newLedger(State{
		Spans: []Span{span}, Ats: []At{span.begin()}, Sent: [][]At{{place(200).after(), place(400).after()}},
	}, limits{batch: 10}, now)
	for _, tc := range []struct {
		step uint32
		may  bool
	}{{200, false}, {300, false}, {400, true}} {
		l.batchFor(0, place(tc.step), now).slots = []uint16{0}
		l.flush()
		l.take(0, now)
		l.finished(0, now)
		if got := l.mayReshard(); got != tc.may {
			t.Errorf("at step %d: got %v, want %v", tc.step, got, tc.may)
		}
	}
}

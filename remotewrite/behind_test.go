package remotewrite

import (
	"testing"
	"time"

	"promagent/wal"
)

func TestLowestPositionOfWhatARemoteLacks(t *testing.T) {
	run := Span{Kind: Run, Start: wal.Pos{Segment: 3, Offset: 48}, End: wal.Pos{Segment: 3, Offset: 900}}
	window := Span{Kind: Window, Start: wal.Pos{Segment: 2, Offset: 500}, End: wal.Pos{Segment: 2, Offset: 800}}
	in := func(s Span, step uint32) At {
		a := s.begin()
		a.Step = step
		return a
	}
	for _, c := range []struct {
		name  string
		spans []Span
		ats   []At
		want  wal.Pos
	}{
		{"at a run's start", []Span{run}, []At{run.begin()}, wal.Pos{Segment: 3, Offset: 48}},
		{"at an entry of a run", []Span{run}, []At{in(run, 300)}, wal.Pos{Segment: 3, Offset: 300}},
		{"the shard that is behind counts", []Span{run}, []At{in(run, 700), in(run, 300), in(run, 800)}, wal.Pos{Segment: 3, Offset: 300}},
		{"the steps of a window are no offsets", []Span{window}, []At{in(window, 700)}, wal.Pos{Segment: 2, Offset: 500}},
		{"one shard is in the window before the run", []Span{window, run}, []At{in(run, 100), in(window, 3)}, wal.Pos{Segment: 2, Offset: 500}},
	} {
		l := newLedger(State{Spans: c.spans, Ats: c.ats}, limits{}, time.Time{})
		for i := range l.lanes { // nothing is dealt: the places are those of the state
			l.lanes[i].skip = c.ats[i]
		}
		if got := l.lowest(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

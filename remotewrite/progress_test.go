package remotewrite

import (
	"bytes"
	"reflect"
	"testing"

	"promagent/wal"
)

// exampleProgress has two backlogs.
func exampleProgress() Progress {
	at := func(p wal.Pos, before uint64) State {
		s := State{Spans: []Span{{Run, p, wal.Pos{Segment: p.Segment, Offset: p.Offset + 100}, before}}, Passed: before}
		s.Ats = []At{s.Spans[0].begin()}
		return s
	}
	return Progress{
		{at(wal.Pos{Segment: 2, Offset: 48}, 100), Bound{wal.Pos{Segment: 3, Offset: 500}, 400}},
		{at(wal.Pos{Segment: 3, Offset: 500}, 450), Bound{wal.Pos{Segment: 7, Offset: 48}, 900}},
		{at(wal.Pos{Segment: 7, Offset: 48}, 1000), Bound{}},
	}
}

func TestProgressSurvivesItsEncoding(t *testing.T) {
	for name, want := range map[string]Progress{"with backlogs": exampleProgress(), "without": {{State: exampleState()}}} {
		var got Progress
		if err := got.Decode(want.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

// A release that knows of no backlogs can go on from the position of a remote
// without any, and what such a release has stored is read.
func TestProgressWithoutBacklogsIsAState(t *testing.T) {
	s := exampleState()
	if got, want := (Progress{{State: s}}).AppendTo(nil), s.AppendTo(nil); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if err := new(State).Decode(exampleProgress().AppendTo(nil)); err == nil {
		t.Error("backlogs are taken for a state")
	}
}

func TestProgressAddsUp(t *testing.T) {
	p := exampleProgress()
	if got, want := p.Low(), (wal.Pos{Segment: 2, Offset: 48}); got != want {
		t.Errorf("low %v, want %v", got, want)
	}
	if got := p.Pending(1010); got != 300+450+10 {
		t.Errorf("%d are pending", got)
	}
	if got := p.Pending(350); got != 250 { // the log has lost its end
		t.Errorf("of a log that was cut %d are pending", got)
	}
	if got := p.Final(); got != 1000-300-450 {
		t.Errorf("%d are final", got)
	}
	if got := len(p.Positions()); got != 3*2+2 {
		t.Errorf("%d positions", got)
	}
	if got := (Progress{}).Low(); got != (wal.Pos{}) {
		t.Errorf("the low position of nothing is %v", got)
	}
}

func TestProgressThatCannotBeWalkedIsRefused(t *testing.T) {
	enc := exampleProgress().AppendTo(nil)
	for n := range enc {
		if err := new(Progress).Decode(enc[:n]); err == nil {
			t.Errorf("the first %d bytes of %d were accepted", n, len(enc))
		}
	}
	if err := new(Progress).Decode(append(bytes.Clone(enc), 0)); err == nil {
		t.Error("a further byte was accepted")
	}
	for name, change := range map[string]func(Progress) Progress{
		"one alone":      func(p Progress) Progress { return p[:0] },
		"no bound":       func(p Progress) Progress { p[1].Bound = Bound{}; return p },
		"not in order":   func(p Progress) Progress { p[0], p[1] = p[1], p[0]; return p },
		"one in another": func(p Progress) Progress { p[0].Bound.Until.Offset = 501; return p },
	} {
		if err := new(Progress).Decode(change(exampleProgress()).AppendTo(nil)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzProgress(f *testing.F) {
	s := exampleState()
	f.Add(s.AppendTo(nil))
	f.Add(exampleProgress().AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Progress
		if p.Decode(b) != nil {
			return
		}
		var again Progress
		if err := again.Decode(p.AppendTo(nil)); err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if !reflect.DeepEqual(p, again) {
			t.Fatalf("got %+v, want %+v", again, p)
		}
	})
}

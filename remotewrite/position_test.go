package remotewrite

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"promagent/wal"
)

func exampleState() State {
	run := Span{Run, wal.Pos{Segment: 3, Offset: 48}, wal.Pos{Segment: 3, Offset: 9000}, 77}
	win := Span{Window, wal.Pos{Segment: 4, Offset: 48}, wal.Pos{Segment: 4, Offset: math.MaxUint32}, 1 << 40}
	a, b := run.begin(), win.begin()
	a.Step, a.Slot, a.Nth = 700, 1023, nth(0, 1)
	b.Step, b.Slot, b.Nth = 5, 7, nth(15, 2)
	return State{Spans: []Span{run, win}, Ats: []At{a, b, win.begin()}, Passed: 1 << 40}
}

func TestStateSurvivesItsEncoding(t *testing.T) {
	want := exampleState()
	var got State
	if err := got.Decode(want.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got.Low() != want.Spans[0].Start {
		t.Errorf("low %v, want the start of the oldest span", got.Low())
	}
}

func TestWhatWasInWorkSurvivesTheEncoding(t *testing.T) {
	want := exampleState()
	end := want.Ats[1]
	end.Slot++
	later := end
	later.Step++
	want.Sent = [][]At{nil, {end, later}, nil}
	var got State
	if err := got.Decode(want.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	enc := want.AppendTo(nil)
	for n := range enc {
		if err := new(State).Decode(enc[:n]); err == nil {
			t.Errorf("the first %d bytes of %d were accepted", n, len(enc))
		}
	}
}

func TestStateThatCannotBeWalkedIsRefused(t *testing.T) {
	whole := exampleState()
	enc := whole.AppendTo(nil)
	for n := range enc {
		var s State
		if err := s.Decode(enc[:n]); err == nil {
			t.Errorf("the first %d bytes of %d were accepted", n, len(enc))
		}
	}
	for name, s := range map[string]State{
		"no spans":       {Ats: []At{{}}},
		"no shards":      {Spans: whole.Spans},
		"unknown kind":   {Spans: []Span{{Kind: 9}}, Ats: []At{{}}},
		"not ascending":  {Spans: []Span{whole.Spans[1], whole.Spans[0]}, Ats: []At{whole.Spans[0].begin()}},
		"end before its": {Spans: []Span{{Run, wal.Pos{Segment: 1, Offset: 9}, wal.Pos{Segment: 1, Offset: 8}, 0}}, Ats: []At{{}}},
	} {
		var d State
		if err := d.Decode(s.AppendTo(nil)); err == nil {
			t.Errorf("%s: accepted as %+v", name, d)
		}
	}
	if err := new(State).Decode(append([]byte{stateVersionSent + 1}, enc[1:]...)); err == nil {
		t.Error("an unknown version was accepted")
	}
}

// Releases that chose the shards of a window in another way leave a state that
// tells a shard's place, and not which series the shard has had.
func TestAWindowOfAnOlderReleaseIsRepeated(t *testing.T) {
	want := exampleState()
	enc := want.AppendTo(nil)
	enc[0] = stateVersion
	var got State
	if err := got.Decode(enc); err != nil {
		t.Fatal(err)
	}
	want.Ats = []At{want.Ats[0], want.Ats[0], want.Ats[0]}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}

	runs := State{Spans: want.Spans[:1], Ats: []At{want.Ats[0], want.Spans[0].begin()}, Passed: 5}
	enc = runs.AppendTo(nil)
	if enc[0] != stateVersion {
		t.Errorf("version %d without a window; older releases read %d", enc[0], stateVersion)
	}
	if err := got.Decode(enc); err != nil || !reflect.DeepEqual(got, runs) {
		t.Errorf("got %+v, %v, want %+v", got, err, runs)
	}
}

func TestAtsAreOrderedFieldByField(t *testing.T) {
	ascending := []At{
		{}, {Nth: 1}, {Nth: math.MaxUint32}, {Slot: 1}, {Slot: 1, Nth: 9}, {Step: 1}, {Step: 1, Slot: 8},
		{Span: 1}, {Span: 1, Step: 4}, {Segment: 1}, {Segment: 1, Span: 2},
	}
	if !slices.IsSortedFunc(ascending, At.Compare) {
		t.Error("not ascending")
	}
	for _, a := range ascending {
		if !a.Before(a.after()) {
			t.Errorf("%+v is not before %+v", a, a.after())
		}
	}
}

func FuzzState(f *testing.F) {
	s := exampleState()
	f.Add(s.AppendTo(nil))
	f.Add([]byte{stateVersion, 0, 1, 1, 1, 48, 48, 0, 1, 0, 48, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s State
		if s.Decode(b) != nil {
			return
		}
		var again State
		if err := again.Decode(s.AppendTo(nil)); err != nil {
			t.Fatalf("decode what was encoded: %v", err)
		}
		if !reflect.DeepEqual(s, again) {
			t.Fatalf("got %+v, want %+v", again, s)
		}
	})
}

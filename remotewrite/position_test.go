package remotewrite

import (
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"testing"

	"promagent/wal"
)

// exampleState is one of runs.
func exampleState() State {
	first := Span{Run, wal.Pos{Segment: 3, Offset: 48}, wal.Pos{Segment: 3, Offset: 9000}, 77}
	second := Span{Run, wal.Pos{Segment: 4, Offset: 48}, wal.Pos{Segment: 4, Offset: math.MaxUint32}, 1 << 40}
	a, b := first.begin(), second.begin()
	a.Step, a.Slot, a.Nth = 700, 1023, nth(0, 1)
	b.Step, b.Slot, b.Nth = 5, 7, nth(15, 2)
	return State{Spans: []Span{first, second}, Ats: []At{a, b, second.begin()}, Passed: 1 << 40}
}

// windowState is one of windows, of which a request of the first is at work
// still, and the reader is in the second.
func windowState() State {
	s := exampleState()
	for i := range s.Spans {
		s.Spans[i].Kind = Window
	}
	low, next, reader := s.Ats[0], s.Ats[1], s.Ats[1]
	reader.Slot = 9
	s.Ats = []At{low, low, low}
	s.Reader = reader
	s.Open = []Interval{{low, Span.begin(s.Spans[1]), true}, {Span.begin(s.Spans[1]), next, false}, {next, next.after(), true}}
	return s
}

func TestStateSurvivesItsEncoding(t *testing.T) {
	inWork := exampleState()
	end := inWork.Ats[1]
	end.Slot++
	later := end
	later.Step++
	inWork.Sent = [][]At{nil, {end, later}, nil}
	for name, want := range map[string]State{"runs": exampleState(), "in work": inWork, "windows": windowState()} {
		var got State
		enc := want.AppendTo(nil)
		if err := got.Decode(enc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		if got.Low() != want.Spans[0].Start {
			t.Errorf("%s: low %v, want the start of the oldest span", name, got.Low())
		}
		for n := range enc {
			if err := new(State).Decode(enc[:n]); err == nil {
				t.Errorf("%s: the first %d bytes of %d were accepted", name, n, len(enc))
			}
		}
	}
}

func TestStateThatCannotBeWalkedIsRefused(t *testing.T) {
	whole := exampleState()
	enc := whole.AppendTo(nil)
	broken := func(change func(*State)) State {
		s := windowState()
		change(&s)
		return s
	}
	for name, s := range map[string]State{
		"no spans":                               {Ats: []At{{}}},
		"no shards":                              {Spans: whole.Spans},
		"unknown kind":                           {Spans: []Span{{Kind: 9}}, Ats: []At{{}}},
		"not ascending":                          {Spans: []Span{whole.Spans[1], whole.Spans[0]}, Ats: []At{whole.Spans[0].begin()}},
		"an interval that ends before it begins": broken(func(s *State) { s.Open[0].First, s.Open[0].End = s.Open[0].End, s.Open[0].First }),
		"intervals that overlap":                 broken(func(s *State) { s.Open[1].First = s.Open[0].First }),
		"an interval behind the reader":          broken(func(s *State) { s.Open[2].End = s.Reader.after() }),
		"a run among windows":                    broken(func(s *State) { s.Spans[0].Kind = Run }),
		"end before its":                         {Spans: []Span{{Run, wal.Pos{Segment: 1, Offset: 9}, wal.Pos{Segment: 1, Offset: 8}, 0}}, Ats: []At{{}}},
	} {
		var d State
		if err := d.Decode(s.AppendTo(nil)); err == nil {
			t.Errorf("%s: accepted as %+v", name, d)
		}
	}
	if err := new(State).Decode(append([]byte{stateVersionOpen + 1}, enc[1:]...)); err == nil {
		t.Error("an unknown version was accepted")
	}
}

// olderState is a state as older releases wrote it.
func olderState(version byte, s State) []byte {
	b := binary.AppendUvarint([]byte{version}, s.Passed)
	b = binary.AppendUvarint(b, uint64(len(s.Spans)))
	for _, sp := range s.Spans {
		b = append(b, byte(sp.Kind))
		for _, n := range []uint64{sp.Start.Segment, uint64(sp.Start.Offset), uint64(sp.End.Offset), sp.Before} {
			b = binary.AppendUvarint(b, n)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(s.Ats)))
	for _, at := range s.Ats {
		b = s.appendAt(b, at)
	}
	for _, ends := range s.Sent {
		b = binary.AppendUvarint(b, uint64(len(ends)))
		for _, at := range ends {
			b = s.appendAt(b, at)
		}
	}
	return b
}

// Releases in which shards had their own series of a window leave a state that
// tells a shard's place, and not which series the shard has had.
func TestAWindowOfAnOlderReleaseIsRepeated(t *testing.T) {
	s := exampleState()
	s.Spans[1].Kind = Window
	run, low, high := s.Ats[0], s.Ats[2], s.Ats[1]
	for name, tc := range map[string]struct {
		version byte
		ats     []At
		sent    [][]At
		want    State
	}{
		"a run that is not final before it": {
			stateVersion, []At{run, high, low}, nil,
			State{Spans: s.Spans[:1], Ats: []At{run, run, run}},
		},
		"alone": {
			stateVersionWindow, []At{high, low}, nil,
			State{Spans: s.Spans[1:], Ats: []At{low, low}, Reader: low},
		},
		"with requests in work": {
			stateVersionSent, []At{high, low}, [][]At{{high.after()}, nil},
			State{Spans: s.Spans[1:], Ats: []At{low, low}, Reader: low},
		},
	} {
		tc.want.Passed = s.Passed
		var got State
		if err := got.Decode(olderState(tc.version, State{Spans: s.Spans, Ats: tc.ats, Sent: tc.sent, Passed: s.Passed})); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, tc.want)
		}
	}

	runs := State{Spans: s.Spans[:1], Ats: []At{run, s.Spans[0].begin()}, Passed: 5}
	var got State
	enc := runs.AppendTo(nil)
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

package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/remotewrite"
	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
)

// sixEntries is a log with an entry of two samples each minute from the first
// on, of two blocks in turns, and the entries.
func sixEntries(t *testing.T) (*record.Store, []record.Entry) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	l, err := wal.Open(t.TempDir(), wal.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	store := record.NewStore(l, record.Options{Logger: logger})
	var blocks [2]*template.Block
	for i, name := range []string{"a", "b"} {
		b := template.NewBuilder(labels.FromStrings("instance", name, "job", "test"))
		schema := template.Intern(template.Schema{Name: "metric", Labels: []string{"i"}, Family: "metric", Type: "gauge"})
		b.Add(schema, []string{"0"})
		b.Add(schema, []string{"1"})
		blocks[i] = b.Block()
	}
	for i := range 6 {
		batch := &template.Batch{Time: int64(i+1) * 60_000, Parts: []template.Part{{Block: blocks[i%2], Values: []float64{1, float64(i)}}}}
		if err := store.Append(batch); err != nil {
			t.Fatal(err)
		}
	}
	entries, _, err := store.Entries(nil, l.Oldest(), 100)
	if err != nil || len(entries) != 6 {
		t.Fatalf("%d entries: %v", len(entries), err)
	}
	return store, entries
}

func TestPositionTellsTheOldestThatSomeShardStillNeeds(t *testing.T) {
	store, e := sixEntries(t)
	span := func(kind remotewrite.Kind, from, to int) remotewrite.Span {
		end := store.End()
		if to < len(e) {
			end = e[to].Pos
		}
		return remotewrite.Span{Kind: kind, Start: e[from].Pos, End: end, Before: uint64(2 * from)}
	}
	at := func(s remotewrite.Span, step uint32) remotewrite.At {
		return remotewrite.At{Segment: s.Start.Segment, Span: s.Start.Offset, Step: step}
	}
	begun, whole := span(remotewrite.Run, 0, 4), span(remotewrite.Run, 0, 6)
	window, rest := span(remotewrite.Window, 0, 4), span(remotewrite.Window, 4, 6)
	for name, c := range map[string]struct {
		state   remotewrite.State
		pending uint64
		oldest  int // minute; 0: none
	}{
		"nothing is final":                  {remotewrite.State{Spans: []remotewrite.Span{begun}, Ats: []remotewrite.At{at(begun, 0), at(begun, e[2].Pos.Offset)}}, 12, 1},
		"the slower shard counts":           {remotewrite.State{Spans: []remotewrite.Span{begun}, Ats: []remotewrite.At{at(begun, e[3].Pos.Offset), at(begun, e[1].Pos.Offset)}, Passed: 2}, 10, 2},
		"in a window the first block":       {remotewrite.State{Spans: []remotewrite.Span{window}, Ats: []remotewrite.At{at(window, 0)}}, 12, 1},
		"in a window the second block":      {remotewrite.State{Spans: []remotewrite.Span{window}, Ats: []remotewrite.At{at(window, 1)}, Passed: 4}, 8, 2},
		"a window that is final":            {remotewrite.State{Spans: []remotewrite.Span{window, rest}, Ats: []remotewrite.At{at(rest, 0)}, Passed: 8, Reader: at(rest, 0)}, 4, 5},
		"a window that is not quite final":  {remotewrite.State{Spans: []remotewrite.Span{window, rest}, Ats: []remotewrite.At{at(window, 1)}, Passed: 4, Reader: at(rest, 1), Open: []remotewrite.Interval{{First: at(window, 1), End: at(rest, 0)}}}, 8, 2},
		"a window at its end":               {remotewrite.State{Spans: []remotewrite.Span{window}, Ats: []remotewrite.At{at(window, 2)}, Passed: 8}, 4, 5},
		"all is final":                      {remotewrite.State{Spans: []remotewrite.Span{whole}, Ats: []remotewrite.At{at(whole, store.End().Offset)}, Passed: 12}, 0, 0},
		"a position from a log that is cut": {remotewrite.State{Spans: []remotewrite.Span{whole}, Ats: []remotewrite.At{at(whole, 0)}, Passed: 99}, 0, 0},
	} {
		got, err := positionOf(store, c.state.AppendTo(nil))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var want time.Time
		if c.oldest > 0 {
			want = time.UnixMilli(int64(c.oldest) * 60_000)
		}
		if got.final != c.state.Passed || got.pending != c.pending || !got.oldest.Equal(want) || got.segment != 1 || got.offset != c.state.Spans[0].Start.Offset {
			t.Errorf("%s: got %+v, want %d pending, the oldest of %v", name, got, c.pending, want)
		}
	}
	if _, err := positionOf(store, []byte("x")); err == nil || !strings.Contains(err.Error(), "decode state") {
		t.Errorf("a state that is none: %v", err)
	}
}

func TestPositionAddsUpBacklogs(t *testing.T) {
	store, e := sixEntries(t)
	stretch := func(from, at, to int) remotewrite.Stretch {
		end, bound := store.End(), remotewrite.Bound{}
		if to < len(e) {
			end, bound = e[to].Pos, remotewrite.Bound{Until: e[to].Pos, Total: uint64(2 * to)}
		}
		s := remotewrite.Span{Kind: remotewrite.Run, Start: e[from].Pos, End: end, Before: uint64(2 * from)}
		first := remotewrite.At{Segment: s.Start.Segment, Span: s.Start.Offset, Step: end.Offset}
		if at < len(e) {
			first.Step = e[at].Pos.Offset
		}
		return remotewrite.Stretch{State: remotewrite.State{Spans: []remotewrite.Span{s}, Ats: []remotewrite.At{first}, Passed: uint64(2 * at)}, Bound: bound}
	}
	for name, c := range map[string]struct {
		progress       remotewrite.Progress
		final, pending uint64
		oldest         int // minute; 0: none
	}{
		"two backlogs":                    {remotewrite.Progress{stretch(0, 1, 2), stretch(2, 3, 4), stretch(4, 5, 6)}, 6, 6, 2},
		"a backlog, nothing newer":        {remotewrite.Progress{stretch(0, 2, 4), stretch(4, 6, 6)}, 8, 4, 3},
		"a backlog at its end":            {remotewrite.Progress{stretch(0, 4, 4), stretch(4, 4, 6)}, 8, 4, 5},
		"a backlog at its end, all final": {remotewrite.Progress{stretch(0, 4, 4), stretch(4, 6, 6)}, 12, 0, 0},
	} {
		got, err := positionOf(store, c.progress.AppendTo(nil))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var want time.Time
		if c.oldest > 0 {
			want = time.UnixMilli(int64(c.oldest) * 60_000)
		}
		if got.final != c.final || got.pending != c.pending || !got.oldest.Equal(want) || got.segment != 1 || got.offset != e[0].Pos.Offset || got.backlogs != len(c.progress)-1 {
			t.Errorf("%s: got %+v, want %d final and %d pending, the oldest of %v", name, got, c.final, c.pending, want)
		}
	}
}

func TestPositionIsPrintedAsALine(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	for want, p := range map[string]position{
		"remote x: 7 samples final, 0 pending; keeps segment 2 from offset 48 on\n":                                      {final: 7, segment: 2, offset: 48},
		"remote x: 0 samples final, 5 pending, the oldest 1m30s old; keeps segment 1 from offset 9 on\n":                 {pending: 5, oldest: now.Add(-90 * time.Second), segment: 1, offset: 9},
		"remote x: 0 samples final, 5 pending, the oldest 0s old; keeps segment 1 from offset 9 on\n":                    {pending: 5, oldest: now.Add(time.Second), segment: 1, offset: 9},
		"remote x: 1 samples final, 5 pending, in 2 backlogs beside the newest data; keeps segment 1 from offset 9 on\n": {final: 1, pending: 5, backlogs: 2, segment: 1, offset: 9},
	} {
		var out strings.Builder
		if printPosition(&out, "x", p, now); out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
}

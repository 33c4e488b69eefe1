package wal_test

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

// The files in testdata/v1 were written by the first release. They stay as
// they are: whatever the log writes in future, it reads these.
const (
	goldenSegment = "log/00000000000000000001.seg"
	goldenCursor  = "log/cursors/98b22002bd49878c.cur"
)

var goldenGroups = [][]wal.Frame{
	{
		{Kind: wal.Anchor, Time: 1_700_000_000_000, Body: []byte("an anchor")},
		{Kind: wal.Record, Samples: 3, Time: 1_700_000_000_000, RefFrame: 1, Body: []byte("its first record")},
	},
	{{Kind: wal.Record, Samples: wal.MaxSamples, Time: 1_700_000_015_000, Ref: 48, Body: []byte("another record")}},
	{
		{Kind: wal.Anchor, Time: math.MinInt64},
		{Kind: wal.Record, Samples: 0, Time: -1, Ref: math.MaxUint32, Body: bytes.Repeat([]byte{0, 0xff}, 50)},
		{Kind: 15, Samples: 1, Time: math.MaxInt64, RefFrame: 2, Body: []byte{0}},
	},
}

// goldenHeader is what of a header is told outside the package.
type goldenHeader struct {
	offset, ref, samples, length uint32
	kind                         wal.Kind
	more                         bool
	time                         int64
}

var goldenHeaders = []goldenHeader{
	{48, 0, 0, 9, wal.Anchor, true, 1_700_000_000_000},
	{85, 48, 3, 16, wal.Record, false, 1_700_000_000_000},
	{129, 48, wal.MaxSamples, 14, wal.Record, false, 1_700_000_015_000},
	{171, 0, 0, 0, wal.Anchor, true, math.MinInt64},
	{199, math.MaxUint32, 0, 100, wal.Record, true, -1},
	{327, 199, 1, 1, 15, false, math.MaxInt64},
}

func golden(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFilesOfTheFirstReleaseAreRead(t *testing.T) {
	disk := waltest.New()
	for _, name := range []string{goldenSegment, goldenCursor} {
		disk.WriteFile(filepath.Join(dataDir, name), golden(t, name))
	}
	r := look(t, disk)
	hs, next, err := r.log.Scan(nil, r.log.Next(wal.Pos{}), wal.Pos{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []goldenHeader
	var bodies [][]byte
	for _, h := range hs {
		got = append(got, goldenHeader{h.Pos.Offset, h.Ref, h.Samples, h.Len, h.Kind, h.More, h.Time})
		b, err := r.log.Read(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, b)
	}
	if !reflect.DeepEqual(got, goldenHeaders) {
		t.Errorf("headers: got\n%v, want\n%v", got, goldenHeaders)
	}
	i := 0
	for _, g := range goldenGroups {
		for _, f := range g {
			if i < len(bodies) && !bytes.Equal(bodies[i], f.Body) {
				t.Errorf("body %d: got %q, want %q", i, bodies[i], f.Body)
			}
			i++
		}
	}
	if want := (wal.Pos{Segment: 1, Offset: 356}); next != want {
		t.Errorf("the segment ends at %v, want %v", next, want)
	}
	if n := r.log.SamplesTotal(); n != 3+wal.MaxSamples+1 {
		t.Errorf("%d samples", n)
	}
	c := r.log.Cursor("remote")
	low, state, ok := c.Load()
	if want := (wal.Pos{Segment: 1, Offset: 129}); !ok || low != want || string(state) != "the newer state" {
		t.Errorf("cursor: got %v, %q, %v", low, state, ok)
	}
	if st := r.log.Stats(); st.Corruptions != 0 {
		t.Errorf("%d corruptions", st.Corruptions)
	}
}

// writeGolden writes what is in testdata with the log as it is now.
func writeGolden(t *testing.T) *waltest.FS {
	t.Helper()
	disk := waltest.New()
	l, err := wal.Open(dataDir, wal.Options{FS: disk, NoLock: true, Now: func() time.Time { return time.UnixMilli(1_700_000_000_123) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	var at []wal.Pos
	for _, g := range goldenGroups {
		if at, err = l.Append(l.Segment(), g, at); err != nil {
			t.Fatal(err)
		}
	}
	c := l.Cursor("remote")
	c.Set(at[0], []byte("the older state"))
	time.Sleep(6 * time.Second)
	c.Set(at[2], []byte("the newer state"))
	time.Sleep(6 * time.Second)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return disk
}

func TestFilesAreWrittenAsInTestdata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := writeGolden(t)
		for _, name := range []string{goldenSegment, goldenCursor} {
			if !bytes.Equal(mustFile(t, disk, filepath.Join(dataDir, name)), golden(t, name)) {
				t.Errorf("%s differs: when the format is a new one, it needs a new version and a new directory in testdata", name)
			}
		}
	})
}

func TestNewerFormatsAreLeftAlone(t *testing.T) {
	for _, name := range []string{goldenSegment, goldenCursor} {
		disk := waltest.New()
		b := golden(t, name)
		b[8] = 2
		if name == goldenCursor {
			b[4096+8] = 2
		}
		path := filepath.Join(dataDir, name)
		disk.WriteFile(path, b)
		if err := disk.MkdirAll(filepath.Join(dataDir, "log/cursors")); err != nil {
			t.Fatal(err)
		}
		r := look(t, disk)
		r.wantRead(nil)
		if n := r.log.Stats().Corruptions; n != 1 {
			t.Errorf("%s: %d counted", name, n)
		}
		kept := false
		for _, n := range disk.Names() {
			kept = kept || strings.HasPrefix(n, path) && bytes.Equal(mustFile(t, disk, n), b)
		}
		if !kept {
			t.Errorf("%s is gone; files: %v", name, disk.Names())
		}
	}
}

package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openTest(t *testing.T, dir string, o Options) (*Log, func()) {
	t.Helper()
	o.SyncInterval = time.Hour
	o.MaxBytes = max(o.MaxBytes, 0)
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return l, func() {
		cancel()
		<-done
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func appendTest(t *testing.T, l *Log, bodies ...string) []Pos {
	t.Helper()
	for {
		var group []Frame
		for _, b := range bodies {
			group = append(group, Frame{Kind: Record, Samples: 1, Time: 5, Body: []byte(b)})
		}
		at, err := l.Append(l.Segment(), group, nil)
		if errors.Is(err, ErrSegment) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
}

func readTest(t *testing.T, l *Log) (all []string) {
	t.Helper()
	for p := l.Next(Pos{}); ; {
		hs, next, err := l.Scan(nil, p, Pos{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range hs {
			b, err := l.Read(h, nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(b))
		}
		if next == p {
			return all
		}
		p = next
	}
}

func TestReopenedLogIsReadAndAppendedTo(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for round := range 4 {
		l, stop := openTest(t, dir, Options{})
		if got := readTest(t, l); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d: got %v, want %v", round, got, want)
		}
		for i := range 3 {
			b := []string{fmt.Sprint(round, ".", i), "second"}
			appendTest(t, l, b...)
			want = append(want, b...)
		}
		if got := readTest(t, l); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("round %d after append: got %v, want %v", round, got, want)
		}
		if n := l.SamplesTotal(); n != uint64(len(want)) {
			t.Fatalf("%d samples, want %d", n, len(want))
		}
		stop()
	}
}

func TestTornGroupIsNotRead(t *testing.T) {
	dir := t.TempDir()
	l, stop := openTest(t, dir, Options{})
	appendTest(t, l, "one", "two")
	begin := appendTest(t, l, "three", "four")[0]
	stop()
	names, _ := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for n := int(begin.Offset); n < len(b); n++ {
		if err := os.WriteFile(names[0], b[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		l, stop := openTest(t, dir, Options{})
		want := "[one two new]"
		appendTest(t, l, "new")
		if got := fmt.Sprint(readTest(t, l)); got != want {
			t.Fatalf("cut at %d: got %v, want %v", n, got, want)
		}
		stop()
		all, _ := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
		for _, f := range all[1:] {
			os.Remove(f)
		}
	}
}

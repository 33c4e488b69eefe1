package remotewrite

import (
	"testing"

	"promagent/wal"
	"promagent/wal/record"
)

func TestAWindowTakesWhatFillsRequestsAndNoMore(t *testing.T) {
	// turns of one entry per block, of so many samples, every so many ms
	for _, tc := range []struct {
		name            string
		blocks, samples int
		interval        int64
		want            int // entries per block
	}{
		{"2,000 series every 30 s: the time", 20, 100, 30_000, 41},
		{"2,000 series every 15 s: the samples", 20, 100, 15_000, 66},
		{"500 series: the entries", 20, 25, 1_000, 128},
		{"20,000 series: enough of each", 20, 1000, 1_000, 16},
		{"8,000 series: the samples", 8, 1000, 1_000, 17},
		{"one block: its samples", 1, 1024, 1_000, 64},
		{"one small block: its entries", 1, 10, 1_000, 128},
		{"200,000 series: enough of each", 200, 1000, 1_000, 16},
		{"very many blocks: the entries", 4096, 1, 1_000, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := extent{most: maxWindowBlock}
			n := 0
			for i := int64(0); ; i++ {
				e := record.Entry{
					Time: i / int64(tc.blocks) * tc.interval, Samples: uint32(tc.samples),
					Pos: wal.Pos{Segment: 1}, Ref: uint32(i % int64(tc.blocks)),
				}
				if !x.take(e) {
					break
				}
				n++
			}
			if got := (n + tc.blocks - 1) / tc.blocks; got != tc.want {
				t.Errorf("got %d entries, %d per block, want %d", n, got, tc.want)
			}
		})
	}
}

// Whoever comes first in a window comes first in the next one.
func TestWindowsBeginWithTheSameBlock(t *testing.T) {
	for blocks := range 50 {
		blocks += 2
		for _, samples := range []int{1, 10, 100, 1000} {
			var x *extent
			windows := 0
			for i := 0; windows < 5; i++ {
				e := record.Entry{Time: int64(i / blocks), Samples: uint32(samples), Pos: wal.Pos{Segment: 1}, Ref: uint32(i % blocks)}
				if x == nil || !x.take(e) {
					if e.Ref != 0 {
						t.Errorf("%d blocks of %d samples: a window begins with number %d", blocks, samples, e.Ref)
					}
					x = &extent{most: maxWindowBlock}
					x.take(e)
					windows++
				}
			}
		}
	}
	// It need not come again.
	x := extent{most: maxWindowBlock}
	n := 0
	for ; x.take(record.Entry{Samples: 1000, Pos: wal.Pos{Segment: 1}, Ref: uint32(min(n, 1+n%7))}); n++ {
	}
	if most := windowSamples / 1000 * (windowSlack + 1) / windowSlack; n < windowSamples/1000 || n > most+1 {
		t.Errorf("a window of %d entries, at most %d", n, most)
	}
}

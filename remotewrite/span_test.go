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

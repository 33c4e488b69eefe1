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

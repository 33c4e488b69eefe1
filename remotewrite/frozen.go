package remotewrite

import (
	"fmt"

	"github.com/klauspost/compress/s2"

	"promagent/remotewrite/wire"
)

// columns are what most of a batch is made of. A batch whose request is under
// way can do without them, as the request has them, in a third of the bytes: with
// as many requests as there are shards, that is most of what a catch-up needs.
type columns struct {
	times  []int64 // ms
	values []float64
	starts []int64 // empty, or by sample; 0: unknown
}

// startColumns bounds the samples that new columns have room for.
const startColumns = 1 << 12

// mayFreeze says whether the request of all of b has all of its columns.
func (b *batch) mayFreeze(samples int, v2 bool) bool {
	return samples == b.samples() && len(b.exemplars) == 0 && (v2 || len(b.starts) == 0)
}

// freeze takes a batch's columns. Its request is all of it.
func (l *ledger) freeze(b *batch) {
	l.keep(b.columns)
	b.columns, b.frozen = columns{}, true
}

// thaw gives the columns back to a frozen batch.
func (b *batch) thaw(v2 bool) {
	n := b.samples()
	c := columns{times: make([]int64, 0, n), values: make([]float64, 0, n)}
	var starts []int64
	known := false
	raw, err := s2.Decode(nil, b.packed)
	if err == nil {
		err = wire.EachSample(raw, v2, func(t int64, v float64, start int64) {
			c.times, c.values = append(c.times, t), append(c.values, v)
			starts, known = append(starts, start), known || start != 0
		})
	}
	if err != nil || len(c.times) != n { // the process is broken, and the log has the samples
		panic(fmt.Sprintf("a request of %d samples cannot be read back: %d samples, %v", n, len(c.times), err))
	}
	if known {
		c.starts = starts
	}
	b.columns, b.frozen = c, false
}

// newRequest returns memory for a request.
func (l *ledger) newRequest() []byte {
	n := len(l.requests)
	if n == 0 {
		return nil
	}
	r := l.requests[n-1]
	l.requests = l.requests[:n-1]
	return r
}

// keep keeps columns for the next batches.
func (l *ledger) keep(c columns) {
	if len(l.columns) < len(l.lanes) && cap(c.times) > 0 {
		l.columns = append(l.columns, columns{c.times[:0], c.values[:0], c.starts[:0]})
	}
}

// newColumns returns empty ones.
func (l *ledger) newColumns() columns {
	if n := len(l.columns); n > 0 {
		c := l.columns[n-1]
		l.columns = l.columns[:n-1]
		return c
	}
	n := min(l.limits.batch, startColumns)
	return columns{times: make([]int64, 0, n), values: make([]float64, 0, n)}
}

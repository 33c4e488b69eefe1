package remotewrite

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/s2"

	"promagent/remotewrite/wire"
)

// columns are what most of a batch is made of. A batch whose request is under
// way can do without them, as the request has them, in a third of the bytes: with
// as many requests as there are shards, that is most of what a catch-up needs.
type columns struct {
	slots  []uint16
	times  []int64 // ms
	values []float64
	starts []int64 // empty, or by sample; 0: unknown
}

// outline is what a request does not tell of a batch: its samples' slots, as
// uvarints of a slot, less the one before, and of how many samples in a row have it.
type outline struct {
	samples int
	runs    []byte
}

// outlineOf makes the outline of a batch in the memory of another one.
func outlineOf(slots []uint16, memory []byte) outline {
	o := outline{samples: len(slots), runs: memory[:0]}
	for i, last := 0, uint16(0); i < len(slots); {
		n := 1
		for i+n < len(slots) && slots[i+n] == slots[i] {
			n++
		}
		o.runs = binary.AppendUvarint(o.runs, uint64(slots[i]-last)) // of the next block, it may be less
		o.runs = binary.AppendUvarint(o.runs, uint64(n))
		last = slots[i]
		i += n
	}
	return o
}

// slots are those of the samples.
func (o outline) slots() []uint16 {
	slots := make([]uint16, 0, o.samples)
	last := uint16(0)
	for runs := o.runs; len(runs) > 0; {
		slot, k := binary.Uvarint(runs)
		n, m := binary.Uvarint(runs[k:])
		last += uint16(slot)
		for range n {
			slots = append(slots, last)
		}
		runs = runs[k+m:]
	}
	return slots
}

// startColumns bounds the samples that new columns have room for.
const startColumns = 1 << 12

// mayFreeze says whether the request of all of b has all of its columns.
func (b *batch) mayFreeze(samples int, v2 bool) bool {
	return samples == b.samples() && len(b.exemplars) == 0 && (v2 || len(b.starts) == 0)
}

// freeze takes a batch's columns. Its request is all of it.
func (l *ledger) freeze(b *batch) {
	b.outline = outlineOf(b.slots, b.outline.runs)
	l.keep(b.columns)
	b.columns, b.frozen = columns{}, true
}

// melted reads the columns of a frozen batch back from its request.
func (b *batch) melted(v2 bool) columns {
	n := b.samples()
	c := columns{slots: b.outline.slots(), times: make([]int64, 0, n), values: make([]float64, 0, n)}
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
	return c
}

// thaw gives a frozen batch the columns that were melted.
func (l *ledger) thaw(b *batch, c columns) { b.columns, b.frozen = c, false }

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
		l.columns = append(l.columns, columns{c.slots[:0], c.times[:0], c.values[:0], c.starts[:0]})
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
	return columns{slots: make([]uint16, 0, n), times: make([]int64, 0, n), values: make([]float64, 0, n)}
}

package remotewrite

import (
	"promagent/remotewrite/wire"
	"promagent/template"
)

// batch is a request to be: slots and values only, 18 bytes per sample.
// What they mean is in the plans that they were dealt by.
type batch struct {
	first  At     // of the first sample
	end    At     // after the last one
	passed uint64 // samples in the log before the step of the first sample

	// Of a window, see portions:
	taken   bool     // by a shard
	press   pressed  // by the reader
	sent    bool     // it has been in work, in this life or in an earlier one
	until   At       // where the stored interval ends that it is in, for what follows may be final; zero: it is in none
	after   []*batch // that must be final first
	metrics []uint64 // that appear in it, some of them more than once

	from    int64 // time of the first sample, ms
	newest  int64 // time of the newest one
	parts   []batchPart
	packed  []byte // the request of the batch, or of a part of it; all of it when it is frozen
	frozen  bool   // there are no columns, but an outline
	outline outline
	columns
	exemplars []batchExemplar
}

// batchPart is a run of samples of one block.
type batchPart struct {
	plan wire.BlockPlan
	end  int // number of samples up to and with this part
}

type batchExemplar struct {
	sample int // that it belongs to
	template.Extra
}

// len is what counts towards the size of a batch: samples and exemplars.
func (b *batch) len() int { return b.samples() + len(b.exemplars) }

// samples is the number of samples.
func (b *batch) samples() int {
	if b.frozen {
		return b.outline.samples
	}
	return len(b.slots)
}

// add appends a sample.
func (b *batch) add(plan wire.BlockPlan, slot int, t int64, v float64, start int64) {
	if n := len(b.parts); n == 0 || b.parts[n-1].plan != plan {
		b.parts = append(b.parts, batchPart{plan: plan})
	}
	if start != 0 && len(b.starts) == 0 {
		b.starts = append(b.starts, make([]int64, len(b.slots))...)
		if len(b.slots) == 0 {
			b.starts = append(b.starts, start)[:0:cap(b.starts)]
		}
	}
	if start != 0 || len(b.starts) > 0 {
		b.starts = append(b.starts, start)
	}
	if len(b.slots) == 0 {
		b.from = t
	}
	b.newest = max(b.newest, t)
	b.slots = append(b.slots, uint16(slot))
	b.times = append(b.times, t)
	b.values = append(b.values, v)
	b.parts[len(b.parts)-1].end = len(b.slots)
}

// addExemplar appends an exemplar of the sample added last.
func (b *batch) addExemplar(x template.Extra) {
	b.exemplars = append(b.exemplars, batchExemplar{len(b.slots) - 1, x})
}

// isPortion says whether the batch is of a window.
func (b *batch) isPortion() bool { return len(b.metrics) > 0 }

// reset empties the batch and keeps its memory, but not the plans, the columns and the request.
func (b *batch) reset() {
	clear(b.parts)
	clear(b.exemplars)
	*b = batch{
		after: b.after[:0], metrics: b.metrics[:0],
		parts: b.parts[:0], exemplars: b.exemplars[:0], outline: outline{runs: b.outline.runs[:0]},
	}
}

// series names the series of a sample.
func (b *batch) series(sample int) string {
	for _, p := range b.parts {
		if sample < p.end {
			return p.plan.Labels(int(b.slots[sample])).String()
		}
	}
	return ""
}

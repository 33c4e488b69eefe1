package scrape

import (
	"cmp"
	"io"
	"math"
	"slices"

	"promagent/template"
)

// finishBatch makes a batch of what has been read, and brings the memory up to
// date. With err the scrape has failed: no values, and what it did not expose
// before it failed is stale.
func (rd *reader) finishBatch(err error) template.Batch {
	m, w := rd.m, rd.w
	se := &m.series
	batch := template.Batch{Time: rd.t, Parts: w.parts[:0]}
	old := se.len()
	known := len(se.hashes)
	w.grow(old)
	failed := err != nil
	if !failed {
		rd.checkGuarded()
	}
	if len(w.exemplars) > 0 {
		rd.settleExemplars(failed)
	}
	w.seen = slices.Grow(w.seen[:0], old)[:old]
	for i, s := range w.states {
		// Of a new series only what is logged counts: one that no sample is
		// taken of, for a limit perhaps, must not take memory.
		w.seen[i] = s != unseen && (s != rejected || i < known)
	}
	var renumber []uint32
	before := slices.Clone(se.blocks)
	if rd.timed {
		se.keepLast(m.lastTime)
	}
	w.stale = slices.Grow(w.stale[:0], old)[:old]
	stale := w.stale
	clear(stale)
	for slot := range known {
		stale[slot] = rd.ends(uint32(slot), failed)
		if stale[slot] && se.last != nil {
			se.last[slot] = rd.t
		}
	}
	if failed {
		rd.guard.undo()
	} else {
		rd.markTimed()
	}
	switch {
	case failed || rd.empty:
		// Nothing is given up for a scrape that failed or had nothing, unless
		// failing ones go on and on to expose new series.
		rd.c.flushed = old > 2*m.good+1000
		for i := range w.seen {
			w.seen[i] = w.seen[i] || i < known && !rd.c.flushed
		}
		if len(se.pending) > 0 {
			renumber = se.settle(w.seen, nil, nil)
		}
	default:
		m.script.end()
		renumber = se.settle(w.seen, m.script.lines, m.meta.end())
		m.good = se.len()
		m.active.Store(int64(rd.c.kept - rd.c.duplicates))
	}
	if renumber != nil {
		m.script.remap(renumber)
	}
	to := func(slot int) uint32 {
		if renumber == nil {
			return uint32(slot)
		}
		return renumber[slot]
	}
	// Blocks that are no more: the last that is said of their slots.
	for _, b := range before {
		if slices.ContainsFunc(se.blocks, func(p placed) bool { return p.block == b.block }) {
			continue
		}
		var states []template.State
		for k := range b.block.Len() {
			if slot := int(b.base) + k; stale[slot] && to(slot) == gone {
				if states == nil {
					states = make([]template.State, b.block.Len())
					for i := range states {
						states[i] = template.Absent
					}
				}
				states[k] = template.Stale
			}
		}
		if states != nil {
			batch.Parts = append(batch.Parts, template.Part{Block: b.block, States: states, Values: make([]float64, len(states))})
		}
	}
	from := make([]uint32, 0)
	if renumber != nil {
		from = make([]uint32, len(se.hashes))
		for o, n := range renumber {
			if n != gone {
				from[n] = uint32(o)
			}
		}
	}
	if len(w.extra) > 0 && !failed {
		w.orderExtra(to, rd.t)
	}
	w.column(len(se.hashes))
	for _, b := range se.blocks {
		n := b.block.Len()
		p := template.Part{Block: b.block, States: w.columnStates[b.base : int(b.base)+n], Values: w.columnValues[b.base : int(b.base)+n]}
		timed, all, none := false, true, true
		for k := range n {
			slot := int(b.base) + k
			if renumber != nil {
				slot = int(from[slot])
			}
			state := template.Absent
			switch s := w.states[slot]; {
			case !failed && (s == tracked || s == free):
				state = template.Value
				p.Values[k] = w.values[slot]
				timed = timed || len(w.times) > 0 && w.times[slot] != template.NoTime
			case stale[slot]:
				state = template.Stale
			}
			p.States[k] = state
			all = all && state == template.Value
			none = none && state == template.Absent
			// What the next scrape compares with.
			forget := !failed && !rd.empty || rd.c.flushed
			if s := w.states[slot]; s == tracked || s == free {
				se.exposed[int(b.base)+k] = true
			} else if s == unseen && forget {
				se.exposed[int(b.base)+k] = false
			}
			se.tracked[int(b.base)+k] = w.states[slot] == tracked
		}
		if timed {
			p.Times = make([]int64, n)
			for k := range n {
				slot := int(b.base) + k
				if renumber != nil {
					slot = int(from[slot])
				}
				p.Times[k] = template.NoTime
				if p.States[k] == template.Value {
					if t := w.times[slot]; t != template.NoTime {
						p.Times[k] = t
					}
				}
			}
		}
		if se.last != nil {
			for k, state := range p.States {
				if state == template.Value {
					t := rd.t
					if p.Times != nil && p.Times[k] != template.NoTime {
						t = p.Times[k]
					}
					se.last[int(b.base)+k] = max(se.last[int(b.base)+k], t)
				}
			}
		}
		if all {
			p.States = nil
		}
		if !failed {
			for len(w.extra) > 0 && w.extra[0].Slot < int(b.base)+n {
				x := w.extra[0]
				w.extra = w.extra[1:]
				if x.Slot >= int(b.base) && p.State(x.Slot-int(b.base)) == template.Value {
					if x.Kind == template.Sample {
						se.last[x.Slot] = max(se.last[x.Slot], x.Time)
					}
					x.Slot -= int(b.base)
					p.Extra = append(p.Extra, x)
				}
			}
		}
		if !none {
			batch.Parts = append(batch.Parts, p)
		}
	}
	w.extra = nil
	if rd.t > m.lastTime {
		m.lastTime = rd.t
	}
	if m.scrapes%16 == 0 && renumber == nil {
		se.byLabels.drop() // of use only while lines come that are not known
	}
	return batch
}

// body reads a body. One that cannot be unpacked, or is too large, has not been
// fetched: nothing in it counts.
func (rd *reader) body(b *body) error {
	cfg := rd.r.cfg
	known := rd.m.series.len()
	err := b.unpack(cfg.BodySizeLimit, func(r *limited) error {
		err := rd.read(r, b.contentType)
		if err != nil && r.failed == nil && (cfg.ExtraMetrics || cfg.BodySizeLimit > 0) {
			_, _ = io.Copy(io.Discard, r) // for its size; what this fails with is r.failed
		}
		if rd.c.bytes = r.n; r.failed == nil {
			return err
		}
		rd.c, rd.timed, rd.broken = counts{}, false, true
		rd.settleExemplars(true)
		rd.m.series.forgetPending()
		rd.w.begin(known)
		return r.failed
	})
	if err != nil && rd.c.bytes == 0 {
		rd.broken = true // from the first byte on
	}
	return err
}

// checkGuarded refuses samples of series that another target has newer ones of.
// It comes when the scrape is known to be good: what is not logged must not
// keep others from it.
func (rd *reader) checkGuarded() {
	if rd.guard == nil || !rd.guard.shared && rd.m.series.own == nil && len(rd.m.series.pending) == 0 {
		return
	}
	for i, s := range rd.w.states {
		slot := uint32(i)
		if s != tracked || len(rd.w.times) > 0 && rd.w.times[i] != template.NoTime || !rd.guarded(slot) || rd.guard.after(rd.hash(slot), rd.t, rd.late) {
			continue
		}
		rd.w.states[i] = rejected
		rd.c.outOfOrder++
		if rd.isNew(slot) {
			rd.c.added--
		}
	}
}

// ends says whether a slot of an earlier scrape gets a stale marker in place of a value.
func (rd *reader) ends(slot uint32, failed bool) bool {
	se := &rd.m.series
	if !se.tracked[slot] || rd.t <= rd.m.lastTime {
		return false
	}
	switch rd.w.states[slot] {
	case tracked:
		return false
	case free:
		if !failed {
			return false // markTimed
		}
	}
	return rd.t > rd.last(slot) && (!rd.guarded(slot) || rd.guard.after(se.hashes[slot], rd.t, 0))
}

// markTimed puts a stale marker behind the samples of series that staleness
// has watched and does not watch any more, because they bring their timestamps
// now. Samples at or after the time of the scrape leave no place for it.
func (rd *reader) markTimed() {
	w, se := rd.w, &rd.m.series
	if !rd.timed || rd.t <= rd.m.lastTime {
		return
	}
	var late map[int]bool // slots with further samples that leave no place
	for i := range w.extra {
		if x := &w.extra[i]; x.Kind == template.Sample && x.Time >= rd.t {
			if late == nil {
				late = map[int]bool{}
			}
			late[x.Slot] = true
		}
	}
	for slot, was := range se.tracked {
		if was && w.states[slot] == free && w.times[slot] < rd.t && !late[slot] && rd.t > rd.last(uint32(slot)) &&
			(!rd.guarded(uint32(slot)) || rd.guard.after(se.hashes[slot], rd.t, 0)) {
			w.extra = append(w.extra, template.Extra{Slot: slot, Kind: template.Sample, Time: rd.t, Value: math.Float64frombits(template.StaleNaN)})
		}
	}
}

// orderExtra numbers the extras' slots anew and puts them in order: by slot,
// the samples of a slot by time. The slot's own sample is the earliest. t is
// the scrape's time, ms.
func (w *work) orderExtra(to func(int) uint32, t int64) {
	for i := range w.extra {
		x := &w.extra[i]
		if x.Kind != template.Sample {
			continue
		}
		for len(w.times) < len(w.states) {
			w.times = append(w.times, template.NoTime)
		}
		own := w.times[x.Slot]
		if own == template.NoTime {
			own = t
		}
		if x.Time < own {
			x.Time, w.times[x.Slot] = own, x.Time
			x.Value, w.values[x.Slot] = w.values[x.Slot], x.Value
		}
	}
	for i := range w.extra {
		w.extra[i].Slot = int(to(w.extra[i].Slot))
	}
	slices.SortStableFunc(w.extra, func(a, b template.Extra) int {
		// Exemplars stand behind the slot's own sample, before further ones.
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), -cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Time, b.Time))
	})
}

// column makes room for the columns of n slots.
func (w *work) column(n int) {
	if cap(w.columnValues) < n {
		w.columnValues, w.columnStates = make([]float64, n), make([]template.State, n)
	}
	w.columnValues, w.columnStates = w.columnValues[:n], w.columnStates[:n]
}

package remotewrite

import (
	"errors"
	"math"
	"time"

	"promagent/remotewrite/wire"
	"promagent/template"
	"promagent/wal"
)

// sheet is a step being dealt: the columns of its entries, copied from the
// log, and how far dealing has come. Its memory serves one step after the other.
type sheet struct {
	step    step
	at      At // of the step
	plan    wire.BlockPlan
	slots   int
	columns []column
	live    int // columns in use

	slot, column, k int // the next sample

	begun bool // a sample of the slot has been dealt
}

// column is one entry's part. The slices that the part did not have are empty.
type column struct {
	entry  int // within the step
	time   int64
	states []template.State
	values []float64
	times  []int64
	starts []int64
	extras []template.Extra
	extra  []template.Extra // those of extras that have not been dealt
}

// tally counts what dealing has decided.
type tally struct {
	dealt, dropped, tooOld                       uint64
	exemplars, exemplarsDropped, exemplarsTooOld uint64
	highest                                      int64 // time of the newest sample dealt, ms
}

// missing are the samples of a step's entries that cannot be read, by why.
type missing struct{ corrupt, gone uint64 }

// load reads a step's entries. After an error the step can be loaded again.
func (s *sheet) load(src source, st step, at At, plan func(*template.Block) wire.BlockPlan) (m missing, err error) {
	s.step, s.at, s.plan, s.slots, s.live = st, at, wire.BlockPlan{}, 0, 0
	s.slot, s.column, s.k, s.begun = 0, 0, 0, false
	err = src.LoadEach(st.entries, func(i int, p *template.Part, t int64) error {
		if s.plan.Block == nil {
			s.plan, s.slots = plan(p.Block), p.Block.Len()
		}
		if s.live == len(s.columns) {
			s.columns = append(s.columns, column{})
		}
		c := &s.columns[s.live]
		s.live++
		c.entry, c.time = i, t
		c.states = append(c.states[:0], p.States...)
		c.values = append(c.values[:0], p.Values...)
		c.times = append(c.times[:0], p.Times...)
		c.starts = append(c.starts[:0], p.Starts...)
		clear(c.extras)
		c.extras = append(c.extras[:0], p.Extra...)
		c.extra = c.extras
		return nil
	}, func(i int, err error) {
		if errors.Is(err, wal.ErrGone) {
			m.gone += uint64(st.entries[i].Samples)
		} else {
			m.corrupt += uint64(st.entries[i].Samples)
		}
	})
	return m, err
}

// deal gives the sheet's samples to the lanes of their shards or to portions,
// slot by slot, each slot's in order of time, and says whether it has dealt all. It
// stops where there is no room, and goes on there. Samples before oldest, ms, are
// dropped. The caller holds the ledger's mutex.
func (s *sheet) deal(led *ledger, now time.Time, oldest int64, exemplars bool, n *tally) bool {
	window := s.step.kind == Window
	skipping := window && s.at.Before(led.frontier)
	for i := range led.lanes {
		skipping = skipping || s.at.Before(led.lanes[i].skip)
	}
	for ; s.slot < s.slots; s.slot, s.column, s.k, s.begun = s.slot+1, 0, 0, false {
		keep := s.plan.Keep(s.slot)
		metric := s.plan.Hash(s.slot)
		shard := int(metric % uint64(len(led.lanes))) // of a run
		for ; s.column < s.live; s.column, s.k = s.column+1, 0 {
			c := &s.columns[s.column]
			for more := true; more; s.k++ {
				t, v, start, ok := c.sample(s.slot, s.k)
				at := s.at
				at.Slot, at.Nth = uint16(s.slot), nth(c.entry, s.k)
				var b *batch
				var gone *uint64 // counts the exemplars that go nowhere
				switch {
				case !ok || skipping && (window && led.final(at) || !window && at.Before(led.lanes[shard].skip)):
				case !keep:
					n.dropped++
					gone = &n.exemplarsDropped
				case t < oldest:
					n.tooOld++
					gone = &n.exemplarsTooOld
				default:
					if window {
						b = led.portion(at, metric, !s.begun, s.live-s.column)
					} else {
						b = led.batchFor(shard, at, now)
					}
					if b == nil {
						return false
					}
					s.begun = true
					b.add(s.plan, s.slot, t, v, start)
					n.dealt++
					n.highest = max(n.highest, t)
				}
				if !exemplars {
					b, gone = nil, nil
				}
				more = c.follow(s.slot, s.k, b, n, gone)
			}
		}
	}
	return true
}

// sample is the k-th sample of a slot: the column's own, then the further ones.
func (c *column) sample(slot, k int) (t int64, v float64, start int64, ok bool) {
	if k > 0 {
		return c.extra[0].Time, c.extra[0].Value, 0, true
	}
	state := template.Value
	if len(c.states) > 0 {
		state = c.states[slot]
	}
	switch state {
	case template.Absent:
		return 0, 0, 0, false
	case template.Stale:
		return c.time, math.Float64frombits(template.StaleNaN), 0, true
	}
	t = c.time
	if len(c.times) > 0 && c.times[slot] != template.NoTime {
		t = c.times[slot]
	}
	if len(c.starts) > 0 {
		start = c.starts[slot]
	}
	return t, c.values[slot], start, true
}

// follow takes the extras that follow the slot's k-th sample off the column;
// exemplars go to b, or are counted by gone, unless these are nil. It says
// whether a further sample comes next.
func (c *column) follow(slot, k int, b *batch, n *tally, gone *uint64) bool {
	if k > 0 {
		c.extra = c.extra[1:]
	}
	for len(c.extra) > 0 && c.extra[0].Slot <= slot {
		x := &c.extra[0]
		if x.Slot == slot && x.Kind == template.Sample {
			return true
		}
		if x.Slot == slot && x.Kind == template.Exemplar {
			switch {
			case b != nil:
				b.addExemplar(*x)
				n.exemplars++
			case gone != nil:
				*gone++
			}
		}
		c.extra = c.extra[1:]
	}
	return false
}

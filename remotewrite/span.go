package remotewrite

import (
	"hash/maphash"
	"slices"

	"promagent/template"
	"promagent/wal/record"
)

// Limits of spans.
const (
	maxRun          = 4096           // entries of a run, so that positions stay close to the samples
	maxWindow       = 16384          // entries of a window
	minWindowBlock  = 16             // entries of a block that a window has room for, however many samples these are
	maxWindowBlock  = 128            // entries of a block in a window
	windowSamples   = 1 << 17        // samples of a window
	windowStep      = 1 << 16        // samples of a block in a window
	maxWindowMillis = 20 * 60 * 1000 // between the first and the last entry of a window
	windowSlack     = 8              // windowSamples and windowStep may be exceeded by this part, for a window to end with a turn of all blocks
	maxPairs        = 64             // pairs of job and instance that are told apart per block
)

// extent decides how many of the entries that follow each other in a segment
// make one window. Many samples give full requests to many shards, and many
// entries per block make the labels a small part of them; the time is short
// enough for a receiver whose own limit is an hour to take two windows in any order.
// Where it can, a window ends before its first block comes again, so that the
// next one has the blocks in the same order: what comes late in one and early in
// the next holds up the shards.
type extent struct {
	most    int // entries of a block: no more than a request has samples, which is a series' then
	blocks  map[record.BlockID]*blockExtent
	entries int
	samples uint64
	first   int64          // time of the first entry, ms
	turn    record.BlockID // of the first entry
}

type blockExtent struct {
	entries int
	samples uint64
}

// take takes the next entry in, if it is one of the window. The first one is.
func (x *extent) take(e record.Entry) bool {
	if x.blocks == nil {
		x.blocks, x.first, x.turn = map[record.BlockID]*blockExtent{}, e.Time, e.Anchor()
	}
	b := x.blocks[e.Anchor()]
	if b == nil {
		b = &blockExtent{}
	}
	if x.entries == maxWindow || e.Time > x.first+maxWindowMillis || b.entries == x.most {
		return false
	}
	if b.entries >= minWindowBlock {
		over := func(part uint64) bool {
			return x.samples >= windowSamples+windowSamples*part/windowSlack || b.samples >= windowStep+windowStep*part/windowSlack
		}
		if over(0) && e.Anchor() == x.turn || over(1) {
			return false
		}
	}
	x.blocks[e.Anchor()] = b
	b.entries, b.samples = b.entries+1, b.samples+uint64(e.Samples)
	x.entries, x.samples = x.entries+1, x.samples+uint64(e.Samples)
	return true
}

// step is a part of a span that is read at once: an entry of a run, or all
// entries of a block in a window.
type step struct {
	kind    Kind // of the span
	number  uint32
	entries []record.Entry
	samples uint64
}

// steps puts a span's entries into the order of delivery. It changes the
// order of the entries given.
func steps(kind Kind, entries []record.Entry) []step {
	if kind == Run {
		out := make([]step, len(entries))
		for i, e := range entries {
			out[i] = step{kind, e.Pos.Offset, entries[i : i+1], uint64(e.Samples)}
		}
		return out
	}
	number := map[record.BlockID]uint32{}
	for _, e := range entries {
		if _, ok := number[e.Anchor()]; !ok {
			number[e.Anchor()] = uint32(len(number))
		}
	}
	slices.SortStableFunc(entries, func(a, b record.Entry) int {
		return int(number[a.Anchor()]) - int(number[b.Anchor()])
	})
	out := make([]step, 0, len(number))
	for i := 0; i < len(entries); {
		st := step{kind: kind, number: uint32(len(out))}
		j := i
		for ; j < len(entries) && entries[j].Anchor() == entries[i].Anchor(); j++ {
			st.samples += uint64(entries[j].Samples)
		}
		st.entries = entries[i:j]
		out = append(out, st)
		i = j
	}
	return out
}

// traits say whose series a block's may be: those of every target that has a
// pair of job and instance in common with it.
type traits struct {
	target uint64   // the loop: its target's label set and its origin
	pairs  []uint64 // of job and instance, ascending; nil: too many to tell
}

var traitSeed = maphash.MakeSeed()

func traitsOf(b *template.Block) traits {
	tr := traits{target: b.Target.Hash() ^ uint64(b.Origin)*0x9e3779b97f4a7c15}
	pair := func(job, instance string) uint64 {
		var h maphash.Hash
		h.SetSeed(traitSeed)
		h.WriteString(job)
		h.WriteByte(0xff)
		h.WriteString(instance)
		return h.Sum64()
	}
	job, instance := b.Target.Get("job"), b.Target.Get("instance")
	own := pair(job, instance)
	plain := true
	for _, s := range b.Schemas {
		plain = plain && !s.Whole && !slices.Contains(s.Labels, "job") && !slices.Contains(s.Labels, "instance")
	}
	if plain {
		tr.pairs = []uint64{own}
		return tr
	}
	seen := map[uint64]struct{}{}
	for it := b.Slots(); it.Next(); {
		j, in := job, instance
		s := b.Schemas[it.Schema]
		if s.Whole {
			j, in = "", ""
		}
		for i, name := range s.Labels {
			switch name {
			case "job":
				j = b.String(it.Values[i])
			case "instance":
				in = b.String(it.Values[i])
			}
		}
		seen[pair(j, in)] = struct{}{}
		if len(seen) > maxPairs {
			return tr
		}
	}
	for p := range seen {
		tr.pairs = append(tr.pairs, p)
	}
	slices.Sort(tr.pairs)
	return tr
}

// mayShare says whether two different loops among the blocks may have a
// series in common. Grouped by block, its samples would be out of order.
func mayShare(blocks []traits) bool {
	owner := map[uint64]uint64{} // of a pair
	targets := map[uint64]struct{}{}
	unknown := false
	for _, tr := range blocks {
		targets[tr.target] = struct{}{}
		unknown = unknown || tr.pairs == nil
		for _, p := range tr.pairs {
			if t, ok := owner[p]; ok && t != tr.target {
				return true
			}
			owner[p] = tr.target
		}
	}
	return unknown && len(targets) > 1
}

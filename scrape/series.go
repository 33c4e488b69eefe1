package scrape

import (
	"math"
	"slices"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
)

// series are a target's slots: a number per series that it has exposed, over
// immutable blocks. Slot numbers run through the blocks in their order. A
// series has one slot at a time; one that moves to another block never returns
// to the old one, so that order per series holds in the log.
type series struct {
	target labels.Labels
	origin uint32 // of the loop
	blocks []placed

	// By slot.
	hashes  []uint64 // of the labels
	tracked []bool   // had a value that staleness watches, in the last scrape
	last    []int64  // ms, of the newest sample; nil: no series ever brought a timestamp, and all are at times of scrapes
	exposed []bool   // logged before and part of the last good scrape, or of one since; others count as new
	own     []bool   // brings a job or instance of its own; nil: none does

	byLabels slotTable // made when a line is not known, dropped when slots move

	dead deaths // last of series that have no slot any more

	pending []pendingSeries // first seen in this scrape: slots from len(hashes) on
}

// placed is a block and the number of its first slot.
type placed struct {
	block *template.Block
	base  uint32
}

// pendingSeries has no block yet.
type pendingSeries struct {
	schema *template.Schema
	values []string
	hash   uint64
	own    bool
}

// len is the number of slots, pending ones included.
func (s *series) len() int { return len(s.hashes) + len(s.pending) }

// find returns the slot of the series with that hash of its labels.
func (s *series) find(hash uint64) (uint32, bool) {
	if s.byLabels.slots == nil {
		s.byLabels.begin(len(s.hashes))
		for i, h := range s.hashes {
			s.byLabels.add(h, uint32(i))
		}
	}
	return s.byLabels.find(hash)
}

// add gives a series a slot. final are its complete labels.
func (s *series) add(final labels.Labels, f template.Schema, hash uint64) uint32 {
	p := pendingSeries{hash: hash}
	p.schema, p.values, p.own = s.shape(final, f)
	slot := uint32(s.len())
	s.pending = append(s.pending, p)
	s.byLabels.add(hash, slot)
	return slot
}

// forgetPending takes back what has been added since the last scrape.
func (s *series) forgetPending() {
	if len(s.pending) > 0 {
		s.pending = nil
		s.byLabels.drop()
	}
}

// shape tells a series' own labels from those that the target brings. f has
// the metadata.
func (s *series) shape(final labels.Labels, f template.Schema) (*template.Schema, []string, bool) {
	f.Name = final.Get(model.MetricNameLabel)
	s.target.Range(func(l labels.Label) {
		if final.Get(l.Name) == "" {
			f.Whole = true
		}
	})
	values := make([]string, 0, final.Len())
	f.Labels = make([]string, 0, final.Len())
	own := false
	final.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel || !f.Whole && s.target.Get(l.Name) == l.Value {
			return
		}
		if l.Name == "job" || l.Name == "instance" {
			own = true
		}
		f.Labels = append(f.Labels, l.Name)
		values = append(values, l.Value)
	})
	if f.Whole {
		own = true // job or instance may be missing
	}
	return template.Intern(f), values, own
}

// settle gives the pending series blocks, and takes living series out of
// blocks that are small or largely dead along with them: seen says which slots
// are part of the newest exposition, lines gives the order of the new blocks.
// It returns the new number of every old slot (nil: nothing has moved).
// meta, when not nil, gives schemas with newer metadata.
func (s *series) settle(seen []bool, lines []line, meta func(*template.Schema) *template.Schema) []uint32 {
	rebuild := make([]bool, len(s.blocks))
	size := 0
	for _, ok := range seen[len(s.hashes):] {
		if ok {
			size++
		}
	}
	any := len(s.pending) > 0
	for i := len(s.blocks) - 1; i >= 0; i-- {
		b := s.blocks[i]
		n := b.block.Len()
		alive := 0
		for _, ok := range seen[b.base : int(b.base)+n] {
			if ok {
				alive++
			}
		}
		if meta != nil {
			for _, sc := range b.block.Schemas {
				rebuild[i] = rebuild[i] || meta(sc) != sc
			}
		}
		rebuild[i] = rebuild[i] || (n-alive)*2 > n
		// The logarithmic method: what is not more than twice as large as what
		// comes behind it is merged with that.
		if size > 0 && n <= 2*size && n < template.MaxSlots {
			rebuild[i] = true
		}
		if rebuild[i] {
			any = true
			size += alive
		}
	}
	if !any {
		return nil
	}
	return s.move(rebuild, seen, lines, meta)
}

// gone is the number of a slot that is no more.
const gone = ^uint32(0)

// move makes new blocks of the pending series and of the living ones of the
// blocks to be rebuilt.
func (s *series) move(rebuild, seen []bool, lines []line, meta func(*template.Schema) *template.Schema) []uint32 {
	old := s.len()
	renumber := make([]uint32, old)
	var blocks []placed
	next := uint32(0)
	for i := range renumber {
		renumber[i] = gone
	}
	for i, b := range s.blocks {
		if rebuild[i] {
			continue
		}
		for k := range b.block.Len() {
			renumber[int(b.base)+k] = next + uint32(k)
		}
		blocks = append(blocks, placed{b.block, next})
		next += uint32(b.block.Len())
	}
	mv := movings.Get().(*moving)
	defer mv.release()
	mv.begin(old)
	for i, b := range s.blocks {
		if rebuild[i] {
			mv.read(b, seen, meta)
		}
	}
	fresh := uint32(len(s.hashes))
	started := false
	flush := func() {
		if started && mv.builder.Len() > 0 {
			b := mv.builder.Block()
			blocks = append(blocks, placed{b, next - uint32(b.Len())})
		}
		started = false
	}
	place := func(g uint32) {
		if renumber[g] != gone || g < fresh && mv.number[g] == 0 || g >= fresh && !seen[g] {
			return
		}
		if !started {
			mv.builder.Reset(s.target)
			mv.builder.Origin = s.origin
			started = true
		}
		if g >= fresh {
			p := &s.pending[g-fresh]
			mv.builder.Add(p.schema, p.values)
		} else {
			m := &mv.slots[mv.number[g]-1]
			mv.builder.AddFrom(m.block, m.schema, mv.values[m.start:m.end])
		}
		renumber[g] = next
		next++
		if mv.builder.Len() == template.MaxSlots {
			flush()
		}
	}
	for _, l := range lines {
		if l.slot != droppedLine {
			place(l.slot)
		}
	}
	for g := range uint32(old) { // what no line of the script names, such as the rest of a scrape that failed
		place(g)
	}
	flush()
	s.renumbered(renumber, blocks, int(next))
	return renumber
}

// moving is the memory of one move. It is used again by other targets.
type moving struct {
	builder *template.Builder
	number  []uint32 // by slot: its number in slots plus one, 0: it does not move
	slots   []movingSlot
	values  []uint32
}

// movingSlot is a slot on its way to a new block. Its values are those from
// start to end, numbers of strings of its old block.
type movingSlot struct {
	block      *template.Block
	schema     *template.Schema
	start, end int
}

var movings = sync.Pool{New: func() any { return &moving{builder: template.NewBuilder(labels.EmptyLabels())} }}

func (m *moving) begin(slots int) {
	m.number = slices.Grow(m.number[:0], slots)[:slots]
	clear(m.number)
	m.slots, m.values = m.slots[:0], m.values[:0]
}

// release lets go of the target's blocks and gives the memory back.
func (m *moving) release() {
	clear(m.slots)
	m.builder.Reset(labels.EmptyLabels())
	movings.Put(m)
}

// read notes the seen slots of a block.
func (m *moving) read(b placed, seen []bool, meta func(*template.Schema) *template.Schema) {
	for it := b.block.Slots(); it.Next(); {
		g := b.base + uint32(it.Slot)
		if !seen[g] {
			continue
		}
		s := movingSlot{block: b.block, schema: b.block.Schemas[it.Schema], start: len(m.values)}
		if meta != nil {
			s.schema = meta(s.schema)
		}
		m.values = append(m.values, it.Values...)
		s.end = len(m.values)
		m.slots = append(m.slots, s)
		m.number[g] = uint32(len(m.slots))
	}
}

// renumbered moves all that is kept by slot.
func (s *series) renumbered(to []uint32, blocks []placed, n int) {
	hashes, tracked, exposed := make([]uint64, n), make([]bool, n), make([]bool, n)
	var last []int64
	if s.last != nil {
		last = make([]int64, n)
	}
	own := make([]bool, n)
	anyOwn := false
	for g, slot := range to {
		if slot == gone {
			if last != nil && g < len(s.hashes) {
				s.dead.add(s.hashes[g], s.last[g], n)
			}
			continue
		}
		if g < len(s.hashes) {
			hashes[slot], tracked[slot], exposed[slot] = s.hashes[g], s.tracked[g], s.exposed[g]
			if last != nil {
				last[slot] = s.last[g]
			}
			if s.own != nil {
				own[slot] = s.own[g]
			}
		} else {
			p := &s.pending[g-len(s.hashes)]
			hashes[slot], own[slot] = p.hash, p.own
			if last != nil {
				last[slot] = s.dead.last(p.hash)
			}
		}
		anyOwn = anyOwn || own[slot]
	}
	if !anyOwn {
		own = nil
	}
	s.blocks, s.hashes, s.tracked, s.exposed, s.last, s.own = blocks, hashes, tracked, exposed, last, own
	s.pending = nil
	s.byLabels.drop()
}

// remap renumbers the slots of lines; those of slots that are gone go too.
func (s *script) remap(to []uint32) {
	n := len(s.lines)
	s.lines = slices.DeleteFunc(s.lines, func(l line) bool { return l.slot != droppedLine && to[l.slot] == gone })
	if len(s.lines) != n {
		s.table.drop()
	}
	for i := range s.lines {
		if l := &s.lines[i]; l.slot != droppedLine {
			l.slot = to[l.slot]
		}
	}
}

// keepLast begins to remember the time of every series' newest sample. No
// sample so far is newer than at, ms.
func (s *series) keepLast(at int64) {
	if s.last != nil {
		return
	}
	s.last = make([]int64, len(s.hashes))
	for i := range s.last {
		s.last[i] = at
	}
}

// deaths are the times of the newest samples of series without a slot, by hash
// of their labels: a series that returns and brings an old timestamp must not
// go back in time. The oldest are forgotten.
type deaths struct {
	young, old map[uint64]int64
}

// last is MinInt64 for a series that is not known.
func (d *deaths) last(hash uint64) int64 {
	if t, ok := d.young[hash]; ok {
		return t
	}
	if t, ok := d.old[hash]; ok {
		return t
	}
	return math.MinInt64
}

// add notes a series' death; alive, the number of series that live, is also
// about how many dead ones are known.
func (d *deaths) add(hash uint64, t int64, alive int) {
	if d.young == nil {
		d.young = map[uint64]int64{}
	}
	d.young[hash] = t
	if len(d.young) > 1000+alive {
		d.old, d.young = d.young, nil
	}
}

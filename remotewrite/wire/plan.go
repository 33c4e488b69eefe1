// Package wire turns slots and values into remote-write requests.
//
// The path through it: Plans looks at a block once per remote: it merges
// external labels, applies write relabelling and sorts, and keeps of each
// series only its shape, the recipe by which the labels are put together from
// the slot's own values, the target's labels and constants. An Encoder then
// splices values and samples into protobuf, 1.x or 2.0, without making a label
// set and without allocating. The tests hold the bytes equal to what
// Prometheus's own messages decode to.
package wire

import (
	"encoding/binary"
	"slices"
	"strings"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
)

// source says where a label's value comes from.
type source uint8

const (
	fromOwn      source = iota // the slot's own value, number index
	fromTarget                 // the target's label, number index
	fromConstant               // the shape's
)

// piece is one label of a shape.
type piece struct {
	source source
	index  int
	name   string
	value  string // of a constant

	head  []byte // of an own or target value: name field and tag of the value field, as 1.x has it
	whole []byte // of a constant: the whole label, as 1.x has it
}

// shape is the recipe for the labels of series that differ in values only.
type shape struct {
	pieces []piece // sorted by name

	id   string // see key
	uses int    // by views that Plans keep; guarded by their mutex
}

// key tells shapes apart.
func (s *shape) key() string {
	var b []byte
	for _, p := range s.pieces {
		b = append(b, byte(p.source))
		b = binary.AppendUvarint(b, uint64(p.index))
		b = binary.AppendUvarint(b, uint64(len(p.name)))
		b = append(b, p.name...)
		b = binary.AppendUvarint(b, uint64(len(p.value)))
		b = append(b, p.value...)
	}
	return string(b)
}

// prepare sorts the pieces and encodes what does not depend on the series.
func (s *shape) prepare() {
	slices.SortFunc(s.pieces, func(a, b piece) int { return strings.Compare(a.name, b.name) })
	for i := range s.pieces {
		p := &s.pieces[i]
		p.name, p.value = strings.Clone(p.name), strings.Clone(p.value)
		p.head = append([]byte{0x0a}, binary.AppendUvarint(nil, uint64(len(p.name)))...)
		p.head = append(append(p.head, p.name...), 0x12)
		if p.source == fromConstant {
			p.whole = appendLabel(nil, p.head, p.value)
			p.head = nil
		}
	}
}

// size is about the number of bytes that the shape and its place in Plans take.
func (s *shape) size() int {
	n := 160 + len(s.id)
	for i := range s.pieces {
		p := &s.pieces[i]
		n += int(unsafe.Sizeof(*p)) + len(p.name) + len(p.value) + cap(p.head) + cap(p.whole)
	}
	return n
}

// appendLabel appends a label of a 1.x series.
func appendLabel(dst, head []byte, value string) []byte {
	dst = append(dst, 0x0a)
	dst = binary.AppendUvarint(dst, uint64(len(head)+uvarintLen(len(value))+len(value)))
	dst = append(dst, head...)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

func uvarintLen(n int) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

// BlockPlan is how one remote sees a block. It is immutable, and two of a block
// are equal while Plans know the block. It keeps the block alive, and whoever
// has one may use it for as long as they like.
type BlockPlan struct {
	Block *template.Block // nil: no plan
	*view
}

// view is what a plan adds to its block. It does not refer to the block, so
// that Plans can keep it without keeping the block alive.
type view struct {
	target  []string // values of the target's labels, by number
	shapes  []*shape // by schema, then those that relabelling made
	slots   []uint16 // by slot: number in shapes, or dropped; nil: the schema's
	bySch   []uint64 // hash by schema
	hashes  []uint64 // hash by slot where a schema is not enough, else nil
	numbers []uint16 // schema by slot
	kept    int
}

const dropped = 0xffff

// Keep says whether the slot's series is sent at all.
func (p BlockPlan) Keep(slot int) bool { return p.slots == nil || p.slots[slot] != dropped }

// Kept is the number of slots that are sent.
func (p BlockPlan) Kept() int { return p.kept }

// Hash is what shards are chosen by: of the series' name, job and instance as
// logged, before external labels and write relabelling, so that it never
// changes for a series.
func (p BlockPlan) Hash(slot int) uint64 {
	if p.hashes != nil {
		return p.hashes[slot]
	}
	return p.bySch[p.numbers[slot]]
}

func (p BlockPlan) shape(slot int) *shape {
	if p.slots != nil {
		return p.shapes[p.slots[slot]]
	}
	return p.shapes[p.numbers[slot]]
}

// Labels are the labels that the slot's series is sent with.
func (p BlockPlan) Labels(slot int) labels.Labels {
	var lb labels.ScratchBuilder
	for it := p.Block.Slots(); it.Next(); {
		if it.Slot != slot {
			continue
		}
		for i := range p.shape(slot).pieces {
			pc := &p.shape(slot).pieces[i]
			lb.Add(pc.name, p.value(pc, it.Values))
		}
	}
	return lb.Labels()
}

func (p BlockPlan) value(pc *piece, own []uint32) string {
	switch pc.source {
	case fromOwn:
		return p.Block.String(own[pc.index])
	case fromTarget:
		return p.target[pc.index]
	}
	return pc.value
}

// size is about the number of bytes that the view and its place in Plans take,
// without its shapes.
func (v *view) size() int {
	n := int(unsafe.Sizeof(*v)) + 100 + 8*cap(v.shapes) + 2*cap(v.slots) + 8*cap(v.bySch) + 8*cap(v.hashes) + 2*cap(v.numbers)
	for _, t := range v.target {
		n += int(unsafe.Sizeof(t)) + len(t)
	}
	return n
}

// make looks at all that a block has. p.mu is held.
func (p *Plans) make(b *template.Block) BlockPlan {
	bp := BlockPlan{b, &view{numbers: make([]uint16, b.Len()), kept: b.Len()}}
	var target []labels.Label
	b.Target.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel && l.Value != "" {
			target = append(target, l)
			bp.target = append(bp.target, l.Value)
		}
	})
	bySlot := false
	for _, sc := range b.Schemas {
		bp.shapes = append(bp.shapes, p.intern(p.schemaShape(sc, target)))
		bp.bySch = append(bp.bySch, seriesHash(sc.Name, b.Target.Get("job"), b.Target.Get("instance")))
		if sc.Whole || slices.Contains(sc.Labels, "job") || slices.Contains(sc.Labels, "instance") {
			bySlot = true
		}
	}
	if bySlot {
		bp.hashes = make([]uint64, b.Len())
	}
	var r *relabelling
	if !p.rules.Empty() {
		r = &relabelling{p: p, bp: bp, lb: labels.NewBuilder(labels.EmptyLabels()), local: map[*shape]uint16{}}
		bp.slots = make([]uint16, b.Len())
		for i, s := range bp.shapes {
			r.local[s] = uint16(i)
		}
	}
	for it := b.Slots(); it.Next(); {
		bp.numbers[it.Slot] = uint16(it.Schema)
		if bp.hashes != nil {
			bp.hashes[it.Slot] = bp.slotHash(&it)
		}
		if r != nil {
			r.slot(&it)
		}
	}
	return bp
}

// schemaShape is the shape of a schema's series without relabelling: the
// series' labels win over external ones.
func (p *Plans) schemaShape(sc *template.Schema, target []labels.Label) *shape {
	s := &shape{}
	has := func(name string) bool {
		return slices.ContainsFunc(s.pieces, func(p piece) bool { return p.name == name })
	}
	if sc.Name != "" {
		s.pieces = append(s.pieces, piece{source: fromConstant, name: model.MetricNameLabel, value: sc.Name})
	}
	for i, name := range sc.Labels {
		s.pieces = append(s.pieces, piece{source: fromOwn, index: i, name: name})
	}
	if !sc.Whole {
		for i, l := range target {
			if !has(l.Name) {
				s.pieces = append(s.pieces, piece{source: fromTarget, index: i, name: l.Name})
			}
		}
	}
	for _, l := range p.external {
		if !has(l.Name) {
			s.pieces = append(s.pieces, piece{source: fromConstant, name: l.Name, value: l.Value})
		}
	}
	return s
}

func seriesHash(name, job, instance string) uint64 {
	var buf [256]byte
	b := append(buf[:0], name...)
	b = append(append(b, 0xff), job...)
	b = append(append(b, 0xff), instance...)
	return xxhash.Sum64(b)
}

// slotHash is the hash of a slot that may bring a job or instance of its own.
func (p BlockPlan) slotHash(it *template.Slots) uint64 {
	sc := p.Block.Schemas[it.Schema]
	job, instance := "", ""
	if !sc.Whole {
		job, instance = p.Block.Target.Get("job"), p.Block.Target.Get("instance")
	}
	for i, name := range sc.Labels {
		switch name {
		case "job":
			job = p.Block.String(it.Values[i])
		case "instance":
			instance = p.Block.String(it.Values[i])
		}
	}
	return seriesHash(sc.Name, job, instance)
}

// relabelling applies the rules to a block's slots.
type relabelling struct {
	p       *Plans
	bp      BlockPlan
	lb      *labels.Builder
	scratch labels.ScratchBuilder
	local   map[*shape]uint16 // number in bp.shapes
}

// slot decides what becomes of the slot's series.
func (r *relabelling) slot(it *template.Slots) {
	bp := r.bp
	before := bp.shapes[it.Schema]
	// Rules that map several labels to one name see them in this order: the
	// series' labels by name, then the external ones. The last one counts.
	r.lb.Reset(it.Series(&r.scratch))
	for _, l := range r.p.external {
		if r.lb.Get(l.Name) == "" {
			r.lb.Set(l.Name, l.Value)
		}
	}
	n := 0
	var after shape
	keep := r.p.rules.Apply(r.lb)
	if keep {
		r.lb.Range(func(l labels.Label) {
			if l.Value == "" {
				return
			}
			n++
			after.pieces = append(after.pieces, r.origin(l, before, it))
		})
	}
	switch {
	case !keep || n == 0:
		bp.slots[it.Slot] = dropped
		bp.kept--
		return
	case n == len(before.pieces) && r.unchanged(&after, before):
		bp.slots[it.Slot] = uint16(it.Schema)
		return
	}
	s := r.p.intern(&after)
	num, ok := r.local[s]
	if !ok {
		num = uint16(len(bp.shapes))
		bp.shapes = append(bp.shapes, s)
		r.local[s] = num
	}
	bp.slots[it.Slot] = num
}

// unchanged says whether two recipes with the same number of pieces are one.
func (r *relabelling) unchanged(after, before *shape) bool {
	for i := range after.pieces {
		a := &after.pieces[i]
		if !slices.ContainsFunc(before.pieces, func(b piece) bool {
			return a.name == b.name && a.source == b.source && a.index == b.index && a.value == b.value
		}) {
			return false
		}
	}
	return true
}

// origin finds where a label's value can be taken from: the same label as
// before, an own value or a target's that is equal, or else it is a constant.
func (r *relabelling) origin(l labels.Label, before *shape, it *template.Slots) piece {
	for i := range before.pieces {
		if b := &before.pieces[i]; b.name == l.Name && r.bp.value(b, it.Values) == l.Value {
			return piece{source: b.source, index: b.index, name: l.Name, value: b.value}
		}
	}
	for i, v := range it.Values {
		if r.bp.Block.String(v) == l.Value {
			return piece{source: fromOwn, index: i, name: l.Name}
		}
	}
	return piece{source: fromConstant, name: l.Name, value: l.Value}
}

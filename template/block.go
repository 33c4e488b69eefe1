// Package template says what a target exposes: the same series in the same
// order nearly every time. A Block lists up to 1,024 of them, once: per series
// (a slot) the number of its Schema and the numbers of its label values in the
// block's dictionary. A Batch is one scrape's outcome over such blocks: a
// column of values per block.
//
// The path through it: scrape fills a Builder with the series it sees for the
// first time, gets a Block, and from then on only fills columns. The log
// writes a block once per segment (its bytes are the anchor) and columns from
// then on. A sender reads a block's slots once to plan their encoding, and
// then splices numbers. Blocks and schemas are immutable: any number of
// goroutines may read them.
//
// The package does no I/O and knows neither scraping nor sending.
package template

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"unsafe"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// MaxSlots is the most series that a block holds.
const MaxSlots = 1024

// Block is an immutable list of 1 to MaxSlots series of one target.
type Block struct {
	Target  labels.Labels // the target's labels, under the own labels of every slot whose schema is not Whole
	Schemas []*Schema     // referred to by number from the slots
	Origin  uint32        // tells loops apart within a process: two may have targets with the same labels

	dict  string   // the dictionary's strings, one after the other
	ends  []uint32 // end of each string in dict
	slots []byte   // per slot: uvarint schema, then a uvarint dictionary number per label of the schema
	n     int

	// Log is where the log keeps what it needs to encode this block's next
	// record. It belongs to whoever appends the block's parts, one goroutine at a time.
	Log LogState
}

// LogState is the log's memory of a block: where its anchor, last key and last
// record are in the current segment, and the values that the next record is
// the difference to.
type LogState struct {
	Segment   uint64 // the segment that the offsets are of; 0: never logged
	Anchor    uint32
	Key       uint32
	Last      uint32
	SinceKey  uint8     // records since the last key
	Values    []float64 // by slot, as of Last
	Exponents []uint8   // by slot: the number of decimals that fitted last
	Starts    []int64   // by slot, as of Last; empty when no record since the key had any
}

// Len is the number of slots.
func (b *Block) Len() int { return b.n }

// Strings is the number of strings in the dictionary.
func (b *Block) Strings() int { return len(b.ends) }

// String is dictionary entry i. It shares memory with the block.
func (b *Block) String(i uint32) string {
	start := uint32(0)
	if i > 0 {
		start = b.ends[i-1]
	}
	return b.dict[start:b.ends[i]]
}

// Slots returns an iterator that stands before the first slot.
func (b *Block) Slots() Slots { return Slots{b: b, rest: b.slots, Slot: -1} }

// Slots walks a block's slots in order:
//
//	for it := b.Slots(); it.Next(); { use it.Slot, it.Schema, it.Values }
type Slots struct {
	b      *Block
	rest   []byte
	Slot   int      // number of the slot
	Schema uint32   // index into Block.Schemas
	Values []uint32 // dictionary numbers, one per label of the schema; valid until the next call of Next
}

// Next moves to the next slot and says whether there is one.
func (s *Slots) Next() bool {
	rest := s.rest
	if len(rest) == 0 {
		return false
	}
	s.Slot++
	s.Schema, rest = number(rest)
	values := s.Values[:0]
	for range s.b.Schemas[s.Schema].Labels {
		var v uint32
		v, rest = number(rest)
		values = append(values, v)
	}
	s.Values, s.rest = values, rest
	return true
}

// number takes a number off the slots, which Builder has written or Decode has checked.
func number(b []byte) (uint32, []byte) {
	if b[0] < 0x80 {
		return uint32(b[0]), b[1:]
	}
	if b[1] < 0x80 {
		return uint32(b[0]&0x7f) | uint32(b[1])<<7, b[2:]
	}
	v, n := binary.Uvarint(b)
	return uint32(v), b[n:]
}

// Series puts the complete, sorted labels of the iterator's slot into lb.
func (s *Slots) Series(lb *labels.ScratchBuilder) labels.Labels {
	sc := s.b.Schemas[s.Schema]
	lb.Reset()
	if sc.Name != "" {
		lb.Add(model.MetricNameLabel, sc.Name)
	}
	for i, name := range sc.Labels {
		lb.Add(name, s.b.String(s.Values[i]))
	}
	if !sc.Whole {
		s.b.Target.Range(func(l labels.Label) {
			if l.Name == model.MetricNameLabel {
				return
			}
			for _, name := range sc.Labels {
				if name == l.Name {
					return
				}
			}
			lb.Add(l.Name, l.Value)
		})
	}
	lb.Sort()
	return lb.Labels()
}

// Builder collects series for a new block.
type Builder struct {
	Origin uint32 // of the block

	target    labels.Labels
	schemas   []*Schema
	schemaNum map[*Schema]uint32
	dict      []byte
	ends      []uint32
	strings   []uint32 // open addressing by hash: numbers of strings plus one, a power of two of them
	slots     []byte
	n         int

	from []source
}

// source is a block that slots were added from.
type source struct {
	block   *Block
	strings []uint32 // by the block's number of a string: the number here plus one, 0: not here yet
}

var stringSeed = maphash.MakeSeed()

// NewBuilder begins a block of the target with the given labels.
func NewBuilder(target labels.Labels) *Builder {
	b := &Builder{schemaNum: map[*Schema]uint32{}}
	b.Reset(target)
	return b
}

// Reset begins another block, in the memory of the last one.
func (b *Builder) Reset(target labels.Labels) {
	b.Origin, b.target = 0, target
	clear(b.schemas)
	clear(b.schemaNum)
	clear(b.strings)
	clear(b.from)
	b.schemas, b.dict, b.ends, b.slots, b.n, b.from = b.schemas[:0], b.dict[:0], b.ends[:0], b.slots[:0], 0, b.from[:0]
}

// Len is the number of slots added so far.
func (b *Builder) Len() int { return b.n }

// Add appends a slot with the given label values, one per label of the
// (interned) schema, and returns its number. It copies the values. It panics
// when the block is full or the number of values is wrong.
func (b *Builder) Add(s *Schema, values []string) int {
	b.begin(s, len(values))
	for _, v := range values {
		b.slots = binary.AppendUvarint(b.slots, uint64(b.string(v)))
	}
	b.n++
	return b.n - 1
}

// AddFrom appends a slot whose label values are strings of another block,
// given by their numbers there. It panics as Add does.
func (b *Builder) AddFrom(other *Block, s *Schema, values []uint32) int {
	b.begin(s, len(values))
	from := b.source(other)
	for _, v := range values {
		num := &from.strings[v]
		if *num == 0 {
			*num = b.string(other.String(v)) + 1
		}
		b.slots = binary.AppendUvarint(b.slots, uint64(*num-1))
	}
	b.n++
	return b.n - 1
}

func (b *Builder) begin(s *Schema, values int) {
	if b.n == MaxSlots || values != len(s.Labels) {
		panic(fmt.Sprintf("template: slot %d with %d values for %d labels", b.n, values, len(s.Labels)))
	}
	num, ok := b.schemaNum[s]
	if !ok {
		num = uint32(len(b.schemas))
		b.schemaNum[s] = num
		b.schemas = append(b.schemas, s)
	}
	b.slots = binary.AppendUvarint(b.slots, uint64(num))
}

// source finds what is known of a block. There are few: a target's.
func (b *Builder) source(other *Block) *source {
	for i := len(b.from) - 1; i >= 0; i-- {
		if b.from[i].block == other {
			return &b.from[i]
		}
	}
	b.from = append(b.from, source{other, make([]uint32, len(other.ends))})
	return &b.from[len(b.from)-1]
}

// string is the dictionary's number of a string, which is added when it is new.
func (b *Builder) string(v string) uint32 {
	if 2*len(b.ends) >= len(b.strings) {
		b.growStrings()
	}
	mask := uint64(len(b.strings) - 1)
	k := maphash.String(stringSeed, v) & mask
	for ; b.strings[k] != 0; k = (k + 1) & mask {
		if n := b.strings[k] - 1; b.at(n) == v {
			return n
		}
	}
	b.dict = append(b.dict, v...)
	b.ends = append(b.ends, uint32(len(b.dict)))
	b.strings[k] = uint32(len(b.ends))
	return uint32(len(b.ends) - 1)
}

// at is a string of the dictionary, valid until the next one is added.
func (b *Builder) at(n uint32) string {
	start := uint32(0)
	if n > 0 {
		start = b.ends[n-1]
	}
	v := b.dict[start:b.ends[n]]
	return unsafe.String(unsafe.SliceData(v), len(v))
}

func (b *Builder) growStrings() {
	b.strings = make([]uint32, max(64, 2*len(b.strings)))
	mask := uint64(len(b.strings) - 1)
	for n := range uint32(len(b.ends)) {
		k := maphash.String(stringSeed, b.at(n)) & mask
		for b.strings[k] != 0 {
			k = (k + 1) & mask
		}
		b.strings[k] = n + 1
	}
}

// Block returns the finished block, which keeps nothing of the builder.
func (b *Builder) Block() *Block {
	return &Block{
		Target: b.target, Origin: b.Origin, Schemas: append([]*Schema(nil), b.schemas...),
		dict: string(b.dict), ends: append([]uint32(nil), b.ends...),
		slots: append([]byte(nil), b.slots...), n: b.n,
	}
}

// Size is about the number of bytes that the block takes in memory.
func (b *Block) Size() int {
	return 200 + len(b.dict) + 4*len(b.ends) + len(b.slots) + 8*len(b.Schemas)
}

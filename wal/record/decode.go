package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/klauspost/compress/s2"

	"promagent/template"
)

// links are what a record leans on; both are 0 in a key.
type links struct {
	key       bool
	keyAt     uint32
	previous  uint32
	bodyStart int
	flags     byte
}

// parseLinks reads a record's head.
func parseLinks(body []byte) (l links, err error) {
	if len(body) < 2 || body[0] != version {
		return l, fmt.Errorf("record of an unknown version: %w", errRecord)
	}
	l.flags = body[1]
	if l.flags&^(flagKey|flagStates|flagTimes|flagStarts|flagExtras|flagSame) != 0 {
		return l, fmt.Errorf("record flags %#x: %w", l.flags, errRecord)
	}
	if l.key = l.flags&flagKey != 0; l.key {
		l.bodyStart = 2
		return l, nil
	}
	if len(body) < 10 {
		return l, errRecord
	}
	l.keyAt = binary.LittleEndian.Uint32(body[2:])
	l.previous = binary.LittleEndian.Uint32(body[6:])
	l.bodyStart = 10
	return l, nil
}

// column is the state of decoding one block's chain of records: a part whose
// Values are those as of the last record. Its memory is used again.
type column struct {
	part       template.Part
	states     []template.State
	exponents  []uint8 // by slot, as announced since the key
	times      []int64
	starts     []int64
	haveStarts bool // starts are those of a record since the key
	raw        []byte
}

// reset makes the column that of a block before any record.
func (c *column) reset(b *template.Block) {
	n := b.Len()
	if cap(c.part.Values) < n {
		c.part.Values = make([]float64, n, template.MaxSlots)
		c.states = make([]template.State, n, template.MaxSlots)
		c.exponents = make([]uint8, n, template.MaxSlots)
	}
	c.part = template.Part{Block: b, Values: c.part.Values[:n], Extra: c.part.Extra[:0]}
	c.states, c.exponents = c.states[:n], c.exponents[:n]
}

// decode applies a record at time t to the column. After an error the column
// is good for nothing but reset. It checks all that it reads.
func (c *column) decode(body []byte, l links, t int64) error {
	n := c.part.Block.Len()
	if l.key {
		clear(c.part.Values)
		clear(c.exponents)
		c.haveStarts = false
	}
	c.part.States, c.part.Times, c.part.Starts, c.part.Extra = nil, nil, nil, c.part.Extra[:0]
	b := body[l.bodyStart:]
	with := n
	if l.flags&flagStates != 0 {
		with = 0
		for i := 0; i < n; {
			u, k := binary.Uvarint(b)
			if k <= 0 || u>>2 == 0 || u>>2 > uint64(n-i) || u&3 > uint64(template.Absent) {
				return fmt.Errorf("states: %w", errRecord)
			}
			b = b[k:]
			run, state := int(u>>2), template.State(u&3)
			if state == template.Value {
				with += run
			}
			for range run {
				c.states[i] = state
				i++
			}
		}
		c.part.States = c.states
	}
	b, err := c.values(b, with)
	if err != nil {
		return err
	}
	if l.flags&flagTimes != 0 {
		if cap(c.times) < n {
			c.times = make([]int64, n, template.MaxSlots)
		}
		c.times = c.times[:n]
		if b, err = c.timestamps(c.times, b, t, template.NoTime); err != nil {
			return err
		}
		c.part.Times = c.times
	}
	if l.flags&flagStarts != 0 {
		if l.flags&flagSame == 0 {
			if !c.haveStarts {
				c.starts = append(c.starts[:0], make([]int64, n)...)
				c.haveStarts = true
			}
			if b, err = c.timestamps(c.starts, b, t, 0); err != nil {
				return err
			}
		}
		if !c.haveStarts {
			return fmt.Errorf("starts of no record: %w", errRecord)
		}
		c.part.Starts = c.starts
	} else if l.flags&flagSame != 0 {
		return fmt.Errorf("record flags %#x: %w", l.flags, errRecord)
	}
	if l.flags&flagExtras != 0 {
		if b, err = c.extras(b, t); err != nil {
			return err
		}
	}
	if len(b) != 0 {
		return fmt.Errorf("%d bytes too many: %w", len(b), errRecord)
	}
	return nil
}

// values reads the values that differ from those of the record before; with
// is the number of slots that have one.
func (c *column) values(b []byte, with int) (rest []byte, err error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("changes: %w", errRecord)
	}
	mode := b[0]
	b = b[1:]
	var bitmap []byte
	switch size := (with + 7) / 8; mode {
	case changesNone:
		return b, nil
	case changesAll:
	case changesBitmap:
		if len(b) < size {
			return nil, fmt.Errorf("bitmap: %w", errRecord)
		}
		bitmap, b = b[:size], b[size:]
	default:
		return nil, fmt.Errorf("changes %d: %w", mode, errRecord)
	}
	var todo [template.MaxSlots / 64]uint64 // the slots whose values follow
	if c.part.States == nil && bitmap != nil {
		for i, x := range bitmap {
			todo[i/8] |= uint64(x) << (i % 8 * 8)
		}
		if with%64 != 0 && todo[with/64]>>(with%64) != 0 {
			return nil, fmt.Errorf("bitmap: %w", errRecord)
		}
	} else {
		k := 0
		for i := range c.part.Values {
			if c.part.State(i) == template.Value {
				if bitmap == nil || bitmap[k/8]&(1<<(k%8)) != 0 {
					todo[i/64] |= 1 << (i % 64)
				}
				k++
			}
		}
	}
	values := c.part.Values
	exponents := c.exponents[:len(values)]
	for w, word := range todo {
		for ; word != 0; word &= word - 1 {
			i := w*64 + bits.TrailingZeros64(word)
			if len(b) >= 3 && b[0]&1 == 0 { // a small whole number, most often
				u, size := uint32(b[0]), 1
				if u >= 0x80 {
					u = u&0x7f | uint32(b[1])<<7
					size = 2
					if u >= 1<<14 {
						u = u&(1<<14-1) | uint32(b[2])<<14
						size = 3
					}
				}
				if u < 1<<21 {
					values[i] += float64(int32(u>>2) ^ -int32(u>>1&1))
					b = b[size:]
					continue
				}
			}
			v, size := value(b, values[i], &exponents[i])
			if size == 0 {
				return nil, fmt.Errorf("value of slot %d: %w", i, errRecord)
			}
			values[i], b = v, b[size:]
		}
	}
	return b, nil
}

// timestamps reads a column into dst, by slot; what it holds of slots without a
// value stays.
func (c *column) timestamps(dst []int64, b []byte, t, none int64) (rest []byte, err error) {
	size, k := binary.Uvarint(b)
	if k <= 0 || size > uint64(len(b)-k) {
		return nil, fmt.Errorf("timestamps: %w", errRecord)
	}
	packed := b[k : k+int(size)]
	rest = b[k+int(size):]
	n, err := s2.DecodedLen(packed)
	if err != nil || n > 20*template.MaxSlots {
		return nil, fmt.Errorf("timestamps: %w", errRecord)
	}
	raw, err := s2.Decode(c.raw[:cap(c.raw)], packed)
	if err != nil {
		return nil, fmt.Errorf("timestamps: %w: %w", errRecord, err)
	}
	c.raw = raw
	run, current, last := uint64(0), none, int64(0)
	for i := range dst {
		if c.part.State(i) != template.Value {
			continue
		}
		if run == 0 {
			u, k := binary.Uvarint(raw)
			if k <= 0 || u>>1 == 0 {
				return nil, fmt.Errorf("timestamps: %w", errRecord)
			}
			raw = raw[k:]
			run, current = u>>1, none
			if u&1 == 0 {
				d, k := binary.Varint(raw)
				if k <= 0 {
					return nil, fmt.Errorf("timestamps: %w", errRecord)
				}
				raw = raw[k:]
				last += d
				current = t + last
			}
		}
		dst[i] = current
		run--
	}
	if run != 0 || len(raw) != 0 {
		return nil, fmt.Errorf("timestamps: %w", errRecord)
	}
	return rest, nil
}

// extras reads what does not fit a column.
func (c *column) extras(b []byte, t int64) (rest []byte, err error) {
	count, k := binary.Uvarint(b)
	if k <= 0 || count > uint64(len(b)) {
		return nil, fmt.Errorf("extras: %w", errRecord)
	}
	b = b[k:]
	slot := 0
	for range count {
		d, k := binary.Uvarint(b)
		if k <= 0 || d >= uint64(c.part.Block.Len()-slot) || len(b) < k+1 {
			return nil, fmt.Errorf("extras: %w", errRecord)
		}
		slot += int(d)
		x := template.Extra{Slot: slot, Kind: template.ExtraKind(b[k])}
		b = b[k+1:]
		offset, k := binary.Varint(b)
		if k <= 0 || len(b) < k+8 {
			return nil, fmt.Errorf("extras: %w", errRecord)
		}
		x.Time = t + offset
		x.Value = math.Float64frombits(binary.LittleEndian.Uint64(b[k:]))
		b = b[k+8:]
		switch x.Kind {
		case template.Sample:
		case template.Exemplar:
			strs, k := binary.Uvarint(b)
			if k <= 0 || strs > uint64(len(b)) || strs%2 != 0 {
				return nil, fmt.Errorf("extras: %w", errRecord)
			}
			b = b[k:]
			for range strs {
				size, k := binary.Uvarint(b)
				if k <= 0 || size > uint64(len(b)-k) {
					return nil, fmt.Errorf("extras: %w", errRecord)
				}
				x.Labels = append(x.Labels, string(b[k:k+int(size)]))
				b = b[k+int(size):]
			}
		default:
			return nil, fmt.Errorf("extra of kind %d: %w", x.Kind, errRecord)
		}
		c.part.Extra = append(c.part.Extra, x)
	}
	return b, nil
}

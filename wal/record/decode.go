package record

import (
	"encoding/binary"
	"fmt"
	"math"

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
	if l.flags&^(flagKey|flagStates|flagTimes|flagStarts|flagExtras) != 0 {
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
	part   template.Part
	states []template.State
	times  []int64
	starts []int64
	raw    []byte
}

// reset makes the column that of a block before any record.
func (c *column) reset(b *template.Block) {
	n := b.Len()
	if cap(c.part.Values) < n {
		c.part.Values = make([]float64, n, template.MaxSlots)
		c.states = make([]template.State, n, template.MaxSlots)
	}
	c.part = template.Part{Block: b, Values: c.part.Values[:n], Extra: c.part.Extra[:0]}
	c.states = c.states[:n]
}

// decode applies a record at time t to the column. After an error the column
// is good for nothing but reset. It checks all that it reads.
func (c *column) decode(body []byte, l links, t int64) error {
	n := c.part.Block.Len()
	if l.key {
		clear(c.part.Values)
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
	if len(b) == 0 {
		return fmt.Errorf("changes: %w", errRecord)
	}
	mode := b[0]
	b = b[1:]
	var bits []byte
	switch mode {
	case changesNone, changesAll:
	case changesBitmap:
		if len(b) < (with+7)/8 {
			return fmt.Errorf("bitmap: %w", errRecord)
		}
		bits, b = b[:(with+7)/8], b[(with+7)/8:]
	default:
		return fmt.Errorf("changes %d: %w", mode, errRecord)
	}
	if mode != changesNone {
		values := c.part.Values
		k := 0
		for i := range values {
			if c.part.States != nil && c.part.States[i] != template.Value {
				continue
			}
			if bits == nil || bits[k/8]&(1<<(k%8)) != 0 {
				v, size, ok := value(b, values[i])
				if !ok {
					return fmt.Errorf("value of slot %d: %w", i, errRecord)
				}
				values[i], b = v, b[size:]
			}
			k++
		}
	}
	var err error
	if l.flags&flagTimes != 0 {
		if c.times, b, err = c.timestamps(c.times, b, t, template.NoTime); err != nil {
			return err
		}
		c.part.Times = c.times
	}
	if l.flags&flagStarts != 0 {
		if c.starts, b, err = c.timestamps(c.starts, b, t, 0); err != nil {
			return err
		}
		c.part.Starts = c.starts
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

// value reads the difference to old.
func value(b []byte, old float64) (v float64, size int, ok bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	if b[0]&3 == tagBits {
		shift, n := int(b[0]>>2&7), int(b[0]>>5)+1
		if len(b) < 1+n || shift+n > 8 {
			return 0, 0, false
		}
		var x uint64
		for i := range n {
			x |= uint64(b[1+i]) << (8 * i)
		}
		return math.Float64frombits(math.Float64bits(old) ^ x<<(8*shift)), 1 + n, true
	}
	u, k := binary.Uvarint(b)
	if k <= 0 {
		return 0, 0, false
	}
	switch u & 3 {
	case tagInteger:
		o, whole := whole(old)
		return float64(o + unzigzag(u>>2)), k, whole
	case tagDecimal:
		e := uint8(u>>2&7) + 1
		o, exact := scaled(old, e)
		return float64(o+unzigzag(u>>5)) / pow10[e], k, exact
	}
	return 0, 0, false
}

// timestamps reads a column into dst's memory, by slot.
func (c *column) timestamps(dst []int64, b []byte, t, none int64) (column []int64, rest []byte, err error) {
	size, k := binary.Uvarint(b)
	if k <= 0 || size > uint64(len(b)-k) {
		return dst, nil, fmt.Errorf("timestamps: %w", errRecord)
	}
	packed := b[k : k+int(size)]
	rest = b[k+int(size):]
	n, err := s2.DecodedLen(packed)
	if err != nil || n > 20*template.MaxSlots {
		return dst, nil, fmt.Errorf("timestamps: %w", errRecord)
	}
	raw, err := s2.Decode(c.raw[:cap(c.raw)], packed)
	if err != nil {
		return dst, nil, fmt.Errorf("timestamps: %w: %w", errRecord, err)
	}
	c.raw = raw
	slots := c.part.Block.Len()
	if cap(dst) < slots {
		dst = make([]int64, slots, template.MaxSlots)
	}
	dst = dst[:slots]
	run, current, last := uint64(0), none, int64(0)
	for i := range dst {
		if c.part.State(i) != template.Value {
			dst[i] = none
			continue
		}
		if run == 0 {
			u, k := binary.Uvarint(raw)
			if k <= 0 || u>>1 == 0 {
				return dst, nil, fmt.Errorf("timestamps: %w", errRecord)
			}
			raw = raw[k:]
			run, current = u>>1, none
			if u&1 == 0 {
				d, k := binary.Varint(raw)
				if k <= 0 {
					return dst, nil, fmt.Errorf("timestamps: %w", errRecord)
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
		return dst, nil, fmt.Errorf("timestamps: %w", errRecord)
	}
	return dst, rest, nil
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

package wire

import (
	"encoding/binary"
	"math"

	"promagent/template"
)

// Samples are the consecutive samples of one series, ascending in time.
type Samples struct {
	Times     []int64   // ms
	Values    []float64 // as long as Times
	Starts    []int64   // empty, or start timestamps in ms, 0: unknown; 1.x has no place for them
	Exemplars []template.Extra
}

// Encoder puts series together to a request. It is not for concurrent use.
type Encoder interface {
	// Reset begins a new request.
	Reset()
	// Add appends the samples of a block's slot as one series.
	Add(p BlockPlan, slot int, s Samples)
	// Request is the protobuf message, not compressed. It is valid until the
	// next Reset.
	Request() []byte
	// Len is the number of bytes so far, without 2.0's symbols.
	Len() int
}

// NewEncoder returns the encoder of 1.x, or of 2.0.
func NewEncoder(v2 bool) Encoder {
	if v2 {
		return &encoderV2{symbols: map[string]uint32{}}
	}
	return &encoderV1{}
}

// cursor stands at a slot of a plan and moves on cheaply to a later one.
type cursor struct {
	plan BlockPlan
	it   template.Slots
}

// seek moves to a slot and says whether the plan is another than before.
func (c *cursor) seek(p BlockPlan, slot int) (changed bool) {
	changed = c.plan != p
	if changed || c.it.Slot > slot {
		values := c.it.Values
		c.plan, c.it = p, p.Block.Slots()
		c.it.Values = values[:0]
	}
	for c.it.Slot < slot && c.it.Next() {
	}
	return changed
}

// sized makes what stands in dst from start on, behind one byte of room, a
// length-delimited field: the length goes into the room, which grows when needed.
func sized(dst []byte, start int) []byte {
	n := len(dst) - start - 1
	if n < 0x80 {
		dst[start] = byte(n)
		return dst
	}
	extra := uvarintLen(n) - 1
	for range extra {
		dst = append(dst, 0)
	}
	copy(dst[start+1+extra:], dst[start+1:len(dst)-extra])
	binary.PutUvarint(dst[start:], uint64(n))
	return dst
}

// appendTimedValue appends fields: double, which is left out for 0, its default
// (but not for -0), and varint.
func appendTimedValue(dst []byte, valueTag byte, v float64, timeTag byte, t int64) []byte {
	if bits := math.Float64bits(v); bits != 0 {
		dst = append(dst, valueTag)
		dst = binary.LittleEndian.AppendUint64(dst, bits)
	}
	dst = append(dst, timeTag)
	return binary.AppendUvarint(dst, uint64(t))
}

// encoderV1 makes prometheus.WriteRequest messages.
type encoderV1 struct {
	buf  []byte
	cur  cursor
	long bool // the last series' length took two bytes: so will the next one's
}

func (e *encoderV1) Reset() { e.buf, e.cur.plan = e.buf[:0], BlockPlan{} }

func (e *encoderV1) Len() int { return len(e.buf) }

func (e *encoderV1) Request() []byte { return e.buf }

func (e *encoderV1) Add(p BlockPlan, slot int, s Samples) {
	e.cur.seek(p, slot)
	b := append(e.buf, 0x0a, 0) // timeseries
	start := len(b) - 1
	if e.long {
		b = append(b, 0)
	}
	sh := p.shape(slot)
	for i := range sh.pieces {
		switch pc := &sh.pieces[i]; pc.source {
		case fromConstant:
			b = append(b, pc.whole...)
		case fromTarget:
			b = appendLabel(b, pc.head, p.target[pc.index])
		default:
			b = appendLabel(b, pc.head, p.Block.String(e.cur.it.Values[pc.index]))
		}
	}
	for i, t := range s.Times {
		v := s.Values[i]
		size := 1 + uvarintLen64(uint64(t))
		if math.Float64bits(v) != 0 {
			size += 9
		}
		b = appendTimedValue(append(b, 0x12, byte(size)), 0x09, v, 0x10, t)
	}
	for i := range s.Exemplars {
		x := &s.Exemplars[i]
		b = append(b, 0x1a, 0)
		at := len(b) - 1
		for k := 0; k+1 < len(x.Labels); k += 2 {
			b = append(b, 0x0a, 0)
			label := len(b) - 1
			b = appendText(b, 0x0a, x.Labels[k])
			b = appendText(b, 0x12, x.Labels[k+1])
			b = sized(b, label)
		}
		b = appendTimedValue(b, 0x11, x.Value, 0x18, x.Time)
		b = sized(b, at)
	}
	if n := len(b) - start - 2; e.long && n >= 0x80 && n < 0x4000 {
		b[start], b[start+1] = byte(n)|0x80, byte(n>>7)
	} else {
		if e.long {
			b = append(b[:start+1], b[start+2:]...)
		}
		e.long = len(b)-start-1 >= 0x80
		b = sized(b, start)
	}
	e.buf = b
}

func appendText(dst []byte, tag byte, s string) []byte {
	dst = append(dst, tag)
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func uvarintLen64(n uint64) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

// encoderV2 makes io.prometheus.write.v2.Request messages.
type encoderV2 struct {
	buf     []byte // of the series
	table   []byte // of the symbols
	symbols map[string]uint32
	n       uint32 // symbols so far, the empty one included

	cur    cursor
	own    []uint32 // by number in the block's dictionary: symbol, or 0
	target []uint32 // by number of the target's label, likewise

	shape  *shape // that names and constants are of
	names  []uint32
	consts []uint32
	schema *template.Schema // that meta is of
	meta   []byte           // the metadata field
}

func (e *encoderV2) Reset() {
	e.buf, e.table, e.n = e.buf[:0], append(e.table[:0], 0x22, 0), 1
	clear(e.symbols)
	e.cur.plan, e.shape, e.schema = BlockPlan{}, nil, nil
}

func (e *encoderV2) Len() int { return len(e.buf) + len(e.table) }

// Request puts the symbols first, as Prometheus does: a receiver may read the
// message as a stream.
func (e *encoderV2) Request() []byte {
	e.table = append(e.table, e.buf...)
	return e.table
}

// symbol is the number of a string in the request's table.
func (e *encoderV2) symbol(s string) uint32 {
	if s == "" {
		return 0
	}
	if n, ok := e.symbols[s]; ok {
		return n
	}
	n := e.n
	e.n++
	e.symbols[s] = n
	e.table = appendText(e.table, 0x22, s)
	return n
}

// zeros returns n zeros in s's memory.
func zeros(s []uint32, n int) []uint32 {
	if cap(s) < n {
		return make([]uint32, n)
	}
	s = s[:n]
	clear(s)
	return s
}

func (e *encoderV2) Add(p BlockPlan, slot int, s Samples) {
	if e.cur.seek(p, slot) {
		e.own = zeros(e.own, p.Block.Strings())
		e.target = zeros(e.target, len(p.target))
	}
	sh := p.shape(slot)
	if sh != e.shape {
		e.shape = sh
		e.names, e.consts = e.names[:0], e.consts[:0]
		for i := range sh.pieces {
			e.names = append(e.names, e.symbol(sh.pieces[i].name))
			c := uint32(0)
			if sh.pieces[i].source == fromConstant {
				c = e.symbol(sh.pieces[i].value)
			}
			e.consts = append(e.consts, c)
		}
	}
	b := append(e.buf, 0x2a, 0) // timeseries
	start := len(b) - 1
	b = append(b, 0x0a, 0) // labels_refs
	refs := len(b) - 1
	for i := range sh.pieces {
		pc := &sh.pieces[i]
		var v uint32
		switch pc.source {
		case fromConstant:
			v = e.consts[i]
		case fromTarget:
			if v = e.target[pc.index]; v == 0 {
				v = e.symbol(p.target[pc.index])
				e.target[pc.index] = v
			}
		default:
			num := e.cur.it.Values[pc.index]
			if v = e.own[num]; v == 0 {
				v = e.symbol(p.Block.String(num))
				e.own[num] = v
			}
		}
		b = appendRef(appendRef(b, e.names[i]), v)
	}
	b = sized(b, refs)
	for i, t := range s.Times {
		b = append(b, 0x12, 0)
		at := len(b) - 1
		b = appendTimedValue(b, 0x09, s.Values[i], 0x10, t)
		if len(s.Starts) > 0 && s.Starts[i] != 0 {
			b = append(b, 0x18)
			b = binary.AppendUvarint(b, uint64(s.Starts[i]))
		}
		b[at] = byte(len(b) - at - 1)
	}
	for i := range s.Exemplars {
		x := &s.Exemplars[i]
		b = append(b, 0x22, 0)
		at := len(b) - 1
		b = append(b, 0x0a, 0)
		refs := len(b) - 1
		for _, l := range x.Labels {
			b = appendRef(b, e.symbol(l))
		}
		b = sized(b, refs)
		b = appendTimedValue(b, 0x11, x.Value, 0x18, x.Time)
		b = sized(b, at)
	}
	if sc := p.Block.Schemas[e.cur.it.Schema]; sc != e.schema {
		e.schema = sc
		e.meta = e.appendMetadata(e.meta[:0], sc)
	}
	b = append(b, e.meta...)
	e.buf = sized(b, start)
}

func appendRef(dst []byte, v uint32) []byte {
	if v < 0x80 {
		return append(dst, byte(v))
	}
	return binary.AppendUvarint(dst, uint64(v))
}

// metadataTypes numbers the types as 2.0 does.
var metadataTypes = map[string]byte{
	"counter": 1, "gauge": 2, "histogram": 3, "gaugehistogram": 4, "summary": 5, "info": 6, "stateset": 7,
}

// appendMetadata appends the metadata field of a schema's series, nothing when
// none is known.
func (e *encoderV2) appendMetadata(dst []byte, s *template.Schema) []byte {
	typ, help, unit := metadataTypes[s.Type], e.symbol(s.Help), e.symbol(s.Unit)
	if typ == 0 && help == 0 && unit == 0 {
		return dst
	}
	dst = append(dst, 0x2a, 0)
	at := len(dst) - 1
	if typ != 0 {
		dst = append(dst, 0x08, typ)
	}
	if help != 0 {
		dst = appendRef(append(dst, 0x18), help)
	}
	if unit != 0 {
		dst = appendRef(append(dst, 0x20), unit)
	}
	return sized(dst, at)
}

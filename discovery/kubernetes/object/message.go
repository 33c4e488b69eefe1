package object

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// message walks over the fields of an encoded message:
//
//	for m := open(b); d.next(&m); {
//		switch m.num {
//		case 1:
//			name = d.text(&m)
//		}
//	}
//
// Fields that nobody asks for are skipped unread, however large. The first
// error ends all walks of the decoder, which holds it.
// (A message that held its decoder would put that on the heap.)
type message struct {
	rest []byte
	num  protowire.Number
	typ  protowire.Type
	data []byte // the field's value if its type is BytesType
	bits uint64 // and if it is VarintType
}

// open begins to walk over an encoded message.
func open(b []byte) message { return message{rest: b} }

// next goes to the next field, if there is one.
func (d *decoder) next(m *message) bool {
	if len(m.rest) == 0 || d.err != nil {
		return false
	}
	var n int
	if m.num, m.typ, n = protowire.ConsumeTag(m.rest); n < 0 {
		d.err = fmt.Errorf("tag: %w", protowire.ParseError(n))
		return false
	}
	m.rest = m.rest[n:]
	switch m.typ {
	case protowire.BytesType:
		m.data, n = protowire.ConsumeBytes(m.rest)
	case protowire.VarintType:
		m.bits, n = protowire.ConsumeVarint(m.rest)
	default:
		n = protowire.ConsumeFieldValue(m.num, m.typ, m.rest)
	}
	if n < 0 {
		d.err = fmt.Errorf("field %d: %w", m.num, protowire.ParseError(n))
		return false
	}
	m.rest = m.rest[n:]
	return true
}

// has says whether the field is of the type, which is an error otherwise.
func (d *decoder) has(m *message, t protowire.Type) bool {
	if m.typ != t {
		d.err = fmt.Errorf("field %d: wire type %d, want %d", m.num, m.typ, t)
		return false
	}
	return true
}

// bytes is the field's value as it is in the input.
func (d *decoder) bytes(m *message) []byte {
	if !d.has(m, protowire.BytesType) {
		return nil
	}
	return m.data
}

// sub is the message in the field.
func (d *decoder) sub(m *message) message { return open(d.bytes(m)) }

// text is the field's value as a string that is kept.
func (d *decoder) text(m *message) string { return d.keep(d.bytes(m)) }

// optional is text of a field that may be absent.
func (d *decoder) optional(m *message) Optional { return Optional{d.text(m), true} }

func (d *decoder) int32(m *message) int32 {
	if !d.has(m, protowire.VarintType) {
		return 0
	}
	return int32(m.bits) // the encoding of a negative one has 64 bits
}

func (d *decoder) bool(m *message) Bool {
	switch {
	case !d.has(m, protowire.VarintType):
		return Unset
	case m.bits == 0:
		return False
	}
	return True
}

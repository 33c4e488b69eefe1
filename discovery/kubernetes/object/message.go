package object

import (
	"fmt"
	"io"

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
// error ends all walks of the decoder, which holds it. A message does not hold
// its decoder: that would put the decoder on the heap.
type message struct {
	b    []byte
	at   int    // of the next field
	want uint64 // bit n: field n is of interest; those from 64 on never are

	num        protowire.Number
	typ        protowire.Type
	start, end int    // of the field's value if its type is BytesType
	bits       uint64 // the value if it is VarintType
}

// open begins to walk over an encoded message.
func open(b []byte) message { return message{b: b, want: ^uint64(0)} }

// only makes the walk faster: it need not stop at other fields than those
// whose bits are set.
func (m message) only(fields uint64) message {
	m.want = fields
	return m
}

// next goes to the next field, if there is one.
func (d *decoder) next(m *message) bool {
	if d.err != nil {
		return false
	}
	// Nearly all tags and lengths have one or two bytes. The others, and what
	// is wrong, are left to nextOfAny.
	b, i := m.b, m.at
	for i < len(b) {
		m.at = i
		tag := uint(b[i])
		if i++; tag >= 0x80 {
			if i >= len(b) || b[i] >= 0x80 {
				return d.nextOfAny(m)
			}
			tag = tag&0x7f | uint(b[i])<<7
			i++
		}
		if i >= len(b) || tag < 8 {
			return d.nextOfAny(m)
		}
		value := uint(b[i])
		if i++; value >= 0x80 {
			if i >= len(b) || b[i] >= 0x80 {
				return d.nextOfAny(m)
			}
			value = value&0x7f | uint(b[i])<<7
			i++
		}
		start := i
		switch protowire.Type(tag & 7) {
		case protowire.BytesType:
			if value > uint(len(b)-i) {
				return d.nextOfAny(m)
			}
			i += int(value)
		case protowire.VarintType:
		default:
			return d.nextOfAny(m)
		}
		if m.want>>(tag>>3)&1 != 0 {
			m.num, m.typ, m.bits, m.start, m.end, m.at = protowire.Number(tag>>3), protowire.Type(tag&7), uint64(value), start, i, i
			return true
		}
	}
	m.at = i
	return false
}

// nextOfAny is next for any field of any length.
func (d *decoder) nextOfAny(m *message) bool {
	var n int
	if m.num, m.typ, n = protowire.ConsumeTag(m.b[m.at:]); n < 0 {
		d.err = fmt.Errorf("tag: %w", protowire.ParseError(n))
		return false
	}
	m.at += n
	switch m.typ {
	case protowire.BytesType:
		var size uint64
		if size, n = protowire.ConsumeVarint(m.b[m.at:]); n >= 0 {
			if size > uint64(len(m.b)-m.at-n) {
				d.err = fmt.Errorf("field %d: %w", m.num, io.ErrUnexpectedEOF)
				return false
			}
			m.start = m.at + n
			m.end = m.start + int(size)
			n += int(size)
		}
	case protowire.VarintType:
		m.bits, n = protowire.ConsumeVarint(m.b[m.at:])
	default:
		n = protowire.ConsumeFieldValue(m.num, m.typ, m.b[m.at:])
	}
	if n < 0 {
		d.err = fmt.Errorf("field %d: %w", m.num, protowire.ParseError(n))
		return false
	}
	m.at += n
	return true
}

// refuse reports a known field of another type than it should have.
func (d *decoder) refuse(m *message, want protowire.Type) {
	d.err = fmt.Errorf("field %d: wire type %d, want %d", m.num, m.typ, want)
}

// bytes is the field's value as it is in the input.
func (d *decoder) bytes(m *message) []byte {
	if m.typ != protowire.BytesType {
		d.refuse(m, protowire.BytesType)
		return nil
	}
	return m.b[m.start:m.end]
}

// sub is the message in the field.
func (d *decoder) sub(m *message) message { return open(d.bytes(m)) }

// text is the field's value as a string that is kept.
func (d *decoder) text(m *message) string { return d.keep(d.bytes(m)) }

// optional is text of a field that may be absent.
func (d *decoder) optional(m *message) Optional { return Optional{d.text(m), true} }

func (d *decoder) int32(m *message) int32 {
	if m.typ != protowire.VarintType {
		d.refuse(m, protowire.VarintType)
		return 0
	}
	return int32(m.bits) // the encoding of a negative one has 64 bits
}

func (d *decoder) bool(m *message) Bool {
	switch {
	case m.typ != protowire.VarintType:
		d.refuse(m, protowire.VarintType)
		return Unset
	case m.bits == 0:
		return False
	}
	return True
}

package template

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// AppendTo appends the block's encoding, from which Decode makes an equal
// block. All numbers are uvarints; a string is its length and its bytes:
//
//	origin
//	labels of the target: count, then name and value of each
//	schemas: count, then of each: 1 when whole else 0, name, family, type, help, unit, number of labels, their names
//	dictionary: count, the length of each string, then all strings
//	slots: count, then of each the schema's number and a dictionary number per label
func (b *Block) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.Origin))
	dst = binary.AppendUvarint(dst, uint64(b.Target.Len()))
	b.Target.Range(func(l labels.Label) {
		dst = appendString(dst, l.Name)
		dst = appendString(dst, l.Value)
	})
	dst = binary.AppendUvarint(dst, uint64(len(b.Schemas)))
	for _, s := range b.Schemas {
		whole := byte(0)
		if s.Whole {
			whole = 1
		}
		dst = append(dst, whole)
		for _, t := range [...]string{s.Name, s.Family, s.Type, s.Help, s.Unit} {
			dst = appendString(dst, t)
		}
		dst = binary.AppendUvarint(dst, uint64(len(s.Labels)))
		for _, l := range s.Labels {
			dst = appendString(dst, l)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(b.ends)))
	last := uint32(0)
	for _, e := range b.ends {
		dst = binary.AppendUvarint(dst, uint64(e-last))
		last = e
	}
	dst = append(dst, b.dict...)
	dst = binary.AppendUvarint(dst, uint64(b.n))
	return append(dst, b.slots...)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

var errBlock = errors.New("malformed block")

// decoder takes fields off the front of a body; the first that is not there sets bad.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint(most int) int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || most < 0 || v > uint64(most) {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

// count reads the number of things that take at least one byte each.
func (d *decoder) count() int { return d.uvarint(len(d.b)) }

func (d *decoder) string() string {
	n := d.count()
	if n > len(d.b) {
		d.bad, d.b = true, nil
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// Decode reads what AppendTo wrote. It keeps nothing of body, checks all it
// reads, and allocates in proportion to the body at most.
func Decode(body []byte) (*Block, error) {
	d := decoder{b: body}
	origin := uint32(d.uvarint(math.MaxUint32))
	var lb labels.ScratchBuilder
	for range d.count() {
		name := d.string()
		lb.Add(name, d.string())
	}
	lb.Sort()
	b := &Block{Target: lb.Labels(), Origin: origin}
	for range d.count() {
		if d.bad {
			break
		}
		var s Schema
		s.Whole = d.uvarint(1) == 1
		for _, t := range [...]*string{&s.Name, &s.Family, &s.Type, &s.Help, &s.Unit} {
			*t = d.string()
		}
		for range d.count() {
			s.Labels = append(s.Labels, d.string())
		}
		if !d.bad {
			b.Schemas = append(b.Schemas, Intern(s))
		}
	}
	total := 0
	for range d.count() {
		total += d.count()
		b.ends = append(b.ends, uint32(total))
	}
	if d.bad || total > len(d.b) {
		return nil, errBlock
	}
	b.dict = string(d.b[:total])
	d.b = d.b[total:]
	b.n = d.uvarint(MaxSlots)
	slots := d.b
	for i := range b.n {
		n := d.uvarint(len(b.Schemas) - 1)
		if d.bad {
			return nil, fmt.Errorf("%w: slot %d", errBlock, i)
		}
		for range b.Schemas[n].Labels {
			d.uvarint(len(b.ends) - 1)
		}
	}
	if d.bad || len(d.b) != 0 || b.n == 0 {
		return nil, errBlock
	}
	b.slots = slices.Clone(slots)
	return b, nil
}

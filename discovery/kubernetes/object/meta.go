package object

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// meta decodes meta/v1 ObjectMeta into o.
func (d *decoder) meta(m message, o *Meta) {
	for d.next(&m) {
		switch m.num {
		case 1:
			o.Name = d.text(&m)
		case 3:
			o.Namespace = d.text(&m)
			d.namespace, d.namespaceText = d.bytes(&m), o.Namespace
		case 5:
			o.UID = d.text(&m)
		case 6:
			d.version = d.bytes(&m)
		case 11:
			d.pair(d.sub(&m), d.labels.next())
		case 12:
			d.pair(d.sub(&m), d.annotations.next())
		case 13:
			d.owner(d.sub(&m).only(1<<1|1<<3|1<<6), &o.Controller)
		}
	}
}

// pair decodes an entry of a map of strings.
func (d *decoder) pair(m message, p *Pair) {
	// Nearly all are a short name and a short value and nothing else.
	if b := m.b; len(b) >= 4 && b[0] == 1<<3|byte(protowire.BytesType) && b[1] < 0x80 {
		if end := 2 + int(b[1]); end+2 <= len(b) && b[end] == 2<<3|byte(protowire.BytesType) && int(b[end+1]) == len(b)-end-2 && b[end+1] < 0x80 {
			p.Name, p.Value = d.keep(b[2:end]), d.keep(b[end+2:])
			return
		}
	}
	for d.next(&m) {
		switch m.num {
		case 1:
			p.Name = d.text(&m)
		case 2:
			p.Value = d.text(&m)
		}
	}
}

// owner decodes meta/v1 OwnerReference into o if it is the first that controls
// the object.
func (d *decoder) owner(m message, o *Owner) {
	var kind, name []byte
	var controller Bool
	for d.next(&m) {
		switch m.num {
		case 1:
			kind = d.bytes(&m)
		case 3:
			name = d.bytes(&m)
		case 6:
			controller = d.bool(&m)
		}
	}
	if controller == True && !d.controlled {
		d.controlled = true
		*o = Owner{Kind: d.keep(kind), Name: d.keep(name)}
	}
}

// sorted sorts p by name. Of pairs with the same name the last one stays: that
// is what a map would have kept.
func sorted(p []Pair) []Pair {
	ascending := true
	for i := 1; i < len(p) && ascending; i++ {
		ascending = p[i-1].Name < p[i].Name
	}
	if ascending {
		return p // as servers do
	}
	slices.SortStableFunc(p, func(a, b Pair) int { return strings.Compare(a.Name, b.Name) })
	n := 0
	for i := range p {
		if i+1 < len(p) && p[i+1].Name == p[i].Name {
			continue
		}
		p[n] = p[i]
		n++
	}
	return p[:n:n]
}

// equal says whether nothing is different.
func (m *Meta) equal(o *Meta) bool {
	return m.Name == o.Name && m.Namespace == o.Namespace && m.UID == o.UID && m.Controller == o.Controller &&
		slices.Equal(m.Labels, o.Labels) && slices.Equal(m.Annotations, o.Annotations)
}

// decodeOther decodes an object whose metadata is its field 1, as that of all
// objects is.
func decodeOther(b []byte) (*Other, string, error) {
	var d decoder
	o := &Other{}
	d.other(b, o)
	if d.err == nil {
		d.fill()
		*o = Other{}
		d.other(b, o)
	}
	version, err := d.end(&o.Meta)
	return o, version, err
}

func (d *decoder) other(b []byte, o *Other) {
	for m := open(b); d.next(&m); {
		if m.num == 1 {
			d.meta(d.sub(&m), &o.Meta)
		}
	}
}

// Equal implements Object.
func (o *Other) Equal(other Object) bool {
	p, ok := other.(*Other)
	return ok && o.equal(&p.Meta)
}

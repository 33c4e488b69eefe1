package object

import "slices"

// endpointsDecoder decodes core/v1 Endpoints.
type endpointsDecoder struct {
	decoder
	subsets         arena[Subset]
	ready, notReady arena[EndpointAddress]
	ports           arena[EndpointPort]
	refs            refs
}

func decodeEndpoints(b []byte) (*Endpoints, string, error) {
	var d endpointsDecoder
	o := &Endpoints{}
	d.endpoints(b, o)
	if d.err == nil {
		d.fill()
		d.subsets.fill()
		d.notReady.carve(d.ready.carve(make([]EndpointAddress, d.ready.n+d.notReady.n)))
		d.ports.fill()
		d.refs.fill()
		*o = Endpoints{}
		d.endpoints(b, o)
		o.Subsets = d.subsets.since(0)
	}
	version, err := d.end(&o.Meta)
	return o, version, err
}

func (d *endpointsDecoder) endpoints(b []byte, o *Endpoints) {
	for m := open(b); d.next(&m); {
		switch m.num {
		case 1:
			d.meta(d.sub(&m), &o.Meta)
		case 2:
			d.subset(d.sub(&m), d.subsets.next())
		}
	}
}

func (d *endpointsDecoder) subset(m message, s *Subset) {
	ready, notReady, ports := len(d.ready.all), len(d.notReady.all), len(d.ports.all)
	for d.next(&m) {
		switch m.num {
		case 1:
			d.address(d.sub(&m), d.ready.next())
		case 2:
			d.address(d.sub(&m), d.notReady.next())
		case 3:
			d.port(d.sub(&m), d.ports.next())
		}
	}
	s.Ready, s.NotReady, s.Ports = d.ready.since(ready), d.notReady.since(notReady), d.ports.since(ports)
}

func (d *endpointsDecoder) address(m message, a *EndpointAddress) {
	for d.next(&m) {
		switch m.num {
		case 1:
			a.IP = d.text(&m)
		case 2:
			if a.Target == nil {
				a.Target = d.refs.next()
			}
			d.ref(d.sub(&m), a.Target)
		case 3:
			a.Hostname = d.text(&m)
		case 4:
			a.NodeName = d.optional(&m)
		}
	}
}

func (d *endpointsDecoder) port(m message, p *EndpointPort) {
	for d.next(&m) {
		switch m.num {
		case 1:
			p.Name = d.text(&m)
		case 2:
			p.Port = d.int32(&m)
		case 3:
			p.Protocol = d.text(&m)
		}
	}
}

// refs hands out references of one allocation. It is an arena without scratch:
// pointers to references are kept, so that one inside would put the decoder on
// the heap.
type refs struct {
	n   int
	all []Ref
	one *Ref // what all get in the first pass
}

func (r *refs) next() *Ref {
	if len(r.all) == cap(r.all) {
		r.n++
		if r.one == nil {
			r.one = &Ref{}
		}
		return r.one
	}
	r.all = r.all[:len(r.all)+1]
	return &r.all[len(r.all)-1]
}

func (r *refs) fill() { r.all = make([]Ref, 0, r.n) }

// ref decodes core/v1 ObjectReference.
func (d *decoder) ref(m message, r *Ref) {
	for d.next(&m) {
		switch m.num {
		case 1:
			r.Kind = d.text(&m)
		case 2:
			// It is that of the object, which is enough to have once.
			if b := d.bytes(&m); string(b) == string(d.namespace) {
				r.Namespace = d.namespaceText
			} else {
				r.Namespace = d.keep(b)
			}
		case 3:
			r.Name = d.text(&m)
		}
	}
}

// Equal implements Object.
func (e *Endpoints) Equal(other Object) bool {
	o, ok := other.(*Endpoints)
	return ok && e.equal(&o.Meta) && slices.EqualFunc(e.Subsets, o.Subsets, Subset.equal)
}

func (s Subset) equal(o Subset) bool {
	return slices.EqualFunc(s.Ready, o.Ready, EndpointAddress.equal) &&
		slices.EqualFunc(s.NotReady, o.NotReady, EndpointAddress.equal) && slices.Equal(s.Ports, o.Ports)
}

func (a EndpointAddress) equal(o EndpointAddress) bool {
	return a.IP == o.IP && a.Hostname == o.Hostname && a.NodeName == o.NodeName && equalRefs(a.Target, o.Target)
}

func equalRefs(a, b *Ref) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

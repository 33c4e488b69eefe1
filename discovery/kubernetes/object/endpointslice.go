package object

import "slices"

// sliceDecoder decodes discovery/v1 EndpointSlice.
type sliceDecoder struct {
	decoder
	endpoints arena[SliceEndpoint]
	addresses arena[string]
	topology  arena[Pair]
	ports     arena[SlicePort]
	refs      refs
}

func decodeEndpointSlice(b []byte) (*EndpointSlice, string, error) {
	var d sliceDecoder
	o := &EndpointSlice{}
	d.slice(b, o)
	if d.err == nil {
		d.fill()
		d.endpoints.fill()
		d.addresses.fill()
		d.topology.fill()
		d.ports.fill()
		d.refs.fill()
		*o = EndpointSlice{}
		d.slice(b, o)
		o.Endpoints, o.Ports = d.endpoints.since(0), d.ports.since(0)
	}
	version, err := d.end(&o.Meta)
	return o, version, err
}

func (d *sliceDecoder) slice(b []byte, o *EndpointSlice) {
	for m := open(b); d.next(&m); {
		switch m.num {
		case 1:
			d.meta(d.sub(&m), &o.Meta)
		case 2:
			d.endpoint(d.sub(&m), d.endpoints.next())
		case 3:
			d.port(d.sub(&m), d.ports.next())
		case 4:
			o.AddressType = d.text(&m)
		}
	}
}

func (d *sliceDecoder) endpoint(m message, e *SliceEndpoint) {
	addresses, topology := len(d.addresses.all), len(d.topology.all)
	for d.next(&m) {
		switch m.num {
		case 1:
			*d.addresses.next() = d.text(&m)
		case 2:
			d.conditions(d.sub(&m), e)
		case 3:
			e.Hostname = d.optional(&m)
		case 4:
			if e.Target == nil {
				e.Target = d.refs.next()
			}
			d.ref(d.sub(&m), e.Target)
		case 5:
			d.pair(d.sub(&m), d.topology.next())
		case 6:
			e.NodeName = d.optional(&m)
		case 7:
			e.Zone = d.optional(&m)
		}
	}
	e.Addresses, e.Topology = d.addresses.since(addresses), sorted(d.topology.since(topology))
}

func (d *sliceDecoder) conditions(m message, e *SliceEndpoint) {
	for d.next(&m) {
		switch m.num {
		case 1:
			e.Ready = d.bool(&m)
		case 2:
			e.Serving = d.bool(&m)
		case 3:
			e.Terminating = d.bool(&m)
		}
	}
}

func (d *sliceDecoder) port(m message, p *SlicePort) {
	for d.next(&m) {
		switch m.num {
		case 1:
			p.Name = d.optional(&m)
		case 2:
			p.Protocol = d.optional(&m)
		case 3:
			p.Port, p.HasPort = d.int32(&m), true
		case 4:
			p.AppProtocol = d.optional(&m)
		}
	}
}

// Equal implements Object.
func (e *EndpointSlice) Equal(other Object) bool {
	o, ok := other.(*EndpointSlice)
	return ok && e.AddressType == o.AddressType && e.equal(&o.Meta) && slices.Equal(e.Ports, o.Ports) &&
		slices.EqualFunc(e.Endpoints, o.Endpoints, SliceEndpoint.equal)
}

func (e SliceEndpoint) equal(o SliceEndpoint) bool {
	return e.Ready == o.Ready && e.Serving == o.Serving && e.Terminating == o.Terminating &&
		slices.Equal(e.Addresses, o.Addresses) && equalRefs(e.Target, o.Target) &&
		e.Hostname == o.Hostname && e.NodeName == o.NodeName && e.Zone == o.Zone && slices.Equal(e.Topology, o.Topology)
}

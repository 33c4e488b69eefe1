package object

import "slices"

// nodeDecoder decodes core/v1 Node.
type nodeDecoder struct {
	decoder
	conditions arena[Condition]
	addresses  arena[Address]
}

func decodeNode(b []byte) (*Node, string, error) {
	var d nodeDecoder
	o := &Node{}
	d.node(b, o)
	if d.err == nil {
		d.fill()
		d.conditions.fill()
		d.addresses.fill()
		*o = Node{}
		d.node(b, o)
		o.Conditions, o.Addresses = d.conditions.since(0), d.addresses.since(0)
	}
	version, err := d.end(&o.Meta)
	return o, version, err
}

func (d *nodeDecoder) node(b []byte, o *Node) {
	for m := open(b); d.next(&m); {
		switch m.num {
		case 1:
			d.meta(d.sub(&m), &o.Meta)
		case 2:
			d.spec(d.sub(&m), o)
		case 3:
			d.status(d.sub(&m), o)
		}
	}
}

func (d *nodeDecoder) spec(m message, o *Node) {
	for d.next(&m) {
		if m.num == 3 {
			o.ProviderID = d.text(&m)
		}
	}
}

func (d *nodeDecoder) status(m message, o *Node) {
	for d.next(&m) {
		switch m.num {
		case 4:
			d.condition(d.sub(&m), d.conditions.next())
		case 5:
			d.address(d.sub(&m), d.addresses.next())
		case 6:
			d.daemons(d.sub(&m), o)
		}
	}
}

func (d *nodeDecoder) condition(m message, c *Condition) {
	for d.next(&m) {
		switch m.num {
		case 1:
			c.Type = d.text(&m)
		case 2:
			c.Status = d.text(&m)
		}
	}
}

func (d *nodeDecoder) address(m message, a *Address) {
	for d.next(&m) {
		switch m.num {
		case 1:
			a.Type = d.text(&m)
		case 2:
			a.Address = d.text(&m)
		}
	}
}

// daemons decodes NodeDaemonEndpoints, of which the kubelet's is the only one.
func (d *nodeDecoder) daemons(m message, o *Node) {
	for d.next(&m) {
		if m.num != 1 {
			continue
		}
		for kubelet := d.sub(&m); d.next(&kubelet); {
			if kubelet.num == 1 {
				o.KubeletPort = d.int32(&kubelet)
			}
		}
	}
}

// Equal implements Object.
func (n *Node) Equal(other Object) bool {
	o, ok := other.(*Node)
	return ok && n.KubeletPort == o.KubeletPort && n.ProviderID == o.ProviderID && n.equal(&o.Meta) &&
		slices.Equal(n.Conditions, o.Conditions) && slices.Equal(n.Addresses, o.Addresses)
}

package object

import "slices"

// ingressDecoder decodes networking/v1 Ingress.
type ingressDecoder struct {
	decoder
	rules        arena[IngressRule]
	paths, hosts arena[string]
}

func decodeIngress(b []byte) (*Ingress, string, error) {
	var d ingressDecoder
	o := &Ingress{}
	d.ingress(b, o)
	if d.err == nil {
		d.fill()
		d.rules.fill()
		d.hosts.carve(d.paths.carve(make([]string, d.paths.n+d.hosts.n)))
		*o = Ingress{}
		d.ingress(b, o)
		o.Rules, o.TLSHosts = d.rules.since(0), d.hosts.since(0)
	}
	version, err := d.end(&o.Meta)
	return o, version, err
}

func (d *ingressDecoder) ingress(b []byte, o *Ingress) {
	for m := open(b); d.next(&m); {
		switch m.num {
		case 1:
			d.meta(d.sub(&m), &o.Meta)
		case 2:
			d.spec(d.sub(&m), o)
		}
	}
}

func (d *ingressDecoder) spec(m message, o *Ingress) {
	for d.next(&m) {
		switch m.num {
		case 2:
			d.tls(d.sub(&m))
		case 3:
			d.rule(d.sub(&m), d.rules.next())
		case 4:
			o.Class = d.optional(&m)
		}
	}
}

func (d *ingressDecoder) tls(m message) {
	for d.next(&m) {
		if m.num == 1 {
			*d.hosts.next() = d.text(&m)
		}
	}
}

func (d *ingressDecoder) rule(m message, r *IngressRule) {
	start := len(d.paths.all)
	for d.next(&m) {
		switch m.num {
		case 1:
			r.Host = d.text(&m)
		case 2:
			for value := d.sub(&m); d.next(&value); {
				if value.num == 1 {
					r.HTTP = true
					d.http(d.sub(&value))
				}
			}
		}
	}
	r.Paths = d.paths.since(start)
}

// http decodes HTTPIngressRuleValue, which is a list of paths.
func (d *ingressDecoder) http(m message) {
	for d.next(&m) {
		if m.num != 1 {
			continue
		}
		path := d.paths.next()
		for p := d.sub(&m); d.next(&p); {
			if p.num == 1 {
				*path = d.text(&p)
			}
		}
	}
}

// Equal implements Object.
func (i *Ingress) Equal(other Object) bool {
	o, ok := other.(*Ingress)
	return ok && i.Class == o.Class && i.equal(&o.Meta) && slices.EqualFunc(i.Rules, o.Rules, IngressRule.equal) &&
		slices.Equal(i.TLSHosts, o.TLSHosts)
}

func (r IngressRule) equal(o IngressRule) bool {
	return r.HTTP == o.HTTP && r.Host == o.Host && slices.Equal(r.Paths, o.Paths)
}

package object

import "slices"

// serviceDecoder decodes core/v1 Service.
type serviceDecoder struct {
	decoder
	ports                arena[ServicePort]
	families, ingressIPs arena[string]
}

func decodeService(b []byte) (*Service, string, error) {
	var d serviceDecoder
	o := &Service{}
	d.service(b, o)
	if d.err == nil {
		d.fill()
		d.ports.fill()
		d.ingressIPs.carve(d.families.carve(make([]string, d.families.n+d.ingressIPs.n)))
		*o = Service{}
		d.service(b, o)
		o.Ports, o.IPFamilies, o.IngressIPs = d.ports.since(0), d.families.since(0), d.ingressIPs.since(0)
	}
	version, err := d.end(&o.Meta)
	return o, version, err
}

func (d *serviceDecoder) service(b []byte, o *Service) {
	for m := open(b); d.next(&m); {
		switch m.num {
		case 1:
			d.meta(d.sub(&m), &o.Meta)
		case 2:
			d.spec(d.sub(&m), o)
		case 3:
			d.status(d.sub(&m))
		}
	}
}

func (d *serviceDecoder) spec(m message, o *Service) {
	for d.next(&m) {
		switch m.num {
		case 1:
			d.port(d.sub(&m), d.ports.next())
		case 3:
			o.ClusterIP = d.text(&m)
		case 4:
			o.Type = d.text(&m)
		case 8:
			o.LoadBalancerIP = d.text(&m)
		case 10:
			o.ExternalName = d.text(&m)
		case 17:
			o.IPFamilyPolicy = d.text(&m)
		case 19:
			*d.families.next() = d.text(&m)
		}
	}
}

func (d *serviceDecoder) port(m message, p *ServicePort) {
	for d.next(&m) {
		switch m.num {
		case 1:
			p.Name = d.text(&m)
		case 2:
			p.Protocol = d.text(&m)
		case 3:
			p.Port = d.int32(&m)
		}
	}
}

func (d *serviceDecoder) status(m message) {
	for d.next(&m) {
		if m.num != 1 {
			continue
		}
		for balancer := d.sub(&m); d.next(&balancer); {
			if balancer.num == 1 {
				d.ingress(d.sub(&balancer))
			}
		}
	}
}

// ingress decodes LoadBalancerIngress, which has an IP or a name.
func (d *serviceDecoder) ingress(m message) {
	var ip []byte
	for d.next(&m) {
		if m.num == 1 {
			ip = d.bytes(&m)
		}
	}
	if len(ip) > 0 {
		*d.ingressIPs.next() = d.keep(ip)
	}
}

// Equal implements Object.
func (s *Service) Equal(other Object) bool {
	o, ok := other.(*Service)
	return ok && s.Type == o.Type && s.ClusterIP == o.ClusterIP && s.ExternalName == o.ExternalName &&
		s.LoadBalancerIP == o.LoadBalancerIP && s.IPFamilyPolicy == o.IPFamilyPolicy && s.equal(&o.Meta) &&
		slices.Equal(s.IngressIPs, o.IngressIPs) && slices.Equal(s.IPFamilies, o.IPFamilies) && slices.Equal(s.Ports, o.Ports)
}

package kubernetes

import (
	"strconv"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// serviceNameLabel names the service that a slice belongs to.
const serviceNameLabel = "kubernetes.io/service-name"

// endpointSlice is the group of an EndpointSlice: a target for each port of
// each address, in whatever condition, and one for each port that a pod among
// those declares and no endpoint has.
//
// Of a service with both families of IP addresses only the slices of the first
// have targets: the others would double them.
func (b *builder) endpointSlice(e *object.EndpointSlice) group.Group {
	t := &sliceTargets{b: b, slice: e, ends: make([]int32, len(e.Endpoints))}
	t.service = find[object.Service](b.services, e.Namespace, value(e.Labels, serviceNameLabel))
	if secondFamily(t.service, e) {
		return grouped(object.KindEndpointSlice, &e.Meta, nil)
	}
	var targets count
	for i := range e.Endpoints {
		targets.add(len(e.Ports), len(e.Endpoints[i].Addresses))
		t.ends[i] = int32(targets.n)
	}
	if t.plain = targets.n; t.plain > 0 {
		t.namespace = b.namespace(e.Namespace)
		t.resolve(&targets)
	}
	g := grouped(object.KindEndpointSlice, &e.Meta, t)
	b.warnTooMany(g.Source, targets)
	return g
}

// secondFamily says whether e has addresses of another family than the first
// of a service that has two.
func secondFamily(svc *object.Service, e *object.EndpointSlice) bool {
	if svc == nil || len(svc.IPFamilies) == 0 {
		return false
	}
	switch svc.IPFamilyPolicy {
	case "PreferDualStack", "RequireDualStack":
		return e.AddressType != svc.IPFamilies[0]
	}
	return false
}

// sliceTargets are the targets of an EndpointSlice: endpoint by endpoint the
// addresses of its first port, of its second, and so on; then the extra ones.
type sliceTargets struct {
	b         *builder
	slice     *object.EndpointSlice
	service   *object.Service
	namespace *object.Other
	members   []member // by endpoint
	ends      []int32  // by endpoint: the targets of it and of those before
	extra     []declared
	plain     int // targets of endpoints
}

// resolve finds what is behind the endpoints. What more targets that are goes
// into the count.
func (t *sliceTargets) resolve(targets *count) {
	e := t.slice
	t.members = make([]member, 0, len(e.Endpoints))
	pods := newPods(t.b)
	for i := range e.Endpoints {
		ep := &e.Endpoints[i]
		var m member
		if len(ep.Addresses) > 0 {
			m = pods.member(ep.Target, 0, t.members)
			switch {
			case !t.b.attach.node:
			case ep.Target != nil && ep.Target.Kind == "Node":
				m.node = find[object.Node](t.b.nodes, "", ep.Target.Name)
			case ep.NodeName.Set:
				m.node = find[object.Node](t.b.nodes, "", ep.NodeName.Value)
			}
		}
		t.members = append(t.members, m)
	}
	t.extra = pods.uncovered(targets, t.members, func(_ int, port int32) bool {
		for i := range e.Ports {
			if e.Ports[i].HasPort && e.Ports[i].Port == port {
				return true
			}
		}
		return false
	})
}

func (t *sliceTargets) Len() int { return t.plain + len(t.extra) }

func (t *sliceTargets) Labels(i int, s *group.Set) {
	e := t.slice
	if i >= t.plain {
		d := t.extra[i-t.plain]
		m := &t.members[d.member]
		address, of := declaredAt(m, d)
		s.Add(addressLabel, address)
		t.sliceLabels(s)
		t.b.namespaceLabels(s, e.Namespace, t.namespace)
		t.b.podLabels(s, m.pod, m.owner, of)
		t.b.serviceMetaLabels(s, t.service)
		return
	}

	at, k := span(t.ends, i)
	ep, m := &e.Endpoints[at], &t.members[at]
	p, address, number := &e.Ports[k/len(ep.Addresses)], ep.Addresses[k%len(ep.Addresses)], ""
	if p.HasPort {
		address, number = hostPort(address, uint64(p.Port))
	}
	s.Add(addressLabel, address)
	endpointLabels(t.b.names, s, ep)
	t.sliceLabels(s)
	s.Add(metaPrefix+"endpointslice_port", number)
	optional(s, metaPrefix+"endpointslice_port_app_protocol", p.AppProtocol)
	optional(s, metaPrefix+"endpointslice_port_name", p.Name)
	optional(s, metaPrefix+"endpointslice_port_protocol", p.Protocol)
	t.b.namespaceLabels(s, e.Namespace, t.namespace)
	t.b.nodeMetaLabels(s, m.node)
	if m.pod != nil {
		of := exposed{number: number}
		if p.HasPort {
			if of.container, of.port = withPort(m.pod, p.Port); of.port != nil {
				of.protocol = of.port.Protocol
			}
		}
		t.b.podLabels(s, m.pod, m.owner, of)
	}
	t.b.serviceMetaLabels(s, t.service)
}

// sliceLabels adds the labels that all targets of the slice have of it.
func (t *sliceTargets) sliceLabels(s *group.Set) {
	s.Add(metaPrefix+"endpointslice_address_type", t.slice.AddressType)
	t.b.objectLabels(s, sliceFamily, &t.slice.Meta)
	s.Add(metaPrefix+"endpointslice_name", t.slice.Name)
}

func endpointLabels(n *names, s *group.Set, ep *object.SliceEndpoint) {
	if ep.Target != nil {
		s.Add(metaPrefix+"endpointslice_address_target_kind", ep.Target.Kind)
		s.Add(metaPrefix+"endpointslice_address_target_name", ep.Target.Name)
	}
	truth(s, metaPrefix+"endpointslice_endpoint_conditions_ready", ep.Ready)
	truth(s, metaPrefix+"endpointslice_endpoint_conditions_serving", ep.Serving)
	truth(s, metaPrefix+"endpointslice_endpoint_conditions_terminating", ep.Terminating)
	optional(s, metaPrefix+"endpointslice_endpoint_hostname", ep.Hostname)
	optional(s, metaPrefix+"endpointslice_endpoint_node_name", ep.NodeName)
	n.add(s, topologyFamily, ep.Topology)
	optional(s, metaPrefix+"endpointslice_endpoint_zone", ep.Zone)
}

func optional(s *group.Set, name string, o object.Optional) {
	if o.Set {
		s.Add(name, o.Value)
	}
}

func truth(s *group.Set, name string, b object.Bool) {
	if b != object.Unset {
		s.Add(name, strconv.FormatBool(b == object.True))
	}
}

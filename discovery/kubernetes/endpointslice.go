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
	for i := range e.Endpoints {
		t.plain += len(e.Ports) * len(e.Endpoints[i].Addresses)
		t.ends[i] = int32(t.plain)
	}
	if t.plain > 0 {
		t.namespace = b.namespace(e.Namespace)
		t.resolve()
	}
	return grouped(object.KindEndpointSlice, &e.Meta, t)
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

// resolve finds what is behind the endpoints.
func (t *sliceTargets) resolve() {
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
	t.extra = pods.uncovered(t.members, func(_ int, port int32) bool {
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
	s.Add(namespaceName, e.Namespace)
	s.Add(metaPrefix+"endpointslice_address_type", e.AddressType)
	s.Add(metaPrefix+"endpointslice_name", e.Name)
	t.b.objectLabels(s, sliceFamily, &e.Meta)
	t.b.serviceMetaLabels(s, t.service)
	t.b.namespaceLabels(s, t.namespace)
	if i >= t.plain {
		t.b.declaredLabels(s, t.members, t.extra[i-t.plain])
		return
	}

	at, k := span(t.ends, i)
	ep := &e.Endpoints[at]
	t.portLabels(s, &e.Ports[k/len(ep.Addresses)], ep.Addresses[k%len(ep.Addresses)], t.members[at].pod)
	t.endpointLabels(s, ep)
	m := &t.members[at]
	t.b.nodeMetaLabels(s, m.node)
	if m.pod != nil {
		t.b.podLabels(s, m.pod, m.owner)
	}
}

// portLabels adds the labels of a port, at an address, and of the container of
// the pod, if any, that declares it.
func (t *sliceTargets) portLabels(s *group.Set, p *object.SlicePort, address string, pod *object.Pod) {
	optional(s, metaPrefix+"endpointslice_port_name", p.Name)
	optional(s, metaPrefix+"endpointslice_port_protocol", p.Protocol)
	optional(s, metaPrefix+"endpointslice_port_app_protocol", p.AppProtocol)
	if !p.HasPort {
		s.Add(addressLabel, address)
		return
	}
	target, number := hostPort(address, uint64(p.Port))
	s.Add(addressLabel, target)
	s.Add(metaPrefix+"endpointslice_port", number)
	if pod != nil {
		if c, declared := withPort(pod, p.Port); c != nil {
			containerPortLabels(s, c, declared, number, declared.Protocol)
		}
	}
}

func (t *sliceTargets) endpointLabels(s *group.Set, ep *object.SliceEndpoint) {
	truth(s, metaPrefix+"endpointslice_endpoint_conditions_ready", ep.Ready)
	truth(s, metaPrefix+"endpointslice_endpoint_conditions_serving", ep.Serving)
	truth(s, metaPrefix+"endpointslice_endpoint_conditions_terminating", ep.Terminating)
	optional(s, metaPrefix+"endpointslice_endpoint_hostname", ep.Hostname)
	optional(s, metaPrefix+"endpointslice_endpoint_node_name", ep.NodeName)
	optional(s, metaPrefix+"endpointslice_endpoint_zone", ep.Zone)
	if ep.Target != nil {
		s.Add(metaPrefix+"endpointslice_address_target_kind", ep.Target.Kind)
		s.Add(metaPrefix+"endpointslice_address_target_name", ep.Target.Name)
	}
	t.b.names.add(s, topologyFamily, ep.Topology)
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

package kubernetes

import (
	"strconv"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// overCapacity is the label or annotation of an Endpoints object that does not
// hold all endpoints, or soon may not.
const overCapacity = "endpoints.kubernetes.io/over-capacity"

// endpoints is the group of an Endpoints object: a target for each port of
// each address, ready or not, and one for each port that a pod among those
// declares and no endpoint has.
func (b *builder) endpoints(e *object.Endpoints) group.Group {
	b.warnOverCapacity(e)
	var targets count
	n := 0
	for i := range e.Subsets {
		subset := &e.Subsets[i]
		targets.add(len(subset.Ports), addresses(subset))
		if len(subset.Ports) > 0 {
			n += addresses(subset)
		}
	}
	t := &endpointsTargets{b: b, endpoints: e, plain: targets.n}
	if targets.n > 0 {
		t.service = find[object.Service](b.services, e.Namespace, e.Name)
		t.namespace = b.namespace(e.Namespace)
		t.members = make([]member, 0, n)
		pods := newPods(b)
		for i := range e.Subsets {
			subset := &e.Subsets[i]
			for k := 0; len(subset.Ports) > 0 && k < addresses(subset); k++ {
				a, _ := addressOf(subset, k)
				m := pods.member(a.Target, i, t.members)
				switch {
				case !b.attach.node:
				case a.NodeName.Set:
					m.node = find[object.Node](b.nodes, "", a.NodeName.Value)
				case a.Target != nil && a.Target.Kind == "Node":
					m.node = find[object.Node](b.nodes, "", a.Target.Name)
				}
				t.members = append(t.members, m)
			}
		}
		t.extra = pods.uncovered(&targets, t.members, func(subset int, port int32) bool {
			for _, p := range e.Subsets[subset].Ports {
				if p.Port == port {
					return true
				}
			}
			return false
		})
	}
	g := grouped(object.KindEndpoints, &e.Meta, t)
	b.warnTooMany(g.Source, targets)
	return g
}

func (b *builder) warnOverCapacity(e *object.Endpoints) {
	what := value(e.Labels, overCapacity)
	if what == "" {
		what = value(e.Annotations, overCapacity)
	}
	switch from := source(object.KindEndpoints, e.Namespace, e.Name); {
	case what != "truncated" && what != "warning":
		b.warned.forget(from)
	case !b.warned.first(from, what):
	case what == "truncated":
		b.log.Warn("endpoints have more than 1000 addresses and are truncated, so that targets are missing; use role endpointslice instead",
			"namespace", e.Namespace, "endpoints", e.Name)
	default:
		b.log.Warn("endpoints have more than 1000 addresses; use role endpointslice instead",
			"namespace", e.Namespace, "endpoints", e.Name)
	}
}

// value is that of the pair of that name, "" if there is none.
func value(pairs []object.Pair, name string) string {
	for i := range pairs {
		if pairs[i].Name == name {
			return pairs[i].Value
		}
	}
	return ""
}

func addresses(s *object.Subset) int { return len(s.Ready) + len(s.NotReady) }

// addressOf is the k-th address of a subset, the ready ones first.
func addressOf(s *object.Subset, k int) (a *object.EndpointAddress, ready bool) {
	if k < len(s.Ready) {
		return &s.Ready[k], true
	}
	return &s.NotReady[k-len(s.Ready)], false
}

// endpointsTargets are the targets of an Endpoints object: subset by subset
// those of its first port, of its second, and so on; then the extra ones.
type endpointsTargets struct {
	b         *builder
	endpoints *object.Endpoints
	service   *object.Service
	namespace *object.Other
	members   []member // by address, of the subsets with ports
	extra     []declared
	plain     int // targets of addresses
}

func (t *endpointsTargets) Len() int { return t.plain + len(t.extra) }

func (t *endpointsTargets) Labels(i int, s *group.Set) {
	var m member
	var of exposed
	if i < t.plain {
		m, of = t.endpoint(s, i)
	} else {
		d := t.extra[i-t.plain]
		m = t.members[d.member]
		m.node = nil // known of the endpoint, not of the pod
		var address string
		address, of = declaredAt(&m, d)
		s.Add(addressLabel, address)
	}
	e := t.endpoints
	t.b.objectLabels(s, endpointsFamily, &e.Meta)
	s.Add(metaPrefix+"endpoints_name", e.Name)
	t.b.namespaceLabels(s, e.Namespace, t.namespace)
	t.b.nodeMetaLabels(s, m.node)
	if m.pod != nil {
		t.b.podLabels(s, m.pod, m.owner, of)
	}
	t.b.serviceMetaLabels(s, t.service)
}

// endpoint adds the labels of the i-th port of an address, and tells what is
// behind it.
func (t *endpointsTargets) endpoint(s *group.Set, i int) (m member, of exposed) {
	subset, before := &t.endpoints.Subsets[0], 0
	for at := 1; i >= addresses(subset)*len(subset.Ports); at++ {
		i -= addresses(subset) * len(subset.Ports)
		if len(subset.Ports) > 0 {
			before += addresses(subset)
		}
		subset = &t.endpoints.Subsets[at]
	}
	n := addresses(subset)
	p := &subset.Ports[i/n]
	a, ready := addressOf(subset, i%n)
	m = t.members[before+i%n]

	address, number := hostPort(a.IP, uint64(p.Port))
	s.Add(addressLabel, address)
	if a.Target != nil {
		s.Add(metaPrefix+"endpoint_address_target_kind", a.Target.Kind)
		s.Add(metaPrefix+"endpoint_address_target_name", a.Target.Name)
	}
	s.Add(metaPrefix+"endpoint_hostname", a.Hostname)
	s.Add(metaPrefix+"endpoint_node_name", a.NodeName.Value)
	s.Add(metaPrefix+"endpoint_port_name", p.Name)
	s.Add(metaPrefix+"endpoint_port_protocol", p.Protocol)
	s.Add(metaPrefix+"endpoint_ready", strconv.FormatBool(ready))
	if m.pod != nil {
		of = exposed{number: number, protocol: p.Protocol}
		of.container, of.port = withPort(m.pod, p.Port)
	}
	return m, of
}

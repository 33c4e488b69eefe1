package kubernetes

import (
	"slices"

	"promagent/discovery/kubernetes/object"
)

// member is what is behind an endpoint; nil where there is none.
type member struct {
	pod   *object.Pod
	owner *object.Owner // of the pod's owner, as podOwner says
	node  *object.Node
}

// pods are those behind the endpoints of a group, each looked up once: what
// all targets of a pod tell is of one version of it.
type pods struct {
	b      *builder
	byName map[podName]int // index in seen, -1 when there is no such pod
	seen   []seenPod
}

type podName struct{ namespace, name string }

// seenPod is a pod that has endpoints.
type seenPod struct {
	member int   // one that has it
	parts  []int // of the group's object that it has endpoints in, ascending
}

func newPods(b *builder) pods { return pods{b: b, byName: make(map[podName]int)} }

// member is the member, without a node, that ref means, whose endpoints have
// the ports of that part. It is to be appended to members.
func (p *pods) member(ref *object.Ref, part int, members []member) member {
	if ref == nil || ref.Kind != "Pod" {
		return member{}
	}
	name := podName{ref.Namespace, ref.Name}
	at, known := p.byName[name]
	if known && at < 0 {
		return member{}
	}
	if known {
		s := &p.seen[at]
		if s.parts[len(s.parts)-1] != part {
			s.parts = append(s.parts, part)
		}
		m := members[s.member]
		return member{pod: m.pod, owner: m.owner}
	}
	m := member{pod: find[object.Pod](p.b.pods, ref.Namespace, ref.Name)}
	if m.pod == nil {
		p.byName[name] = -1
		return m
	}
	m.owner = p.b.podOwner(m.pod)
	p.byName[name] = len(p.seen)
	p.seen = append(p.seen, seenPod{member: len(members), parts: []int{part}})
	return m
}

// declared is a port that a container of a member's pod declares, by indexes.
type declared struct{ member, container, port int32 }

// uncovered lists the ports that the pods declare and no endpoint of theirs
// has, as far as they go into the count; covers says whether endpoints of that
// part have the port.
func (p *pods) uncovered(targets *count, members []member, covers func(part int, port int32) bool) []declared {
	var found []declared
	for _, s := range p.seen {
		pod := members[s.member].pod
		if pod.IP == "" {
			continue
		}
		for i := range pod.Containers {
			for j, port := range pod.Containers[i].Ports {
				if !slices.ContainsFunc(s.parts, func(part int) bool { return covers(part, port.Port) }) && targets.add(1, 1) {
					found = append(found, declared{int32(s.member), int32(i), int32(j)})
				}
			}
		}
	}
	return slices.Clip(found)
}

// declaredAt is the address of a target that is a declared port, and what of
// the member's pod that is.
func declaredAt(m *member, d declared) (address string, of exposed) {
	c := &m.pod.Containers[d.container]
	p := &c.Ports[d.port]
	address, number := hostPort(m.pod.IP, uint64(p.Port))
	return address, exposed{container: c, port: p, number: number, protocol: p.Protocol}
}

package kubernetes

import (
	"strconv"
	"strings"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// pod is the group of a pod: a target for each port that a container declares,
// and one without a port for each container that declares none. A pod without
// an IP has none, nor has one whose node is asked for and not known: the nodes
// may be selected.
func (b *builder) pod(p *object.Pod) group.Group {
	t := &podTargets{b: b, pod: p}
	if p.IP != "" {
		for i := range p.Containers {
			t.len += max(1, len(p.Containers[i].Ports))
		}
	}
	if t.len > 0 && b.attach.node {
		if t.node = find[object.Node](b.nodes, "", p.NodeName); t.node == nil {
			t.len = 0
		}
	}
	if t.len > 0 {
		t.owner = b.podOwner(p)
		t.namespace = b.namespace(p.Namespace)
	}
	return grouped(object.KindPod, &p.Meta, t)
}

// podTargets are the targets of a pod.
type podTargets struct {
	b         *builder
	pod       *object.Pod
	owner     *object.Owner
	node      *object.Node
	namespace *object.Other
	len       int
}

func (t *podTargets) Len() int { return t.len }

func (t *podTargets) Labels(i int, s *group.Set) {
	p, at := t.pod, 0
	for i >= max(1, len(p.Containers[at].Ports)) {
		i -= max(1, len(p.Containers[at].Ports))
		at++
	}
	c := &p.Containers[at]
	of := exposed{container: c, id: c.ID}
	address := p.IP
	if len(c.Ports) > 0 {
		of.port, of.protocol = &c.Ports[i], c.Ports[i].Protocol
		address, of.number = hostPort(p.IP, uint64(of.port.Port))
	}
	s.Add(addressLabel, address)
	t.b.namespaceLabels(s, p.Namespace, t.namespace)
	t.b.nodeMetaLabels(s, t.node)
	t.b.podLabels(s, p, t.owner, of)
}

// exposed is what of a pod a target is.
type exposed struct {
	container *object.Container // nil: not known, and nothing else
	id        string
	port      *object.ContainerPort // nil: none
	number    string                // of the port
	protocol  string                // not the port's own if it is that of an endpoint
}

// podLabels adds the labels of a pod, which are those of its targets of
// whatever role, and of what is exposed.
func (b *builder) podLabels(s *group.Set, p *object.Pod, owner *object.Owner, of exposed) {
	b.names.add(s, podAnnotations, p.Annotations)
	if of.container != nil {
		of.labels(s)
	}
	s.Add(metaPrefix+"pod_controller_kind", p.Controller.Kind)
	s.Add(metaPrefix+"pod_controller_name", p.Controller.Name)
	if owner != nil {
		if p.Controller.Kind == "Job" {
			s.Add(metaPrefix+"pod_cronjob_name", owner.Name)
		} else {
			s.Add(metaPrefix+"pod_deployment_name", owner.Name)
		}
	}
	s.Add(metaPrefix+"pod_host_ip", p.HostIP)
	s.Add(metaPrefix+"pod_ip", p.IP)
	if b.attach.job && p.Controller.Kind == "Job" {
		s.Add(metaPrefix+"pod_job_name", p.Controller.Name)
	}
	b.names.add(s, podFamily, p.Labels)
	s.Add(metaPrefix+"pod_name", p.Name)
	s.Add(metaPrefix+"pod_node_name", p.NodeName)
	s.Add(metaPrefix+"pod_phase", p.Phase)
	ready := "unknown"
	if p.Ready != "" {
		ready = lower(p.Ready)
	}
	s.Add(metaPrefix+"pod_ready", ready)
	s.Add(metaPrefix+"pod_uid", p.UID)
}

func (e *exposed) labels(s *group.Set) {
	s.Add(metaPrefix+"pod_container_id", e.id)
	s.Add(metaPrefix+"pod_container_image", e.container.Image)
	s.Add(metaPrefix+"pod_container_init", strconv.FormatBool(e.container.Init))
	s.Add(metaPrefix+"pod_container_name", e.container.Name)
	if e.port != nil {
		s.Add(metaPrefix+"pod_container_port_name", e.port.Name)
		s.Add(metaPrefix+"pod_container_port_number", e.number)
		s.Add(metaPrefix+"pod_container_port_protocol", e.protocol)
	}
}

// withPort is the last container that declares that port, and the first of the
// port's declarations there; nil if none does.
func withPort(p *object.Pod, port int32) (*object.Container, *object.ContainerPort) {
	for i := len(p.Containers) - 1; i >= 0; i-- {
		c := &p.Containers[i]
		for j := range c.Ports {
			if c.Ports[j].Port == port {
				return c, &c.Ports[j]
			}
		}
	}
	return nil, nil
}

// lower is s in lower case. The states of conditions need no memory for it.
func lower(s string) string {
	switch s {
	case "True":
		return "true"
	case "False":
		return "false"
	case "Unknown":
		return "unknown"
	}
	return strings.ToLower(s)
}

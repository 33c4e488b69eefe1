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
	t.b.podLabels(s, t.pod, t.owner)
	s.Add(namespaceName, t.pod.Namespace)
	t.b.nodeMetaLabels(s, t.node)
	t.b.namespaceLabels(s, t.namespace)

	at := 0
	for i >= max(1, len(t.pod.Containers[at].Ports)) {
		i -= max(1, len(t.pod.Containers[at].Ports))
		at++
	}
	c := &t.pod.Containers[at]
	s.Add(metaPrefix+"pod_container_id", c.ID)
	if len(c.Ports) == 0 {
		containerLabels(s, c)
		s.Add(addressLabel, t.pod.IP)
		return
	}
	port := &c.Ports[i]
	address, number := hostPort(t.pod.IP, uint64(port.Port))
	s.Add(addressLabel, address)
	containerPortLabels(s, c, port, number, port.Protocol)
}

// podLabels adds the labels of a pod that all its targets have, of whatever
// role.
func (b *builder) podLabels(s *group.Set, p *object.Pod, owner *object.Owner) {
	s.Add(metaPrefix+"pod_name", p.Name)
	b.objectLabels(s, podFamily, &p.Meta)
	s.Add(metaPrefix+"pod_ip", p.IP)
	ready := "unknown"
	if p.Ready != "" {
		ready = lower(p.Ready)
	}
	s.Add(metaPrefix+"pod_ready", ready)
	s.Add(metaPrefix+"pod_phase", p.Phase)
	s.Add(metaPrefix+"pod_node_name", p.NodeName)
	s.Add(metaPrefix+"pod_host_ip", p.HostIP)
	s.Add(metaPrefix+"pod_uid", p.UID)
	if p.Controller == (object.Owner{}) {
		return
	}
	s.Add(metaPrefix+"pod_controller_kind", p.Controller.Kind)
	s.Add(metaPrefix+"pod_controller_name", p.Controller.Name)
	switch p.Controller.Kind {
	case "ReplicaSet":
		if owner != nil {
			s.Add(metaPrefix+"pod_deployment_name", owner.Name)
		}
	case "Job":
		if b.attach.job {
			s.Add(metaPrefix+"pod_job_name", p.Controller.Name)
		}
		if owner != nil {
			s.Add(metaPrefix+"pod_cronjob_name", owner.Name)
		}
	}
}

func containerLabels(s *group.Set, c *object.Container) {
	s.Add(metaPrefix+"pod_container_name", c.Name)
	s.Add(metaPrefix+"pod_container_image", c.Image)
	s.Add(metaPrefix+"pod_container_init", strconv.FormatBool(c.Init))
}

// containerPortLabels adds the labels of a container and one of its ports,
// whose number is written as number. The protocol may be that of an endpoint.
func containerPortLabels(s *group.Set, c *object.Container, p *object.ContainerPort, number, protocol string) {
	containerLabels(s, c)
	s.Add(metaPrefix+"pod_container_port_name", p.Name)
	s.Add(metaPrefix+"pod_container_port_number", number)
	s.Add(metaPrefix+"pod_container_port_protocol", protocol)
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

package kubetest

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func (g *Storm) node(m metav1.ObjectMeta) runtime.Object {
	n := &corev1.Node{ObjectMeta: m}
	n.Spec.ProviderID = pick(g, "", "aws:///eu-1/i-0")
	n.Spec.Unschedulable = g.one(5, 1)
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = pick(g, int32(0), 10250, 10255)
	n.Status.Addresses = some(g, 5, func() corev1.NodeAddress {
		kind := pick(g, corev1.NodeInternalIP, corev1.NodeInternalIP, corev1.NodeInternalDNS, corev1.NodeExternalIP, corev1.NodeExternalDNS, corev1.NodeHostName, "LegacyHostIP", "Unknown")
		switch kind {
		case corev1.NodeInternalDNS, corev1.NodeExternalDNS, corev1.NodeHostName:
			return corev1.NodeAddress{Type: kind, Address: fmt.Sprintf("host-%d.example", g.rng.IntN(9))}
		}
		return corev1.NodeAddress{Type: kind, Address: g.ip()}
	})
	n.Status.Conditions = some(g, 4, func() corev1.NodeCondition {
		return corev1.NodeCondition{
			Type:   pick(g, corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodeNetworkUnavailable),
			Status: pick(g, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown),
		}
	})
	return n
}

func (g *Storm) space(m metav1.ObjectMeta) runtime.Object {
	return &corev1.Namespace{ObjectMeta: m, Status: corev1.NamespaceStatus{Phase: pick(g, corev1.NamespaceActive, corev1.NamespaceTerminating)}}
}

func (g *Storm) pod(m metav1.ObjectMeta) runtime.Object {
	switch g.rng.IntN(4) {
	case 0:
		m.OwnerReferences = g.owners("ReplicaSet", g.name("r"))
	case 1:
		m.OwnerReferences = g.owners("Job", g.name("j"))
	case 2:
		m.OwnerReferences = g.owners(pick(g, "DaemonSet", "StatefulSet", ""), "d")
	}
	p := &corev1.Pod{ObjectMeta: m}
	p.Spec.NodeName = g.nodeName()
	p.Spec.HostNetwork = g.one(6, 1)
	for i := range 1 + g.rng.IntN(3) {
		p.Spec.Containers = append(p.Spec.Containers, g.container(fmt.Sprint("c", i)))
	}
	for i := range max(0, g.rng.IntN(4)-1) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, g.container(fmt.Sprint("init", i)))
	}
	p.Status = g.podStatus(p)
	return p
}

// container may declare one port twice, and ports of other containers.
func (g *Storm) container(name string) corev1.Container {
	return corev1.Container{
		Name:  name,
		Image: pick(g, "", "app:1.0", "registry.example:5000/team/app@sha256:0123"),
		Ports: some(g, 3, func() corev1.ContainerPort {
			return corev1.ContainerPort{Name: pick(g, "", "http", "metrics"), ContainerPort: g.port(), Protocol: g.protocol()}
		}),
	}
}

// podStatus is the status of a pod at some time of its life; now and then none
// at all.
func (g *Storm) podStatus(p *corev1.Pod) corev1.PodStatus {
	var s corev1.PodStatus
	if g.one(8, 1) {
		return s
	}
	s.Phase = pick(g, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown, "")
	s.HostIP = pick(g, "", "192.168.0.1", "fd01::1")
	if !g.one(5, 1) {
		s.PodIP = g.ip()
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}, {IP: g.ip()}}
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodReady, corev1.ContainersReady} {
		if g.one(4, 3) {
			s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: pick(g, corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown)})
		}
	}
	s.ContainerStatuses = g.containerStatuses(p.Spec.Containers)
	s.InitContainerStatuses = g.containerStatuses(p.Spec.InitContainers)
	return s
}

// containerStatuses are in another order than the containers, and not all there.
func (g *Storm) containerStatuses(containers []corev1.Container) []corev1.ContainerStatus {
	var all []corev1.ContainerStatus
	for _, i := range g.rng.Perm(len(containers)) {
		if g.one(4, 3) {
			all = append(all, corev1.ContainerStatus{Name: containers[i].Name, ContainerID: pick(g, "", fmt.Sprint("containerd://", g.rng.IntN(1000)))})
		}
	}
	return all
}

func (g *Storm) service(m metav1.ObjectMeta) runtime.Object {
	s := &corev1.Service{ObjectMeta: m}
	s.Spec.Type = pick(g, corev1.ServiceTypeClusterIP, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName, "")
	s.Spec.ClusterIP = pick(g, "", corev1.ClusterIPNone, "10.96.0.1", "fd02::1")
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		s.Spec.ExternalName = pick(g, "", "db.example.com")
	}
	s.Spec.LoadBalancerIP = pick(g, "", "", "203.0.113.9")
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer.Ingress = some(g, 3, func() corev1.LoadBalancerIngress {
			if g.one(3, 1) {
				return corev1.LoadBalancerIngress{Hostname: "lb.example.com"}
			}
			return corev1.LoadBalancerIngress{IP: g.ip()}
		})
	}
	s.Spec.IPFamilyPolicy = maybe(g, corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)
	s.Spec.IPFamilies = pick(g, nil, []corev1.IPFamily{corev1.IPv4Protocol}, []corev1.IPFamily{corev1.IPv6Protocol}, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol})
	s.Spec.Ports = some(g, 3, func() corev1.ServicePort {
		return corev1.ServicePort{Name: pick(g, "", "http", "metrics"), Port: g.port(), Protocol: g.protocol()}
	})
	return s
}

// target refers to a pod or a node that may be there, to something else, or to nothing.
func (g *Storm) target(ns string) *corev1.ObjectReference {
	switch g.rng.IntN(8) {
	case 0:
		return nil
	case 1:
		return &corev1.ObjectReference{Kind: "Node", Name: fmt.Sprint("node-", g.rng.IntN(g.shape.Nodes+1))}
	case 2:
		return &corev1.ObjectReference{Kind: pick(g, "", "VM"), Namespace: ns, Name: pick(g, "", "vm-1")}
	case 3:
		ns = g.namespace()
	}
	return &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: g.name("p")}
}

func (g *Storm) endpoints(m metav1.ObjectMeta) runtime.Object {
	address := func() corev1.EndpointAddress {
		return corev1.EndpointAddress{
			IP: g.ip(), Hostname: pick(g, "", "", "host-0"), NodeName: maybe(g, g.nodeName()), TargetRef: g.target(m.Namespace),
		}
	}
	return &corev1.Endpoints{ObjectMeta: m, Subsets: some(g, 3, func() corev1.EndpointSubset {
		return corev1.EndpointSubset{
			Addresses:         some(g, 3, address),
			NotReadyAddresses: some(g, 2, address),
			Ports: some(g, 2, func() corev1.EndpointPort {
				return corev1.EndpointPort{Name: pick(g, "", "http", "metrics"), Port: g.port(), Protocol: g.protocol(), AppProtocol: maybe(g, "h2c")}
			}),
		}
	})}
}

func (g *Storm) slice(m metav1.ObjectMeta) runtime.Object {
	if m.Labels == nil {
		m.Labels = map[string]string{}
	}
	if !g.one(6, 1) {
		m.Labels[serviceName] = g.name("s")
	}
	e := &discoveryv1.EndpointSlice{ObjectMeta: m}
	e.AddressType = pick(g, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)
	e.Ports = some(g, 2, func() discoveryv1.EndpointPort {
		return discoveryv1.EndpointPort{
			Name: maybe(g, "", "http", "metrics"), Port: maybe(g, g.port()), Protocol: maybe(g, g.protocol()), AppProtocol: maybe(g, "", "h2c"),
		}
	})
	e.Endpoints = some(g, 3, func() discoveryv1.Endpoint {
		end := discoveryv1.Endpoint{
			Addresses: some(g, 2, g.ip),
			Conditions: discoveryv1.EndpointConditions{
				Ready: maybe(g, true, false), Serving: maybe(g, true, false), Terminating: maybe(g, true, false),
			},
			Hostname:  maybe(g, "", "host-0"),
			NodeName:  maybe(g, g.nodeName()),
			Zone:      maybe(g, "", "eu-1a"),
			TargetRef: g.target(m.Namespace),
		}
		if g.one(3, 1) {
			end.DeprecatedTopology = g.pairs()
		}
		return end
	})
	return e
}

func (g *Storm) ingress(m metav1.ObjectMeta) runtime.Object {
	hosts := []string{"", "a.example.com", "b.example.com", "x.y.example.com", "*.example.com", "example.com", "other"}
	i := &networkingv1.Ingress{ObjectMeta: m}
	i.Spec.IngressClassName = maybe(g, "", "nginx")
	i.Spec.TLS = some(g, 2, func() networkingv1.IngressTLS {
		return networkingv1.IngressTLS{Hosts: some(g, 2, func() string { return pick(g, hosts...) })}
	})
	i.Spec.Rules = some(g, 3, func() networkingv1.IngressRule {
		rule := networkingv1.IngressRule{Host: pick(g, hosts...)}
		if !g.one(4, 1) {
			rule.HTTP = &networkingv1.HTTPIngressRuleValue{Paths: some(g, 3, func() networkingv1.HTTPIngressPath {
				return networkingv1.HTTPIngressPath{Path: pick(g, "", "/", "/api", "/a b?c=d")}
			})}
		}
		return rule
	})
	return i
}

func (g *Storm) replicaSet(m metav1.ObjectMeta) runtime.Object {
	m.OwnerReferences = g.owners(pick(g, "Deployment", "Deployment", "Rollout", ""), "web", "api")
	return &appsv1.ReplicaSet{ObjectMeta: m}
}

func (g *Storm) job(m metav1.ObjectMeta) runtime.Object {
	m.OwnerReferences = g.owners(pick(g, "CronJob", "CronJob", "Workflow", ""), "nightly", "hourly")
	return &batchv1.Job{ObjectMeta: m}
}

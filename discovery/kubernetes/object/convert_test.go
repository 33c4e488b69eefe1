package object

import (
	"cmp"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// library is an object as the library of Kubernetes has it.
type library interface {
	metav1.Object
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// kinds are all kinds.
var kinds = []Kind{KindNode, KindPod, KindService, KindEndpoints, KindEndpointSlice, KindIngress, KindNamespace, KindReplicaSet, KindJob}

// newLibrary is an empty object of the kind.
func newLibrary(kind Kind) library {
	switch kind {
	case KindNode:
		return &corev1.Node{}
	case KindPod:
		return &corev1.Pod{}
	case KindService:
		return &corev1.Service{}
	case KindEndpoints:
		return &corev1.Endpoints{}
	case KindEndpointSlice:
		return &discoveryv1.EndpointSlice{}
	case KindIngress:
		return &networkingv1.Ingress{}
	case KindNamespace:
		return &corev1.Namespace{}
	case KindReplicaSet:
		return &appsv1.ReplicaSet{}
	}
	return &batchv1.Job{}
}

// encoded is the message of an object.
func encoded(t testing.TB, o library) []byte {
	t.Helper()
	b, err := o.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// converted is what Decode should make of an object.
func converted(o library) Object {
	m := convertedMeta(o)
	switch o := o.(type) {
	case *corev1.Node:
		return convertedNode(m, o)
	case *corev1.Pod:
		return convertedPod(m, o)
	case *corev1.Service:
		return convertedService(m, o)
	case *corev1.Endpoints:
		return convertedEndpoints(m, o)
	case *discoveryv1.EndpointSlice:
		return convertedSlice(m, o)
	case *networkingv1.Ingress:
		return convertedIngress(m, o)
	}
	return &Other{m}
}

func convertedMeta(o metav1.Object) Meta {
	m := Meta{
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: string(o.GetUID()),
		Labels: convertedPairs(o.GetLabels()), Annotations: convertedPairs(o.GetAnnotations()),
	}
	if c := metav1.GetControllerOfNoCopy(o); c != nil {
		m.Controller = Owner{Kind: c.Kind, Name: c.Name}
	}
	return m
}

func convertedPairs(from map[string]string) (p []Pair) {
	for n, v := range from {
		p = append(p, Pair{Name: n, Value: v})
	}
	slices.SortFunc(p, func(a, b Pair) int { return cmp.Compare(a.Name, b.Name) })
	return p
}

func convertedNode(m Meta, o *corev1.Node) *Node {
	n := &Node{Meta: m, ProviderID: o.Spec.ProviderID, KubeletPort: o.Status.DaemonEndpoints.KubeletEndpoint.Port}
	for _, c := range o.Status.Conditions {
		n.Conditions = append(n.Conditions, Condition{Type: string(c.Type), Status: string(c.Status)})
	}
	for _, a := range o.Status.Addresses {
		n.Addresses = append(n.Addresses, Address{Type: string(a.Type), Address: a.Address})
	}
	return n
}

func convertedPod(m Meta, o *corev1.Pod) *Pod {
	p := &Pod{Meta: m, NodeName: o.Spec.NodeName, HostIP: o.Status.HostIP, IP: o.Status.PodIP, Phase: string(o.Status.Phase)}
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.PodReady {
			p.Ready = string(c.Status)
			break
		}
	}
	add := func(from []corev1.Container, statuses []corev1.ContainerStatus, isInit bool) {
		for _, c := range from {
			container := Container{Name: c.Name, Image: c.Image, Init: isInit}
			for _, port := range c.Ports {
				container.Ports = append(container.Ports, ContainerPort{Name: port.Name, Port: port.ContainerPort, Protocol: string(port.Protocol)})
			}
			for _, s := range statuses {
				if s.Name == c.Name {
					container.ID = s.ContainerID
					break
				}
			}
			p.Containers = append(p.Containers, container)
		}
	}
	add(o.Spec.Containers, o.Status.ContainerStatuses, false)
	add(o.Spec.InitContainers, o.Status.InitContainerStatuses, true)
	return p
}

func convertedService(m Meta, o *corev1.Service) *Service {
	s := &Service{
		Meta: m, Type: string(o.Spec.Type), ClusterIP: o.Spec.ClusterIP, ExternalName: o.Spec.ExternalName,
		LoadBalancerIP: o.Spec.LoadBalancerIP,
	}
	if o.Spec.IPFamilyPolicy != nil {
		s.IPFamilyPolicy = string(*o.Spec.IPFamilyPolicy)
	}
	for _, f := range o.Spec.IPFamilies {
		s.IPFamilies = append(s.IPFamilies, string(f))
	}
	for _, i := range o.Status.LoadBalancer.Ingress {
		if i.IP != "" {
			s.IngressIPs = append(s.IngressIPs, i.IP)
		}
	}
	for _, p := range o.Spec.Ports {
		s.Ports = append(s.Ports, ServicePort{Name: p.Name, Port: p.Port, Protocol: string(p.Protocol)})
	}
	return s
}

func convertedEndpoints(m Meta, o *corev1.Endpoints) *Endpoints {
	e := &Endpoints{Meta: m}
	addresses := func(from []corev1.EndpointAddress) (to []EndpointAddress) {
		for _, a := range from {
			to = append(to, EndpointAddress{IP: a.IP, Hostname: a.Hostname, NodeName: convertedOptional(a.NodeName), Target: convertedRef(a.TargetRef)})
		}
		return to
	}
	for _, s := range o.Subsets {
		subset := Subset{Ready: addresses(s.Addresses), NotReady: addresses(s.NotReadyAddresses)}
		for _, p := range s.Ports {
			subset.Ports = append(subset.Ports, EndpointPort{Name: p.Name, Port: p.Port, Protocol: string(p.Protocol)})
		}
		e.Subsets = append(e.Subsets, subset)
	}
	return e
}

func convertedSlice(m Meta, o *discoveryv1.EndpointSlice) *EndpointSlice {
	e := &EndpointSlice{Meta: m, AddressType: string(o.AddressType)}
	for _, from := range o.Endpoints {
		e.Endpoints = append(e.Endpoints, SliceEndpoint{
			Addresses: append([]string(nil), from.Addresses...),
			Ready:     convertedBool(from.Conditions.Ready), Serving: convertedBool(from.Conditions.Serving),
			Terminating: convertedBool(from.Conditions.Terminating),
			Hostname:    convertedOptional(from.Hostname), NodeName: convertedOptional(from.NodeName), Zone: convertedOptional(from.Zone),
			Target: convertedRef(from.TargetRef), Topology: convertedPairs(from.DeprecatedTopology),
		})
	}
	for _, p := range o.Ports {
		port := SlicePort{Name: convertedOptional(p.Name), Protocol: convertedOptional(p.Protocol), AppProtocol: convertedOptional(p.AppProtocol)}
		if p.Port != nil {
			port.Port, port.HasPort = *p.Port, true
		}
		e.Ports = append(e.Ports, port)
	}
	return e
}

func convertedIngress(m Meta, o *networkingv1.Ingress) *Ingress {
	i := &Ingress{Meta: m, Class: convertedOptional(o.Spec.IngressClassName)}
	for _, r := range o.Spec.Rules {
		rule := IngressRule{Host: r.Host, HTTP: r.HTTP != nil}
		if r.HTTP != nil {
			for _, p := range r.HTTP.Paths {
				rule.Paths = append(rule.Paths, p.Path)
			}
		}
		i.Rules = append(i.Rules, rule)
	}
	for _, t := range o.Spec.TLS {
		i.TLSHosts = append(i.TLSHosts, t.Hosts...)
	}
	return i
}

func convertedRef(r *corev1.ObjectReference) *Ref {
	if r == nil {
		return nil
	}
	return &Ref{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
}

func convertedOptional[S ~string](s *S) Optional {
	if s == nil {
		return Optional{}
	}
	return Optional{Value: string(*s), Set: true}
}

func convertedBool(b *bool) Bool {
	switch {
	case b == nil:
		return Unset
	case *b:
		return True
	}
	return False
}

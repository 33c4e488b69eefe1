package e2e

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// kubeObject is an object of a kind that put and remove know.
type kubeObject interface {
	metav1.Object
	comparable
}

// resource is what typed clients of all kinds have in common.
type resource[T kubeObject] interface {
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Get(context.Context, string, metav1.GetOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

// replace makes the object be there: it is created, or what is there is
// changed to it by merge. The answer is what the server has now.
func replace[T kubeObject](r resource[T], want T, merge func(have T)) (T, error) {
	ctx := context.Background()
	got, err := r.Create(ctx, want, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		return got, err
	}
	have, err := r.Get(ctx, want.GetName(), metav1.GetOptions{})
	if err != nil {
		return have, err
	}
	have.SetLabels(want.GetLabels())
	have.SetAnnotations(want.GetAnnotations())
	have.SetOwnerReferences(want.GetOwnerReferences())
	merge(have)
	return r.Update(ctx, have, metav1.UpdateOptions{})
}

// put creates or changes objects, with the status that a controller or a
// kubelet would set. Of pods that are there, only metadata and status change.
func (c *cluster) put(objects ...metav1.Object) {
	c.t.Helper()
	for _, o := range objects {
		if err := c.tryPut(o); err != nil {
			c.t.Fatalf("put %T %s/%s: %v", o, o.GetNamespace(), o.GetName(), err)
		}
	}
}

func (c *cluster) tryPut(object metav1.Object) error {
	ctx, ns := context.Background(), object.GetNamespace()
	core := c.client.CoreV1()
	var err error
	switch want := object.(type) {
	case *corev1.Namespace:
		_, err = replace(core.Namespaces(), want, func(*corev1.Namespace) {})
	case *corev1.Node:
		var have *corev1.Node
		if have, err = replace(core.Nodes(), want, func(*corev1.Node) {}); err == nil {
			have.Status = want.Status
			_, err = core.Nodes().UpdateStatus(ctx, have, metav1.UpdateOptions{})
		}
	case *corev1.Pod:
		var have *corev1.Pod
		if have, err = replace(core.Pods(ns), want, func(*corev1.Pod) {}); err == nil {
			have.Status = want.Status
			_, err = core.Pods(ns).UpdateStatus(ctx, have, metav1.UpdateOptions{})
		}
	case *corev1.Service:
		var have *corev1.Service
		have, err = replace(core.Services(ns), want, func(have *corev1.Service) {
			have.Spec.Ports, have.Spec.Selector = want.Spec.Ports, want.Spec.Selector
		})
		if err == nil && want.Spec.Type == corev1.ServiceTypeLoadBalancer {
			have.Status = want.Status
			_, err = core.Services(ns).UpdateStatus(ctx, have, metav1.UpdateOptions{})
		}
	case *corev1.Endpoints: //nolint:staticcheck // the endpoints role is of it
		_, err = replace(core.Endpoints(ns), want, func(have *corev1.Endpoints) { have.Subsets = want.Subsets }) //nolint:staticcheck // as above
	case *discoveryv1.EndpointSlice:
		_, err = replace(c.client.DiscoveryV1().EndpointSlices(ns), want, func(have *discoveryv1.EndpointSlice) {
			have.Endpoints, have.Ports = want.Endpoints, want.Ports
		})
	case *networkingv1.Ingress:
		_, err = replace(c.client.NetworkingV1().Ingresses(ns), want, func(have *networkingv1.Ingress) { have.Spec = want.Spec })
	case *appsv1.ReplicaSet:
		_, err = replace(c.client.AppsV1().ReplicaSets(ns), want, func(*appsv1.ReplicaSet) {})
	case *batchv1.Job:
		_, err = replace(c.client.BatchV1().Jobs(ns), want, func(*batchv1.Job) {})
	default:
		err = fmt.Errorf("no such kind")
	}
	return err
}

// remove deletes an object at once; that it is not there is no error.
func (c *cluster) remove(object metav1.Object) {
	c.t.Helper()
	ctx, ns, name := context.Background(), object.GetNamespace(), object.GetName()
	zero := int64(0)
	background := metav1.DeletePropagationBackground // nothing collects what orphans would keep
	opts := metav1.DeleteOptions{GracePeriodSeconds: &zero, PropagationPolicy: &background}
	var err error
	switch object.(type) {
	case *corev1.Node:
		err = c.client.CoreV1().Nodes().Delete(ctx, name, opts)
	case *corev1.Pod:
		err = c.client.CoreV1().Pods(ns).Delete(ctx, name, opts)
	case *corev1.Service:
		err = c.client.CoreV1().Services(ns).Delete(ctx, name, opts)
	case *corev1.Endpoints: //nolint:staticcheck // the endpoints role is of it
		err = c.client.CoreV1().Endpoints(ns).Delete(ctx, name, opts)
	case *discoveryv1.EndpointSlice:
		err = c.client.DiscoveryV1().EndpointSlices(ns).Delete(ctx, name, opts)
	case *networkingv1.Ingress:
		err = c.client.NetworkingV1().Ingresses(ns).Delete(ctx, name, opts)
	case *appsv1.ReplicaSet:
		err = c.client.AppsV1().ReplicaSets(ns).Delete(ctx, name, opts)
	case *batchv1.Job:
		err = c.client.BatchV1().Jobs(ns).Delete(ctx, name, opts)
	default:
		err = fmt.Errorf("no such kind")
	}
	if err != nil && !apierrors.IsNotFound(err) {
		c.t.Fatalf("delete %T %s/%s: %v", object, ns, name, err)
	}
}

func (c *cluster) namespace(name string, labels map[string]string) {
	c.t.Helper()
	c.put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
}

// node is a ready node with an address and the kubelet's port.
func node(name, ip string, labels map[string]string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.NodeSpec{ProviderID: "edge://" + name},
		Status: corev1.NodeStatus{
			Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}, {Type: corev1.NodeHostName, Address: name}},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
			Conditions:      []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

// runningPod is a pod of one container that is Running and Ready on a node,
// with the given address and a TCP port named metrics.
func runningPod(namespace, name, nodeName, ip string, port int32) *corev1.Pod {
	now, zero, no := metav1.Now(), int64(0), false
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{
			NodeName: nodeName, TerminationGracePeriodSeconds: &zero, AutomountServiceAccountToken: &no,
			Containers: []corev1.Container{{
				Name: "app", Image: "registry.local/app:1",
				Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: port, Protocol: corev1.ProtocolTCP}},
			}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, HostIP: "10.42.255.1", StartTime: &now,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now}},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "app", Ready: true, Image: "registry.local/app:1", ImageID: "registry.local/app@sha256:1",
				ContainerID: "containerd://" + namespace + "-" + name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
			}},
		},
	}
}

// headless is a service without an address of its own.
func headless(namespace, name string, port int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app.kubernetes.io/name": name}},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app.kubernetes.io/name": name},
			Ports: []corev1.ServicePort{{Name: "metrics", Protocol: corev1.ProtocolTCP, Port: port, TargetPort: intstr.FromInt32(port)}},
		},
	}
}

// endpointsOf is the Endpoints object of a service with the given ready pods behind it.
func endpointsOf(s *corev1.Service, pods ...*corev1.Pod) *corev1.Endpoints { //nolint:staticcheck // the endpoints role is of it
	e := &corev1.Endpoints{ObjectMeta: *s.ObjectMeta.DeepCopy()} //nolint:staticcheck // as above
	if len(pods) == 0 {
		return e
	}
	subset := corev1.EndpointSubset{} //nolint:staticcheck // as above
	for _, p := range s.Spec.Ports {
		subset.Ports = append(subset.Ports, corev1.EndpointPort{Name: p.Name, Port: p.Port, Protocol: p.Protocol})
	}
	for _, p := range pods {
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: p.Status.PodIP, NodeName: &p.Spec.NodeName, TargetRef: podRef(p)})
	}
	e.Subsets = append(e.Subsets, subset)
	return e
}

// sliceOf is the EndpointSlice of a service with the given ready pods behind it.
func sliceOf(s *corev1.Service, pods ...*corev1.Pod) *discoveryv1.EndpointSlice {
	e := &discoveryv1.EndpointSlice{ObjectMeta: *s.ObjectMeta.DeepCopy(), AddressType: discoveryv1.AddressTypeIPv4}
	e.Labels[discoveryv1.LabelServiceName] = s.Name
	for _, p := range s.Spec.Ports {
		e.Ports = append(e.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol})
	}
	ready := true
	for _, p := range pods {
		e.Endpoints = append(e.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.Status.PodIP}, NodeName: &p.Spec.NodeName, TargetRef: podRef(p),
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	return e
}

func podRef(p *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name}
}

// ingress sends a host's paths to services of their names.
func ingress(namespace, name, host string, paths ...string) *networkingv1.Ingress {
	kind := networkingv1.PathTypePrefix
	rule := networkingv1.IngressRule{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{}}}
	for _, p := range paths {
		rule.HTTP.Paths = append(rule.HTTP.Paths, networkingv1.HTTPIngressPath{Path: p, PathType: &kind, Backend: networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}},
		}})
	}
	return &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{rule}},
	}
}

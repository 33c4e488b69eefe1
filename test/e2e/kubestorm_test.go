package e2e

import (
	"fmt"
	"math/rand/v2"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// storm makes objects of every kind that discovery reads, each time another
// variant of one of a fixed set of names: all shapes that change targets, the
// awkward ones too. Equal seeds give equal storms. Label names of one object
// stay apart once what a label name may not hold is replaced: which of two
// wins is chance in Prometheus.
type storm struct {
	*rand.Rand
	namespaces []string
	names      int // of objects of a kind in a namespace
}

func newStorm(seed uint64, namespaces []string, names int) *storm {
	return &storm{Rand: rand.New(rand.NewPCG(seed, 1)), namespaces: namespaces, names: names}
}

func pick[T any](s *storm, of ...T) T { return of[s.IntN(len(of))] }

// chance is true n times of 100.
func (s *storm) chance(n int) bool { return s.IntN(100) < n }

func (s *storm) meta(namespace, name string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}, Annotations: map[string]string{}}
	m.Labels["app.kubernetes.io/name"] = name
	fill := func(in map[string]string, percent int, key string, values ...string) {
		if s.chance(percent) {
			in[key] = pick(s, values...)
		}
	}
	fill(m.Labels, 50, "tier", "gold", "silver", "")
	fill(m.Labels, 50, "edge.example/site-id", "s1", "s2.3_4")
	fill(m.Labels, 50, "v", "1", "2")
	fill(m.Annotations, 70, "prometheus.io/scrape", "true", "true", "false", "TRUE")
	fill(m.Annotations, 45, "prometheus.io/port", "8080", "9090", "abc", "", "99999999999", "80 80", "-1")
	fill(m.Annotations, 45, "prometheus.io/path", "/metrics", "/other", "no-slash", "", "/a?b=c&d", "/%zz")
	fill(m.Annotations, 30, "prometheus.io/scheme", "http", "https", "gopher")
	fill(m.Annotations, 45, "note", "", "two\nlines", `"quoted" \back`, "größe ✓", " spaces ")
	return m
}

func (s *storm) ns() string              { return pick(s, s.namespaces...) }
func (s *storm) name(kind string) string { return fmt.Sprintf("%s-%d", kind, s.IntN(s.names)) }
func (s *storm) ip() string              { return fmt.Sprintf("10.42.%d.%d", 1+s.IntN(3), 1+s.IntN(200)) }
func (s *storm) port() int32             { return pick[int32](s, 8080, 9090, 9100, 53) }
func (s *storm) protocol() corev1.Protocol {
	return pick(s, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}
func (s *storm) truth() corev1.ConditionStatus {
	return pick(s, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown)
}

// next is a new variant of some object; forget says to delete it instead.
func (s *storm) next() (object metav1.Object, forget bool) {
	ns := s.ns()
	makers := []func() metav1.Object{
		func() metav1.Object { return s.node() },
		func() metav1.Object { return s.pod(ns) }, func() metav1.Object { return s.pod(ns) }, func() metav1.Object { return s.pod(ns) },
		func() metav1.Object { return s.service(ns) },
		func() metav1.Object { return s.endpoints(ns) }, func() metav1.Object { return s.endpoints(ns) },
		func() metav1.Object { return s.slice(ns) }, func() metav1.Object { return s.slice(ns) },
		func() metav1.Object { return s.ingress(ns) },
		func() metav1.Object { return s.replicaSet(ns) },
		func() metav1.Object { return s.job(ns) },
		func() metav1.Object { return s.namespace(ns) },
	}
	object = pick(s, makers...)()
	_, lasting := object.(*corev1.Namespace) // nothing ends a namespace without its controller
	return object, !lasting && s.chance(30)
}

func (s *storm) namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: s.meta("", name)}
}

// node is without addresses by its name: one that loses them keeps its target
// until Prometheus starts again.
func (s *storm) node() *corev1.Node {
	n := &corev1.Node{ObjectMeta: s.meta("", s.name("node"))}
	if s.chance(50) {
		n.Spec.ProviderID = "edge://" + n.Name // cannot change once it is set
	}
	addresses := 1 + s.IntN(3)
	if n.Name == "node-0" {
		addresses = 0
	}
	for i := range addresses {
		kind := pick(s, corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName, corev1.NodeInternalDNS, corev1.NodeExternalDNS)
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: kind, Address: pick(s, fmt.Sprintf("10.42.250.%d", i), fmt.Sprintf("fd00:42::%d", i), fmt.Sprintf("%s-%d.edge.example", n.Name, i))})
	}
	if s.chance(80) {
		n.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250
	}
	for _, kind := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeDiskPressure, "KernelDeadlock"} {
		if s.chance(60) {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: kind, Status: s.truth()})
		}
	}
	return n
}

func (s *storm) container(name string) corev1.Container {
	c := corev1.Container{Name: name, Image: pick(s, "registry.local/a:1", "registry.local/b@sha256:2")}
	for i := range s.IntN(3) {
		p := corev1.ContainerPort{ContainerPort: s.port(), Protocol: s.protocol()}
		if s.chance(70) {
			p.Name = fmt.Sprintf("p%d", i)
		}
		c.Ports = append(c.Ports, p)
	}
	return c
}

func (s *storm) pod(namespace string) *corev1.Pod {
	zero, no := int64(0), false
	p := &corev1.Pod{ObjectMeta: s.meta(namespace, s.name("pod"))}
	switch s.IntN(4) {
	case 0:
		p.OwnerReferences = append(p.OwnerReferences, s.owner("apps/v1", "ReplicaSet", s.name("rs")))
	case 1:
		p.OwnerReferences = append(p.OwnerReferences, s.owner("batch/v1", "Job", s.name("job")))
	case 2:
		p.OwnerReferences = append(p.OwnerReferences, s.owner("apps/v1", "DaemonSet", "ds"))
	}
	p.Spec = corev1.PodSpec{TerminationGracePeriodSeconds: &zero, AutomountServiceAccountToken: &no, NodeName: s.name("node")}
	if s.chance(20) {
		p.Spec.NodeName = "" // not scheduled
	}
	for i := range 1 + s.IntN(2) {
		p.Spec.Containers = append(p.Spec.Containers, s.container(fmt.Sprintf("c%d", i)))
	}
	for i := range s.IntN(3) {
		init := s.container(fmt.Sprintf("init%d", i))
		if always := corev1.ContainerRestartPolicyAlways; s.chance(50) {
			init.RestartPolicy = &always // a sidecar
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, init)
	}
	p.Status = corev1.PodStatus{Phase: pick(s, corev1.PodPending, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed)}
	if s.chance(85) {
		p.Status.PodIP = s.ip()
		if s.chance(10) {
			p.Status.PodIP = "fd00:42::5"
		}
		p.Status.PodIPs, p.Status.HostIP = []corev1.PodIP{{IP: p.Status.PodIP}}, "10.42.255.1"
	}
	if s.chance(80) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: s.truth()}}
	}
	status := func(of []corev1.Container) (out []corev1.ContainerStatus) {
		for _, c := range of {
			if s.chance(80) {
				out = append(out, corev1.ContainerStatus{Name: c.Name, Image: c.Image, ContainerID: fmt.Sprintf("containerd://%s-%x", c.Name, s.Uint32())})
			}
		}
		return out
	}
	p.Status.ContainerStatuses, p.Status.InitContainerStatuses = status(p.Spec.Containers), status(p.Spec.InitContainers)
	return p
}

func (s *storm) owner(version, kind, name string) metav1.OwnerReference {
	controller := s.chance(85)
	return metav1.OwnerReference{APIVersion: version, Kind: kind, Name: name, UID: types.UID("uid-of-" + name), Controller: &controller}
}

func (s *storm) template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "storm"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}, RestartPolicy: corev1.RestartPolicyAlways},
	}
}

func (s *storm) replicaSet(namespace string) *appsv1.ReplicaSet {
	r := &appsv1.ReplicaSet{ObjectMeta: s.meta(namespace, s.name("rs"))}
	r.Spec = appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "storm"}}, Template: s.template()}
	if s.chance(70) {
		r.OwnerReferences = append(r.OwnerReferences, s.owner("apps/v1", "Deployment", s.name("deploy")))
	}
	return r
}

func (s *storm) job(namespace string) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: s.meta(namespace, s.name("job"))}
	j.Spec.Template = s.template()
	j.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	if s.chance(70) {
		j.OwnerReferences = append(j.OwnerReferences, s.owner("batch/v1", "CronJob", s.name("cron")))
	}
	return j
}

// service has its type by its name: a type change is another object for the server.
func (s *storm) service(namespace string) *corev1.Service {
	i := s.IntN(s.names)
	v := &corev1.Service{ObjectMeta: s.meta(namespace, fmt.Sprintf("svc-%d", i))}
	for n := range 1 + s.IntN(3) {
		p := corev1.ServicePort{Name: fmt.Sprintf("p%d", n), Port: int32(8080 + n), Protocol: pick(s, corev1.ProtocolTCP, corev1.ProtocolUDP)}
		v.Spec.Ports = append(v.Spec.Ports, p)
	}
	switch i % 4 {
	case 0:
		v.Spec.Type = corev1.ServiceTypeClusterIP
	case 1:
		v.Spec.ClusterIP = corev1.ClusterIPNone
	case 2:
		v.Spec.Type, v.Spec.ExternalName = corev1.ServiceTypeExternalName, "db.example"
	case 3:
		v.Spec.Type = corev1.ServiceTypeLoadBalancer
		for range s.IntN(3) {
			v.Status.LoadBalancer.Ingress = append(v.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: s.ip()})
		}
	}
	return v
}

// ref is what an endpoint is of: mostly a pod, there or not.
func (s *storm) ref(namespace string) *corev1.ObjectReference {
	switch n := s.IntN(10); {
	case n < 7:
		return &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: s.name("pod")}
	case n < 8:
		return &corev1.ObjectReference{Kind: "Node", Name: s.name("node")}
	}
	return nil
}

func (s *storm) endpoints(namespace string) *corev1.Endpoints { //nolint:staticcheck // the endpoints role is of it
	e := &corev1.Endpoints{ObjectMeta: s.meta(namespace, s.name("svc"))} //nolint:staticcheck // as above
	for range s.IntN(3) {
		var sub corev1.EndpointSubset //nolint:staticcheck // as above
		for i := range 1 + s.IntN(2) {
			sub.Ports = append(sub.Ports, corev1.EndpointPort{Name: fmt.Sprintf("p%d", i), Port: s.port() + int32(i), Protocol: s.protocol()})
		}
		address := func() corev1.EndpointAddress {
			a := corev1.EndpointAddress{IP: s.ip(), TargetRef: s.ref(namespace)}
			if node := s.name("node"); s.chance(60) {
				a.NodeName = &node
			}
			if s.chance(30) {
				a.Hostname = s.name("host")
			}
			return a
		}
		for range 1 + s.IntN(3) {
			sub.Addresses = append(sub.Addresses, address())
		}
		for range s.IntN(2) {
			sub.NotReadyAddresses = append(sub.NotReadyAddresses, address())
		}
		e.Subsets = append(e.Subsets, sub)
	}
	return e
}

// slice has its address type by its name: it cannot change.
func (s *storm) slice(namespace string) *discoveryv1.EndpointSlice {
	i := s.IntN(s.names)
	e := &discoveryv1.EndpointSlice{ObjectMeta: s.meta(namespace, fmt.Sprintf("slice-%d", i))}
	if s.chance(85) {
		e.Labels[discoveryv1.LabelServiceName] = s.name("svc")
	}
	e.AddressType = []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN}[i%4]
	for n := range s.IntN(3) {
		name, port, protocol, app := fmt.Sprintf("p%d", n), s.port(), s.protocol(), "kubernetes.io/h2c"
		p := discoveryv1.EndpointPort{Name: &name, Protocol: &protocol}
		if s.chance(85) {
			p.Port = &port
		}
		if s.chance(30) {
			p.AppProtocol = &app
		}
		e.Ports = append(e.Ports, p)
	}
	maybe := func() *bool {
		if v := s.chance(50); s.chance(70) {
			return &v
		}
		return nil
	}
	for range s.IntN(4) {
		p := discoveryv1.Endpoint{TargetRef: s.ref(namespace), Conditions: discoveryv1.EndpointConditions{Ready: maybe(), Serving: maybe(), Terminating: maybe()}}
		switch e.AddressType {
		case discoveryv1.AddressTypeIPv4:
			p.Addresses = []string{s.ip()}
		case discoveryv1.AddressTypeIPv6:
			p.Addresses = []string{fmt.Sprintf("fd00:42::%x", 1+s.IntN(200))}
		default:
			p.Addresses = []string{s.name("host") + ".edge.example"}
		}
		if node := s.name("node"); s.chance(60) {
			p.NodeName = &node
		}
		if zone := pick(s, "z1", "z2"); s.chance(40) {
			p.Zone = &zone
		}
		if host := s.name("host"); s.chance(30) {
			p.Hostname = &host
		}
		e.Endpoints = append(e.Endpoints, p)
	}
	return e
}

func (s *storm) ingress(namespace string) *networkingv1.Ingress {
	g := &networkingv1.Ingress{ObjectMeta: s.meta(namespace, s.name("ing"))}
	backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: s.name("svc"), Port: networkingv1.ServiceBackendPort{Number: 80}}}
	g.Spec.DefaultBackend = &backend
	if class := pick(s, "nginx", "edge"); s.chance(60) {
		g.Spec.IngressClassName = &class
	}
	hosts := []string{"shop.example", "a.shop.example", "*.shop.example", "", "b.a.shop.example", "other.example"}
	for range s.IntN(3) {
		t := networkingv1.IngressTLS{SecretName: "tls"}
		if host := pick(s, hosts...); host != "" {
			t.Hosts = append(t.Hosts, host)
		}
		g.Spec.TLS = append(g.Spec.TLS, t)
	}
	kind := networkingv1.PathTypeImplementationSpecific
	for range s.IntN(3) {
		rule := networkingv1.IngressRule{Host: pick(s, hosts...)}
		if s.chance(80) {
			rule.HTTP = &networkingv1.HTTPIngressRuleValue{}
			for range 1 + s.IntN(3) {
				rule.HTTP.Paths = append(rule.HTTP.Paths, networkingv1.HTTPIngressPath{Path: pick(s, "", "/", "/api", "/x/y"), PathType: &kind, Backend: backend})
			}
		}
		g.Spec.Rules = append(g.Spec.Rules, rule)
	}
	return g
}

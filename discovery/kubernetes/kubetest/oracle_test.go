package kubetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/discovery/targetgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// role is a config of the oracle.
func role(t *testing.T, s *Server, role, more string) string {
	t.Helper()
	return fmt.Sprintf("role: %s\nkubeconfig_file: %s\n%s", role, s.Kubeconfig(t), more)
}

func has(sources ...string) func(map[string]*targetgroup.Group) bool {
	return func(groups map[string]*targetgroup.Group) bool {
		for _, s := range sources {
			if groups[s] == nil {
				return false
			}
		}
		return len(groups) == len(sources)
	}
}

func runningPod(name, ip string) *corev1.Pod {
	p := pod("ns", name, "n", nil)
	p.Status.PodIP = ip
	return p
}

func TestOracleSeesWhatIsPut(t *testing.T) {
	in := metav1.ObjectMeta{Namespace: "ns", Name: "x"}
	port := int32(80)
	for _, tt := range []struct {
		role, more, source, label string
		put                       func(s *Server)
	}{
		{"node", "", "node/n", `__address__="10.0.0.1:0"`, func(s *Server) {
			s.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}}})
		}},
		{"pod", "attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}", "pod/ns/x", `__meta_kubernetes_node_label_zone="z"`, func(s *Server) {
			s.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"zone": "z"}}}, runningPod("x", "10.0.0.2"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}})
		}},
		{"pod", "selectors: [{role: pod, label: 'app=x', field: 'spec.nodeName=n'}]\nnamespaces: {names: [ns]}", "pod/ns/x", `__meta_kubernetes_pod_label_app="x"`, func(s *Server) {
			x := runningPod("x", "10.0.0.2")
			x.Labels = map[string]string{"app": "x"}
			s.Put(runningPod("y", "10.0.0.3"), x)
		}},
		{"service", "", "svc/ns/x", `__address__="x.ns.svc:80"`, func(s *Server) {
			s.Put(&corev1.Service{ObjectMeta: in, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: port}}}})
		}},
		{"endpoints", "", "endpoints/ns/x", `__meta_kubernetes_pod_ip="10.0.0.2"`, func(s *Server) {
			s.Put(runningPod("p", "10.0.0.2"), &corev1.Endpoints{ObjectMeta: in, Subsets: []corev1.EndpointSubset{{
				Addresses: []corev1.EndpointAddress{{IP: "10.0.0.2", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "p"}}},
				Ports:     []corev1.EndpointPort{{Port: port}},
			}}})
		}},
		{"endpointslice", "", "endpointslice/ns/x", `__address__="10.0.0.2:80"`, func(s *Server) {
			s.Put(&discoveryv1.EndpointSlice{ObjectMeta: in, Ports: []discoveryv1.EndpointPort{{Port: &port}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.2"}}}})
		}},
		{"ingress", "", "ingress/ns/x", `__address__="host"`, func(s *Server) {
			s.Put(&networkingv1.Ingress{ObjectMeta: in, Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{Host: "host"}}}})
		}},
	} {
		t.Run(tt.role, func(t *testing.T) {
			for _, streaming := range []bool{true, false} {
				s := New(t)
				s.SetStreamingLists(streaming)
				tt.put(s)
				o := NewOracle(t, role(t, s, tt.role, tt.more))
				o.Wait(t, tt.source, has(tt.source))
				if got := o.Targets()[tt.source]; len(got) != 1 || !strings.Contains(got[0], tt.label) {
					t.Errorf("targets %q, want one with %s", got, tt.label)
				}
			}
		})
	}
}

func TestOracleFollowsChangesThroughCutsAndExpiry(t *testing.T) {
	s := NewTLS(t)
	s.SetToken(Token)
	s.Put(runningPod("a", "10.0.0.1"))
	o := NewOracle(t, role(t, s, "pod", ""))
	o.Wait(t, "the first pod", has("pod/ns/a"))
	s.Put(runningPod("b", "10.0.0.2"))
	o.Wait(t, "a second pod", has("pod/ns/a", "pod/ns/b"))
	s.CutWatches()
	s.Delete(runningPod("a", ""))
	o.Wait(t, "the first pod deleted after a cut", has("pod/ns/b"))
	s.Expire()
	s.Put(runningPod("c", "10.0.0.3"))
	o.Wait(t, "a third pod after an expiry", has("pod/ns/b", "pod/ns/c"))
}

func TestTouchMakesTheOracleLookAgain(t *testing.T) {
	s := New(t)
	in := metav1.ObjectMeta{Namespace: "ns", Name: "x"}
	s.Put(&discoveryv1.EndpointSlice{ObjectMeta: in, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.2"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "p"}}}, Ports: []discoveryv1.EndpointPort{{}}})
	o := NewOracle(t, role(t, s, "endpointslice", ""))
	o.Wait(t, "the slice", has("endpointslice/ns/x"))
	podSeen := func(groups map[string]*targetgroup.Group) bool {
		for _, target := range groups["endpointslice/ns/x"].Targets {
			if target["__meta_kubernetes_pod_name"] == "p" {
				return true
			}
		}
		return false
	}
	Eventually(t, "pods are watched", func() bool { return s.Watching()[Call{Verb: "watch", Path: "/api/v1/pods"}] == 1 })
	before := o.Groups()["endpointslice/ns/x"]
	s.Put(runningPod("p", "10.0.0.2"))
	o.Quiet(t, 50*time.Millisecond)
	s.Touch("endpointslices")
	o.Wait(t, "the pod's labels", func(g map[string]*targetgroup.Group) bool { return podSeen(g) && g["endpointslice/ns/x"] != before })
}

// Settle sees all that is there, of an oracle that has only been started.
func TestSettleWaitsForAllThatIsThere(t *testing.T) {
	for _, tt := range []struct {
		role, more string
		want       []string
	}{
		{"pod", "", []string{"pod/ns/a", "pod/ns/b", "pod/other/c"}},
		{"pod", "namespaces: {names: [other]}", []string{"pod/other/c"}},
		{"pod", "selectors: [{role: pod, field: 'metadata.name=b'}]", []string{"pod/ns/b"}},
		{"pod", "selectors: [{role: pod, label: 'app in (x)'}]", nil},
		{"pod", "attach_metadata: {node: true}\nselectors: [{role: node, label: 'none'}]", nil},
		{"node", "", []string{"node/n"}},
		{"service", "", nil},
	} {
		t.Run(tt.role+" "+tt.more, func(t *testing.T) {
			t.Parallel()
			s := New(t)
			c := runningPod("c", "10.0.0.3")
			c.Namespace = "other"
			s.Put(runningPod("a", "10.0.0.1"), runningPod("b", "10.0.0.2"), c, pod("ns", "no-ip", "n", nil), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "no-address"}},
				&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.9"}}}})
			o := NewOracle(t, role(t, s, tt.role, tt.more))
			o.Settle(t, s, 20*time.Millisecond)
			if !has(tt.want...)(o.Groups()) {
				t.Errorf("groups %v, want %q", o.Targets(), tt.want)
			}
		})
	}
}

func TestDiffNamesWhatIsMissingAndTooMuch(t *testing.T) {
	want := map[string][]string{"a": {"1", "1", "2"}, "b": {"3"}}
	if got := Diff(want, map[string][]string{"a": {"2", "1", "1"}, "b": {"3"}, "c": nil}); got != "" {
		t.Errorf("equal ones differ by %q", got)
	}
	if got := Diff(want, map[string][]string{"a": {"2", "1"}, "c": {"4"}}); got != "- a 1\n- b 3\n+ c 4\n" {
		t.Errorf("diff is %q", got)
	}
}

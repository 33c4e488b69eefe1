package kubetest

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/util/strutil"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

func storm(seed uint64) *Storm { return Random(rand.New(rand.NewPCG(seed, 1)), Shape{}) }

func TestOneSeedMakesOneStorm(t *testing.T) {
	a, b, other := storm(1), storm(1), storm(2)
	one, two := a.Cluster(), b.Cluster()
	if len(one) < 20 || !equality.Semantic.DeepEqual(one, two) {
		t.Fatalf("clusters of one seed are not equal (%d and %d objects)", len(one), len(two))
	}
	if equality.Semantic.DeepEqual(one, other.Cluster()) {
		t.Error("clusters of two seeds are equal")
	}
	deleted := 0
	for i := range 500 {
		x, y := a.Next(), b.Next()
		if !equality.Semantic.DeepEqual(x, y) {
			t.Fatalf("change %d is %v and %v", i, x, y)
		}
		if x.Delete {
			deleted++
		}
	}
	if deleted < 30 || deleted > 250 {
		t.Errorf("%d of 500 changes delete", deleted)
	}
}

func TestNoLabelsOfAnObjectAreOneAfterSanitising(t *testing.T) {
	g := storm(3)
	for range 2000 {
		m := accessor(g.Next().Object)
		for _, set := range []map[string]string{m.GetLabels(), m.GetAnnotations()} {
			seen := map[string]string{}
			for k := range set {
				if other, ok := seen[strutil.SanitizeLabelName(k)]; ok {
					t.Fatalf("%q and %q are one", k, other)
				}
				seen[strutil.SanitizeLabelName(k)] = k
			}
		}
	}
}

// Each of these is a case that discovery has to get right.
func TestStormHasEveryCase(t *testing.T) {
	seen := map[string]int{}
	see := func(what string, is bool) {
		if is {
			seen[what]++
		} else {
			seen[what] += 0
		}
	}
	owner := func(m metav1.Object, kind string) bool {
		return slices.ContainsFunc(m.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
			return r.Kind == kind && r.Controller != nil && *r.Controller
		})
	}
	g := storm(4)
	for range 5000 {
		c := g.Next()
		m := accessor(c.Object)
		see("no labels", len(m.GetLabels()) == 0)
		for k, v := range m.GetLabels() {
			see("label with a slash", strings.Contains(k, "/"))
			see("label without a value", v == "")
			see("value beyond ASCII", strings.ContainsRune(v, '漢'))
		}
		switch o := c.Object.(type) {
		case *corev1.Pod:
			ports := map[int32]int{}
			for _, c := range o.Spec.Containers {
				see("container without ports", len(c.Ports) == 0)
				see("container with ports", len(c.Ports) > 1)
				for _, p := range c.Ports {
					ports[p.ContainerPort]++
					see("port declared twice", ports[p.ContainerPort] > 1)
				}
			}
			see("init container", len(o.Spec.InitContainers) > 0)
			see("pod without status", o.Status.Phase == "" && o.Status.Conditions == nil && o.Status.PodIP == "")
			see("pod without IP", o.Status.PodIP == "" && o.Status.Phase == corev1.PodRunning)
			see("pod with IPv6", strings.Contains(o.Status.PodIP, ":"))
			see("pod failed", o.Status.Phase == corev1.PodFailed)
			see("pod of a ReplicaSet", owner(o, "ReplicaSet"))
			see("pod of a Job", owner(o, "Job"))
			see("pod without owner", len(o.OwnerReferences) == 0)
			see("pod without node", o.Spec.NodeName == "")
		case *corev1.Service:
			see("headless service", o.Spec.ClusterIP == corev1.ClusterIPNone)
			see("service without ports", len(o.Spec.Ports) == 0)
			see("external name", o.Spec.ExternalName != "")
			see("load balancer with addresses", len(o.Status.LoadBalancer.Ingress) > 1)
			see("dual stack", o.Spec.IPFamilyPolicy != nil && *o.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyPreferDualStack && len(o.Spec.IPFamilies) == 2)
		case *corev1.Endpoints:
			see("endpoints without subsets", len(o.Subsets) == 0)
			for _, s := range o.Subsets {
				see("address not ready", len(s.NotReadyAddresses) > 0)
				for _, a := range s.Addresses {
					see("address of a pod", a.TargetRef != nil && a.TargetRef.Kind == "Pod")
					see("address of a node", a.TargetRef != nil && a.TargetRef.Kind == "Node")
					see("address of nothing", a.TargetRef == nil)
					see("address without node name", a.NodeName == nil)
					see("address with host name", a.Hostname != "")
				}
			}
		case *discoveryv1.EndpointSlice:
			see("slice without service", o.Labels[serviceName] == "")
			see("slice of a service", o.Labels[serviceName] != "")
			for _, p := range o.Ports {
				see("slice port without number", p.Port == nil)
				see("slice port without name", p.Name == nil)
			}
			for _, e := range o.Endpoints {
				see("several addresses", len(e.Addresses) > 1)
				see("condition unset", e.Conditions.Ready == nil)
				see("topology", len(e.DeprecatedTopology) > 0)
				see("zone", e.Zone != nil && *e.Zone != "")
			}
		case *networkingv1.Ingress:
			see("ingress without rules", len(o.Spec.Rules) == 0)
			see("wildcard of TLS", slices.ContainsFunc(o.Spec.TLS, func(t networkingv1.IngressTLS) bool { return slices.Contains(t.Hosts, "*.example.com") }))
			for _, r := range o.Spec.Rules {
				see("rule without HTTP", r.HTTP == nil)
				see("rule without host", r.Host == "")
				if r.HTTP != nil {
					see("rule without paths", len(r.HTTP.Paths) == 0)
					see("empty path", slices.ContainsFunc(r.HTTP.Paths, func(p networkingv1.HTTPIngressPath) bool { return p.Path == "" }))
				}
			}
		case *corev1.Node:
			see("node without addresses", len(o.Status.Addresses) == 0)
			see("node with conditions", len(o.Status.Conditions) > 1)
			for _, a := range o.Status.Addresses {
				see("address "+string(a.Type), true)
			}
		case *corev1.Namespace:
			see("name space with labels", len(o.Labels) > 0)
		default:
			see("ReplicaSet of a Deployment", owner(m, "Deployment"))
			see("Job of a CronJob", owner(m, "CronJob"))
		}
	}
	for what, n := range seen {
		if n < 5 {
			t.Errorf("%s: %d times", what, n)
		}
	}
	if len(seen) < 54 {
		t.Errorf("only %d cases were looked for: some kind is missing", len(seen))
	}
}

// What a watch tells adds up to what a list says, with and without selectors.
func TestEventsOfAStormAddUpToTheList(t *testing.T) {
	eachType(t, func(t *testing.T, contentType string) {
		s := New(t)
		pods := client(t, s, contentType).CoreV1().Pods("")
		g := storm(5)
		s.Put(g.Cluster()...)
		from := s.Version()
		selectors := []metav1.ListOptions{{}, {LabelSelector: "app"}, {FieldSelector: "spec.nodeName=node-1,status.phase=Running"}, {LabelSelector: "!app", FieldSelector: "metadata.namespace=ns-0"}}
		states, watches := make([]map[string]runtime.Object, len(selectors)), make([]watch.Interface, len(selectors))
		for i, options := range selectors {
			list, err := pods.List(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			states[i] = map[string]runtime.Object{}
			for _, p := range list.Items {
				states[i][key(&p)] = &p
			}
			options.ResourceVersion, options.AllowWatchBookmarks = from, true
			if watches[i], err = pods.Watch(t.Context(), options); err != nil {
				t.Fatal(err)
			}
			defer watches[i].Stop()
		}
		g.Apply(s, 1500)
		s.Bookmark()
		for i, options := range selectors {
			events := 0
			for done := false; !done; events++ {
				e := <-watches[i].ResultChan()
				k := key(accessor(e.Object))
				switch _, there := states[i][k]; {
				case e.Type == watch.Bookmark && accessor(e.Object).GetResourceVersion() == s.Version():
					done = true
				case e.Type == watch.Added && !there, e.Type == watch.Modified && there:
					states[i][k] = e.Object
				case e.Type == watch.Deleted && there:
					delete(states[i], k)
				default:
					t.Fatalf("%s of %s, which was there: %t", e.Type, k, there)
				}
			}
			list, err := pods.List(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Items) != len(states[i]) || events < 10 {
				t.Errorf("%v: %d objects after %d events, the list has %d", options, len(states[i]), events, len(list.Items))
			}
			for _, want := range list.Items {
				got, ok := states[i][key(&want)].(*corev1.Pod)
				if !ok {
					t.Errorf("%v: %s is not there", options, key(&want))
					continue
				}
				got = got.DeepCopy()
				got.TypeMeta = metav1.TypeMeta{} // only JSON events have it
				if !equality.Semantic.DeepEqual(*got, want) {
					t.Errorf("%v: the watch told %v, the list %v", options, got, want)
				}
			}
		}
	})
}

// An oracle that lived through a storm and one that is new agree once all was
// touched: what a test compares with does not depend on chance.
func TestOraclesAgreeAfterAStorm(t *testing.T) {
	const attach = "attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}"
	for _, r := range []string{"pod", "service", "endpoints", "endpointslice", "ingress"} {
		t.Run(r, func(t *testing.T) {
			t.Parallel()
			s := New(t)
			g := Random(rand.New(rand.NewPCG(6, 1)), Shape{Names: 8})
			s.Put(g.Cluster()...)
			config := role(t, s, r, map[bool]string{true: attach}[r != "service" && r != "ingress"])
			old := NewOracle(t, config)
			old.Wait(t, "some groups", func(g map[string]*targetgroup.Group) bool { return len(g) > 0 })
			g.Apply(s, 300)
			young := NewOracle(t, config)
			young.Wait(t, "some groups", func(g map[string]*targetgroup.Group) bool { return len(g) > 0 })
			young.Settle(t, s, 100*time.Millisecond)
			old.Quiet(t, 100*time.Millisecond)
			if diff := Diff(young.Targets(), old.Targets()); diff != "" {
				t.Errorf("the oracles differ:\n%s", diff)
			}
			if n := len(young.Targets()); n < 4 {
				t.Errorf("only %d sources have targets", n)
			}
		})
	}
}

package kubetest

import (
	"fmt"
	"maps"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Shape is how large a random cluster is. Few names make many meetings: an
// endpoint finds its pod, a slice its service.
type Shape struct {
	Namespaces int // 0: 2
	Names      int // objects of each kind in each name space; 0: 4
	Nodes      int // 0: 3
}

// Storm makes random objects and changes to them, the same ones for the same
// source of randomness. It is for one goroutine.
//
// No object has two labels or annotations that are one after sanitising: which
// of them Prometheus shows is chance.
type Storm struct {
	rng   *rand.Rand
	shape Shape
	kinds []kind
	last  map[spot]runtime.Object // as made last, deleted ones too
}

// kind makes objects of one kind.
type kind struct {
	make       func(metav1.ObjectMeta) runtime.Object
	names      []string
	namespaced bool
	weight     int // chance to change, against that of the other kinds
}

// spot is where an object is.
type spot struct {
	kind            int
	namespace, name string
}

// Change is a change to one object.
type Change struct {
	Object runtime.Object
	Delete bool // else it is created or updated
}

// Random makes a storm.
func Random(rng *rand.Rand, shape Shape) *Storm {
	if shape.Namespaces == 0 {
		shape.Namespaces = 2
	}
	if shape.Names == 0 {
		shape.Names = 4
	}
	if shape.Nodes == 0 {
		shape.Nodes = 3
	}
	g := &Storm{rng: rng, shape: shape, last: map[spot]runtime.Object{}}
	g.kinds = []kind{
		{g.node, numbered("node-", shape.Nodes), false, 2},
		{g.space, numbered("ns-", shape.Namespaces), false, 1},
		{g.pod, numbered("p", shape.Names), true, 4},
		{g.service, numbered("s", shape.Names), true, 2},
		{g.endpoints, numbered("s", shape.Names), true, 2}, // the names of the services
		{g.slice, numbered("e", shape.Names), true, 2},
		{g.ingress, numbered("i", shape.Names), true, 1},
		{g.replicaSet, numbered("r", shape.Names), true, 1},
		{g.job, numbered("j", shape.Names), true, 1},
	}
	return g
}

func numbered(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint(prefix, i)
	}
	return names
}

// Cluster makes a cluster in which two of three possible objects exist.
func (g *Storm) Cluster() []runtime.Object {
	var objs []runtime.Object
	for i, k := range g.kinds {
		spaces := []string{""}
		if k.namespaced {
			spaces = numbered("ns-", g.shape.Namespaces)
		}
		for _, ns := range spaces {
			for _, name := range k.names {
				if g.one(3, 2) {
					objs = append(objs, g.fresh(spot{i, ns, name}))
				}
			}
		}
	}
	return objs
}

// Next makes a change: an object is deleted, made anew in all its parts, or
// changed in one. A deleted object may never have been there.
func (g *Storm) Next() Change {
	at := g.place()
	old := g.last[at]
	switch {
	case old == nil:
	case g.one(5, 1):
		return Change{Object: old.DeepCopyObject(), Delete: true}
	case g.one(2, 1):
		return Change{Object: g.nudge(at, old.DeepCopyObject())}
	}
	return Change{Object: g.fresh(at)}
}

// Apply makes n changes to what a server holds.
func (g *Storm) Apply(s *Server, n int) {
	s.t.Helper()
	for range n {
		if c := g.Next(); c.Delete {
			s.Delete(c.Object)
		} else {
			s.Put(c.Object)
		}
	}
}

// place picks an object to change.
func (g *Storm) place() spot {
	sum := 0
	for _, k := range g.kinds {
		sum += k.weight
	}
	at := g.rng.IntN(sum)
	for i, k := range g.kinds {
		if at -= k.weight; at >= 0 {
			continue
		}
		p := spot{kind: i, name: pick(g, k.names...)}
		if k.namespaced {
			p.namespace = g.namespace()
		}
		return p
	}
	panic("no kind has this weight")
}

// fresh makes an object anew.
func (g *Storm) fresh(at spot) runtime.Object {
	obj := g.kinds[at.kind].make(metav1.ObjectMeta{Namespace: at.namespace, Name: at.name, Labels: g.pairs(), Annotations: g.pairs()})
	g.last[at] = obj.DeepCopyObject()
	return obj
}

// nudge changes a part of an object that it may write to.
func (g *Storm) nudge(at spot, obj runtime.Object) runtime.Object {
	m := accessor(obj)
	switch g.rng.IntN(4) {
	case 0:
		m.SetLabels(keep(serviceName, m.GetLabels(), g.pairs()))
	case 1:
		m.SetAnnotations(g.pairs())
	case 2: // the same once more, as a heartbeat writes it
	default:
		if p, ok := obj.(*corev1.Pod); ok {
			p.Status = g.podStatus(p)
			break
		}
		obj = g.kinds[at.kind].make(metav1.ObjectMeta{Namespace: at.namespace, Name: at.name})
		o := accessor(obj)
		o.SetLabels(keep(serviceName, o.GetLabels(), m.GetLabels()))
		o.SetAnnotations(m.GetAnnotations())
	}
	g.last[at] = obj.DeepCopyObject()
	return obj
}

// keep gives a set what another has of one name, or has not.
func keep(name string, from, to map[string]string) map[string]string {
	set := maps.Clone(to)
	if delete(set, name); from[name] != "" {
		set[name] = from[name]
	}
	return set
}

// serviceName is the label of a slice that names its service.
const serviceName = "kubernetes.io/service-name"

// keys are names of labels and annotations, no two of which are one after
// sanitising. None starts with "present", for
// endpointslice_endpoint_topology_present_x is the presence of x.
func keys() []string {
	return []string{
		"app", "App", "app.kubernetes.io/name", "app.kubernetes.io/part-of", "team-name", "tier_1", "1st", "a/b.c-d_e",
		"prometheus.io/scrape", "prometheus.io/port", "topology.kubernetes.io/zone", "endpoints.kubernetes.io/over-capacity",
		"zażółć", "x",
	}
}

// pairs are labels or annotations; often none.
func (g *Storm) pairs() map[string]string {
	set := map[string]string{}
	all := keys()
	for range g.rng.IntN(6) {
		set[pick(g, all...)] = pick(g, "", "true", "8080", "a.b-c_d", "ünïcode 漢字", "web", "web", "with \"quotes\"\nand lines", "truncated")
	}
	return set
}

// owners are owner references, with a controller among them or not.
func (g *Storm) owners(controller string, names ...string) []metav1.OwnerReference {
	yes, no := true, false
	var refs []metav1.OwnerReference
	if g.one(4, 1) {
		refs = append(refs, metav1.OwnerReference{Kind: "Other", Name: "first", Controller: pick(g, &no, nil)})
	}
	if controller != "" {
		refs = append(refs, metav1.OwnerReference{Kind: controller, Name: pick(g, names...), Controller: pick(g, &yes, &yes, &yes, &no, nil)})
	}
	return refs
}

// one is true in n of m cases.
func (g *Storm) one(of, n int) bool { return g.rng.IntN(of) < n }

func (g *Storm) namespace() string { return fmt.Sprint("ns-", g.rng.IntN(g.shape.Namespaces)) }

// name is one of those that objects of a kind have, or of one that never is.
func (g *Storm) name(prefix string) string { return fmt.Sprint(prefix, g.rng.IntN(g.shape.Names+1)) }

// nodeName is that of a node, of one that never is, or none.
func (g *Storm) nodeName() string {
	switch {
	case g.one(8, 1):
		return ""
	case g.one(8, 1):
		return "node-of-old"
	}
	return fmt.Sprint("node-", g.rng.IntN(g.shape.Nodes))
}

// ip is an address, more often of IPv4.
func (g *Storm) ip() string {
	if g.one(3, 1) {
		return fmt.Sprintf("fd00::%x", 1+g.rng.IntN(250))
	}
	return fmt.Sprintf("10.0.0.%d", 1+g.rng.IntN(250))
}

// port is one of a few numbers, so that endpoints and containers have the same.
func (g *Storm) port() int32 { return pick(g, int32(80), 8080, 9090, 443, 65535) }

func (g *Storm) protocol() corev1.Protocol {
	return pick(g, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP, "")
}

// pick is one of the choices.
func pick[T any](g *Storm, choices ...T) T { return choices[g.rng.IntN(len(choices))] }

// maybe is a pointer to one of the choices, or nil.
func maybe[T any](g *Storm, choices ...T) *T {
	if g.one(4, 1) {
		return nil
	}
	v := pick(g, choices...)
	return &v
}

// some makes up to n items; nil when there are none.
func some[T any](g *Storm, n int, make func() T) []T {
	if g.one(6, 1) {
		return nil
	}
	var items []T
	for range 1 + g.rng.IntN(n) {
		items = append(items, make())
	}
	return items
}

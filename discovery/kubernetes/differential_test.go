package kubernetes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/kubetest"
	"promagent/discovery/kubernetes/object"
)

// kindOf is the kind of an object of the API.
func kindOf(t *testing.T, o runtime.Object) object.Kind {
	t.Helper()
	switch o.(type) {
	case *corev1.Node:
		return object.KindNode
	case *corev1.Pod:
		return object.KindPod
	case *corev1.Service:
		return object.KindService
	case *corev1.Endpoints: //nolint:staticcheck // deprecated, and there
		return object.KindEndpoints
	case *discoveryv1.EndpointSlice:
		return object.KindEndpointSlice
	case *networkingv1.Ingress:
		return object.KindIngress
	case *corev1.Namespace:
		return object.KindNamespace
	case *appsv1.ReplicaSet:
		return object.KindReplicaSet
	case *batchv1.Job:
		return object.KindJob
	}
	t.Fatalf("an object is a %T", o)
	return 0
}

// decoded are objects as they come from a server, by kind.
func decoded(t *testing.T, objects []runtime.Object) map[object.Kind]held {
	t.Helper()
	all := make(map[object.Kind]held)
	for _, o := range objects {
		kind := kindOf(t, o)
		b, err := o.(interface{ Marshal() ([]byte, error) }).Marshal()
		if err != nil {
			t.Fatalf("encode a %T: %v", o, err)
		}
		slim, _, err := object.Decode(kind, b)
		if err != nil {
			t.Fatal(err)
		}
		if all[kind] == nil {
			all[kind] = make(held)
		}
		all[kind][[2]string{slim.Base().Namespace, slim.Base().Name}] = slim
	}
	return all
}

// builtOf are the targets of all objects of a role, by source.
func builtOf(b *builder, role string, all map[object.Kind]held) map[string][]string {
	targets := make(map[string][]string)
	keep := func(g group.Group) {
		if g.Len() > 0 {
			targets[g.Source] = kubetest.Targets(g)
		}
	}
	for _, h := range all {
		for _, o := range h {
			switch o := o.(type) {
			case *object.Node:
				if g, ok := b.node(o); ok && role == "node" {
					keep(g)
				}
			case *object.Pod:
				if role == "pod" {
					keep(b.pod(o))
				}
			case *object.Service:
				if role == "service" {
					keep(b.service(o))
				}
			case *object.Endpoints:
				if role == "endpoints" {
					keep(b.endpoints(o))
				}
			case *object.EndpointSlice:
				if role == "endpointslice" {
					keep(b.endpointSlice(o))
				}
			case *object.Ingress:
				if role == "ingress" {
					keep(b.ingress(o))
				}
			}
		}
	}
	return targets
}

// asked is a config, of Prometheus and of a builder, and what they make of it.
type asked struct {
	role, more string
	attach     attach
	oracle     *kubetest.Oracle
	got        map[string][]string
}

func (a *asked) difference() string { return kubetest.Diff(a.oracle.Targets(), a.got) }

// eachRole asks for every role, with nothing and with everything attached that
// it can have.
func eachRole() []*asked {
	everything := "\nattach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}"
	return []*asked{
		{role: "node"},
		{role: "pod"},
		{role: "pod", more: everything, attach: attach{true, true, true, true, true}},
		{role: "pod", more: "\nattach_metadata: {deployment: true, cronjob: true}", attach: attach{deployment: true, cronJob: true}},
		{role: "service"},
		{role: "service", more: "\nattach_metadata: {namespace: true}", attach: attach{namespace: true}},
		{role: "endpoints"},
		{role: "endpoints", more: everything, attach: attach{true, true, true, true, true}},
		{role: "endpointslice"},
		{role: "endpointslice", more: everything, attach: attach{true, true, true, true, true}},
		{role: "ingress"},
		{role: "ingress", more: "\nattach_metadata: {namespace: true}", attach: attach{namespace: true}},
	}
}

func TestGroupsOfRandomClustersAreThoseOfPrometheus(t *testing.T) {
	clusters := 6
	if testing.Short() {
		clusters = 2
	}
	var mu sync.Mutex
	sources := make(map[string]int) // with targets, by config
	t.Run("cluster", func(t *testing.T) {
		for seed := range clusters {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				s := kubetest.New(t)
				storm := kubetest.Random(rand.New(rand.NewPCG(uint64(seed), 1)), kubetest.Shape{Namespaces: 3, Names: 6})
				s.Put(storm.Cluster()...)
				storm.Apply(s, 50*seed)
				all := decoded(t, s.Objects())
				configs := eachRole()
				for _, c := range configs {
					c.oracle = kubetest.NewOracle(t, fmt.Sprintf("kubeconfig_file: %s\nrole: %s%s", s.Kubeconfig(t), c.role, c.more))
					c.got = builtOf(over(all, c.attach), c.role, all)
					mu.Lock()
					sources[c.role+c.more] += len(c.got)
					mu.Unlock()
				}
				same(t, s, configs)
			})
		}
	})
	for config, n := range sources {
		if n < clusters {
			t.Errorf("role %s: %d sources have targets in %d clusters, which tells little", config, n, clusters)
		}
	}
}

// over is a builder that finds all objects.
func over(all map[object.Kind]held, attach attach) *builder {
	return &builder{
		attach: attach,
		pods:   all[object.KindPod], services: all[object.KindService], nodes: all[object.KindNode],
		namespaces: all[object.KindNamespace], replicaSets: all[object.KindReplicaSet], jobs: all[object.KindJob],
		names: newNames(), log: silent(),
	}
}

// same waits until all oracles have found what was built and find nothing
// else. Now and then the server tells all endpoints again: Prometheus does not
// look at them when the ReplicaSets and Jobs come later.
func same(t *testing.T, s *kubetest.Server, configs []*asked) {
	t.Helper()
	differ := func() bool {
		return slices.ContainsFunc(configs, func(c *asked) bool { return c.difference() != "" })
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for looks, end := 1, time.Now().Add(20*time.Second); time.Now().Before(end); looks++ {
		if !differ() {
			for _, c := range configs {
				c.oracle.Quiet(t, 100*time.Millisecond)
			}
			if !differ() {
				return
			}
		}
		if looks%20 == 0 {
			s.Touch("endpoints", "endpointslices")
		}
		<-tick.C
	}
	for _, c := range configs {
		if d := c.difference(); d != "" {
			t.Errorf("role %s%s (- Prometheus's alone, + ours alone):\n%s", c.role, c.more, d)
		}
	}
}

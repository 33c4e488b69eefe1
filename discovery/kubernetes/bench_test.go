package kubernetes

import (
	"fmt"
	"runtime"
	"testing"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// pods5000 are pods with ten labels and annotations and two ports each, and
// Endpoints and slices of one service that has a tenth of them.
func pods5000() (pods []*object.Pod, endpoints *object.Endpoints, slice *object.EndpointSlice, b *builder) {
	labelNames := []string{"app", "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version", "pod-template-hash", "team"}
	annotationNames := []string{"checksum/config", "prometheus.io/path", "prometheus.io/port", "prometheus.io/scrape"}
	var all []object.Object
	endpoints = endpointsOf(object.Subset{Ports: []object.EndpointPort{{Name: "http", Port: 8080, Protocol: "TCP"}}})
	slice = sliceOf([]object.SlicePort{{Name: given("http"), Protocol: given("TCP"), Port: 8080, HasPort: true}})
	for i := range 5000 {
		p := web()
		p.Name, p.IP = fmt.Sprintf("web-%d", i), fmt.Sprintf("10.%d.%d.1", i/250, i%250)
		p.Containers = p.Containers[:1]
		p.Labels, p.Annotations = nil, nil
		for _, n := range labelNames {
			p.Labels = append(p.Labels, object.Pair{Name: n, Value: fmt.Sprint(n, i%500)})
		}
		for _, n := range annotationNames {
			p.Annotations = append(p.Annotations, object.Pair{Name: n, Value: fmt.Sprint(n, i%500)})
		}
		pods = append(pods, p)
		all = append(all, p)
		if i < 500 {
			a := object.EndpointAddress{IP: p.IP, NodeName: given("w1"), Target: toPod(p.Name)}
			endpoints.Subsets[0].Ready = append(endpoints.Subsets[0].Ready, a)
			slice.Endpoints = append(slice.Endpoints, object.SliceEndpoint{Addresses: []string{p.IP}, NodeName: a.NodeName, Target: a.Target})
		}
	}
	b = &builder{
		attach: attach{true, true, true, true, true},
		pods:   holding(all...), services: holding(front()), nodes: holding(worker()), namespaces: holding(shop()),
		replicaSets: holding(owned("web-rs", "Deployment", "web")), jobs: holding(), names: newNames(), log: silent(),
	}
	return pods, endpoints, slice, b
}

// kept runs f once and tells the bytes that its groups hold, by target. The
// sources are part of it.
func kept(f func() []group.Group) (bytesPerTarget float64, targets int) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	groups := f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	for _, g := range groups {
		targets += g.Len()
	}
	return float64(after.HeapAlloc-before.HeapAlloc) / float64(targets), targets
}

func BenchmarkBuild5000Pods(b *testing.B) {
	pods, _, _, builder := pods5000()
	build := func() []group.Group {
		groups := make([]group.Group, len(pods))
		for i, p := range pods {
			groups[i] = builder.pod(p)
		}
		return groups
	}
	b.ReportAllocs()
	for b.Loop() {
		build()
	}
	b.StopTimer()
	bytes, targets := kept(build)
	b.ReportMetric(bytes, "keptB/target")
	b.ReportMetric(float64(targets), "targets")
	runtime.KeepAlive(pods)
}

func BenchmarkBuildEndpointsOf500Pods(b *testing.B) {
	pods, endpoints, slice, builder := pods5000()
	for name, build := range map[string]func() group.Group{
		"endpoints":     func() group.Group { return builder.endpoints(endpoints) },
		"endpointslice": func() group.Group { return builder.endpointSlice(slice) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				build()
			}
			b.StopTimer()
			bytes, targets := kept(func() []group.Group { return []group.Group{build(), build(), build(), build()} })
			b.ReportMetric(bytes, "keptB/target")
			b.ReportMetric(float64(targets/4), "targets")
		})
	}
	runtime.KeepAlive(pods)
}

// BenchmarkLabels makes the labels of one target of a pod with ten labels and
// annotations: what is added alone, and with the sorted set that comes of it.
func BenchmarkLabels(b *testing.B) {
	pods, endpoints, slice, builder := pods5000()
	_, _, _, bare := pods5000()
	bare.attach = attach{}
	for _, c := range []struct {
		name  string
		group group.Group
	}{
		{"pod", bare.pod(pods[0])},
		{"pod with all attached", builder.pod(pods[0])},
		{"endpoints", builder.endpoints(endpoints)},
		{"endpointslice", builder.endpointSlice(slice)},
	} {
		for _, sorted := range []bool{false, true} {
			name := c.name + "/added"
			if sorted {
				name = c.name + "/sorted"
			}
			b.Run(name, func(b *testing.B) {
				var s group.Set
				b.ReportAllocs()
				for b.Loop() {
					s.Reset()
					c.group.Targets.Labels(1, &s)
					if sorted {
						s.Labels()
					}
				}
			})
		}
	}
}

package kubernetes

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// crossed are Endpoints with addresses in one subset that has ports.
func crossed(addresses, ports int) *object.Endpoints {
	var s object.Subset
	for i := range addresses {
		s.Ready = append(s.Ready, object.EndpointAddress{IP: fmt.Sprintf("1.%d.%d.%d", i>>16, i>>8&255, i&255)})
	}
	for i := range ports {
		s.Ports = append(s.Ports, object.EndpointPort{Port: int32(i + 1)})
	}
	return endpointsOf(s, object.Subset{Ready: s.Ready[:1], Ports: s.Ports[:1]})
}

// crossedSlice is a slice with endpoints that have some addresses each.
func crossedSlice(endpoints, addresses, ports int) *object.EndpointSlice {
	e := &object.EndpointSlice{Meta: object.Meta{Namespace: "shop", Name: "web-1"}, AddressType: "IPv4"}
	ep := object.SliceEndpoint{}
	for i := range addresses {
		ep.Addresses = append(ep.Addresses, fmt.Sprintf("1.%d.%d.%d", i>>16, i>>8&255, i&255))
	}
	for range endpoints {
		e.Endpoints = append(e.Endpoints, ep)
	}
	for i := range ports {
		e.Ports = append(e.Ports, object.SlicePort{Port: int32(i + 1), HasPort: true})
	}
	return e
}

// ported is the pod web-1 with a container that declares ports.
func ported(ports int) *object.Pod {
	p := &object.Pod{Meta: object.Meta{Namespace: "shop", Name: "web-1"}, IP: "10.0.0.1", Containers: []object.Container{{Name: "c"}}}
	for i := range ports {
		p.Containers[0].Ports = append(p.Containers[0].Ports, object.ContainerPort{Port: int32(i + 1)})
	}
	return p
}

// TestTargetsOfAGroupAreLimited has objects that an API server takes and whose
// addresses times ports are too many.
func TestTargetsOfAGroupAreLimited(t *testing.T) {
	behind := endpointsOf(object.Subset{Ready: []object.EndpointAddress{{IP: "10.0.0.1", Target: toPod("web-1")}}, Ports: []object.EndpointPort{{Port: math.MaxInt32}}})
	behindSlice := &object.EndpointSlice{
		Meta:      object.Meta{Namespace: "shop", Name: "web-1"},
		Endpoints: []object.SliceEndpoint{{Addresses: []string{"10.0.0.1"}, Target: toPod("web-1")}},
		Ports:     []object.SlicePort{{Port: math.MaxInt32, HasPort: true}},
	}
	endpoints := func(e *object.Endpoints) func(*builder) group.Group {
		return func(b *builder) group.Group { return b.endpoints(e) }
	}
	slice := func(e *object.EndpointSlice) func(*builder) group.Group {
		return func(b *builder) group.Group { return b.endpointSlice(e) }
	}
	for name, tt := range map[string]struct {
		build func(*builder) group.Group
		last  string // address of the last target
	}{
		"endpoints":                {endpoints(crossed(30_000, 30_000)), "1.0.39.15:4"},
		"slice":                    {slice(crossedSlice(1, 30_000, 30_000)), "1.0.39.15:4"},
		"slice beyond 32 bits":     {slice(crossedSlice(30, 10_000, 20_000)), "1.0.39.15:10"},
		"ports of pods":            {endpoints(behind), "10.0.0.1:99999"},
		"ports of pods of a slice": {slice(behindSlice), "10.0.0.1:99999"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			b := &builder{log: lines(&log), pods: holding(ported(150_000))}
			for range 2 { // the second time it is known
				g := tt.build(b)
				if g.Len() != maxTargets {
					t.Fatalf("got %d targets, want %d", g.Len(), maxTargets)
				}
				var s group.Set
				g.Targets.Labels(g.Len()-1, &s)
				if ls := s.Labels(); ls.Get("__address__") != tt.last {
					t.Errorf("last target: got %v, want address %s", ls, tt.last)
				}
			}
			if l := log.String(); strings.Count(l, "\n") != 1 || !strings.Contains(l, "more than 100000 targets") {
				t.Errorf("log: got %q, want one line", l)
			}
		})
	}
}

func TestGroupAtTheLimitIsWhole(t *testing.T) {
	var log bytes.Buffer
	b := &builder{log: lines(&log)}
	over, at := crossedSlice(1, 1_001, 100), crossedSlice(1, 1_000, 100)
	for i, e := range []*object.EndpointSlice{at, over, at, over} {
		if n := b.endpointSlice(e).Len(); n != maxTargets {
			t.Errorf("got %d targets, want %d", n, maxTargets)
		}
		// What was right for a while is worth a line again.
		if n, want := strings.Count(log.String(), "\n"), (i+1)/2; n != want {
			t.Errorf("after %d groups: %d lines, want %d", i+1, n, want)
		}
	}
}

func TestTooManyTargetsAndOverCapacityAreBothSaidOnce(t *testing.T) {
	var log bytes.Buffer
	b := &builder{log: lines(&log)}
	e := crossed(1_000, 200)
	e.Annotations = pairs(overCapacity, "truncated")
	for range 3 {
		b.endpoints(e)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("log: got %q, want two lines", log.String())
	}
}

package kubernetes

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/strutil"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

func FuzzNamesAreSanitisedAsPrometheusDoes(f *testing.F) {
	for _, s := range []string{"", "app.kubernetes.io/name", "_9aZ", "ä-日本", "\xff\xfe.a", "a\x00b", "\xe6\x97", "😀"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := sanitised(s), strutil.SanitizeLabelName(s); got != want {
			t.Fatalf("%q is %q, want %q", s, got, want)
		}
		m := makeNames(podAnnotations, s)
		if want := "__meta_kubernetes_pod_annotation_" + sanitised(s); m.value != want {
			t.Errorf("%q has the name %q, want %q", s, m.value, want)
		}
		if want := "__meta_kubernetes_pod_annotationpresent_" + sanitised(s); m.there != want {
			t.Errorf("%q has the name %q, want %q", s, m.there, want)
		}
	})
}

func TestEveryFamilyHasItsPrefixes(t *testing.T) {
	all := map[family]string{
		nodeFamily: "node", podFamily: "pod", serviceFamily: "service", endpointsFamily: "endpoints",
		sliceFamily: "endpointslice", ingressFamily: "ingress", namespaceFamily: "namespace",
	}
	for f, what := range all {
		for k, kind := range []string{"label", "annotation"} {
			value, there := (f + family(k)).prefixes()
			wantValue, wantThere := metaPrefix+what+"_"+kind+"_", metaPrefix+what+"_"+kind+"present_"
			if value != wantValue || there != wantThere {
				t.Errorf("family %d: %q and %q, want %q and %q", f, value, there, wantValue, wantThere)
			}
		}
	}
	value, there := topologyFamily.prefixes()
	if value != metaPrefix+"endpointslice_endpoint_topology_" || there != metaPrefix+"endpointslice_endpoint_topology_present_" {
		t.Errorf("topology: %q and %q", value, there)
	}
}

func TestOfNamesThatAreOneTheLastCounts(t *testing.T) {
	for _, n := range []*names{nil, newNames()} {
		var s group.Set
		n.add(&s, podFamily, pairs("a-b", "1", "a.b", "2", "empty", ""))
		want := labels.FromStrings("__meta_kubernetes_pod_label_a_b", "2", "__meta_kubernetes_pod_labelpresent_a_b", "true",
			"__meta_kubernetes_pod_labelpresent_empty", "true")
		if got := s.Labels(); !labels.Equal(got, want) {
			t.Errorf("remembered %v: got %v, want %v", n != nil, got, want)
		}
	}
}

func TestRememberedNamesAreBoundedAndStayRight(t *testing.T) {
	n := newNames()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range maxNames {
				raw := fmt.Sprintf("k/%d.%d", g%2, i)
				if got, want := n.of(serviceFamily, raw), makeNames(serviceFamily, raw); got != want {
					t.Errorf("%s: %v, want %v", raw, got, want)
					return
				}
			}
		})
	}
	wg.Wait()
	if len(n.made) > maxNames {
		t.Errorf("%d names are remembered, want no more than %d", len(n.made), maxNames)
	}
	if len(n.made) == 0 {
		t.Error("no name is remembered")
	}
}

func TestAddressesAreWrittenAsPrometheusDoes(t *testing.T) {
	for _, host := range []string{"10.0.0.1", "fd00::1", "fe80::1%eth0", "name", ""} {
		for _, port := range []int32{0, 80, 65535, -1} {
			address, number := hostPort(host, uint64(port))
			wantNumber := strconv.FormatUint(uint64(port), 10)
			if want := net.JoinHostPort(host, wantNumber); address != want || number != wantNumber {
				t.Errorf("%q, %d: %q and %q, want %q and %q", host, port, address, number, want, wantNumber)
			}
			address, number = signedHostPort(host, port)
			wantNumber = strconv.Itoa(int(port))
			if want := net.JoinHostPort(host, wantNumber); address != want || number != wantNumber {
				t.Errorf("signed %q, %d: %q and %q, want %q and %q", host, port, address, number, want, wantNumber)
			}
		}
	}
}

func TestNamesDoNotKeepTheirObjectsMemory(t *testing.T) {
	n := newNames()
	whole := strings.Repeat("app", 2)
	n.of(podFamily, whole[3:])
	for k := range n.made {
		if k.name != "app" || unsafe.StringData(k.name) == unsafe.StringData(whole[3:]) {
			t.Errorf("the name %q is kept as a part of a longer string, want app alone", k.name)
		}
	}
	allocs := testing.AllocsPerRun(100, func() { n.of(podFamily, whole[3:]) })
	if allocs != 0 {
		t.Errorf("a known name takes %v allocations, want 0", allocs)
	}
}

func TestATypedNilIsNoObject(t *testing.T) {
	if p := find[object.Pod](nilPointers[object.Pod, *object.Pod]{}, "a", "b"); p != nil {
		t.Errorf("found %v, want nothing", p)
	}
	if p := find[object.Pod](nil, "a", "b"); p != nil {
		t.Errorf("found %v where nothing is watched", p)
	}
	if p := find[object.Pod](holding(), "a", "b"); p != nil {
		t.Errorf("found %v in an empty store", p)
	}
	if p := find[object.Pod](holding(&object.Node{Meta: object.Meta{Namespace: "a", Name: "b"}}), "a", "b"); p != nil {
		t.Errorf("found %v among objects of another kind", p)
	}
}

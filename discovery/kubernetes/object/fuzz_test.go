package object

import (
	"math/rand"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FuzzDecode decodes any bytes as any kind: an error or an object, which is
// what the library makes of the same bytes if it takes them too.
func FuzzDecode(f *testing.F) {
	for _, kind := range kinds {
		for _, raw := range [][]byte{encoded(f, small(kind)), encoded(f, filled(kind, 1))} {
			f.Add(byte(kind), raw)
			f.Add(byte(kind), raw[:len(raw)/2])
			f.Add(byte(kind), append(raw[:len(raw):len(raw)], raw...)) // all messages twice
		}
		f.Add(byte(kind), protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), 1<<63))
		f.Add(byte(kind), protowire.AppendTag(nil, 9, protowire.StartGroupType))
		f.Add(byte(kind), append(protowire.AppendTag(nil, 9, protowire.StartGroupType), protowire.AppendTag(nil, 9, protowire.EndGroupType)...))
		f.Add(byte(kind), []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1})
		f.Add(byte(kind), []byte{0, 0, 7, 0xff})
	}
	f.Fuzz(func(t *testing.T, kind byte, raw []byte) { checkAny(t, Kind(kind), raw) })
}

// checkAny decodes any bytes; it may change them.
func checkAny(t *testing.T, kind Kind, raw []byte) {
	t.Helper()
	before := string(raw)
	o, version, err := Decode(kind, raw)
	if string(raw) != before {
		t.Fatal("the input was changed")
	}
	if err != nil {
		if o != nil || version != "" || !strings.HasPrefix(err.Error(), "decode "+kind.String()+": ") {
			t.Fatalf("object %v, version %q with error %v", o, version, err)
		}
		return
	}
	again, _, err := Decode(kind, []byte(before))
	clear(raw)
	if err != nil || !reflect.DeepEqual(o, again) || !o.Equal(again) {
		t.Fatalf("decoded again: error %v\nwas %s\nis  %s", err, shown(o), shown(again))
	}
	// The library takes map entries and numbers that no encoder makes, and
	// other ones are taken here.
	library := newLibrary(kind)
	if library.Unmarshal([]byte(before)) != nil {
		return
	}
	if want := converted(library); !reflect.DeepEqual(o, want) || version != library.GetResourceVersion() {
		t.Fatalf("version %q, want %q\ngot  %s\nwant %s", version, library.GetResourceVersion(), shown(o), shown(want))
	}
}

// TestDamagedMessageIsAnErrorOrDecodesAsByTheLibrary does what a fuzzer does,
// the same each time.
func TestDamagedMessageIsAnErrorOrDecodesAsByTheLibrary(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for _, kind := range kinds {
		whole := encoded(t, small(kind))
		for range 3000 {
			raw := append([]byte(nil), whole...)
			for range 1 + r.Intn(4) {
				at := r.Intn(len(raw))
				switch r.Intn(4) {
				case 0:
					raw[at] = byte(r.Int())
				case 1:
					raw[at] ^= 1 << r.Intn(8)
				case 2:
					raw[at] += byte(r.Intn(5)) - 2
				case 3: // a piece twice, or elsewhere
					piece := whole[r.Intn(len(whole)):]
					piece = piece[:r.Intn(len(piece)+1)]
					raw = append(raw[:at:at], append(append([]byte(nil), piece...), raw[at:]...)...)
				}
			}
			checkAny(t, kind, raw)
		}
	}
}

// small is an object with one of each thing that is kept, and little else: a
// short message is one that the fuzzer gets far with.
func small(kind Kind) library {
	o := newLibrary(kind)
	yes, host, port := true, "h", int32(80)
	ref := &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "p"}
	o.SetName("n")
	o.SetNamespace("shop")
	o.SetUID("u")
	o.SetResourceVersion("12")
	o.SetLabels(map[string]string{"b": "1", "a": ""})
	o.SetAnnotations(map[string]string{"prometheus.io/scrape": "true"})
	o.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Job", Name: "j", Controller: &yes}})
	switch o := o.(type) {
	case *corev1.Node:
		o.Spec.ProviderID = "x"
		o.Status.Addresses = []corev1.NodeAddress{{Type: "InternalIP", Address: "::1"}}
		o.Status.Conditions = []corev1.NodeCondition{{Type: "Ready", Status: "True"}}
		o.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250
	case *corev1.Pod:
		o.Spec.NodeName = "w"
		o.Spec.Containers = []corev1.Container{{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "x", ContainerPort: port}}}}
		o.Spec.InitContainers = []corev1.Container{{Name: "d"}}
		o.Status = corev1.PodStatus{
			PodIP: "::1", HostIP: "::2", Phase: "Running", Conditions: []corev1.PodCondition{{Type: "Ready", Status: "True"}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", ContainerID: "1"}}, InitContainerStatuses: []corev1.ContainerStatus{{Name: "d", ContainerID: "2"}},
		}
	case *corev1.Service:
		policy := corev1.IPFamilyPolicyPreferDualStack
		o.Spec = corev1.ServiceSpec{
			Type: "LoadBalancer", ClusterIP: "::1", ExternalName: "e", LoadBalancerIP: "::2", IPFamilyPolicy: &policy,
			IPFamilies: []corev1.IPFamily{"IPv6", "IPv4"}, Ports: []corev1.ServicePort{{Name: "x", Port: port, Protocol: "TCP"}},
		}
		o.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "::3"}, {Hostname: "z"}}
	case *corev1.Endpoints:
		address := corev1.EndpointAddress{IP: "::1", Hostname: "h", NodeName: &host, TargetRef: ref}
		o.Subsets = []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{address}, NotReadyAddresses: []corev1.EndpointAddress{address, {}},
			Ports: []corev1.EndpointPort{{Name: "x", Port: port, Protocol: "UDP"}},
		}}
	case *discoveryv1.EndpointSlice:
		o.AddressType = "IPv6"
		o.Endpoints = []discoveryv1.Endpoint{{
			Addresses: []string{"::1", "::2"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: new(bool)},
			Hostname: &host, NodeName: &host, Zone: &host, TargetRef: ref, DeprecatedTopology: map[string]string{"b": "1", "a": "2"},
		}, {}}
		o.Ports = []discoveryv1.EndpointPort{{Name: &host, Port: &port, Protocol: new(corev1.Protocol), AppProtocol: &host}, {}}
	case *networkingv1.Ingress:
		o.Spec.IngressClassName = &host
		o.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"a", "b"}}}
		o.Spec.Rules = []networkingv1.IngressRule{{Host: "a", IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/x"}, {}}},
		}}, {}}
	}
	return o
}

package object

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func TestDecodedIsWhatTheLibraryDecodes(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			for seed := range int64(300) {
				from := filled(kind, seed)
				raw := encoded(t, from)
				got, version, err := Decode(kind, raw)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				clear(raw) // callers use it again
				if want := converted(from); !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d:\ngot  %s\nwant %s", seed, shown(got), shown(want))
				}
				if version != from.GetResourceVersion() {
					t.Fatalf("seed %d: version %q, want %q", seed, version, from.GetResourceVersion())
				}
			}
		})
	}
}

// shown is an object as text, its references too.
func shown(o Object) string {
	v := fmt.Sprintf("%+q", o)
	switch o := o.(type) {
	case *Endpoints:
		for _, s := range o.Subsets {
			for _, a := range append(s.Ready[:len(s.Ready):len(s.Ready)], s.NotReady...) {
				v += fmt.Sprintf(" %+q", a.Target)
			}
		}
	case *EndpointSlice:
		for _, e := range o.Endpoints {
			v += fmt.Sprintf(" %+q", e.Target)
		}
	}
	return v
}

func TestEmptyMessageIsAnEmptyObject(t *testing.T) {
	for _, kind := range kinds {
		got, version, err := Decode(kind, nil)
		if err != nil || version != "" || !reflect.DeepEqual(got, converted(newLibrary(kind))) {
			t.Errorf("%s: %s, version %q, error %v", kind, shown(got), version, err)
		}
	}
}

func TestUnknownKindIsAnError(t *testing.T) {
	for _, kind := range []Kind{0, KindJob + 1, 255} {
		o, _, err := Decode(kind, nil)
		if want := fmt.Sprintf("decode kind %d: no such kind", kind); o != nil || err == nil || err.Error() != want {
			t.Errorf("kind %d: %v, %v; want %s", kind, o, err, want)
		}
	}
}

func TestTruncatedMessageIsAnError(t *testing.T) {
	for _, kind := range kinds {
		raw := encoded(t, filled(kind, 7))
		whole := ends(t, raw)
		for n := range raw {
			o, _, err := Decode(kind, raw[:n])
			if whole[n] {
				if err != nil {
					t.Errorf("%s: the first %d of %d bytes, whole fields: %v", kind, n, len(raw), err)
				}
				continue
			}
			if err == nil || o != nil || !strings.HasPrefix(err.Error(), "decode "+kind.String()+": ") {
				t.Errorf("%s: the first %d of %d bytes: object %v, error %v", kind, n, len(raw), o, err)
			}
		}
	}
}

// ends are the offsets at which fields of a message begin or end: cut there, a
// message is one still.
func ends(t *testing.T, raw []byte) map[int]bool {
	t.Helper()
	all := map[int]bool{0: true}
	for at := 0; at < len(raw); {
		_, _, n := protowire.ConsumeField(raw[at:])
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		at += n
		all[at] = true
	}
	return all
}

// in wraps a message into fields, the innermost first.
func in(b []byte, fields ...protowire.Number) []byte {
	for _, num := range fields {
		b = protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
	}
	return b
}

// number is a field with a number.
func number(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

func TestFieldOfAnotherTypeIsAnError(t *testing.T) {
	for _, c := range []struct {
		what string
		kind Kind
		raw  []byte
	}{
		{"metadata", KindNode, number(1, 5)},
		{"name", KindPod, in(number(1, 5), 1)},
		{"namespace", KindPod, in(number(3, 5), 1)},
		{"version", KindPod, in(number(6, 5), 1)},
		{"label", KindJob, in(number(11, 5), 1)},
		{"label's value", KindReplicaSet, in(number(2, 5), 11, 1)},
		{"owner", KindNamespace, in(number(13, 5), 1)},
		{"controller", KindPod, in(in(nil, 6), 13, 1)},
		{"spec", KindPod, number(2, 5)},
		{"container", KindPod, in(number(2, 5), 2)},
		{"init container", KindPod, in(number(20, 5), 2)},
		{"port of a container", KindPod, in(in(nil, 3), 6, 2, 2)},
		{"container's ID", KindPod, in(number(8, 5), 8, 3)},
		{"condition", KindPod, in(number(1, 5), 2, 3)},
		{"kubelet's port", KindNode, in(in(nil, 1), 1, 6, 3)},
		{"address", KindNode, in(number(5, 5), 3)},
		{"port of a service", KindService, in(in(nil, 3), 1, 2)},
		{"IP family", KindService, in(number(19, 5), 2)},
		{"IP of a load balancer", KindService, in(number(1, 5), 1, 1, 3)},
		{"reference", KindEndpoints, in(number(2, 5), 1, 2)},
		{"namespace of a reference", KindEndpoints, in(number(2, 5), 2, 1, 2)},
		{"ready", KindEndpointSlice, in(in(nil, 1), 2, 2)},
		{"port of a slice", KindEndpointSlice, in(in(nil, 3), 3)},
		{"path", KindIngress, in(number(1, 5), 1, 1, 2, 3, 2)},
		{"TLS host", KindIngress, in(number(1, 5), 2, 2)},
	} {
		o, _, err := Decode(c.kind, c.raw)
		if err == nil || o != nil || !strings.Contains(err.Error(), "wire type") {
			t.Errorf("%s of a %s: object %v, error %v", c.what, c.kind, o, err)
		}
	}
}

func TestClaimedLengthThatIsNotThereIsAnErrorAndIsNotAllocated(t *testing.T) {
	for _, kind := range kinds {
		for _, size := range []uint64{1, 127, 128, 1 << 20, 1 << 31, 1<<63 - 1, 1<<64 - 1} {
			for _, num := range []protowire.Number{1, 2, 3, 20, 100} {
				raw := protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.BytesType), size)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, _, err := Decode(kind, raw)
				runtime.ReadMemStats(&after)
				if err == nil {
					t.Errorf("%s: field %d of %d bytes that are not there: no error", kind, num, size)
				}
				if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
					t.Errorf("%s: field %d of %d bytes that are not there: %d bytes allocated", kind, num, size, n)
				}
			}
		}
	}
}

func TestFieldsInAnyOrderAndMessagesInPieces(t *testing.T) {
	for _, kind := range kinds {
		for seed := range int64(50) {
			from := filled(kind, seed)
			raw := encoded(t, from)
			var fields [][]byte
			for at := 0; at < len(raw); {
				_, _, n := protowire.ConsumeField(raw[at:])
				fields = append(fields, raw[at:at+n])
				at += n
			}
			// The last fields first; lists keep their order, so that only
			// messages that occur once move, and each may come in two pieces.
			var turned, lists []byte
			seen := map[protowire.Number]int{}
			for _, f := range fields {
				num, _, _ := protowire.ConsumeField(f)
				seen[num]++
			}
			for i := len(fields) - 1; i >= 0; i-- {
				num, typ, n := protowire.ConsumeTag(fields[i])
				single := num == 1 || kind != KindEndpoints && kind != KindEndpointSlice
				if !single || typ != protowire.BytesType || seen[num] > 1 {
					lists = append(append([]byte(nil), fields[i]...), lists...)
					continue
				}
				value, _ := protowire.ConsumeBytes(fields[i][n:])
				half := 0
				for half < len(value)/2 {
					_, _, n := protowire.ConsumeField(value[half:])
					half += n
				}
				turned = append(turned, in(value[:half], num)...)
				turned = append(turned, in(value[half:], num)...)
			}
			raw = append(turned, lists...)
			library := newLibrary(kind)
			if err := library.Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			got, _, err := Decode(kind, raw)
			if want := converted(library); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s, seed %d: error %v\ngot  %s\nwant %s", kind, seed, err, shown(got), shown(want))
			}
		}
	}
}

func TestLabelsOutOfOrderAreSortedAndTheLastOfANameStays(t *testing.T) {
	var meta []byte
	for _, p := range []string{"b=1", "a=2", "b=3", "c=4", "a=5", "d=6"} {
		name, value, _ := strings.Cut(p, "=")
		meta = append(meta, in(append(in([]byte(name), 1), in([]byte(value), 2)...), 11)...)
	}
	o, _, err := Decode(KindNamespace, in(meta, 1))
	want := []Pair{{"a", "5"}, {"b", "3"}, {"c", "4"}, {"d", "6"}}
	if err != nil || !reflect.DeepEqual(o.Base().Labels, want) {
		t.Errorf("labels %v, error %v; want %v", o.Base().Labels, err, want)
	}
}

func TestPodOfManyContainersGetsTheIDsOfTheFirstStatuses(t *testing.T) {
	pod := typicalPod()
	c, s := pod.Spec.Containers[0], pod.Status.ContainerStatuses[0]
	pod.Spec.Containers, pod.Status.ContainerStatuses = nil, nil
	for i := range 100 {
		c.Name = fmt.Sprint(i / 2)
		pod.Spec.Containers = append(pod.Spec.Containers, c)
		s.Name, s.ContainerID = fmt.Sprint((99-i)/3), fmt.Sprint("id", i)
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, s)
	}
	got, _, err := Decode(KindPod, encoded(t, pod))
	if want := converted(pod); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("error %v\ngot  %s\nwant %s", err, shown(got), shown(want))
	}
}

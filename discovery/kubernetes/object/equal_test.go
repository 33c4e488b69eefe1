package object

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func decoded(t testing.TB, kind Kind, raw []byte) Object {
	t.Helper()
	o, _, err := Decode(kind, raw)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestObjectDecodedTwiceIsEqual(t *testing.T) {
	for _, kind := range kinds {
		for seed := range int64(100) {
			raw := encoded(t, filled(kind, seed))
			if a, b := decoded(t, kind, raw), decoded(t, kind, raw); !a.Equal(b) || !a.Equal(a) {
				t.Errorf("%s, seed %d: not equal to itself: %s", kind, seed, shown(a))
			}
		}
	}
}

func TestObjectOfAnotherTypeIsNotEqual(t *testing.T) {
	for i, a := range kinds[:7] { // the others are of the same type as Namespace
		for j, b := range kinds[:7] {
			if got := decoded(t, a, nil).Equal(decoded(t, b, nil)); got != (i == j) {
				t.Errorf("a %s equals a %s: %v", a, b, got)
			}
		}
	}
}

// TestAnyChangeOfAnyFieldIsNotEqual changes each field of each object, one at
// a time: values, lengths of lists, and what references point at.
func TestAnyChangeOfAnyFieldIsNotEqual(t *testing.T) {
	for _, kind := range kinds {
		changed := map[string]bool{}
		for seed := range int64(40) {
			raw := encoded(t, filled(kind, seed))
			before := decoded(t, kind, raw)
			for i := 0; ; i++ {
				after := decoded(t, kind, raw)
				left := i
				field, ok := change(reflect.ValueOf(after).Elem(), kind.String(), &left)
				if !ok {
					break
				}
				changed[field] = true
				if before.Equal(after) || after.Equal(before) {
					t.Errorf("seed %d: a change of %s was not seen", seed, field)
				}
			}
		}
		for _, field := range fieldsOf(reflect.TypeOf(decoded(t, kind, nil)).Elem(), kind.String()) {
			if !changed[field] {
				t.Errorf("%s was never changed", field)
			}
		}
	}
}

// change makes the change number left of those that v can have, and says what
// of. The number of changes before it is taken off left.
func change(v reflect.Value, name string, left *int) (string, bool) {
	mine := func() bool { *left--; return *left < 0 }
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if field, ok := change(v.Field(i), name+"."+v.Type().Field(i).Name, left); ok {
				return field, true
			}
		}
	case reflect.Slice:
		if mine() {
			longer := reflect.MakeSlice(v.Type(), v.Len()+1, v.Len()+1)
			reflect.Copy(longer, v)
			v.Set(longer)
			return name, true
		}
		if v.Len() > 0 && mine() {
			v.Set(v.Slice(0, v.Len()-1))
			return name, true
		}
		for i := range v.Len() {
			if field, ok := change(v.Index(i), name, left); ok {
				return field, true
			}
		}
	case reflect.Pointer:
		if mine() {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			} else {
				v.SetZero()
			}
			return name, true
		}
		if !v.IsNil() {
			return change(v.Elem(), name, left)
		}
	case reflect.String:
		if mine() {
			v.SetString(v.String() + "x")
			return name, true
		}
	case reflect.Bool:
		if mine() {
			v.SetBool(!v.Bool())
			return name, true
		}
	case reflect.Int32:
		if mine() {
			v.SetInt(int64(int32(v.Int() ^ 1)))
			return name, true
		}
	case reflect.Uint8:
		if mine() {
			v.SetUint((v.Uint() + 1) % 3)
			return name, true
		}
	default:
		panic(fmt.Sprintf("%s is a %s", name, v.Kind()))
	}
	return "", false
}

// fieldsOf are the names that change can return for a type.
func fieldsOf(t reflect.Type, name string) (all []string) {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			all = append(all, fieldsOf(t.Field(i).Type, name+"."+t.Field(i).Name)...)
		}
		return all
	case reflect.Slice, reflect.Pointer:
		if k := t.Elem().Kind(); k == reflect.Struct {
			return append(fieldsOf(t.Elem(), name), name)
		}
	}
	return []string{name}
}

func TestChangeOfWhatIsNotKeptIsEqual(t *testing.T) {
	for name, to := range map[string]func(*corev1.Pod){
		"resource version": func(p *corev1.Pod) { p.ResourceVersion += "1" },
		"managed fields": func(p *corev1.Pod) {
			p.ManagedFields = append(p.ManagedFields, metav1.ManagedFieldsEntry{Manager: "kubelet"})
		},
		"finalizers":      func(p *corev1.Pod) { p.Finalizers = append(p.Finalizers, "x/y") },
		"environment":     func(p *corev1.Pod) { p.Spec.Containers[0].Env = nil },
		"probe time":      func(p *corev1.Pod) { p.Status.Conditions[2].LastProbeTime = metav1.NewTime(time.Unix(1, 0)) },
		"other condition": func(p *corev1.Pod) { p.Status.Conditions[0].Status = "False" },
		"restarts":        func(p *corev1.Pod) { p.Status.ContainerStatuses[0].RestartCount++ },
		"ephemeral container": func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{
				EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "shell"},
			})
			p.Status.EphemeralContainerStatuses = append(p.Status.EphemeralContainerStatuses, corev1.ContainerStatus{Name: "app", ContainerID: "shell"})
		},
	} {
		pod := typicalPod()
		before := decoded(t, KindPod, encoded(t, pod))
		to(pod)
		if after := decoded(t, KindPod, encoded(t, pod)); !before.Equal(after) {
			t.Errorf("%s: not equal:\n%s\n%s", name, shown(before), shown(after))
		}
	}
	node := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: "Ready", Status: "True"}}}}
	before := decoded(t, KindNode, encoded(t, node))
	node.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(time.Unix(1_790_000_000, 0))
	node.Status.Images = []corev1.ContainerImage{{Names: []string{"x"}}}
	if !before.Equal(decoded(t, KindNode, encoded(t, node))) {
		t.Error("a heartbeat of a node is a change")
	}
}

func BenchmarkEqualPod(b *testing.B) {
	raw := encoded(b, typicalPod())
	x, y := decoded(b, KindPod, raw), decoded(b, KindPod, raw)
	b.ReportAllocs()
	for b.Loop() {
		if !x.Equal(y) {
			b.Fatal("not equal")
		}
	}
}

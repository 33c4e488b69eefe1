package object

import (
	"encoding/json"
	"maps"
	"math/rand"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	kjson "sigs.k8s.io/json"
)

// inJSON is an object in JSON, and the object that the library reads of it:
// JSON has no strings that are no UTF-8.
func inJSON(t testing.TB, o library) (raw []byte, read library) {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	read = reflect.New(reflect.TypeOf(o).Elem()).Interface().(library)
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, read); err != nil {
		t.Fatal(err)
	}
	return raw, read
}

// fromJSON decodes an object in JSON.
func fromJSON(kind Kind, raw []byte) (Object, string, error) {
	message, err := FromJSON(kind, raw)
	if err != nil {
		return nil, "", err
	}
	return Decode(kind, message)
}

func TestObjectInJSONIsTheOneInProtobuf(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			for seed := range int64(40) {
				raw, from := inJSON(t, filled(kind, seed))
				got, version, err := fromJSON(kind, raw)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				want, wantVersion, err := Decode(kind, encoded(t, from))
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if !reflect.DeepEqual(got, want) || version != wantVersion {
					t.Fatalf("seed %d: version %q, want %q\ngot  %s\nwant %s", seed, version, wantVersion, shown(got), shown(want))
				}
				if want := converted(from); !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d:\ngot  %s\nwant %s", seed, shown(got), shown(want))
				}
			}
		})
	}
}

// TestOnlyWhatIsKeptIsInTheMessage has objects most of which nobody asks for.
func TestOnlyWhatIsKeptIsInTheMessage(t *testing.T) {
	for kind, from := range map[Kind]library{KindPod: typicalPod(), KindNode: typicalNode()} {
		raw, read := inJSON(t, from)
		message, err := FromJSON(kind, raw)
		if err != nil {
			t.Fatal(err)
		}
		if whole := len(encoded(t, read)); len(message) > whole/3 {
			t.Errorf("%s: %d bytes of a message of %d", kind, len(message), whole)
		}
	}
}

func TestNullIsAFieldThatIsNotThere(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		raw  string
	}{
		{KindPod, `null`},
		{KindPod, `{"metadata":null,"spec":null,"status":null}`},
		{KindPod, `{"metadata":{"name":null,"labels":null,"annotations":{"a":null},"ownerReferences":[null,{"controller":null}]},"spec":{"containers":[null,{"ports":[null]}],"initContainers":null}}`},
		{KindNode, `{"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":null}},"addresses":[null],"conditions":null}}`},
		{KindService, `{"spec":{"ipFamilies":[null,"IPv4"],"ipFamilyPolicy":null,"ports":[null]},"status":{"loadBalancer":null}}`},
		{KindEndpoints, `{"subsets":[null,{"addresses":[null,{"targetRef":null,"nodeName":null},{"targetRef":{},"nodeName":""}]}]}`},
		{KindEndpointSlice, `{"endpoints":[{"addresses":[null],"conditions":{"ready":null},"hostname":null,"zone":"","targetRef":null,"deprecatedTopology":null}],"ports":[{"port":null,"name":null},{"port":0,"name":""}]}`},
		{KindIngress, `{"spec":{"ingressClassName":null,"tls":[null,{"hosts":null},{"hosts":[null]}],"rules":[{"http":null},{"http":{}},{"http":{"paths":[null]}},null]}}`},
		{KindNamespace, `{"metadata":{}}`},
	} {
		read := newLibrary(c.kind)
		if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(c.raw), read); err != nil {
			t.Fatal(err)
		}
		got, _, err := fromJSON(c.kind, []byte(c.raw))
		if want := converted(read); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: error %v\ngot  %s\nwant %s", c.raw, err, shown(got), shown(want))
		}
	}
}

func TestFieldOfAnotherTypeInJSONIsAnErrorThatNamesIt(t *testing.T) {
	for _, c := range []struct {
		kind      Kind
		raw, want string
	}{
		{KindPod, `5`, "decode pod: number instead of object"},
		{KindPod, `[]`, "decode pod: array instead of object"},
		{KindPod, `"x"`, "decode pod: string instead of object"},
		{KindPod, `{"metadata":"x"}`, "decode pod: metadata: string instead of object"},
		{KindPod, `{"metadata":{"name":5}}`, "decode pod: metadata.name: number instead of string"},
		{KindPod, `{"metadata":{"labels":[]}}`, "decode pod: metadata.labels: array instead of object"},
		{KindPod, `{"metadata":{"labels":{"` + strings.Repeat("a", 1<<20) + `":{}}}}`, "decode pod: metadata.labels: object instead of string"},
		{KindPod, `{"metadata":{"ownerReferences":[{"controller":"true"}]}}`, "decode pod: metadata.ownerReferences.controller: string instead of bool"},
		{KindPod, `{"spec":{"containers":{}}}`, "decode pod: spec.containers: object instead of array"},
		{KindPod, `{"spec":{"containers":[[]]}}`, "decode pod: spec.containers: array instead of object"},
		{KindPod, `{"spec":{"containers":[{"ports":[{"containerPort":"80"}]}]}}`, "decode pod: spec.containers.ports.containerPort: string instead of int32"},
		{KindPod, `{"spec":{"containers":[{"ports":[{"containerPort":80.5}]}]}}`, "decode pod: spec.containers.ports.containerPort: number instead of int32"},
		{KindPod, `{"spec":{"containers":[{"ports":[{"containerPort":2147483648}]}]}}`, "decode pod: spec.containers.ports.containerPort: number instead of int32"},
		{KindPod, `{"spec":{"containers":[{"ports":[{"containerPort":` + strings.Repeat("1", 1<<20) + `}]}]}}`, "decode pod: spec.containers.ports.containerPort: number instead of int32"},
		{KindService, `{"spec":{"ipFamilies":[true]}}`, "decode service: spec.ipFamilies: bool instead of string"},
		{KindIngress, `{"spec":{"rules":[{"http":[]}]}}`, "decode ingress: spec.rules.ingressRuleValue.http: array instead of object"},
		{KindNamespace, `{} {}`, "decode namespace: invalid character '{' after top-level value"},
		{KindNamespace, ``, "decode namespace: unexpected end of JSON input"},
		{Kind(99), `{}`, "decode kind 99: no such kind"},
	} {
		message, err := FromJSON(c.kind, []byte(c.raw))
		if err == nil || message != nil || err.Error() != c.want {
			t.Errorf("%.80s: message %q, error %v; want %s", c.raw, message, err, c.want)
		}
	}
}

// What nobody asks for may be anything, and names count as they are written.
func TestUnknownFieldsInJSONAreSkipped(t *testing.T) {
	raw := `{"kind":[1,{"a":[]}],"Metadata":{"name":"wrong"},"metadata":{"NAME":5,"name":"right","x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `},"x":1e999}`
	o, _, err := fromJSON(KindPod, []byte(raw))
	if err != nil || o.Base().Name != "right" {
		t.Errorf("got %v, %v", o, err)
	}
}

func TestNestedJSONIsAnErrorAndTakesNoMemory(t *testing.T) {
	const deep = 8 << 20
	for _, raw := range []string{
		strings.Repeat("[", deep),
		`{"x":` + strings.Repeat("[", deep),
		`{"x":` + strings.Repeat(`{"x":`, deep/5),
		`{"metadata":` + strings.Repeat(`{"metadata":`, deep/12),
		`{"spec":{"containers":` + strings.Repeat("[", deep),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := FromJSON(KindPod, []byte(raw))
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%.40s...: no error", raw)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20+uint64(len(raw)) {
			t.Errorf("%.40s...: %d bytes allocated", raw, n)
		}
	}
}

func TestObjectOfTooManyValuesIsAnErrorAndTakesNoMemory(t *testing.T) {
	for _, value := range []string{"{}", "null", `{"ports":[{},{}]}`} {
		raw := []byte(`{"spec":{"containers":[` + strings.Repeat(value+",", mostValues) + value + `],"x":0}}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := FromJSON(KindPod, raw)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "values, more than 1000000") {
			t.Errorf("%d times %s: error %v", mostValues, value, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%d times %s: %d bytes allocated", mostValues, value, n)
		}
	}
}

func TestTruncatedJSONIsAnError(t *testing.T) {
	for _, kind := range kinds {
		raw, _ := inJSON(t, small(kind))
		for n := range raw {
			if message, err := FromJSON(kind, raw[:n]); err == nil || message != nil || !strings.HasPrefix(err.Error(), "decode "+kind.String()+": ") {
				t.Fatalf("%s: the first %d of %d bytes: message %q, error %v", kind, n, len(raw), message, err)
			}
		}
	}
}

// checkAnyJSON decodes any JSON: an error or an object, which is what the
// library makes of it if it takes it too.
func checkAnyJSON(t *testing.T, kind Kind, raw []byte) {
	t.Helper()
	message, err := FromJSON(kind, raw)
	if err != nil {
		return
	}
	if !json.Valid(raw) {
		t.Fatalf("%s: taken as JSON: %q", kind, raw)
	}
	if len(message) > 3*len(raw) { // what is no UTF-8 becomes three bytes
		t.Fatalf("%s: %d bytes became %d", kind, len(raw), len(message))
	}
	got, version, err := Decode(kind, message)
	if err != nil {
		t.Fatalf("%s: %v of %q", kind, err, raw)
	}
	library := newLibrary(kind)
	if kjson.UnmarshalCaseSensitivePreserveInts(raw, library) != nil {
		return
	}
	if want := converted(library); !reflect.DeepEqual(got, want) || version != library.GetResourceVersion() {
		t.Fatalf("version %q, want %q, of %s\ngot  %s\nwant %s", version, library.GetResourceVersion(), raw, shown(got), shown(want))
	}
}

func TestDamagedJSONIsAnErrorOrDecodesAsByTheLibrary(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for _, kind := range kinds {
		whole, _ := inJSON(t, small(kind))
		for range 3000 {
			raw := append([]byte(nil), whole...)
			for range 1 + r.Intn(3) {
				at := r.Intn(len(raw))
				switch r.Intn(3) {
				case 0:
					raw[at] = `{}[]":,0 n`[r.Intn(10)]
				case 1:
					raw[at] ^= 1 << r.Intn(8)
				case 2: // a piece twice, or elsewhere
					piece := whole[r.Intn(len(whole)):]
					piece = piece[:r.Intn(len(piece)+1)]
					raw = append(raw[:at:at], append(append([]byte(nil), piece...), raw[at:]...)...)
				}
			}
			checkAnyJSON(t, kind, raw)
		}
	}
}

func TestJSONWithOtherValuesIsAnErrorOrDecodesAsByTheLibrary(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for _, kind := range kinds {
		whole, _ := inJSON(t, small(kind))
		for range 2000 {
			var o any
			if err := json.Unmarshal(whole, &o); err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(otherwise(r, o))
			if err != nil {
				t.Fatal(err)
			}
			checkAnyJSON(t, kind, raw)
		}
	}
}

// otherwise is v with another value somewhere.
func otherwise(r *rand.Rand, v any) any {
	switch v := v.(type) {
	case map[string]any:
		names := slices.Sorted(maps.Keys(v))
		if len(names) > 0 && r.Intn(5) > 0 {
			name := names[r.Intn(len(names))]
			v[name] = otherwise(r, v[name])
			return v
		}
	case []any:
		if len(v) > 0 && r.Intn(5) > 0 {
			i := r.Intn(len(v))
			v[i] = otherwise(r, v[i])
			return v
		}
	}
	return []any{nil, map[string]any{}, []any{}, "", 0, -1, 1 << 31, 1.5, true, []any{nil}, map[string]any{"a": nil}, "\xff"}[r.Intn(12)]
}

func FuzzFromJSON(f *testing.F) {
	for _, kind := range kinds {
		raw, _ := inJSON(f, small(kind))
		f.Add(byte(kind), raw)
		f.Add(byte(kind), raw[:len(raw)/2])
		f.Add(byte(kind), []byte(`{"metadata":null,"spec":{"containers":[null]},"status":[]}`))
	}
	f.Fuzz(func(t *testing.T, kind byte, raw []byte) { checkAnyJSON(t, Kind(kind), raw) })
}

// BenchmarkDecodeJSON is BenchmarkDecode of objects in JSON.
func BenchmarkDecodeJSON(b *testing.B) {
	for kind, from := range map[Kind]library{KindPod: typicalPod(), KindNode: typicalNode(), KindEndpointSlice: typicalSlice()} {
		b.Run(kind.String(), func(b *testing.B) {
			raw, _ := inJSON(b, from)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := fromJSON(kind, raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

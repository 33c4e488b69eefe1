package watch

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"promagent/discovery/kubernetes/object"
)

const inJSON = media(jsonType)

// readJSONNames reads a list of pods in JSON to the names of its objects.
func readJSONNames(r io.Reader) (listMeta, []string, error) {
	var names []string
	m, err := readJSONList(r, object.KindPod, func(raw []byte) error {
		o, _, err := decodeThing(0, raw)
		if err == nil {
			names = append(names, o.Base().Name)
		}
		return err
	})
	return m, names, err
}

func TestJSONListIsReadWhateverTheReadsBring(t *testing.T) {
	l := pods("77", "more", "a/x=1", "a/y=1")
	l.Items[0].Annotations = map[string]string{"large": strings.Repeat("x", 3<<20)}
	n := int64(7)
	l.RemainingItemCount = &n
	b := inJSON.encode(l)
	for name, r := range map[string]io.Reader{
		"at once":       bytes.NewReader(b),
		"by byte":       iotest.OneByteReader(bytes.NewReader(b)),
		"end with data": iotest.DataErrReader(bytes.NewReader(b)),
	} {
		m, names, err := readJSONNames(r)
		if err != nil || m != (listMeta{"77", "more"}) || fmt.Sprint(names) != "[x y]" {
			t.Errorf("%s: got %+v, %q, %v", name, m, names, err)
		}
	}
}

func TestJSONListInAnyOrder(t *testing.T) {
	for _, body := range []string{
		`{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"x"}}]}`,
		` { "items" : [ {"metadata":{"name":"x"}} ] , "unknown" : [ {"a":{}} , null , 1e99 ] , "metadata" : {"resourceVersion":"5","continue":null,"selfLink":""} } ` + "\n\n",
		`{"items":null,"items":[{"kind":"Pod","metadata":{"name":"x"}}],"metadata":{"resourceVersion":"5"},"kind":"ThingList"}`,
	} {
		m, names, err := readJSONNames(strings.NewReader(body))
		if err != nil || m != (listMeta{version: "5"}) || fmt.Sprint(names) != "[x]" {
			t.Errorf("%s: got %+v, %q, %v", body, m, names, err)
		}
	}
	for _, body := range []string{
		`{"kind":"PodList","metadata":{"resourceVersion":"5"},"items":null}`,
		`{"kind":"PodList","metadata":{"resourceVersion":"5"}}`,
		`{"metadata":{"resourceVersion":"5"},"items":[]}`,
	} {
		if m, names, err := readJSONNames(strings.NewReader(body)); err != nil || m.version != "5" || names != nil {
			t.Errorf("%s: got %+v, %q, %v", body, m, names, err)
		}
	}
}

func TestCutJSONListIsAnError(t *testing.T) {
	b := bytes.TrimSpace(inJSON.encode(pods("77", "", "a/x=1", "a/y=1")))
	for n := range b {
		if _, _, err := readJSONNames(bytes.NewReader(b[:n])); err == nil || err == io.EOF {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

// hostileLists are answers in JSON that are no lists, with what is said of them.
var hostileLists = map[string]struct{ body, want string }{
	"nothing":               {"", "read beginning: unexpected EOF"},
	"spaces":                {strings.Repeat(" ", 100), "read beginning: unexpected EOF"},
	"web page":              {"<html>", "read beginning: invalid character '<'"},
	"protobuf":              {magic + "\x12\x05", "read beginning: invalid character 'k'"},
	"null":                  {"null", `read beginning: "{" is missing`},
	"array":                 {"[]", `read beginning: "{" is missing`},
	"empty object":          {"{}", "a list without a version"},
	"no list":               {`{"metadata":{"resourceVersion":"9"}}`, "a list without a version"},
	"no version":            {`{"kind":"PodList","metadata":{},"items":[]}`, "a list without a version"},
	"version is a number":   {`{"metadata":{"resourceVersion":9},"items":[]}`, "read metadata of list: json: cannot unmarshal number"},
	"version is null":       {`{"metadata":{"resourceVersion":null},"items":[]}`, "a list without a version"},
	"metadata are an array": {`{"metadata":[],"items":[]}`, "read metadata of list: json: cannot unmarshal array"},
	"one object":            {`{"kind":"Pod","metadata":{"name":"x","resourceVersion":"9"}}`, `a list was asked for, "Pod" came`},
	"status":                {`{"kind":"Status","status":"Failure","code":403}`, `a list was asked for, "Status" came`},
	"kind is a number":      {`{"kind":1` + strings.Repeat("1", 9000) + `,"items":[]}`, "read kind of list: json: cannot unmarshal number"},
	"items are an object":   {`{"metadata":{"resourceVersion":"9"},"items":{}}`, "read items of list: they are no array"},
	"items are a string":    {`{"metadata":{"resourceVersion":"9"},"items":"x"}`, "read items of list: they are no array"},
	"object is null":        {`{"metadata":{"resourceVersion":"9"},"items":[null]}`, "read object 1: decode object: it has no name"},
	"object is an array":    {`{"metadata":{"resourceVersion":"9"},"items":[[]]}`, "read object 1: decode pod: array instead of object"},
	"object is a number":    {`{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"x"}},7]}`, "read object 2: decode pod: number instead of object"},
	"object without name":   {`{"metadata":{"resourceVersion":"9"},"items":[{"spec":{}}]}`, "read object 1: decode object: it has no name"},
	"field of another type": {`{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"x","labels":{"a":["b"]}}}]}`, "read object 1: decode pod: metadata.labels: array instead of string"},
	"comma at the end":      {`{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"x"}},]}`, "invalid character ']'"},
	"two lists":             {`{"metadata":{"resourceVersion":"9"},"items":[]}{"items":[]}`, "something follows the list"},
	"list and noise":        {`{"metadata":{"resourceVersion":"9"},"items":[]}<html>`, "read end of list: invalid character '<'"},
	"object of 16 MiB":      {`{"metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"` + strings.Repeat("x", maxObject) + `"}}]}`, "read object 1: an object of more than 16777216 bytes"},
	"unknown field":         {`{"x":"` + strings.Repeat("x", maxObject) + `"}`, "read x of list: an object of more than 16777216 bytes"},
	"long name":             {`{"` + strings.Repeat("x", 1<<20) + `":1}`, "read list: an object of more than 65536 bytes"},
	"long metadata":         {`{"metadata":{"continue":"` + strings.Repeat("x", 1<<20) + `"}}`, "read metadata of list: an object of more than 65536 bytes"},
	"spaces without end":    {strings.Repeat(" ", 1<<20) + "{}", "read beginning: an object of more than 65536 bytes"},
	"deep":                  {`{"metadata":{"resourceVersion":"9"},"items":` + strings.Repeat("[", 1<<20), "exceeded max depth"},
	"deep in an object":     {`{"items":[{"spec":` + strings.Repeat(`{"x":`, 1<<20), "exceeded max depth"},
	"deep around":           {strings.Repeat(`{"items":[`, 1<<18), "read object 1: invalid character '{' exceeded max depth"},
}

func TestHostileJSONListChangesNothing(t *testing.T) {
	for name, tt := range hostileLists {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRigOf(t, jsonType, Options{})
				s, _ := r.cluster.Use(podQuery)
				r.next(t).list(pods("5", "", "a/old=1", "a/x=1"))
				r.nextWatch(t, "5").refuse(&metav1.Status{Code: 410}, nil)
				r.nextList(t, listAgain5).respond(200, nil, strings.NewReader(tt.body))
				c := r.nextList(t, listAgain5)
				want(t, s, "a/old=1", "a/x=1")
				l := r.lines()
				for _, part := range []string{"answers garbage when asked for pods", "read answer: application/json: "} {
					if !strings.Contains(l, part) {
						t.Errorf("log: got %q, want %q", l, part)
					}
				}
				if said := strings.ReplaceAll(l, `\"`, `"`); !strings.Contains(said, tt.want) || len(said) > 600 {
					t.Errorf("log: got %.900q, want %q in few words", said, tt.want)
				}
				c.list(pods("9", "", "a/x=2"))
				want(t, s, "a/x=2")
			})
		})
	}
}

func TestHostileJSONListTakesLittleMemory(t *testing.T) {
	for name, r := range map[string]io.Reader{
		"spaces":         endless(" "),
		"name":           io.MultiReader(strings.NewReader(`{"`), endless("x")),
		"metadata":       io.MultiReader(strings.NewReader(`{"metadata":{"continue":"`), endless("x")),
		"number":         io.MultiReader(strings.NewReader(`{"metadata":`), endless("1")),
		"arrays":         io.MultiReader(strings.NewReader(`{"items":`), endless("[")),
		"object":         io.MultiReader(strings.NewReader(`{"items":[{"metadata":{"name":"`), endless("x")),
		"nested objects": io.MultiReader(strings.NewReader(`{"items":[`), endless(`{"x":`)),
		"unknown field":  io.MultiReader(strings.NewReader(`{"x":["`), endless("x")),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := readJSONNames(r)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		// The buffer doubles until it holds the largest object.
		if n := after.TotalAlloc - before.TotalAlloc; n > 5*maxObject {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
}

// endless is text without an end.
type endless string

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}

func TestHostileJSONWatchIsListedAgain(t *testing.T) {
	for name, tt := range map[string]struct{ body, want string }{
		"null":                 {"null", `an event of type ""`},
		"array":                {"[]", "json: cannot unmarshal array"},
		"type is a number":     {`{"type":7` + strings.Repeat("7", 9000) + `,"object":{}}`, "json: cannot unmarshal number"},
		"no object":            {`{"type":"ADDED"}`, "read event: decode pod: unexpected end of JSON input"},
		"object is null":       {`{"type":"ADDED","object":null}`, "decode object: it has no name"},
		"object is a string":   {`{"type":"MODIFIED","object":"x"}`, "read event: decode pod: string instead of object"},
		"field of other type":  {`{"type":"ADDED","object":{"metadata":{"name":["x"]}}}`, "read event: decode pod: metadata.name: array instead of string"},
		"bookmark of noise":    {`{"type":"BOOKMARK","object":{"metadata":7}}`, "read event: decode pod: metadata: number instead of object"},
		"unknown event":        {`{"type":"` + strings.Repeat("X", 9000) + `","object":{}}`, `an event of type "XXX`},
		"error that is null":   {`{"type":"ERROR","object":null}`, "an error without a status"},
		"error of other types": {`{"type":"ERROR","object":{"code":"410"}}`, "an error without a status"},
		"cut":                  {`{"type":"ADDED","object":{"meta`, "unexpected EOF"},
		"cut by a new event":   {`{"type":"ADDED","object":{"meta{"type":"ADDED"}`, "invalid character"},
		"protobuf":             {"\x00\x00\x00\x04\xff\xff\xff\xff", "invalid character"},
		"too large":            {`{"type":"ADDED","object":{"x":"` + strings.Repeat("x", maxObject+maxEnvelope), "an object of more than 16842752 bytes"},
		"deep":                 {`{"type":"ADDED","object":` + strings.Repeat("[", 1<<20), "exceeded max depth"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRigOf(t, jsonType, Options{})
				s, _ := r.cluster.Use(podQuery)
				r.next(t).list(pods("5", "", "a/x=1"))
				good := strings.TrimSpace(string(inJSON.frame("ADDED", pod("a/y=1", "6"))))
				r.nextWatch(t, "5").respond(200, nil, strings.NewReader(good+tt.body))
				c := r.nextList(t, "resourceVersion=6&resourceVersionMatch=NotOlderThan")
				want(t, s, "a/x=1", "a/y=1")
				l := strings.ReplaceAll(r.lines(), `\"`, `"`)
				for _, part := range []string{"answers garbage when asked for pods", "read answer: application/json: ", tt.want} {
					if !strings.Contains(l, part) {
						t.Errorf("log: got %.900q, want %q", l, part)
					}
				}
				if len(l) > 600 {
					t.Errorf("log: a line of %d bytes", len(l))
				}
				c.list(pods("9", "", "a/x=2"))
				want(t, s, "a/x=2")
			})
		})
	}
}

// An ERROR with a status is what a server ends a watch with, in either encoding.
func TestExpiredJSONWatchIsListedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRigOf(t, jsonType, Options{})
		s, _ := r.cluster.Use(podQuery)
		r.next(t).list(pods("5", "", "a/x=1"))
		c := r.nextWatch(t, "5")
		c.respond(200, nil, strings.NewReader(`{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"7"}}} {"object":{"kind":"Status","code":410,"reason":"Expired"},"type":"ERROR"}`))
		c = r.nextList(t, "resourceVersion=7&resourceVersionMatch=NotOlderThan")
		if l := r.lines(); l != "" || r.failed() != 0 {
			t.Errorf("log: got %q, and %d failures", l, r.failed())
		}
		c.list(pods("9", "", "a/x=2"))
		want(t, s, "a/x=2")
	})
}

func TestContentTypeOfTheAnswerCounts(t *testing.T) {
	for given, want := range map[string]string{
		"application/json":                    "",
		"application/json; charset=utf-8":     "",
		"Application/JSON":                    "",
		"text/html":                           `the content type is "text/html", neither application/vnd.kubernetes.protobuf nor application/json`,
		"application/yaml":                    `the content type is "application/yaml", neither`,
		"":                                    `the content type is "", neither`,
		"application/json;;":                  `the content type is "application/json;;", neither`,
		"application/vnd.kubernetes.protobuf": "read answer: application/vnd.kubernetes.protobuf: not protobuf of Kubernetes",
		"application/" + strings.Repeat("x", 10000):    "neither application/vnd.kubernetes.protobuf nor application/json",
		"application/vnd.kubernetes.protobuf;a=b;c=dd": "read answer: application/vnd.kubernetes.protobuf: not protobuf of Kubernetes",
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRigOf(t, jsonType, Options{})
			r.cluster.Use(podQuery)
			c := r.next(t)
			c.respond(200, map[string]string{"Content-Type": given}, bytes.NewReader(c.encode(pods("5", "", "a/x=1"))))
			r.next(t)
			l := strings.ReplaceAll(r.lines(), `\"`, `"`)
			if !strings.Contains(l, want) || want == "" && l != "" || len(l) > 700 {
				t.Errorf("content type %.50q: log: got %q, want %q", given, l, want)
			}
		})
	}
}

func TestRefusalInJSONIsRead(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cluster.Use(podQuery)
		r.next(t).respond(403, map[string]string{"Content-Type": "application/json"}, strings.NewReader("\n {\"kind\":\"Status\",\"message\":\"no way\",\"code\":403}\n"))
		r.next(t)
		if l := r.lines(); !strings.Contains(l, `err="status 403: no way"`) {
			t.Errorf("log: got %q", l)
		}
	})
}

func TestJSONEventsFollowEachOtherWithAnythingBetween(t *testing.T) {
	var body string
	for i := range 50 {
		p := pod(fmt.Sprintf("a/%d=1", i), "5")
		p.Annotations = map[string]string{"x": strings.Repeat("x", i*i*20)}
		body += strings.TrimSpace(string(inJSON.frame("ADDED", p))) + []string{"", "\n", "\r\n \t", strings.Repeat("\n", 5000)}[i%4]
	}
	for name, r := range map[string]io.Reader{
		"at once":       strings.NewReader(body),
		"by byte":       iotest.OneByteReader(strings.NewReader(body)),
		"end with data": iotest.DataErrReader(strings.NewReader(body)),
	} {
		e := newJSONEvents(r, object.KindPod)
		for i := range 50 {
			ev, err := e.next()
			if err != nil {
				t.Fatalf("%s: event %d: %v", name, i, err)
			}
			if o, _, err := decodeThing(0, ev.raw); err != nil || ev.what != eventAdded || o.Base().Name != fmt.Sprint(i) {
				t.Fatalf("%s: event %d: got %s of %v, %v", name, i, ev.what, o, err)
			}
		}
		if _, err := e.next(); err != io.EOF {
			t.Errorf("%s: got %v, want %v", name, err, io.EOF)
		}
	}
}

// TestLargeJSONEventLeavesNoBuffer has a decoder that small events share, and
// that does not outlive a large one.
func TestLargeJSONEventLeavesNoBuffer(t *testing.T) {
	of := func(size int) string {
		p := pod("a/x=1", "5")
		p.Annotations = map[string]string{"x": strings.Repeat("x", size)}
		return string(inJSON.frame("ADDED", p))
	}
	e := newJSONEvents(strings.NewReader(of(1)+of(10)+of(100)+of(1<<20)+of(1)+of(1)), object.KindPod)
	next := func() any {
		if _, err := e.next(); err != nil {
			t.Fatal(err)
		}
		return e.s.dec
	}
	first := next()
	if again, third := next(), next(); again != first || third != first {
		t.Error("a small event needs a new decoder")
	}
	second := next()
	if second == first {
		t.Error("a large event leaves its decoder")
	}
	if again, third := next(), next(); again != second || third != second {
		t.Error("a small event after a large one needs a new decoder")
	}
}

func FuzzReadJSONList(f *testing.F) {
	f.Add(inJSON.encode(pods("77", "more", "a/x=1", "a/y=1")))
	for _, tt := range hostileLists {
		if len(tt.body) < 1000 {
			f.Add([]byte(tt.body))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		read := 0
		m, err := readJSONList(bytes.NewReader(b), object.KindPod, func(raw []byte) error { read += len(raw); return nil })
		if read > 3*len(b) {
			t.Errorf("%d bytes of objects in %d", read, len(b))
		}
		if err == nil && m.version == "" {
			t.Error("a list without a version")
		}
	})
}

func FuzzJSONEvents(f *testing.F) {
	f.Add(append(inJSON.frame("ADDED", pod("a/x=1", "5")), inJSON.frame("ERROR", &metav1.Status{Code: 410, Details: &metav1.StatusDetails{RetryAfterSeconds: 3}})...))
	f.Add(append(inJSON.frame("BOOKMARK", pod("/", "5")), inJSON.frame("DELETED", pod("a/x=1", "6"))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newStore(podQuery)
		follow := follower{store: s, decode: decodeThing}
		stream := newJSONEvents(bytes.NewReader(b), object.KindPod)
		for {
			ev, err := stream.next()
			if err != nil {
				break
			}
			if follow.apply(ev) != nil {
				break
			}
		}
		if s.Len() > len(b) || len(follow.version) > 3*len(b) {
			t.Error("more came out than went in")
		}
	})
}

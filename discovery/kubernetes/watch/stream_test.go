package watch

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"promagent/discovery/kubernetes/object"
)

// response is an answer with a gzip'd body.
func response(body []byte) *http.Response {
	return &http.Response{Header: http.Header{"Content-Encoding": {"gzip"}}, Body: io.NopCloser(bytes.NewReader(body))}
}

// readNames reads a list of pods to the names of its objects.
func readNames(r io.Reader) (listMeta, []string, error) {
	var names []string
	m, err := readList(r, func(raw []byte) error {
		o, _, err := decodeThing(0, raw)
		if err == nil {
			names = append(names, o.Base().Name)
		}
		return err
	})
	return m, names, err
}

func TestListIsReadWhateverTheReadsBring(t *testing.T) {
	l := pods("77", "more", "a/x=1", "a/y=1")
	l.Items[0].Annotations = map[string]string{"large": strings.Repeat("x", 3<<20)}
	n := int64(7)
	l.RemainingItemCount = &n
	for name, r := range map[string]io.Reader{
		"at once":       bytes.NewReader(encode(l)),
		"by byte":       iotest.OneByteReader(bytes.NewReader(encode(l))),
		"end with data": iotest.DataErrReader(bytes.NewReader(encode(l))),
	} {
		m, names, err := readNames(r)
		if err != nil || m != (listMeta{"77", "more"}) || fmt.Sprint(names) != "[x y]" {
			t.Errorf("%s: got %+v, %q, %v", name, m, names, err)
		}
	}
}

// TestCutListIsAnError cuts a list at every place but the one between the
// fields of the envelope that may be left out.
func TestCutListIsAnError(t *testing.T) {
	b := encode(pods("77", "", "a/x=1", "a/y=1"))
	whole := len(b)
	for { // the empty fields after the list
		if _, _, err := readNames(bytes.NewReader(b[:whole-1])); err != nil && whole < len(b)-2 {
			break
		}
		whole--
	}
	if len(b)-whole > 8 {
		t.Fatalf("the last %d bytes can be left out", len(b)-whole)
	}
	for n := range whole {
		if _, _, err := readNames(bytes.NewReader(b[:n])); err == nil {
			t.Errorf("%d of %d bytes: no error", n, len(b))
		}
	}
}

func TestUnknownFieldsAreLeftOut(t *testing.T) {
	const unknown = "\x48\x07" + "\x52\x03abc" + "\x5d1234" + "\x6112345678" // a number, bytes, 4 and 8 bytes
	item := "\x0a\x03\x0a\x01x" + unknown
	list := unknown + "\x0a\x03\x12\x015" + "\x12" + string(rune(len(item))) + item + unknown
	body := magic + unknown + "\x12" + string(rune(len(list))) + list + unknown
	m, names, err := readNames(strings.NewReader(body))
	if err != nil || m.version != "5" || fmt.Sprint(names) != "[x]" {
		t.Errorf("got %+v, %q, %v", m, names, err)
	}
}

func TestLengthsAreBounded(t *testing.T) {
	for name, tt := range map[string]struct{ body, want string }{
		"object of 16 MiB and 1": {magic + "\x12\xff\xff\xff\xff\x0f" + "\x12\x81\x80\x80\x08", "an object of 16777217 bytes"},
		"object beyond the list": {magic + "\x12\x05" + "\x12\x7f", "longer than its message"},
		"list of 2^64":           {magic + "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x05", "unexpected EOF"},
		"length of 11 bytes":     {magic + "\x12" + strings.Repeat("\xff", 11), "overflows"},
		"metadata of 16 MiB":     {magic + "\x12\xff\xff\xff\xff\x0f" + "\x0a\x80\x80\x80\x08", "an object of 16777216 bytes"},
		"unknown field of 4 GiB": {magic + "\x52\xff\xff\xff\xff\x0f", "an object of 4294967295 bytes"},
		"fixed beyond the list":  {magic + "\x12\x03" + "\x5d1234", "longer than its message"},
		"group":                  {magic + "\x13", "a field of type 3"},
		"field 0":                {magic + "\x02\x00", "without a number"},
	} {
		_, _, err := readNames(strings.NewReader(tt.body))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func FuzzReadList(f *testing.F) {
	f.Add(encode(pods("77", "more", "a/x=1", "a/y=1")))
	f.Add([]byte(magic + "\x12\xff\xff\xff\xff\x0f\x12\x81\x80\x80\x08"))
	f.Fuzz(func(t *testing.T, b []byte) {
		read := 0
		m, err := readList(bytes.NewReader(b), func(raw []byte) error { read += len(raw); return nil })
		if read > len(b) {
			t.Errorf("%d bytes of objects in %d", read, len(b))
		}
		if err == nil && m.version == "" {
			t.Error("a list without a version")
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add(append(frame("ADDED", pod("a/x=1", "5")), frame("ERROR", &metav1.Status{Code: 410, Details: &metav1.StatusDetails{RetryAfterSeconds: 3}})...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newStore(podQuery)
		follow := follower{store: s, decode: decodeThing}
		stream := newEvents(bytes.NewReader(b))
		for {
			ev, err := stream.next()
			if err != nil {
				break
			}
			if follow.apply(ev) != nil {
				break
			}
		}
		if s.Len() > len(b) || len(follow.version) > len(b) {
			t.Error("more came out than went in")
		}
	})
}

// bigList is a list of n pods of some 9 KB as a server encodes them.
func bigList(m media, n int) (body []byte, plain int) {
	random := rand.New(rand.NewPCG(1, 2))
	l := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "77"}}
	for i := range n {
		p := pod(fmt.Sprintf("ns-%d/pod-%d=1", i%50, i), "7")
		p.Labels["app"] = fmt.Sprint("app-", i%100)
		p.Annotations = map[string]string{"prometheus.io/scrape": "true"}
		// What a server adds to a pod is what nobody asks a target for.
		for j := range 6 {
			p.ManagedFields = append(p.ManagedFields, metav1.ManagedFieldsEntry{
				Manager: fmt.Sprint("manager-", j), Operation: "Apply", FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1("[" + strings.Repeat(`{"f:containerStatuses":{"k:{\"ip\"}":{}}},`, 20) + "{}]"),
			})
		}
		c := corev1.Container{Name: "main", Image: "registry/app:1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: "TCP"}}}
		for j := range 60 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprint("VARIABLE_", j), Value: fmt.Sprint("value of it ", random.Uint64())})
		}
		p.Spec.Containers = []corev1.Container{c}
		p.Status.PodIP, p.Status.HostIP = fmt.Sprintf("10.0.%d.%d", i/250, i%250), "10.1.0.1"
		l.Items = append(l.Items, *p)
	}
	b := m.encode(l)
	return zipped(b), len(b)
}

// BenchmarkList reads 5,000 pods of 9 KB from gzip into a store, and tells how
// far memory grew beyond what the objects need.
func BenchmarkList(b *testing.B) {
	for _, m := range medias {
		b.Run(strings.TrimPrefix(string(m), "application/"), func(b *testing.B) { benchmarkList(b, m) })
	}
}

func benchmarkList(b *testing.B, m media) {
	body, plain := bigList(m, 5000)
	answer := answer{media: string(m)}
	var before, peak, after runtime.MemStats
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		most := uint64(0)
		count := 0
		s := newStore(podQuery)
		g := s.stage()
		b.StartTimer()
		r, err := content(response(body))
		if err != nil {
			b.Fatal(err)
		}
		_, err = answer.list(r, object.KindPod, func(raw []byte) error {
			o, _, err := object.Decode(object.KindPod, raw)
			if err != nil {
				return err
			}
			g.add(o)
			if count++; count%500 == 0 {
				b.StopTimer()
				runtime.ReadMemStats(&peak)
				most = max(most, peak.HeapAlloc-min(before.HeapAlloc, peak.HeapAlloc))
				b.StartTimer()
			}
			return nil
		})
		if err != nil || count != 5000 {
			b.Fatalf("read %d pods: %v", count, err)
		}
		g.commit()
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(most)/1e6, "peak-MB")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "kept-MB")
		b.ReportMetric(float64(len(body))/1e6, "wire-MB")
		b.ReportMetric(float64(plain)/5000, "B/pod")
		runtime.KeepAlive(s)
		b.StartTimer()
	}
}

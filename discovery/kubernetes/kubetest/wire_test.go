package kubetest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/clientcmd"
)

// ask sends a request as it is: no compression of its own, no content type.
func ask(t *testing.T, s *Server, method, path string, header http.Header) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func body(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read answer: %v", err)
	}
	return b
}

func TestAnswersAreOfTheTypeThatIsAccepted(t *testing.T) {
	s := New(t)
	s.Put(pod("a", "p", "", nil))
	for _, tt := range []struct {
		accept string
		code   int
		kind   string
	}{
		{"", 200, asJSON},
		{"*/*", 200, asJSON},
		{"application/*", 200, asJSON},
		{asProtobuf, 200, asProtobuf},
		{asProtobuf + "," + asJSON, 200, asProtobuf},
		{asJSON + "," + asProtobuf, 200, asJSON},
		{asJSON + ";q=0.5," + asProtobuf + ";q=0.9", 200, asProtobuf},
		{asProtobuf + ";q=0," + asJSON, 200, asJSON},
		{"text/html," + asProtobuf, 200, asProtobuf},
		{asJSON + ";as=Table;g=meta.k8s.io;v=v1," + asProtobuf, 200, asProtobuf},
		{"text/html", 406, asJSON},
		{";;,", 406, asJSON},
	} {
		resp := ask(t, s, http.MethodGet, "/api/v1/pods", http.Header{"Accept": {tt.accept}})
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != tt.code || got != tt.kind {
			t.Errorf("Accept %q: %d %s, want %d %s", tt.accept, resp.StatusCode, got, tt.code, tt.kind)
		}
		raw := body(t, resp.Body)
		if is := bytes.HasPrefix(raw, []byte("k8s\x00")); is != (tt.kind == asProtobuf) {
			t.Errorf("Accept %q: the answer begins with %q", tt.accept, raw[:4])
		}
	}
}

func TestServerMaySpeakJSONOnly(t *testing.T) {
	s := New(t)
	s.Put(pod("a", "p", "", nil))
	metadata := ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	for _, tt := range []struct {
		encoding Encoding
		accept   string
		code     int
		kind     string // of the list
	}{
		{JSONOrRefused, "", 200, "PodList"},
		{JSONOrRefused, asProtobuf, 406, "Status"},
		{JSONOrRefused, asProtobuf + metadata, 406, "Status"},
		{JSONOrRefused, asProtobuf + "," + asJSON, 200, "PodList"},
		{JSONOrRefused, asProtobuf + ", */*", 200, "PodList"},
		{JSONOrRefused, asProtobuf + metadata + "," + asJSON + metadata + "," + asJSON, 200, "PartialObjectMetadataList"},
		{JSONAlways, "", 200, "PodList"},
		{JSONAlways, asProtobuf, 200, "PodList"},
		{JSONAlways, "text/html", 200, "PodList"},
		{JSONAlways, asJSON + metadata, 200, "PodList"},
	} {
		s.SetEncoding(tt.encoding)
		for _, path := range []string{"/api/v1/pods", "/api/v1/pods?watch=1&timeoutSeconds=1"} {
			resp := ask(t, s, http.MethodGet, path, http.Header{"Accept": {tt.accept}})
			if got := resp.Header.Get("Content-Type"); resp.StatusCode != tt.code || got != asJSON {
				t.Errorf("%s, Accept %q: %d %s, want %d %s", path, tt.accept, resp.StatusCode, got, tt.code, asJSON)
			}
			if strings.Contains(path, "watch") {
				resp.Body.Close()
				continue
			}
			var list struct{ Kind, Message string }
			if err := json.Unmarshal(body(t, resp.Body), &list); err != nil || list.Kind != tt.kind {
				t.Errorf("Accept %q: %+v, %v; want a %s", tt.accept, list, err, tt.kind)
			}
			if tt.code == 406 && list.Message != "only the following media types are accepted: application/json" {
				t.Errorf("Accept %q: %q", tt.accept, list.Message)
			}
		}
	}
}

func TestListsHaveTheirEnvelope(t *testing.T) {
	s := New(t)
	s.Put(pod("a", "p", "", nil))
	raw := body(t, ask(t, s, http.MethodGet, "/api/v1/pods", http.Header{"Accept": {asProtobuf}}).Body)
	var envelope runtime.Unknown
	if err := envelope.Unmarshal(raw[4:]); err != nil {
		t.Fatal(err)
	}
	if envelope.Kind != "PodList" || envelope.APIVersion != "v1" || envelope.ContentEncoding != "" {
		t.Errorf("envelope %+v", envelope.TypeMeta)
	}
	var pods corev1.PodList
	if err := pods.Unmarshal(envelope.Raw); err != nil || len(pods.Items) != 1 || pods.Items[0].Name != "p" {
		t.Errorf("list %v, %v", pods, err)
	}
	var list struct {
		metav1.TypeMeta
		Items []map[string]any
	}
	if err := json.Unmarshal(body(t, ask(t, s, http.MethodGet, "/api/v1/pods", nil).Body), &list); err != nil {
		t.Fatal(err)
	}
	if list.Kind != "PodList" || list.APIVersion != "v1" || len(list.Items) != 1 || list.Items[0]["kind"] != nil {
		t.Errorf("JSON list %+v, want items without kinds", list)
	}
}

func TestAnswersAreCompressedWhenThatIsAccepted(t *testing.T) {
	s := New(t)
	s.Put(pod("a", "p", "", nil))
	plain := ask(t, s, http.MethodGet, "/api/v1/pods", http.Header{"Accept": {asProtobuf}})
	small := ask(t, s, http.MethodGet, "/api/v1/pods", http.Header{"Accept": {asProtobuf}, "Accept-Encoding": {"br, gzip;q=1.0"}})
	if plain.Header.Get("Content-Encoding") != "" || small.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("encodings %q and %q", plain.Header.Get("Content-Encoding"), small.Header.Get("Content-Encoding"))
	}
	z, err := gzip.NewReader(small.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(body(t, z), body(t, plain.Body)) {
		t.Error("the compressed answer is another")
	}
	status := ask(t, s, http.MethodGet, "/api/v1/pods?labelSelector=a%3Db%3Dc", http.Header{"Accept-Encoding": {"gzip"}})
	if status.StatusCode != http.StatusBadRequest {
		t.Errorf("bad selector: %s", status.Status)
	}
}

// frame reads one length-delimited event.
func frame(t *testing.T, r io.Reader) metav1.WatchEvent {
	t.Helper()
	var size uint32
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		t.Fatalf("read frame's size: %v", err)
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(r, raw); err != nil {
		t.Fatalf("read frame: %v", err)
	}
	var e metav1.WatchEvent
	if err := e.Unmarshal(raw); err != nil {
		t.Fatalf("read event: %v", err)
	}
	return e
}

func TestProtobufEventsAreDelimitedByTheirLength(t *testing.T) {
	s := New(t)
	s.Put(pod("a", "p", "", nil))
	resp := ask(t, s, http.MethodGet, "/api/v1/pods?watch=true&resourceVersion=1", http.Header{"Accept": {asProtobuf + ";type=watch"}, "Accept-Encoding": {"gzip"}})
	if got := resp.Header.Get("Content-Type"); got != asProtobuf+";stream=watch" {
		t.Errorf("content type %q", got)
	}
	e := frame(t, resp.Body)
	var envelope runtime.Unknown
	if !bytes.HasPrefix(e.Object.Raw, []byte("k8s\x00")) {
		t.Fatalf("object begins with %q", e.Object.Raw[:4])
	}
	if err := envelope.Unmarshal(e.Object.Raw[4:]); err != nil {
		t.Fatal(err)
	}
	var p corev1.Pod
	if err := p.Unmarshal(envelope.Raw); err != nil || e.Type != "ADDED" || envelope.Kind != "Pod" || p.Name != "p" || p.ResourceVersion != "2" {
		t.Errorf("event %s of %s %v, %v", e.Type, envelope.Kind, p, err)
	}
	s.Expire()
	if e = frame(t, resp.Body); e.Type != "ERROR" || !bytes.Contains(e.Object.Raw, []byte("Status")) {
		t.Errorf("after an expiry came %s %q", e.Type, e.Object.Raw)
	}
	if rest := body(t, resp.Body); len(rest) != 0 {
		t.Errorf("after the error came %q", rest)
	}
}

func TestACutLeavesHalfAnEvent(t *testing.T) {
	eachType(t, func(t *testing.T, contentType string) {
		s := New(t)
		resp := ask(t, s, http.MethodGet, "/api/v1/pods?watch=1&resourceVersion=1", http.Header{"Accept": {contentType}})
		s.CutWatches()
		rest, err := io.ReadAll(resp.Body)
		if !errors.Is(err, io.ErrUnexpectedEOF) || len(rest) < 4 {
			t.Errorf("the stream ends with %d bytes and %v, want some and an unexpected end", len(rest), err)
		}
	})
}

func TestMetadataAloneIsServed(t *testing.T) {
	s := New(t)
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := metadata.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Put(pod("a", "p", "", map[string]string{"x": "y"}))
	pods := c.Resource(corev1.SchemeGroupVersion.WithResource("pods"))
	list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].Labels["x"] != "y" || list.ResourceVersion != "2" {
		t.Errorf("list %+v", list)
	}
	w, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	e := <-w.ResultChan()
	if m, ok := e.Object.(*metav1.PartialObjectMetadata); !ok || m.Name != "p" {
		t.Errorf("event of %T %v", e.Object, e.Object)
	}
	s.Delete(pod("a", "p", "", nil))
	expect(t, w, "DELETED a/p 3")
	s.Expire()
	expect(t, w, "ERROR 410 Expired")
}

func TestOtherRequestsAreRefused(t *testing.T) {
	s := New(t)
	s.Put(pod("a", "p", "", nil), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
	for _, tt := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/api/v1/pods", 200},
		{"GET", "/api/v1/namespaces/a/pods/p", 200},
		{"GET", "/api/v1/namespaces/a/pods/none", 404},
		{"GET", "/api/v1/pods/p", 404},
		{"GET", "/api/v1/nodes/n", 200},
		{"GET", "/api/v1/namespaces", 200},
		{"GET", "/api/v1/namespaces/a", 404},
		{"GET", "/api/v1/namespaces/a/nodes", 404},
		{"GET", "/api/v1/secrets", 404},
		{"GET", "/apis/apps/v1/replicasets", 200},
		{"GET", "/apis/apps/v1beta1/replicasets", 404},
		{"GET", "/api/v1/namespaces/a/pods/p/log", 404},
		{"GET", "/", 404},
		{"DELETE", "/api/v1/namespaces/a/pods/p", 405},
		{"POST", "/api/v1/namespaces/a/pods", 405},
		{"GET", "/api/v1/pods?limit=x", 400},
		{"GET", "/api/v1/pods?watch=true&resourceVersion=y", 400},
		{"GET", "/api/v1/nodes?fieldSelector=metadata.namespace%3Da", 400},
	} {
		resp := ask(t, s, tt.method, tt.path, nil)
		raw := body(t, resp.Body)
		if resp.StatusCode != tt.code || (tt.code != 200) != strings.Contains(string(raw), `"kind":"Status"`) {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, resp.StatusCode, raw, tt.code)
		}
	}
}

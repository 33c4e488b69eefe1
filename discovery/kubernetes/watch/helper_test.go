package watch

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"promagent/discovery/kubernetes/object"
)

// thing is an object of which the metadata and one label count.
type thing struct {
	object.Meta
	value string
}

func (a *thing) Equal(o object.Object) bool {
	b := o.(*thing)
	return a.Namespace == b.Namespace && a.Name == b.Name && a.value == b.value
}

func (a *thing) String() string { return a.Namespace + "/" + a.Name + "=" + a.value }

// decodeThing reads the metadata of any object, with the library of Kubernetes.
func decodeThing(_ object.Kind, b []byte) (object.Object, string, error) {
	var m metav1.PartialObjectMetadata
	if err := m.Unmarshal(b); err != nil {
		return nil, "", err
	}
	return &thing{object.Meta{Namespace: m.Namespace, Name: m.Name}, m.Labels["v"]}, m.ResourceVersion, nil
}

// pod is a pod as the server has it: "ns/name=value".
func pod(text, version string) *corev1.Pod {
	where, value, _ := strings.Cut(text, "=")
	ns, name, _ := strings.Cut(where, "/")
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, ResourceVersion: version, Labels: map[string]string{"v": value}},
		Spec:       corev1.PodSpec{NodeName: "node"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

func pods(version, next string, texts ...string) *corev1.PodList {
	l := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: version, Continue: next}}
	for _, t := range texts {
		l.Items = append(l.Items, *pod(t, version))
	}
	return l
}

// media is a content type that the API server speaks.
type media string

// medias are all of them.
var medias = []media{protobufType, jsonType}

func (m media) serializer() runtime.SerializerInfo {
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), string(m))
	if !ok {
		panic("no " + m)
	}
	return info
}

// encode encodes an object as the API server does, in protobuf.
func encode(o runtime.Object) []byte { return media(protobufType).encode(o) }

// frame encodes an event as the API server does, in protobuf.
func frame(what string, o runtime.Object) []byte { return media(protobufType).frame(what, o) }

// encode encodes an object as the API server does.
func (m media) encode(o runtime.Object) []byte {
	var b bytes.Buffer
	gv := corev1.SchemeGroupVersion
	if _, ok := o.(*metav1.Status); ok {
		gv = metav1.SchemeGroupVersion
	}
	if err := scheme.Codecs.EncoderForVersion(m.serializer().Serializer, gv).Encode(o, &b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// frame encodes an event as the API server does.
func (m media) frame(what string, o runtime.Object) []byte {
	e := metav1.WatchEvent{Type: what, Object: runtime.RawExtension{Raw: m.encode(o)}}
	var b, framed bytes.Buffer
	stream := m.serializer().StreamSerializer
	if err := stream.Serializer.Encode(&e, &b); err != nil {
		panic(err)
	}
	if _, err := stream.Framer.NewFrameWriter(&framed).Write(b.Bytes()); err != nil {
		panic(err)
	}
	return framed.Bytes()
}

// api is a transport whose requests the test answers.
type api struct {
	media media
	calls chan *call
}

// call is a request that waits for its answer.
type call struct {
	media
	t      *testing.T
	req    *http.Request
	query  url.Values
	at     time.Time
	answer chan *http.Response
}

var errNoServer = errors.New("connection refused")

func (a *api) RoundTrip(req *http.Request) (*http.Response, error) {
	c := &call{media: a.media, req: req, query: req.URL.Query(), at: time.Now(), answer: make(chan *http.Response, 1)}
	select {
	case a.calls <- c:
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	select {
	case r := <-c.answer:
		if r == nil {
			return nil, errNoServer
		}
		return r, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

// CloseIdleConnections is what a transport has.
func (a *api) CloseIdleConnections() {}

// next is the next request.
func (a *api) next(t *testing.T) *call {
	t.Helper()
	select {
	case c := <-a.calls:
		c.t = t
		return c
	case <-time.After(time.Hour):
		t.Fatal("no request")
		return nil
	}
}

// nextList is the next request, which must be a list with these parameters.
func (a *api) nextList(t *testing.T, want string) *call {
	t.Helper()
	c := a.next(t)
	if got := c.query.Encode(); got != want {
		t.Fatalf("parameters of list: got %q, want %q", got, want)
	}
	return c
}

// nextWatch is the next request, which must be a watch from a version.
func (a *api) nextWatch(t *testing.T, version string) *call {
	t.Helper()
	c := a.next(t)
	if c.query.Get("watch") != "1" || c.query.Get("resourceVersion") != version {
		t.Fatalf("got request %q, want a watch from %q", c.query.Encode(), version)
	}
	return c
}

func (c *call) respond(code int, header map[string]string, body io.Reader) {
	h := http.Header{"Content-Type": {string(c.media)}}
	for k, v := range header {
		h.Set(k, v)
	}
	rc, ok := body.(io.ReadCloser)
	if !ok {
		rc = io.NopCloser(body)
	}
	c.answer <- &http.Response{StatusCode: code, Header: h, Body: rc, Request: c.req, ProtoMajor: 1, ProtoMinor: 1}
}

func (c *call) list(l *corev1.PodList) { c.respond(200, nil, bytes.NewReader(c.encode(l))) }

func (c *call) refuse(s *metav1.Status, header map[string]string) {
	c.respond(int(s.Code), header, bytes.NewReader(c.encode(s)))
}

func (c *call) fail() { c.answer <- nil }

// stream is the server's side of a body that comes in parts.
type stream struct {
	media
	w *io.PipeWriter
}

func (c *call) watch() stream {
	r, w := io.Pipe()
	context.AfterFunc(c.req.Context(), func() { w.CloseWithError(c.req.Context().Err()) })
	kind := string(c.media)
	if kind == protobufType {
		kind += ";stream=watch"
	}
	c.respond(200, map[string]string{"Content-Type": kind}, r)
	return stream{c.media, w}
}

func (s stream) send(what string, o runtime.Object) { s.w.Write(s.frame(what, o)) }

func zipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

// rig is a cluster over an api.
type rig struct {
	*api
	t        *testing.T
	cluster  *Cluster
	mu       sync.Mutex
	failures int
	log      bytes.Buffer
}

func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

// lines returns what was logged since the last call.
func (r *rig) lines() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.log.String()
	r.log.Reset()
	return s
}

func (r *rig) failed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures
}

// newRig makes a cluster that runs until the test ends. Its server speaks
// protobuf.
func newRig(t *testing.T, o Options) *rig {
	t.Helper()
	return newRigOf(t, protobufType, o)
}

func newRigOf(t *testing.T, m media, o Options) *rig {
	t.Helper()
	r := &rig{api: &api{media: m, calls: make(chan *call)}, t: t}
	client, err := NewClient(&rest.Config{Host: "http://api", Transport: r.api})
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	o.Failures = func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failures++
	}
	if o.Decode == nil {
		o.Decode = decodeThing
	}
	r.cluster = NewCluster(client, o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.cluster.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// bubble runs f with a rig under a clock of its own, for each content type of
// the server.
func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	t.Helper()
	for _, m := range medias {
		t.Run(string(m), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, newRigOf(t, m, Options{})) })
		})
	}
}

// want checks what the store holds once everything has come to rest.
func want(t *testing.T, s *Store, objects ...string) {
	t.Helper()
	synctest.Wait()
	got := []string{}
	s.Range(func(o object.Object) bool {
		if o.Base().Name == "" {
			t.Errorf("%v has no name", o)
		}
		got = append(got, fmt.Sprint(o))
		return true
	})
	slices.Sort(got)
	if !slices.Equal(got, objects) && len(got)+len(objects) > 0 {
		t.Fatalf("the store holds %q, want %q", got, objects)
	}
	if s.Len() != len(objects) {
		t.Errorf("Len: got %d, want %d", s.Len(), len(objects))
	}
}

var podQuery = Query{Kind: object.KindPod}

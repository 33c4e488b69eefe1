// Package kubetest is a Kubernetes API server for tests: it keeps objects in
// memory and answers LIST and WATCH as the real one does, fails on demand, and
// counts what it was asked. It also runs Prometheus's own discovery as the
// oracle of what should be found, and makes random clusters.
//
// The package is for tests alone; no other code may import it.
package kubetest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Token is the bearer token that Kubeconfig hands out.
const Token = "kubetest-token"

// Server is the API server. All methods may be called from any goroutine.
//
// Objects are taken as they are: nothing is validated, and no field gets its
// default but the name space, the UID, the creation time and the version.
//
// It differs from a real server in what would only make tests slow or large:
// lists and watches of a version of the future are not held back for three
// seconds before they are refused or begin, small answers are compressed too,
// a watch without a timeout runs until someone ends it, and no bookmark comes
// but those of Bookmark and of streamed lists.
type Server struct {
	// URL is where the server listens, without a slash at its end.
	URL string

	t         testing.TB
	http      *httptest.Server
	codecs    codecs
	resources []*resource
	tables    map[reflect.Type]*table
	closed    chan struct{}

	mu            sync.Mutex
	version       uint64 // of the newest change to any object
	uids          int
	history       int  // events kept of each kind; 0: all
	expiredEvents bool // too old a version is told by an event, not by a status
	noStreaming   bool
	token         string
	encoding      Encoding
	fault         func(*http.Request) http.Handler
	log           []Request
	streams       map[*stream]struct{}
}

// table holds the objects of one kind and what became of them.
type table struct {
	res     *resource
	items   map[string]runtime.Object // by NAMESPACE/NAME
	events  []event                   // by version ascending
	first   int                       // number of events[0], counted since the start
	floor   uint64                    // events of later versions are all there
	expired int                       // calls of Expire
	changed chan struct{}             // closed when there are more
}

// event is a change to an object, or a bookmark when there is neither object.
type event struct {
	version  uint64
	old, new runtime.Object // nil: not there before, not there now
}

// New starts a server that stops when the test ends.
func New(t testing.TB) *Server {
	return start(t, (*httptest.Server).Start)
}

// NewTLS is New with TLS and HTTP/2, as a real server has them.
func NewTLS(t testing.TB) *Server {
	return start(t, func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.StartTLS()
	})
}

func start(t testing.TB, listen func(*httptest.Server)) *Server {
	t.Helper()
	s := &Server{
		t:         t,
		codecs:    newCodecs(),
		resources: resources(),
		tables:    map[reflect.Type]*table{},
		closed:    make(chan struct{}),
		version:   1,
		streams:   map[*stream]struct{}{},
	}
	for _, r := range s.resources {
		s.tables[reflect.TypeOf(s.empty(r))] = &table{res: r, items: map[string]runtime.Object{}, floor: 1, changed: make(chan struct{})}
	}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	listen(s.http)
	s.URL = s.http.URL
	t.Cleanup(func() {
		close(s.closed)
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// empty is a new object of a kind.
func (s *Server) empty(r *resource) runtime.Object {
	obj, err := s.codecs.scheme.New(r.gv.WithKind(r.kind))
	if err != nil {
		panic(fmt.Sprintf("make a %s: %v", r.kind, err))
	}
	return obj
}

// Kubeconfig writes a kubeconfig file for the server, with Token as its
// credentials, and returns its path. The file goes when the test t ends.
// client-go sends credentials of a kubeconfig to servers with TLS alone: a test
// that needs the token needs NewTLS.
func (s *Server) Kubeconfig(t testing.TB) string {
	t.Helper()
	authority := ""
	if cert := s.http.Certificate(); cert != nil {
		authority = "\n    certificate-authority-data: " + base64.StdEncoding.EncodeToString(pemOf(cert.Raw))
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	content := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: kubetest
  cluster:
    server: %s%s
users:
- name: agent
  user:
    token: %s
contexts:
- name: kubetest
  context:
    cluster: kubetest
    user: agent
current-context: kubetest
`, s.URL, authority, Token)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatalf("write kubeconfig: %v", err)
	}
	return path
}

// Put creates or updates objects, in order. The server keeps copies, with a
// resource version of its own, the UID that the object has or had before (or a
// new one), and the name space "default" where one is needed and missing.
func (s *Server) Put(objs ...runtime.Object) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, obj := range objs {
		s.put(obj.DeepCopyObject())
	}
}

// put stores an object that nobody else has. The caller holds the lock.
func (s *Server) put(obj runtime.Object) {
	s.t.Helper()
	t := s.table(obj)
	m := accessor(obj)
	old := t.items[s.settle(t, m)]
	if old != nil {
		was := accessor(old)
		if m.GetUID() == "" {
			m.SetUID(was.GetUID())
		}
		m.SetCreationTimestamp(was.GetCreationTimestamp())
	}
	s.version++
	if m.GetUID() == "" {
		s.uids++
		m.SetUID(types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", s.uids)))
	}
	if stamp := m.GetCreationTimestamp(); stamp.IsZero() {
		m.SetCreationTimestamp(metav1.NewTime(time.Unix(1_700_000_000+int64(s.version), 0).UTC()))
	}
	m.SetResourceVersion(strconv.FormatUint(s.version, 10))
	obj.GetObjectKind().SetGroupVersionKind(t.res.gv.WithKind(t.res.kind))
	t.items[key(m)] = obj
	s.add(t, event{version: s.version, old: old, new: obj})
}

// Delete deletes the objects of these kinds, name spaces and names. One that
// is not there is left alone.
func (s *Server) Delete(objs ...runtime.Object) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, obj := range objs {
		t := s.table(obj)
		k := s.settle(t, accessor(obj.DeepCopyObject()))
		if old, ok := t.items[k]; ok {
			delete(t.items, k)
			s.version++
			s.add(t, event{version: s.version, old: old})
		}
	}
}

// Touch gives every object of the named resources ("pods"; none: of all) a new
// version without any other change, so that watchers hear of it again.
func (s *Server) Touch(resources ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.resources {
		if len(resources) > 0 && !slices.Contains(resources, r.name) {
			continue
		}
		t := s.table(s.empty(r))
		for _, k := range t.keys() {
			s.put(t.items[k].DeepCopyObject())
		}
	}
}

// Objects are copies of all that the server holds, by kind and key.
func (s *Server) Objects() []runtime.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []runtime.Object
	for _, r := range s.resources {
		t := s.tables[reflect.TypeOf(s.empty(r))]
		for _, k := range t.keys() {
			all = append(all, t.items[k].DeepCopyObject())
		}
	}
	return all
}

// Version is the resource version of the newest change.
func (s *Server) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strconv.FormatUint(s.version, 10)
}

// Bookmark sends one to every running watch that allows them.
func (s *Server) Bookmark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables {
		s.add(t, event{version: s.version})
	}
}

// Expire forgets all earlier changes. Running watches end with an error event
// of code 410, and no version that a client has seen so far can be watched
// from any more.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	for _, t := range s.tables {
		t.forget(len(t.events), s.version)
		t.expired++
		t.wake()
	}
}

// SetHistory makes the server keep n events of each kind, as the watch cache of
// a real one does; 0 keeps all.
func (s *Server) SetHistory(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = n
	for _, t := range s.tables {
		s.trim(t)
		t.wake()
	}
}

// SetExpiredAsEvent says how a new watch learns that its version is too old:
// by an error event of code 410 in an answer of code 200, which is what a real
// server with a watch cache does, or by an answer of code 410 (the default).
func (s *Server) SetExpiredAsEvent(event bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expiredEvents = event
}

// SetStreamingLists says whether watches may ask for the initial objects
// (sendInitialEvents). They may by default; older servers refuse it.
func (s *Server) SetStreamingLists(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noStreaming = !on
}

// SetToken makes the server refuse requests without this bearer token with code
// 401; "" accepts all, which is the default.
func (s *Server) SetToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// Encoding is how a server encodes its answers.
type Encoding uint8

// The encodings.
const (
	// AsAsked is what a real server does: protobuf or JSON, whole objects or
	// their metadata alone, as the client asks for.
	AsAsked Encoding = iota
	// JSONOrRefused is a server that has no protobuf: it refuses with code 406
	// who does not accept JSON.
	JSONOrRefused
	// JSONAlways is one that does not look at what the client accepts: it
	// answers with whole objects in JSON.
	JSONAlways
)

// SetEncoding says how the server encodes the answers to later requests.
func (s *Server) SetEncoding(e Encoding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.encoding = e
}

// table finds the table of an object's kind. The caller holds the lock.
func (s *Server) table(obj runtime.Object) *table {
	s.t.Helper()
	t, ok := s.tables[reflect.TypeOf(obj)]
	if !ok {
		s.t.Fatalf("kubetest serves no %T", obj)
	}
	return t
}

// settle gives an object the name space that its kind wants and returns its key.
func (s *Server) settle(t *table, m metav1.Object) string {
	s.t.Helper()
	switch {
	case m.GetName() == "":
		s.t.Fatalf("a %s without a name", t.res.kind)
	case !t.res.namespaced:
		m.SetNamespace("")
	case m.GetNamespace() == "":
		m.SetNamespace("default")
	}
	return key(m)
}

func key(m metav1.Object) string { return m.GetNamespace() + "/" + m.GetName() }

// add appends an event and wakes who waits for it. The caller holds the lock.
func (s *Server) add(t *table, e event) {
	t.events = append(t.events, e)
	s.trim(t)
	t.wake()
}

// trim forgets events beyond those that are kept.
func (s *Server) trim(t *table) {
	if over := len(t.events) - s.history; s.history > 0 && over > 0 {
		t.forget(over, t.events[over-1].version)
	}
}

// forget drops the oldest n events; floor is the oldest version that can still
// be watched from.
func (t *table) forget(n int, floor uint64) {
	t.events = slices.Clone(t.events[n:])
	t.first += n
	t.floor = floor
}

func (t *table) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// keys are those of the items in the order of a list.
func (t *table) keys() []string {
	keys := make([]string, 0, len(t.items))
	for k := range t.items {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}

package e2e

import (
	"encoding/json"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
)

// object is a Kubernetes object as JSON has it.
type object map[string]any

// jsonResource is what a jsonServer has of a resource.
type jsonResource struct {
	Items []object
	Watch []struct { // what happens after the first list
		Type   string
		Object object
	}
	Later []object // objects that are there once a watch was told to list anew
}

// jsonServer is a Kubernetes API server that speaks JSON and nothing else, as
// that of KubeEdge does.
type jsonServer struct {
	*httptest.Server
	resources map[string]jsonResource

	mu      sync.Mutex
	expired map[string]bool // resources whose first version a watch has been told is too old
	closing chan struct{}
}

// resourceKinds has the API version and kind of each resource that it knows.
var resourceKinds = map[string][2]string{
	"pods": {"v1", "Pod"}, "services": {"v1", "Service"}, "nodes": {"v1", "Node"}, "endpoints": {"v1", "Endpoints"}, "namespaces": {"v1", "Namespace"},
	"endpointslices": {"discovery.k8s.io/v1", "EndpointSlice"}, "ingresses": {"networking.k8s.io/v1", "Ingress"},
}

// newJSONServer serves the objects of a file until the test ends.
func newJSONServer(t testing.TB, file string) *jsonServer {
	t.Helper()
	s := &jsonServer{expired: map[string]bool{}, closing: make(chan struct{})}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s.resources); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(func() {
		close(s.closing)
		s.Close()
	})
	return s
}

func (s *jsonServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	accept, q := r.Header.Get("Accept"), r.URL.Query()
	name := path.Base(r.URL.Path)
	kind, known := resourceKinds[name]
	w.Header().Set("Content-Type", "application/json")
	switch {
	case accept != "" && !strings.Contains(accept, "json") && !strings.Contains(accept, "*/*"):
		failure(w, http.StatusNotAcceptable, "NotAcceptable", "only the following media types are accepted: application/json, application/yaml")
	case !known:
		failure(w, http.StatusNotFound, "NotFound", "there is no "+name)
	case q.Get("watch") == "" || q.Get("watch") == "0" || q.Get("watch") == "false":
		s.list(w, name, kind)
	case q.Get("sendInitialEvents") == "true":
		failure(w, http.StatusUnprocessableEntity, "Invalid", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
	default:
		s.watch(w, r, name, kind)
	}
}

// failure answers with a Status.
func failure(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	send(w, object{"kind": "Status", "apiVersion": "v1", "metadata": object{}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

// send writes a value; a client that has gone need not get it.
func send(w io.Writer, v any) { _ = json.NewEncoder(w).Encode(v) }

const (
	firstVersion = "100" // before anything of a watch has happened
	laterVersion = "200"
)

func (s *jsonServer) list(w http.ResponseWriter, name string, kind [2]string) {
	s.mu.Lock()
	later := s.expired[name]
	s.mu.Unlock()
	items, version := append([]object{}, s.resources[name].Items...), firstVersion
	if later {
		items, version = append(items, s.resources[name].Later...), laterVersion
	}
	send(w, object{"kind": kind[1] + "List", "apiVersion": kind[0], "metadata": object{"resourceVersion": version}, "items": items})
}

// watch tells each watch from the first version on what happens, and no other.
func (s *jsonServer) watch(w http.ResponseWriter, r *http.Request, name string, kind [2]string) {
	w.WriteHeader(http.StatusOK)
	if r.URL.Query().Get("resourceVersion") == firstVersion {
		for _, e := range s.resources[name].Watch {
			o := maps.Clone(e.Object)
			if e.Type != "ERROR" {
				o["apiVersion"], o["kind"] = kind[0], kind[1]
			} else {
				s.mu.Lock()
				s.expired[name] = true
				s.mu.Unlock()
			}
			send(w, object{"type": e.Type, "object": o})
		}
	}
	http.NewResponseController(w).Flush() // an error ends the request
	select {
	case <-r.Context().Done():
	case <-s.closing:
	}
}

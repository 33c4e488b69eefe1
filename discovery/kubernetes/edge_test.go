package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"promagent/discovery/kubernetes/kubetest"
)

// edge is the API of a node at the edge of a cluster, as KubeEdge has it: it
// knows JSON and nothing else. It says what testdata/edge.json has for it, and
// each event to one watch.
type edge struct {
	script map[string]struct {
		Items, Relist []json.RawMessage
		Watch         []struct {
			Type   string
			Object map[string]any
		}
	}
	strict bool // who does not accept JSON is refused

	mu      sync.Mutex
	watched map[string]bool // resources
}

// newEdge starts one for a client of its own.
func newEdge(t *testing.T, strict bool) (url string) {
	t.Helper()
	e := &edge{strict: strict, watched: map[string]bool{}}
	script, err := os.ReadFile("testdata/edge.json")
	if err == nil {
		err = json.Unmarshal(script, &e.script)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(e)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	resource, version := path[len(path)-1], path[len(path)-2]
	if group := path[len(path)-3]; group != "api" {
		version = group + "/" + version
	}
	kind, known := map[string]string{
		"pods": "Pod", "services": "Service", "nodes": "Node", "endpoints": "Endpoints", "namespaces": "Namespace",
		"endpointslices": "EndpointSlice", "ingresses": "Ingress",
	}[resource]
	accept := r.Header.Get("Accept")
	switch {
	case e.strict && !strings.Contains(accept, "json") && !strings.Contains(accept, "*/*"):
		refuse(w, http.StatusNotAcceptable, "NotAcceptable", "only the following media types are accepted: application/json, application/yaml")
	case !known:
		refuse(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
	case r.URL.Query().Get("sendInitialEvents") != "":
		refuse(w, http.StatusUnprocessableEntity, "Invalid", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
	case r.URL.Query().Get("watch") != "":
		e.watch(w, r, resource, version, kind)
	default:
		e.list(w, resource, version, kind)
	}
}

// first notes a watch and says whether it is the first one of the resource;
// with now unset, whether there was none.
func (e *edge) first(resource string, now bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.watched[resource]
	e.watched[resource] = was || now
	return !was
}

func (e *edge) list(w http.ResponseWriter, resource, version, kind string) {
	items := e.script[resource].Items
	if again := e.script[resource].Relist; again != nil && !e.first(resource, false) {
		items = again
	}
	write(w, http.StatusOK, map[string]any{
		"kind": kind + "List", "apiVersion": version, "metadata": map[string]any{"resourceVersion": "100"}, "items": items,
	})
}

func (e *edge) watch(w http.ResponseWriter, r *http.Request, resource, version, kind string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if e.first(resource, true) {
		for _, ev := range e.script[resource].Watch {
			if ev.Type != "ERROR" {
				ev.Object["kind"], ev.Object["apiVersion"] = kind, version
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"type": ev.Type, "object": ev.Object}) // the client may be gone
		}
	}
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	write(w, code, map[string]any{"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure", "message": message, "reason": reason, "code": code})
}

func write(w http.ResponseWriter, code int, answer map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // the client may be gone
}

// The script has pods of all kinds, and a watch that is over with a 410.
func TestTargetsOfAServerThatSpeaksJSONOnlyAreThoseOfPrometheus(t *testing.T) {
	for _, strict := range []bool{true, false} {
		for config, targets := range map[string]int{
			"role: pod\nattach_metadata: {node: true, namespace: true}\n":           12,
			"role: endpointslice\nattach_metadata: {node: true, namespace: true}\n": 8,
			"role: endpoints\n": 2,
			"role: service\n":   5,
			"role: node\n":      3,
			"role: ingress\n":   3,
		} {
			t.Run(fmt.Sprintf("strict %v, %s", strict, config), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				f := w.discover(config + "api_server: " + newEdge(t, strict) + "\n")
				oracle := kubetest.NewOracle(t, config+"api_server: "+newEdge(t, strict)+"\n")
				var got, want map[string][]string
				defer func() {
					if t.Failed() {
						t.Logf("got %q\nfrom Prometheus (-) to here (+):\n%s", got, kubetest.Diff(want, got))
					}
				}()
				kubetest.Eventually(t, fmt.Sprintf("%d targets, the same", targets), func() bool {
					got, want = f.targets(), oracle.Targets()
					n := 0
					for _, group := range got {
						n += len(group)
					}
					return n == targets && kubetest.Diff(want, got) == ""
				})
				if l := w.lines.String(); strings.Contains(l, "API server") {
					t.Errorf("log: got %q", l)
				}
			})
		}
	}
}

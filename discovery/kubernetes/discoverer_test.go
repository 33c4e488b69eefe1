package kubernetes

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.yaml.in/yaml/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/kubetest"
)

// world is Clusters that run, until the test ends.
type world struct {
	t testing.TB
	*Clusters
	lines *lockedBuffer
}

func newWorld(t testing.TB) *world {
	t.Helper()
	lines := &lockedBuffer{}
	c, err := NewClusters(slog.New(slog.NewTextHandler(lines, nil)), newMetrics(prometheus.NewRegistry()), "Prometheus/9")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &world{t, c, lines}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// found is what a discoverer has found.
type found struct {
	t    testing.TB
	stop func()

	mu     sync.Mutex
	groups map[string]group.Group
	sent   map[string]int // groups, by source
}

// discover runs the discoverer of a config until the test ends, or stop is called.
func (w *world) discover(text string) *found {
	w.t.Helper()
	return w.run(w.discoverer(text))
}

// discoverer is that of a config.
func (w *world) discoverer(text string) *Discoverer {
	w.t.Helper()
	var cfg SDConfig
	if err := yaml.UnmarshalStrict([]byte(text), &cfg); err != nil {
		w.t.Fatal(err)
	}
	d, err := w.Discoverer(&cfg, w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) run(d *Discoverer) *found {
	f := &found{t: w.t, groups: map[string]group.Group{}, sent: map[string]int{}}
	up := make(chan []group.Group)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		d.Run(ctx, up)
		close(up)
	})
	running.Go(func() {
		for groups := range up {
			f.mu.Lock()
			for _, g := range groups {
				f.sent[g.Source]++
				if f.groups[g.Source] = g; g.Len() == 0 {
					delete(f.groups, g.Source)
				}
			}
			f.mu.Unlock()
		}
	})
	f.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	w.t.Cleanup(f.stop)
	return f
}

// targets are those of all groups, as kubetest.Targets makes them.
func (f *found) targets() map[string][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string][]string{}
	for source, g := range f.groups {
		all[source] = kubetest.Targets(g)
	}
	return all
}

// becomes waits until the targets are the wanted ones.
func (f *found) becomes(want map[string][]string) {
	f.t.Helper()
	last := ""
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if last = kubetest.Diff(want, f.targets()); last == "" {
			return
		}
	}
	f.t.Errorf("after 10 s, from Prometheus (-) to here (+):\n%s", last)
}

// has waits until the sources with targets are these.
func (f *found) has(sources ...string) {
	f.t.Helper()
	want := map[string]bool{}
	for _, s := range sources {
		want[s] = true
	}
	kubetest.Eventually(f.t, fmt.Sprintf("the sources are %q", sources), func() bool {
		got := f.targets()
		if len(got) != len(want) {
			return false
		}
		for s := range got {
			if !want[s] {
				return false
			}
		}
		return true
	})
}

const everything = "attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}\n"

// The oracle is asked for the state after the storm, for Prometheus misses
// some changes (see kubetest.Oracle).
func TestGroupsAreThoseOfPrometheusAfterAStorm(t *testing.T) {
	for _, tc := range []struct{ name, config string }{
		{"node", "role: node\n"},
		{"node, selected", "role: node\nselectors: [{role: node, label: 'zone!=b'}]\n"},
		{"pod", "role: pod\n"},
		{"pod, everything attached", "role: pod\n" + everything},
		{"pod, two namespaces and selected", "role: pod\nnamespaces: {names: [ns-0, ns-1]}\nselectors: [{role: pod, field: 'status.phase=Running'}, {role: node, field: 'metadata.name=node-0'}]\nattach_metadata: {node: true}\n"},
		{"service", "role: service\nattach_metadata: {namespace: true}\n"},
		{"endpoints", "role: endpoints\n"},
		{"endpoints, everything attached", "role: endpoints\n" + everything},
		{"endpoints, selected", "role: endpoints\nnamespaces: {names: [ns-1]}\nselectors: [{role: endpoints, field: 'metadata.name!=svc-0'}, {role: pod, field: 'status.phase=Running'}, {role: service, field: 'metadata.name=svc-1'}]\n"},
		{"endpointslice", "role: endpointslice\n"},
		{"endpointslice, everything attached", "role: endpointslice\n" + everything},
		{"ingress", "role: ingress\nattach_metadata: {namespace: true}\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for seed, encoding := range []kubetest.Encoding{kubetest.AsAsked, kubetest.AsAsked, kubetest.AsAsked, kubetest.JSONOrRefused, kubetest.JSONAlways} {
				s := kubetest.New(t)
				s.SetEncoding(encoding)
				storm := kubetest.Random(rand.New(rand.NewPCG(uint64(seed), 1)), kubetest.Shape{})
				s.Put(storm.Cluster()...)
				config := tc.config + "kubeconfig_file: " + s.Kubeconfig(t) + "\n"
				f := newWorld(t).discover(config)
				kubetest.Eventually(t, "some targets", func() bool { return len(f.targets()) > 0 || strings.Contains(tc.name, "selected") })
				for range 5 {
					storm.Apply(s, 60)
					s.CutWatches()
					storm.Apply(s, 20)
				}
				dropHomeless(s)
				f.becomes(settled(t, s, config))
				s.Expire() // lists again
				storm.Apply(s, 100)
				dropHomeless(s)
				f.becomes(settled(t, s, config))
				f.stop()
			}
		})
	}
}

// dropHomeless deletes the nodes without an address that can be a target: what
// these keep depends on what they had.
func dropHomeless(s *kubetest.Server) {
	for _, o := range s.Objects() {
		n, ok := o.(*corev1.Node)
		if ok && !slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool {
			return strings.HasPrefix(string(a.Type), "Internal") || strings.HasPrefix(string(a.Type), "External") || a.Type == "LegacyHostIP" || a.Type == corev1.NodeHostName
		}) {
			s.Delete(n)
		}
	}
}

// settled are the targets of what the server holds now. The oracle is gone when
// it returns: Prometheus panics when it learns from a list, not from a watch,
// that a ReplicaSet or a Job was deleted.
func settled(t *testing.T, s *kubetest.Server, config string) (targets map[string][]string) {
	t.Run("oracle", func(t *testing.T) {
		oracle := kubetest.NewOracle(t, config)
		oracle.Settle(t, s, 150*time.Millisecond)
		targets = oracle.Targets()
	})
	return targets
}

func node(name, address string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if address != "" {
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	}
	return n
}

func runningPod(namespace, name, ip, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}},
		Status:     corev1.PodStatus{PodIP: ip, Phase: corev1.PodRunning},
	}
}

func TestAllJobsAndRolesShareOneWatchOfAResource(t *testing.T) {
	s := kubetest.New(t)
	kubeconfig := "kubeconfig_file: " + s.Kubeconfig(t) + "\n"
	s.Put(node("n", "10.0.0.1"), runningPod("a", "p", "10.1.0.1", "n"))
	w := newWorld(t)
	var all []*found
	for _, role := range []string{"pod", "pod", "endpoints", "endpointslice", "node", "service"} {
		all = append(all, w.discover("role: "+role+"\n"+kubeconfig), w.discover("role: "+role+"\nattach_metadata: {}\n"+kubeconfig))
	}
	all[0].has("pod/a/p")
	all[8].has("node/n")
	kubetest.Eventually(t, "all is watched", func() bool { return len(s.Watching()) == 5 })
	for call, n := range s.Requests() {
		if n != 1 {
			t.Errorf("%d requests of %+v", n, call)
		}
	}
	if n := len(s.Requests()); n != 10 {
		t.Errorf("%d requests, want a list and a watch for 5 resources: %v", n, s.Requests())
	}
	// A config that comes while others run finds what is there.
	w.discover("role: pod\nattach_metadata: {node: true}\n" + kubeconfig).has("pod/a/p")
	if n := len(s.Requests()); n != 10 {
		t.Errorf("%d requests after one more job", n)
	}
}

func TestReloadThatReplacesAllDiscoverersListsNothingAgain(t *testing.T) {
	s := kubetest.New(t)
	config := "role: pod\nkubeconfig_file: " + s.Kubeconfig(t) + "\n"
	s.Put(runningPod("a", "p", "10.1.0.1", "n"))
	w := newWorld(t)
	first := w.discover(config)
	first.has("pod/a/p")
	first.stop()
	w.discover(config + "attach_metadata: {job: false}\n").has("pod/a/p")
	for call, n := range s.Requests() {
		if n != 1 {
			t.Errorf("%d requests of %+v", n, call)
		}
	}
}

func TestChangeOfAnObjectBuildsOnlyTheGroupsMadeOfIt(t *testing.T) {
	s := kubetest.New(t)
	for i := range 10 {
		s.Put(node(fmt.Sprint("n", i), "10.0.0.1"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("ns", i)}},
			runningPod(fmt.Sprint("ns", i), "p", fmt.Sprint("10.1.0.", i), fmt.Sprint("n", i)),
			&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns", i), Name: "e"}, Subsets: []corev1.EndpointSubset{{
				Ports:     []corev1.EndpointPort{{Port: 80}},
				Addresses: []corev1.EndpointAddress{{IP: "10.2.0.1", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: fmt.Sprint("ns", i), Name: "p"}}},
			}}})
	}
	f := newWorld(t).discover("role: endpoints\n" + everything + "kubeconfig_file: " + s.Kubeconfig(t) + "\n")
	kubetest.Eventually(t, "all groups", func() bool { return len(f.targets()) == 10 })
	sent := func(source string) int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.sent[source]
	}
	p := runningPod("ns3", "p", "10.1.0.3", "n3")
	p.Labels = map[string]string{"new": "label"}
	s.Put(p)
	kubetest.Eventually(t, "the change of a pod is seen", func() bool { return sent("endpoints/ns3/e") == 2 })
	s.Put(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns4", Name: "e", Labels: map[string]string{"a": "b"}}})
	kubetest.Eventually(t, "the new service is seen", func() bool { return sent("endpoints/ns4/e") == 2 })
	s.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns5", Labels: map[string]string{"a": "b"}}})
	kubetest.Eventually(t, "the change of a namespace is seen", func() bool { return sent("endpoints/ns5/e") == 2 })
	for i := range 10 {
		want := 1
		if i >= 3 && i <= 5 {
			want = 2
		}
		if got := sent(fmt.Sprintf("endpoints/ns%d/e", i)); got != want {
			t.Errorf("the group of ns%d was sent %d times, want %d", i, got, want)
		}
	}
}

func TestNodeThatLosesItsAddressKeepsItsTargetAndOneThatGoesDoesNot(t *testing.T) {
	s := kubetest.New(t)
	s.Put(node("a", "10.0.0.1"), node("b", "10.0.0.2"), node("never", ""))
	w := newWorld(t)
	f := w.discover("role: node\nkubeconfig_file: " + s.Kubeconfig(t) + "\n")
	f.has("node/a", "node/b")
	s.Put(node("a", ""))
	s.Delete(node("b", ""))
	f.has("node/a")
	if !strings.Contains(w.lines.String(), "never") {
		t.Errorf("no line about the node without an address: %s", w.lines)
	}
}

// jsonOf makes a server answer with this.
func jsonOf(body string) func(*kubetest.Server) {
	return func(s *kubetest.Server) {
		s.Fault(func(*http.Request) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, body)
			})
		})
	}
}

func TestNoTargetIsLostWhileTheServerFails(t *testing.T) {
	for name, fault := range map[string]func(s *kubetest.Server){
		"refused": func(s *kubetest.Server) {
			s.Fault(func(*http.Request) http.Handler { return s.Refuse(http.StatusForbidden) })
		},
		"too many requests": func(s *kubetest.Server) {
			s.Fault(func(*http.Request) http.Handler { return s.Refuse(http.StatusTooManyRequests) })
		},
		"dropped": func(s *kubetest.Server) { s.Fault(func(*http.Request) http.Handler { return kubetest.Drop() }) },
		"garbage": func(s *kubetest.Server) {
			s.Fault(func(*http.Request) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>not an API</html>") })
			})
		},
		"no JSON":                    jsonOf("<html>not an API</html>"),
		"empty JSON":                 jsonOf("{}"),
		"JSON of no list":            jsonOf(`{"kind":"Status","metadata":{"resourceVersion":"5"},"items":[]}`),
		"JSON without end":           jsonOf(`{"kind":"PodList","metadata":{"resourceVersion":"5"},"items":[`),
		"JSON of pods without names": jsonOf(`{"kind":"PodList","metadata":{"resourceVersion":"5"},"items":[{}]}`),
		"JSON of other types":        jsonOf(`{"kind":"PodList","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":["x"]}}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := kubetest.New(t)
			s.Put(runningPod("a", "p", "10.1.0.1", "n"), runningPod("a", "q", "10.1.0.2", "n"))
			w := newWorld(t)
			f := w.discover("role: pod\nkubeconfig_file: " + s.Kubeconfig(t) + "\n")
			f.has("pod/a/p", "pod/a/q")
			fault(s)
			before := testutil.ToFloat64(w.metrics.failures)
			kubetest.Eventually(t, "failures", func() bool {
				s.CutWatches() // also the one that was let through and had not begun
				return testutil.ToFloat64(w.metrics.failures) >= before+3
			})
			f.has("pod/a/p", "pod/a/q")
			s.Delete(runningPod("a", "q", "", ""))
			s.Put(runningPod("a", "r", "10.1.0.3", "n"))
			s.Fault(nil)
			f.has("pod/a/p", "pod/a/r")
		})
	}
}

func TestConfigsThatCannotWorkAreRefused(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	w := newWorld(t)
	broken := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(broken, []byte("clusters: 3"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"role: pod":                                                                           "unable to load in-cluster configuration",
		"role: pod\nkubeconfig_file: /none":                                                   "/none",
		"role: pod\nkubeconfig_file: " + broken:                                               "kubeconfig_file",
		"role: pod\nnamespaces: {own_namespace: true}":                                        "could not determine the pod's namespace",
		"role: pod\napi_server: https://h\ntls_config: {ca_file: /none.pem}":                  "/none.pem",
		"role: pod\napi_server: https://h\ntls_config: {cert_file: /c.pem, key_file: /k.pem}": "/c.pem",
	} {
		var cfg SDConfig
		if err := yaml.UnmarshalStrict([]byte(text), &cfg); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Discoverer(&cfg, w.log); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one that says %q", text, err, want)
		}
	}
}

// The API server may be given with its own HTTP settings; a token file is read
// again when it changes.
func TestTokenFileThatRotatesIsReadAgain(t *testing.T) {
	s := kubetest.New(t)
	s.SetToken("first")
	token := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	s.Put(runningPod("a", "p", "10.1.0.1", "n"))
	f := newWorld(t).discover("role: pod\napi_server: " + s.URL + "\nauthorization: {credentials_file: " + token + "}\n")
	f.has("pod/a/p")
	s.SetToken("second")
	write("second")
	s.CutWatches()
	s.Put(runningPod("a", "q", "10.1.0.2", "n"))
	f.has("pod/a/p", "pod/a/q")
}

package kubernetes

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"promagent/discovery/kubernetes/kubetest"
)

// Names are pieces of objects: one that is kept keeps the object's memory.
func TestRollingUpdateOfALargeServiceKeepsNoOldVersions(t *testing.T) {
	const pods, updates = 1000, 200
	s := kubetest.New(t)
	s.SetHistory(5)
	name := func(i, generation int) string { return fmt.Sprintf("deployment-with-a-long-name-%d-%d", generation, i) }
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "e"}, Subsets: []corev1.EndpointSubset{{Ports: []corev1.EndpointPort{{Port: 80}}}}}
	for i := range pods {
		node := fmt.Sprintf("ip-10-0-0-%d.eu-central-1.compute.internal", i)
		e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{
			IP: fmt.Sprintf("10.1.%d.%d", i/250, i%250), NodeName: &node, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "a", Name: name(i, 0)},
		})
	}
	s.Put(e)
	f := newWorld(t).discover("role: endpoints\nkubeconfig_file: " + s.Kubeconfig(t) + "\n")
	f.has("endpoints/a/e")
	heap := func() uint64 {
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range updates {
		e = e.DeepCopy()
		e.Subsets[0].Addresses[i].TargetRef.Name = name(i, 1)
		s.Put(e)
		kubetest.Eventually(t, "the change is seen", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.sent["endpoints/a/e"] >= i+2
		})
	}
	if after := heap(); after > before+5<<20 {
		t.Errorf("%d changes of one object leave %.1f MiB", updates, float64(after-before)/(1<<20))
	}
}

func TestNothingPilesUpWhileSomethingCannotBeListed(t *testing.T) {
	s := kubetest.New(t)
	s.Fault(func(r *http.Request) http.Handler {
		if strings.Contains(r.URL.Path, "/nodes") {
			return s.Refuse(http.StatusForbidden)
		}
		return nil
	})
	w := newWorld(t)
	d := w.discoverer("role: pod\nattach_metadata: {node: true}\nkubeconfig_file: " + s.Kubeconfig(t) + "\n")
	f := w.run(d)
	for i := range 300 {
		s.Put(runningPod("a", fmt.Sprint("job-", i), "10.0.0.1", "n"))
		s.Delete(runningPod("a", fmt.Sprint("job-", i), "", ""))
	}
	s.Put(runningPod("a", "last", "10.0.0.1", "n"))
	events := func() float64 { return testutil.ToFloat64(w.metrics.events.WithLabelValues("pod", "add")) }
	kubetest.Eventually(t, "the pods are seen", func() bool { return events() > 0 })
	p := d.parts[0]
	p.mu.Lock()
	if n := len(p.dirty); n > 0 {
		t.Errorf("%d changes are noted for nobody", n)
	}
	p.mu.Unlock()
	s.Put(node("n", "10.0.0.2"))
	s.Fault(nil)
	f.has("pod/a/last")
}

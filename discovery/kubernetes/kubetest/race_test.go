package kubetest

import (
	"net/http"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/discovery/targetgroup"
	corev1 "k8s.io/api/core/v1"
)

// The methods are called from many goroutines while clients read; the race
// detector watches. In the end the oracles have what is there.
func TestMethodsMayBeCalledAtOnce(t *testing.T) {
	s := New(t)
	s.SetHistory(20)
	oracles := []*Oracle{NewOracle(t, role(t, s, "pod", "")), NewOracle(t, role(t, s, "pod", "selectors: [{role: pod, label: '!none'}]"))}
	refused := false // told by one goroutine only, that of the faults
	var all sync.WaitGroup
	for seed := range uint64(3) {
		all.Go(func() {
			g := storm(seed)
			g.Apply(s, 200)
		})
	}
	all.Go(func() {
		for range 5 {
			s.Bookmark()
			s.CutWatches()
			s.SetStreamingLists(refused)
			refused = !refused
			s.Fault(func(r *http.Request) http.Handler {
				if r.URL.Query().Has("none") {
					return Drop()
				}
				return nil
			})
		}
	})
	all.Go(func() {
		for range 5 {
			_, _, _, _ = s.Objects(), s.Watching(), s.Requests(), s.Version()
			s.Touch("nodes")
			s.SetExpiredAsEvent(true)
		}
		s.Expire()
	})
	all.Wait()
	s.Fault(nil)
	want := map[string]bool{}
	for _, obj := range s.Objects() {
		if p, ok := obj.(*corev1.Pod); ok && p.Status.PodIP != "" {
			want["pod/"+key(p)] = true
		}
	}
	for _, o := range oracles {
		o.Wait(t, "the pods that are there", func(groups map[string]*targetgroup.Group) bool {
			for source := range groups {
				if !want[source] {
					return false
				}
			}
			return len(groups) == len(want)
		})
	}
}

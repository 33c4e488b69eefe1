package kubetest

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	asJSON     = runtime.ContentTypeJSON
	asProtobuf = runtime.ContentTypeProtobuf
)

// client is a clientset of client-go that talks to s in a content type.
func client(t *testing.T, s *Server, contentType string) *kubernetes.Clientset {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig(t))
	if err != nil {
		t.Fatalf("read kubeconfig: %v", err)
	}
	cfg.ContentType, cfg.QPS = contentType, -1
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatalf("make client: %v", err)
	}
	return c
}

func pod(ns, name, node string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// list lists pods without client-go's own retries, which take a second each.
func list(t *testing.T, c *kubernetes.Clientset, ns string, options metav1.ListOptions) (*corev1.PodList, error) {
	pods := &corev1.PodList{}
	err := c.CoreV1().RESTClient().Get().Namespace(ns).Resource("pods").VersionedParams(&options, scheme.ParameterCodec).MaxRetries(0).Do(t.Context()).Into(pods)
	return pods, err
}

func eachType(t *testing.T, test func(t *testing.T, contentType string)) {
	for _, c := range []string{asJSON, asProtobuf} {
		t.Run(c, func(t *testing.T) { test(t, c) })
	}
}

// names of a list's items, as NAMESPACE/NAME.
func names(t *testing.T, list runtime.Object) []string {
	t.Helper()
	var out []string
	if err := meta.EachListItem(list, func(o runtime.Object) error {
		out = append(out, key(accessor(o)))
		return nil
	}); err != nil {
		t.Fatalf("read list: %v", err)
	}
	return out
}

// next is the next event of a watch as TYPE KEY VERSION.
func next(t *testing.T, w watch.Interface) string {
	t.Helper()
	select {
	case e, ok := <-w.ResultChan():
		if !ok {
			return "end"
		}
		if s, ok := e.Object.(*metav1.Status); ok {
			return fmt.Sprintf("%s %d %s", e.Type, s.Code, s.Reason)
		}
		m := accessor(e.Object)
		return fmt.Sprintf("%s %s %s", e.Type, key(m), m.GetResourceVersion())
	case <-time.After(10 * time.Second):
		t.Fatal("no event within 10 s")
		return ""
	}
}

func expect(t *testing.T, w watch.Interface, want ...string) {
	t.Helper()
	for i, want := range want {
		if got := next(t, w); got != want {
			t.Fatalf("event %d is %q, want %q", i, got, want)
		}
	}
}

func TestEveryKindIsListedAndWatched(t *testing.T) {
	eachType(t, func(t *testing.T, contentType string) {
		s := New(t)
		c := client(t, s, contentType)
		in := metav1.ObjectMeta{Namespace: "ns", Name: "x"}
		s.Put(
			&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "x"}},
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}},
			&corev1.Pod{ObjectMeta: in}, &corev1.Service{ObjectMeta: in}, &corev1.Endpoints{ObjectMeta: in},
			&discoveryv1.EndpointSlice{ObjectMeta: in}, &networkingv1.Ingress{ObjectMeta: in},
			&appsv1.ReplicaSet{ObjectMeta: in}, &batchv1.Job{ObjectMeta: in},
		)
		ctx, all := t.Context(), metav1.ListOptions{}
		for _, tt := range []struct {
			name string
			list func() (runtime.Object, error)
			next func() (watch.Interface, error)
			want string
		}{
			{"nodes", func() (runtime.Object, error) { return c.CoreV1().Nodes().List(ctx, all) }, func() (watch.Interface, error) { return c.CoreV1().Nodes().Watch(ctx, all) }, "/x"},
			{"namespaces", func() (runtime.Object, error) { return c.CoreV1().Namespaces().List(ctx, all) }, func() (watch.Interface, error) { return c.CoreV1().Namespaces().Watch(ctx, all) }, "/x"},
			{"pods", func() (runtime.Object, error) { return c.CoreV1().Pods("").List(ctx, all) }, func() (watch.Interface, error) { return c.CoreV1().Pods("ns").Watch(ctx, all) }, "ns/x"},
			{"services", func() (runtime.Object, error) { return c.CoreV1().Services("ns").List(ctx, all) }, func() (watch.Interface, error) { return c.CoreV1().Services("").Watch(ctx, all) }, "ns/x"},
			{"endpoints", func() (runtime.Object, error) { return c.CoreV1().Endpoints("").List(ctx, all) }, func() (watch.Interface, error) { return c.CoreV1().Endpoints("ns").Watch(ctx, all) }, "ns/x"},
			{"endpointslices", func() (runtime.Object, error) { return c.DiscoveryV1().EndpointSlices("").List(ctx, all) }, func() (watch.Interface, error) { return c.DiscoveryV1().EndpointSlices("ns").Watch(ctx, all) }, "ns/x"},
			{"ingresses", func() (runtime.Object, error) { return c.NetworkingV1().Ingresses("ns").List(ctx, all) }, func() (watch.Interface, error) { return c.NetworkingV1().Ingresses("").Watch(ctx, all) }, "ns/x"},
			{"replicasets", func() (runtime.Object, error) { return c.AppsV1().ReplicaSets("").List(ctx, all) }, func() (watch.Interface, error) { return c.AppsV1().ReplicaSets("ns").Watch(ctx, all) }, "ns/x"},
			{"jobs", func() (runtime.Object, error) { return c.BatchV1().Jobs("ns").List(ctx, all) }, func() (watch.Interface, error) { return c.BatchV1().Jobs("").Watch(ctx, all) }, "ns/x"},
		} {
			list, err := tt.list()
			if err != nil {
				t.Fatalf("list %s: %v", tt.name, err)
			}
			if got := names(t, list); !slices.Equal(got, []string{tt.want}) {
				t.Errorf("list of %s has %q, want %q", tt.name, got, tt.want)
			}
			w, err := tt.next()
			if err != nil {
				t.Fatalf("watch %s: %v", tt.name, err)
			}
			if got := next(t, w); !strings.HasPrefix(got, "ADDED "+tt.want+" ") {
				t.Errorf("first event of %s is %q", tt.name, got)
			}
			w.Stop()
		}
	})
}

func TestWatchTellsChangesInOrder(t *testing.T) {
	eachType(t, func(t *testing.T, contentType string) {
		s := New(t)
		c := client(t, s, contentType)
		s.Put(pod("a", "p", "", nil)) // version 2
		list, err := c.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if list.ResourceVersion != "2" || list.Items[0].ResourceVersion != "2" || list.Items[0].UID == "" {
			t.Fatalf("list has version %q, its pod %q and UID %q", list.ResourceVersion, list.Items[0].ResourceVersion, list.Items[0].UID)
		}
		s.Put(pod("b", "q", "n", nil), pod("a", "p", "n", nil)) // before the watch starts: 3, 4
		w, err := c.CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "2", AllowWatchBookmarks: true})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		expect(t, w, "ADDED b/q 3", "MODIFIED a/p 4")
		s.Delete(pod("a", "p", "", nil), pod("a", "none", "", nil)) // 5
		s.Bookmark()
		s.Put(pod("a", "p", "", nil)) // 6
		expect(t, w, "DELETED a/p 5", "BOOKMARK / 5", "ADDED a/p 6")

		quiet, err := c.CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "6"})
		if err != nil {
			t.Fatal(err)
		}
		defer quiet.Stop()
		Eventually(t, "two watches run", func() bool {
			return len(s.Watching()) == 1 && s.Watching()[Call{Verb: "watch", Path: "/api/v1/pods"}] == 2
		})
		s.Bookmark()
		s.Put(pod("a", "z", "", nil)) // 7
		expect(t, quiet, "ADDED a/z 7")
	})
}

func TestObjectsKeepTheirUIDUntilTheyAreDeleted(t *testing.T) {
	s := New(t)
	c := client(t, s, asProtobuf)
	uid := func() string {
		p, err := c.CoreV1().Pods("a").Get(t.Context(), "p", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return string(p.UID)
	}
	given := pod("a", "p", "", nil)
	s.Put(given)
	first := uid()
	s.Put(given)
	if got := uid(); got != first {
		t.Errorf("UID %s after an update, want %s", got, first)
	}
	s.Delete(given)
	if _, err := c.CoreV1().Pods("a").Get(t.Context(), "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get a deleted pod: %v", err)
	}
	s.Put(given)
	if got := uid(); got == first {
		t.Errorf("UID %s of the deleted pod came back", got)
	}
	if given.UID != "" || given.ResourceVersion != "" {
		t.Error("Put wrote to the object that it was given")
	}
}

func TestSelectorsFilterListsAndTurnUpdatesIntoAddsAndDeletes(t *testing.T) {
	eachType(t, func(t *testing.T, contentType string) {
		s := New(t)
		c := client(t, s, contentType)
		s.Put(pod("a", "p", "n1", map[string]string{"app": "x"}), pod("a", "q", "n2", map[string]string{"app": "y"}), pod("b", "p", "n1", nil)) // 2, 3, 4
		s.Put(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "s"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort}})
		for _, tt := range []struct {
			ns, label, field string
			want             []string
		}{
			{"", "", "", []string{"a/p", "a/q", "b/p"}},
			{"", "app=x", "", []string{"a/p"}},
			{"", "app in (x,y),app!=y", "", []string{"a/p"}},
			{"", "!app", "", []string{"b/p"}},
			{"", "", "spec.nodeName=n1", []string{"a/p", "b/p"}},
			{"a", "", "spec.nodeName!=n1", []string{"a/q"}},
			{"", "", "metadata.name=p,metadata.namespace=b", []string{"b/p"}},
			{"", "", "status.phase=Pending", nil},
			{"", "app", "status.phase=Running", []string{"a/p", "a/q"}},
			{"none", "", "", nil},
		} {
			list, err := c.CoreV1().Pods(tt.ns).List(t.Context(), metav1.ListOptions{LabelSelector: tt.label, FieldSelector: tt.field})
			if err != nil {
				t.Fatal(err)
			}
			if got := names(t, list); !slices.Equal(got, tt.want) {
				t.Errorf("pods of %q by %q and %q are %q, want %q", tt.ns, tt.label, tt.field, got, tt.want)
			}
		}
		services, err := c.CoreV1().Services("").List(t.Context(), metav1.ListOptions{FieldSelector: "spec.type=NodePort"})
		if err != nil || len(services.Items) != 1 {
			t.Errorf("services by type: %v, %v", services, err)
		}
		for _, bad := range []metav1.ListOptions{{FieldSelector: "spec.foo=1"}, {LabelSelector: "a=b=c"}, {FieldSelector: "x"}} {
			if _, err := c.CoreV1().Pods("").List(t.Context(), bad); !apierrors.IsBadRequest(err) {
				t.Errorf("list by %q %q: %v, want a bad request", bad.LabelSelector, bad.FieldSelector, err)
			}
		}

		w, err := c.CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: s.Version(), LabelSelector: "app=x", FieldSelector: "spec.nodeName=n1"})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		s.Put(
			pod("b", "p", "n1", map[string]string{"app": "x"}), // 6: enters
			pod("a", "q", "n2", nil),                           // not at all
			pod("b", "p", "n1", map[string]string{"app": "x", "v": "2"}),
			pod("b", "p", "n2", map[string]string{"app": "x"}), // leaves
			pod("b", "p", "n2", nil),                           // stays out
		)
		s.Delete(pod("b", "p", "", nil), pod("a", "p", "", nil))
		expect(t, w, "ADDED b/p 6", "MODIFIED b/p 8", "DELETED b/p 9", "DELETED a/p 12")
	})
}

func TestWatchFromNothingStartsWithAllObjects(t *testing.T) {
	for _, version := range []string{"", "0"} {
		s := New(t)
		s.Put(pod("a", "p", "", nil), pod("a", "q", "", nil))
		w, err := client(t, s, asProtobuf).CoreV1().Pods("a").Watch(t.Context(), metav1.ListOptions{ResourceVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		s.Put(pod("a", "r", "", nil))
		expect(t, w, "ADDED a/p 2", "ADDED a/q 3", "ADDED a/r 4")
		w.Stop()
	}
}

func TestStreamedListEndsWithABookmark(t *testing.T) {
	eachType(t, func(t *testing.T, contentType string) {
		s := New(t)
		c := client(t, s, contentType)
		s.Put(pod("a", "p", "", nil))
		yes := true
		options := metav1.ListOptions{SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true}
		w, err := c.CoreV1().Pods("").Watch(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		expect(t, w, "ADDED a/p 2")
		e := <-w.ResultChan()
		if m := accessor(e.Object); e.Type != watch.Bookmark || m.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" || m.GetResourceVersion() != "2" {
			t.Errorf("after the objects came %s %v", e.Type, m)
		}
		s.SetStreamingLists(false)
		if _, err := c.CoreV1().Pods("").Watch(t.Context(), options); !apierrors.IsInvalid(err) {
			t.Errorf("streamed list of an older server: %v, want invalid", err)
		}
	})
}

func TestListVersions(t *testing.T) {
	s := New(t)
	c := client(t, s, asProtobuf)
	s.Put(pod("a", "p", "", nil), pod("a", "q", "", nil)) // 2, 3
	s.Delete(pod("a", "p", "", nil))                      // 4
	s.Put(pod("a", "r", "", nil))                         // 5
	const exact, notOlder = metav1.ResourceVersionMatchExact, metav1.ResourceVersionMatchNotOlderThan
	for _, tt := range []struct {
		version string
		match   metav1.ResourceVersionMatch
		want    []string
		at      string
		refused func(error) bool
	}{
		{"", "", []string{"a/q", "a/r"}, "5", nil},
		{"0", "", []string{"a/q", "a/r"}, "5", nil},
		{"2", "", []string{"a/q", "a/r"}, "5", nil},
		{"2", notOlder, []string{"a/q", "a/r"}, "5", nil},
		{"2", exact, []string{"a/p"}, "2", nil},
		{"3", exact, []string{"a/p", "a/q"}, "3", nil},
		{"4", exact, []string{"a/q"}, "4", nil},
		{"5", exact, []string{"a/q", "a/r"}, "5", nil},
		{"6", notOlder, nil, "", apierrors.IsTimeout},
		{"6", exact, nil, "", apierrors.IsTimeout},
		{"0", exact, nil, "", apierrors.IsInvalid},
		{"", exact, nil, "", apierrors.IsInvalid},
		{"x", "", nil, "", apierrors.IsBadRequest},
	} {
		pods, err := list(t, c, "", metav1.ListOptions{ResourceVersion: tt.version, ResourceVersionMatch: tt.match})
		switch {
		case tt.refused != nil:
			if !tt.refused(err) {
				t.Errorf("list at %q %s: %v", tt.version, tt.match, err)
			}
		case err != nil:
			t.Errorf("list at %q %s: %v", tt.version, tt.match, err)
		case !slices.Equal(names(t, pods), tt.want) || pods.ResourceVersion != tt.at:
			t.Errorf("list at %q %s has %q of version %s, want %q of %s", tt.version, tt.match, names(t, pods), pods.ResourceVersion, tt.want, tt.at)
		}
	}
	_, err := list(t, c, "", metav1.ListOptions{ResourceVersion: "6"})
	if !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
		t.Errorf("a version of the future: %v, want the cause that says so", err)
	}
	s.Expire()
	if _, err := list(t, c, "", metav1.ListOptions{ResourceVersion: "5", ResourceVersionMatch: exact}); !apierrors.IsResourceExpired(err) {
		t.Errorf("exact list of an expired version: %v", err)
	}
}

func TestListsComeInPages(t *testing.T) {
	s := New(t)
	c := client(t, s, asProtobuf)
	for i := range 5 {
		s.Put(pod("a", fmt.Sprint("p", i), "", nil))
	}
	first, err := c.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if first.RemainingItemCount == nil || *first.RemainingItemCount != 3 {
		t.Errorf("remaining items %v, want 3", first.RemainingItemCount)
	}
	s.Delete(pod("a", "p3", "", nil)) // the later pages are of the version of the first
	got, token := names(t, first), first.Continue
	for token != "" {
		page, err := c.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{Limit: 2, Continue: token})
		if err != nil {
			t.Fatal(err)
		}
		if page.ResourceVersion != first.ResourceVersion {
			t.Errorf("a later page has version %s, want %s", page.ResourceVersion, first.ResourceVersion)
		}
		got, token = append(got, names(t, page)...), page.Continue
	}
	if want := []string{"a/p0", "a/p1", "a/p2", "a/p3", "a/p4"}; !slices.Equal(got, want) {
		t.Errorf("pages have %q, want %q", got, want)
	}
	whole, err := c.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{Limit: 2, ResourceVersion: "0"})
	if err != nil || len(whole.Items) != 4 {
		t.Errorf("list from the cache has %d items, %v, want all 4", len(whole.Items), err)
	}
	s.Expire()
	if _, err := c.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{Limit: 2, Continue: first.Continue}); !apierrors.IsResourceExpired(err) {
		t.Errorf("a page of an expired version: %v", err)
	}
}

func TestExpiredVersionsAreGone(t *testing.T) {
	eachType(t, func(t *testing.T, contentType string) {
		s := New(t)
		pods := client(t, s, contentType).CoreV1().Pods("")
		s.Put(pod("a", "p", "", nil))
		before := metav1.ListOptions{ResourceVersion: s.Version()}
		w, err := pods.Watch(t.Context(), before)
		if err != nil {
			t.Fatal(err)
		}
		s.Put(pod("a", "p", "n", nil))
		expect(t, w, "MODIFIED a/p 3")
		s.Expire()
		expect(t, w, "ERROR 410 Expired", "end")

		if _, err := pods.Watch(t.Context(), before); !apierrors.IsResourceExpired(err) {
			t.Errorf("watch from before: %v, want expired", err)
		}
		s.SetExpiredAsEvent(true)
		if w, err = pods.Watch(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		expect(t, w, "ERROR 410 Expired", "end")

		if w, err = pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: s.Version()}); err != nil {
			t.Fatal(err)
		}
		s.Put(pod("a", "p", "m", nil))
		expect(t, w, "MODIFIED a/p 5")
		w.Stop()
	})
}

func TestHistoryMayBeShort(t *testing.T) {
	s := New(t)
	pods := client(t, s, asJSON).CoreV1().Pods("")
	s.SetHistory(2)
	for i := range 4 {
		s.Put(pod("a", fmt.Sprint("p", i), "", nil)) // 2 to 5
	}
	if _, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "2"}); !apierrors.IsResourceExpired(err) {
		t.Errorf("watch from 2: %v, want expired", err)
	}
	w, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "3"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	expect(t, w, "ADDED a/p2 4", "ADDED a/p3 5")
}

func TestWatchEndsAtItsTimeout(t *testing.T) {
	s := New(t)
	second := int64(1)
	w, err := client(t, s, asProtobuf).CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1", TimeoutSeconds: &second})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, w, "end")
}

func TestCutWatchesBreaksStreamsOnly(t *testing.T) {
	eachType(t, func(t *testing.T, contentType string) {
		s := New(t)
		pods := client(t, s, contentType).CoreV1().Pods("")
		w, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
		if err != nil {
			t.Fatal(err)
		}
		s.Put(pod("a", "p", "", nil))
		expect(t, w, "ADDED a/p 2")
		s.CutWatches()
		if n := len(s.Watching()); n != 0 {
			t.Errorf("%d watches run after the cut", n)
		}
		// Half an event is no event, and an error at most.
		if got := next(t, w); got != "end" && !strings.HasPrefix(got, "ERROR ") {
			t.Errorf("after the cut came %q", got)
		}
		if w, err = pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"}); err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		expect(t, w, "ADDED a/p 2")
	})
}

func TestFaultsAnswerInTheServersPlace(t *testing.T) {
	s := NewTLS(t) // client-go keeps its token from a server without TLS
	c := client(t, s, asProtobuf)
	ask := func() error {
		_, err := list(t, c, "ns", metav1.ListOptions{})
		return err
	}
	for _, tt := range []struct {
		code int
		is   func(error) bool
		says string
	}{
		{http.StatusUnauthorized, apierrors.IsUnauthorized, "Unauthorized"},
		{http.StatusForbidden, apierrors.IsForbidden, `cannot list resource "pods" in API group "" in the namespace "ns"`},
		{http.StatusNotFound, apierrors.IsNotFound, "not find"},
		{http.StatusGone, apierrors.IsResourceExpired, "too old"},
		{http.StatusTooManyRequests, apierrors.IsTooManyRequests, "Too many requests"},
		{http.StatusInternalServerError, apierrors.IsInternalError, ""},
		{http.StatusServiceUnavailable, apierrors.IsServiceUnavailable, "shutting down"},
	} {
		s.Fault(func(*http.Request) http.Handler { return s.Refuse(tt.code) })
		err := ask()
		if !tt.is(err) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("refused with %d: %v", tt.code, err)
		}
		after, hint := apierrors.SuggestsClientDelay(err)
		if want := tt.code == http.StatusTooManyRequests || tt.code == http.StatusServiceUnavailable; want != (hint && after == 1) {
			t.Errorf("%d suggests a delay of %d s (%t), want one: %t", tt.code, after, hint, want)
		}
	}
	s.Fault(func(*http.Request) http.Handler { return Drop() })
	if err := ask(); err == nil {
		t.Error("a dropped connection gave no error")
	}
	s.Fault(nil)
	if err := ask(); err != nil {
		t.Errorf("after the faults: %v", err)
	}
	s.SetToken("another")
	if err := ask(); !apierrors.IsUnauthorized(err) {
		t.Errorf("with a token of old: %v", err)
	}
	s.SetToken(Token)
	if err := ask(); err != nil {
		t.Errorf("with the kubeconfig's token: %v", err)
	}
}

func TestRequestsAreCountedByWhatTheyAskFor(t *testing.T) {
	s := NewTLS(t)
	c := client(t, s, asProtobuf)
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		if _, err := c.CoreV1().Pods("").List(ctx, metav1.ListOptions{ResourceVersion: "0"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.CoreV1().Pods("a").List(ctx, metav1.ListOptions{LabelSelector: "x=y"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{ResourceVersion: "1", FieldSelector: "spec.nodeName=n"}); err != nil {
		t.Fatal(err)
	}
	want := map[Call]int{
		{Verb: "list", Path: "/api/v1/pods"}:                            2,
		{Verb: "list", Path: "/api/v1/namespaces/a/pods", Label: "x=y"}: 1,
		{Verb: "watch", Path: "/api/v1/pods", Field: "spec.nodeName=n"}: 1,
	}
	got := s.Requests()
	if fmt.Sprint(sorted(got)) != fmt.Sprint(sorted(want)) {
		t.Errorf("requests %v, want %v", sorted(got), sorted(want))
	}
	running := Call{Verb: "watch", Path: "/api/v1/pods", Field: "spec.nodeName=n"}
	if n := s.Watching()[running]; n != 1 {
		t.Errorf("%d watches run, want 1", n)
	}
	cancel()
	Eventually(t, "the watch has ended", func() bool { return len(s.Watching()) == 0 })
	if h := s.Log()[0].Header; h.Get("Authorization") != "Bearer "+Token {
		t.Errorf("the log has headers %v", h)
	}
}

func sorted(calls map[Call]int) []string {
	var out []string
	for c, n := range calls {
		out = append(out, fmt.Sprintf("%d %+v", n, c))
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}

package watch

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"promagent/discovery/kubernetes/kubetest"
	"promagent/discovery/kubernetes/object"
)

// proxy passes connections on until it is told to cut them.
type proxy struct {
	l     net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			group.Go(func() { io.Copy(out, in); out.Close() })
			group.Go(func() { io.Copy(in, out); in.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		group.Wait()
	})
	return p
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// running makes a cluster that runs until the test ends.
func running(t *testing.T, cfg *rest.Config) *Cluster {
	t.Helper()
	client, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := NewCluster(client, Options{Decode: decodeThing})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// watcher is a store with the changes that its test waits for.
type watcher struct {
	*Store
	changes chan string
}

func watched(c *Cluster, q Query) watcher {
	s, _ := c.Use(q)
	w := watcher{s, make(chan string, 1000)}
	s.Subscribe(func(old, new object.Object) { w.changes <- fmt.Sprint(old, " > ", new) })
	return w
}

func (w watcher) next(t *testing.T, want string) {
	t.Helper()
	if got := <-w.changes; got != want {
		t.Errorf("change: got %q, want %q", got, want)
	}
}

func meta(ns, name, value string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"v": value}}
}

func TestEveryKindOverTLS(t *testing.T) {
	server := kubetest.NewTLS(t)
	server.SetToken(kubetest.Token)
	cfg, err := clientcmd.BuildConfigFromFlags("", server.Kubeconfig(t))
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(cfg.BearerToken), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.BearerToken, cfg.BearerTokenFile, cfg.UserAgent = "", token, "Prometheus/9"
	c := running(t, cfg)
	for _, tt := range []struct {
		kind object.Kind
		make func(metav1.ObjectMeta) runtime.Object
	}{
		{object.KindNode, func(m metav1.ObjectMeta) runtime.Object { m.Namespace = ""; return &corev1.Node{ObjectMeta: m} }},
		{object.KindPod, func(m metav1.ObjectMeta) runtime.Object { return &corev1.Pod{ObjectMeta: m} }},
		{object.KindService, func(m metav1.ObjectMeta) runtime.Object { return &corev1.Service{ObjectMeta: m} }},
		{object.KindEndpoints, func(m metav1.ObjectMeta) runtime.Object { return &corev1.Endpoints{ObjectMeta: m} }},
		{object.KindEndpointSlice, func(m metav1.ObjectMeta) runtime.Object { return &discoveryv1.EndpointSlice{ObjectMeta: m} }},
		{object.KindIngress, func(m metav1.ObjectMeta) runtime.Object { return &networkingv1.Ingress{ObjectMeta: m} }},
		{object.KindNamespace, func(m metav1.ObjectMeta) runtime.Object { m.Namespace = ""; return &corev1.Namespace{ObjectMeta: m} }},
		{object.KindReplicaSet, func(m metav1.ObjectMeta) runtime.Object { return &appsv1.ReplicaSet{ObjectMeta: m} }},
		{object.KindJob, func(m metav1.ObjectMeta) runtime.Object { return &batchv1.Job{ObjectMeta: m} }},
	} {
		q := Query{Kind: tt.kind, Namespace: "a"}
		t.Run(q.String(), func(t *testing.T) {
			ns := "a"
			if r, _ := q.resource(); r.everywhere {
				ns = ""
			}
			server.Put(tt.make(meta("a", "x", "1")), tt.make(meta("b", "other", "1")))
			w := watched(c, q)
			<-w.Synced()
			if ns == "" {
				for range 2 {
					<-w.changes
				}
			} else {
				w.next(t, "<nil> > a/x=1")
			}
			server.Put(tt.make(meta("a", "x", "2")))
			w.next(t, ns+"/x=1 > "+ns+"/x=2")
			server.Delete(tt.make(meta("a", "x", "2")))
			w.next(t, ns+"/x=2 > <nil>")
		})
	}
	for _, r := range server.Log() {
		if r.Header.Get("User-Agent") != "Prometheus/9" {
			t.Errorf("User-Agent: got %q", r.Header.Get("User-Agent"))
		}
	}
	if n := len(server.Log()); n != 18 {
		t.Errorf("requests: got %d, want a list and a watch of every kind", n)
	}
}

func TestCutConnectionIsTakenUpWithoutAList(t *testing.T) {
	server := kubetest.New(t)
	server.Put(pod("a/x=1", ""), pod("a/y=1", ""))
	p := newProxy(t, strings.TrimPrefix(server.URL, "http://"))
	c := running(t, &rest.Config{Host: "http://" + p.l.Addr().String()})
	w := watched(c, podQuery)
	w.next(t, "<nil> > a/x=1")
	w.next(t, "<nil> > a/y=1")
	server.Put(pod("a/x=2", ""))
	w.next(t, "a/x=1 > a/x=2")
	p.cut()
	server.Put(pod("a/z=1", ""))
	server.Delete(pod("a/y=1", ""))
	w.next(t, "<nil> > a/z=1")
	w.next(t, "a/y=1 > <nil>")
	lists := server.Requests()[kubetest.Call{Verb: "list", Path: "/api/v1/pods"}]
	if lists != 1 {
		t.Errorf("lists: got %d, want 1", lists)
	}
}

func TestExpiredWatchFindsWhatWasDeleted(t *testing.T) {
	for _, event := range []bool{false, true} {
		t.Run(fmt.Sprint("as event: ", event), func(t *testing.T) {
			server := kubetest.New(t)
			server.SetExpiredAsEvent(event)
			server.Put(pod("a/x=1", ""))
			p := newProxy(t, strings.TrimPrefix(server.URL, "http://"))
			w := watched(running(t, &rest.Config{Host: p.l.Addr().String()}), podQuery)
			w.next(t, "<nil> > a/x=1")
			server.Put(pod("a/y=1", ""))
			w.next(t, "<nil> > a/y=1")
			server.Fault(func(*http.Request) http.Handler { return kubetest.Drop() })
			p.cut()
			server.Delete(pod("a/x=1", ""))
			server.Expire()
			server.Fault(nil)
			w.next(t, "a/x=1 > <nil>")
			if n := w.Len(); n != 1 {
				t.Errorf("objects: got %d, want 1", n)
			}
		})
	}
}

func TestServerBelowAPath(t *testing.T) {
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.URL.EscapedPath():
		default: // it asks again
		}
	}))
	defer server.Close()
	c := running(t, &rest.Config{Host: server.URL + "/k8s/clusters/c%2F1/"})
	c.Use(Query{Kind: object.KindPod, Namespace: "a/b"})
	if got, want := <-asked, "/k8s/clusters/c%2F1/api/v1/namespaces/a%2Fb/pods"; got != want {
		t.Errorf("path: got %q, want %q", got, want)
	}
}

func TestTimeoutOfConfigDoesNotEndWatches(t *testing.T) {
	cfg := &rest.Config{Host: "http://a", Timeout: time.Second}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if c.http.Timeout != 0 || cfg.Timeout != time.Second || cfg.Dial != nil {
		t.Errorf("timeout of the client: %v; the caller's config: %v", c.http.Timeout, cfg)
	}
}

func TestClientOfNonsense(t *testing.T) {
	for name, cfg := range map[string]*rest.Config{
		"address": {Host: "http://a b/"},
		"CA":      {Host: "https://a", TLSClientConfig: rest.TLSClientConfig{CAFile: "/nowhere/ca.crt"}},
	} {
		if _, err := NewClient(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Addresses in the cluster that deploy/kubernetes is tried in.
const (
	nodeIP    = "10.42.255.1"
	remoteIP  = "10.42.255.2" // metrics.example.com
	serviceIP = "10.42.255.3" // kubernetes.default.svc
)

// resolve makes a name known to the processes that the test starts.
func resolve(t testing.TB, ip, name string) {
	t.Helper()
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile("/etc/hosts", before, 0o644) })
	f, err := os.OpenFile("/etc/hosts", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(f, ip, name); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// forward lets addr be another address of what listens on to.
func forward(t testing.TB, addr, to string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					io.Copy(way[0], way[1])
					way[0].Close()
					way[1].Close()
				}()
			}
		}
	}()
}

// serveTLS serves at an address with one of the cluster's certificates.
func (c *cluster) serveTLS(addr, certificate string, h http.Handler) {
	c.t.Helper()
	cert, err := tls.LoadX509KeyPair(c.file(certificate+".crt"), c.file(certificate+".key"))
	if err != nil {
		c.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.read("ca.crt"))
	ln, err := tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool})
	if err != nil {
		c.t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(ln)
	c.t.Cleanup(func() { s.Close() })
}

// kubelet answers as a kubelet does: to the API server by its certificate, to
// others when their token may get nodes/metrics.
func (c *cluster) kubelet(w http.ResponseWriter, r *http.Request) {
	if len(r.TLS.PeerCertificates) == 0 {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		who, err := c.client.AuthenticationV1().TokenReviews().Create(r.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
		if err != nil || !who.Status.Authenticated {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		may, err := c.client.AuthorizationV1().SubjectAccessReviews().Create(r.Context(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: who.Status.User.Username, Groups: who.Status.User.Groups,
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "nodes", Subresource: "metrics", Name: "edge-1"},
		}}, metav1.CreateOptions{})
		if err != nil || !may.Status.Allowed {
			http.Error(w, "Forbidden", http.StatusForbidden)
			return
		}
	}
	switch r.URL.Path {
	case "/metrics":
		fmt.Fprintln(w, "kubelet_running_pods 3")
	case "/metrics/cadvisor":
		fmt.Fprintf(w, "container_cpu_usage_seconds_total{namespace=\"shop\",pod=\"web-1\"} 7 %d\n", time.Now().UnixMilli())
	default:
		http.NotFound(w, r)
	}
}

// mount lays out a ConfigMap as the kubelet mounts it, and again when it has changed.
func (c *cluster) mount(namespace, name, dir string, version int) {
	c.t.Helper()
	m, err := c.client.CoreV1().ConfigMaps(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	folder := fmt.Sprintf("..%d", version)
	if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
		c.t.Fatal(err)
	}
	for file, text := range m.Data {
		writeFile(c.t, filepath.Join(dir, folder, file), text)
		if err := os.Symlink("..data/"+file, filepath.Join(dir, file)); err != nil && !os.IsExist(err) {
			c.t.Fatal(err)
		}
	}
	if err := os.Symlink(folder, filepath.Join(dir, "..data_tmp")); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		c.t.Fatal(err)
	}
}

// deployedArgs are the agent's arguments of the Deployment in the cluster, with
// what it mounts in dir and its page at addr.
func (c *cluster) deployedArgs(dir, addr string) []string {
	c.t.Helper()
	d, err := c.client.AppsV1().Deployments("monitoring").Get(context.Background(), "prom-agent", metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	var args []string
	for _, a := range d.Spec.Template.Spec.Containers[0].Args {
		a = strings.NewReplacer("/etc/prom-agent/config", filepath.Join(dir, "config"), "/var/lib/prom-agent", filepath.Join(dir, "wal"), "=:9090", "="+addr).Replace(a)
		args = append(args, a)
	}
	return args
}

// without changes the agent's ClusterRole to one that may not do verb to the
// resource, and is the role as it was.
func (c *cluster) without(verb, resource string) *rbacv1.ClusterRole {
	c.t.Helper()
	ctx := context.Background()
	role, err := c.client.RbacV1().ClusterRoles().Get(ctx, "prom-agent", metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	less := role.DeepCopy()
	less.Rules = nil
	for _, r := range role.Rules {
		if !slices.Contains(r.Resources, resource) {
			less.Rules = append(less.Rules, r)
			continue
		}
		for _, one := range r.Resources {
			narrow := *r.DeepCopy()
			narrow.Resources = []string{one}
			if one == resource {
				narrow.Verbs = slices.DeleteFunc(narrow.Verbs, func(v string) bool { return v == verb })
			}
			if len(narrow.Verbs) > 0 {
				less.Rules = append(less.Rules, narrow)
			}
		}
	}
	if _, err := c.client.RbacV1().ClusterRoles().Update(ctx, less, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	return role
}

// deploy/kubernetes as it is, in a cluster with what its jobs look for: every
// job's samples arrive at the remote, by the rights of the ServiceAccount
// alone; a right that is taken away is named, costs no targets, and is used
// again when it is back; a changed ConfigMap is taken over.
func TestDeploymentDeliversWithItsOwnRights(t *testing.T) {
	c := startCluster(t, "shop", "kube-system")
	c.applyFolder("../../deploy/kubernetes")

	central := startReceiver(t, receiver{binary: currentBinary}, t.TempDir(), freeAddr(t))
	c.serveTLS(remoteIP+":443", "others", httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: central.addr}))
	resolve(t, remoteIP, "metrics.example.com")
	forward(t, serviceIP+":443", c.addr)
	resolve(t, serviceIP, "kubernetes.default.svc")
	c.serveTLS(nodeIP+":10250", "server", http.HandlerFunc(c.kubelet))
	startNodeExporter(t, nodeIP+":9100")
	servePod(t, "10.42.0.5:8080")
	servePod(t, "10.42.0.6:8080")

	n := node("edge-1", nodeIP, map[string]string{"topology.kubernetes.io/zone": "z1"})
	web := runningPod("shop", "web-1", n.Name, "10.42.0.5", 8080)
	web.Labels = map[string]string{"app": "web"}
	web.Annotations = map[string]string{"prometheus.io/scrape": "true"}
	state := runningPod("kube-system", "kube-state-metrics-0", n.Name, "10.42.0.6", 8080)
	stateService := headless("kube-system", "kube-state-metrics", 8080)
	stateService.Spec.Ports[0].Name = "http-metrics"
	exporter := runningPod("monitoring", "node-exporter-x", n.Name, nodeIP, 9100)
	exporterService, err := c.client.CoreV1().Services("monitoring").Get(context.Background(), "node-exporter", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	api := endpointsOf(headless("default", "kubernetes", 443))
	api.Subsets = []corev1.EndpointSubset{{ //nolint:staticcheck // the endpoints role is of it
		Addresses: []corev1.EndpointAddress{{IP: serviceIP}}, Ports: []corev1.EndpointPort{{Name: "https", Port: 443}},
	}}
	exporterEndpoints := endpointsOf(exporterService, exporter)
	exporterEndpoints.ResourceVersion, exporterEndpoints.UID = "", ""
	c.put(n, web, state, stateService, endpointsOf(stateService, state), exporter, exporterEndpoints, api)

	dir, addr := t.TempDir(), freeAddr(t)
	c.mount("monitoring", "prom-agent-config", filepath.Join(dir, "config"), 1)
	c.inCluster("monitoring", c.token("monitoring", "prom-agent"))
	t.Setenv("SSL_CERT_FILE", c.file("ca.crt"))
	agent := start(t, "agent", addr, "/-/ready", append([]string{agentBinary}, c.deployedArgs(dir, addr)...)...)

	up := func(cluster string) func() error {
		return func() error {
			got, err := central.query(fmt.Sprintf(`sum by (job) (up{cluster=%q})`, cluster))
			if err != nil {
				return err
			}
			var jobs []string
			for _, s := range got {
				jobs = append(jobs, fmt.Sprintf("%s %v", s.Metric["job"], s.value()))
			}
			slices.Sort(jobs)
			want := []string{"kube-apiserver 1", "kube-state-metrics 1", "kubelet-cadvisor 1", "kubernetes-nodes 1", "kubernetes-pods 1", "node-exporter 1"}
			if !slices.Equal(jobs, want) {
				return fmt.Errorf("up are %q, want %q", jobs, want)
			}
			return nil
		}
	}
	eventually(t, 45*time.Second, "every job's target is up in the receiver", up("my-cluster"))
	for _, expr := range []string{
		`node_cpu_seconds_total{job="node-exporter",instance="edge-1",node="edge-1"}`,
		`container_cpu_usage_seconds_total{job="kubelet-cadvisor",instance="edge-1",topology_kubernetes_io_zone="z1",pod="web-1"}`,
		`kubelet_running_pods{job="kubernetes-nodes",instance="edge-1"}`,
		`pod_answers{job="kubernetes-pods",namespace="shop",pod="web-1",app="web",node="edge-1"}`,
		`pod_answers{job="kube-state-metrics"}`,
		`apiserver_request_total{job="kube-apiserver"}`,
	} {
		if got, err := central.query(expr); err != nil || len(got) == 0 {
			t.Errorf("%s: %d series, %v", expr, len(got), err)
		}
	}

	targets, err := agent.shownTargets()
	if err != nil {
		t.Fatal(err)
	}
	said := func(words ...string) error {
		b, err := os.ReadFile(agent.log)
		if err != nil {
			return err
		}
		for line := range strings.SplitSeq(string(b), "\n") {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return nil
			}
		}
		return fmt.Errorf("no line with all of %q", words)
	}
	role := c.without("watch", "nodes")
	c.killServer() // or the watch would go on with the rights that it began with
	c.startServer()
	eventually(t, 20*time.Second, "the missing right is named", func() error { return said("forbids to read nodes", "watch") })
	now, err := agent.shownTargets()
	if err != nil {
		t.Fatal(err)
	}
	if err := now.against(targets); err != nil {
		t.Errorf("a right that is gone changes targets: %v", err)
	}
	role.ResourceVersion = ""
	if _, err := c.client.RbacV1().ClusterRoles().Update(context.Background(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.put(node("edge-2", "10.42.255.9", nil))
	eventually(t, 60*time.Second, "a new node is known when the right is back", func() error {
		got, err := agent.shownTargets()
		if err == nil && len(got.active) != len(targets.active)+2 {
			err = fmt.Errorf("%d targets, want %d", len(got.active), len(targets.active)+2)
		}
		return err
	})
	c.remove(node("edge-2", "", nil))

	m, err := c.client.CoreV1().ConfigMaps("monitoring").Get(context.Background(), "prom-agent-config", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range m.Data {
		m.Data[name] = strings.Replace(text, "cluster: my-cluster", "cluster: another", 1)
	}
	if _, err := c.client.CoreV1().ConfigMaps("monitoring").Update(context.Background(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.mount("monitoring", "prom-agent-config", filepath.Join(dir, "config"), 2)
	eventually(t, 90*time.Second, "samples arrive by the changed ConfigMap", up("another"))
	refused(t, central)
}

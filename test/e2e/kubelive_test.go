package e2e

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// everyRole is a config with a job for each role, and nothing to scrape in vain.
func (c *cluster) everyRole(kubeconfig string) string {
	text := "global: {scrape_interval: 1h}\nremote_write: [{url: 'http://127.0.0.1:1/w'}]\nscrape_configs:\n"
	for _, role := range []string{"node", "pod", "service", "endpoints", "endpointslice", "ingress"} {
		text += fmt.Sprintf("- job_name: %s\n  kubernetes_sd_configs: [{role: %s, kubeconfig_file: %s}]\n", role, role, kubeconfig)
	}
	return text
}

// whole are objects that give each role of everyRole a target more: a node, and
// a service with a pod behind it and an ingress before it.
func whole(i int) []metav1.Object {
	n := node(fmt.Sprintf("edge-%d", i), fmt.Sprintf("10.42.255.%d", i), nil)
	pod := runningPod("shop", fmt.Sprintf("web-%d", i), n.Name, fmt.Sprintf("10.42.0.%d", i), 8080)
	service := headless("shop", fmt.Sprintf("web-%d", i), 8080)
	return []metav1.Object{n, pod, service, endpointsOf(service, pod), sliceOf(service, pod), ingress("shop", service.Name, fmt.Sprintf("shop-%d.example", i), "/")}
}

// shows is nil when the agent has as many targets as there are wholes, in each role.
// The API server's own service is in the default namespace.
func (p *process) shows(wholes int) error {
	got, err := p.shownTargets()
	if err != nil {
		return err
	}
	n := 0
	for _, line := range got.active {
		if !strings.Contains(line, `"__meta_kubernetes_namespace":"default"`) {
			n++
		}
	}
	if n != 6*wholes {
		return fmt.Errorf("%d targets, want %d", n, 6*wholes)
	}
	return nil
}

func TestAPIServerOutageLosesNoTarget(t *testing.T) {
	c := startCluster(t, "shop")
	c.reader()
	for i := range 3 {
		c.put(whole(1 + i)...)
	}
	dir := t.TempDir()
	config := c.everyRole(c.accountKubeconfig("default", "reader"))
	writeFile(t, filepath.Join(dir, "prometheus.yml"), config)
	agent := startAgent(t, dir, freeAddr(t))
	eventually(t, 10*time.Second, "all targets are there", func() error { return agent.shows(3) })

	keep := func(wholes int, d time.Duration) {
		t.Helper()
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			if err := agent.shows(wholes); err != nil {
				t.Fatalf("targets without an API server: %v", err)
			}
		}
	}
	wholes := 3
	// A restart, an outage of some back-offs, and one more right after it.
	for _, outage := range []time.Duration{0, 15 * time.Second, time.Second} {
		c.killServer()
		keep(wholes, outage)
		c.startServer()
		returned := time.Now()
		wholes++
		c.put(whole(wholes)...)
		eventually(t, 10*time.Second-time.Since(returned), fmt.Sprintf("what came after %s of outage is known", outage), func() error { return agent.shows(wholes) })
		t.Logf("outage of %s: followed %s after the server's return", outage, time.Since(returned))
	}
	for _, o := range slices.Backward(whole(wholes)) {
		c.remove(o)
	}
	eventually(t, 10*time.Second, "what is deleted after it is gone", func() error { return agent.shows(wholes - 1) })

	// An agent that starts before the API server does.
	c.killServer()
	late := t.TempDir()
	writeFile(t, filepath.Join(late, "prometheus.yml"), config)
	agent = startAgent(t, late, freeAddr(t))
	keep(0, 3*time.Second)
	c.startServer()
	eventually(t, 10*time.Second, "an agent that was first has all targets", func() error { return agent.shows(wholes - 1) })
}

// servePod serves metrics at an address as a pod would.
func servePod(t testing.TB, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "pod_answers 1\n") })}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
}

// A pod's first sample is in the receiver an interval, a second and a batch
// deadline after it is Running at the latest. Its series end within two
// intervals after it is deleted; the markers that say so are written, as
// Prometheus does it, two intervals and a tenth after the target has gone, for
// it could come back. All with the flags as they are by default.
func TestPodIsScrapedWithinASecondAndAnInterval(t *testing.T) {
	const interval, deadline = 2 * time.Second, 500 * time.Millisecond
	c := startCluster(t, "shop")
	c.reader()
	c.put(node("edge-1", "10.42.255.1", nil))
	dir, receiverAddr := t.TempDir(), freeAddr(t)
	central := startReceiver(t, receiver{binary: currentBinary}, dir, receiverAddr)
	kubeconfig := c.accountKubeconfig("default", "reader")
	text := fmt.Sprintf("global: {scrape_interval: %s, external_labels: {cluster: edge-1}}\nremote_write:\n- url: http://%s/api/v1/write\n  queue_config: {batch_send_deadline: %s}\nscrape_configs:\n", interval, receiverAddr, deadline)
	roles := []string{"pod", "endpoints", "endpointslice"}
	for _, role := range roles {
		text += fmt.Sprintf(`- job_name: %s
  kubernetes_sd_configs: [{role: %s, kubeconfig_file: %s, namespaces: {names: [shop]}}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
`, role, role, kubeconfig)
	}
	writeFile(t, filepath.Join(dir, "prometheus.yml"), text)
	agentAddr := freeAddr(t)
	start(t, "agent", agentAddr, "/-/ready", agentBinary, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.agent.path="+filepath.Join(dir, "data"), "--web.listen-address="+agentAddr)
	service := headless("shop", "web", 8080)
	c.put(service, endpointsOf(service), sliceOf(service))
	samples := func(pod string, want int) func() error {
		return func() error {
			got, err := central.query(fmt.Sprintf(`pod_answers{cluster="edge-1",pod=%q}`, pod))
			if err == nil && len(got) != want {
				err = fmt.Errorf("%d series of %s, want %d", len(got), pod, want)
			}
			return err
		}
	}
	limit := 30 * time.Second // of the first pod: the agent starts with it
	for i := range 5 {
		name, ip := fmt.Sprintf("web-%d", i), fmt.Sprintf("10.42.0.%d", 10+i)
		servePod(t, ip+":8080")
		pod := runningPod("shop", name, "edge-1", ip, 8080)
		pending := runningPod("shop", name, "edge-1", "", 8080)
		pending.Status.Phase, pending.Status.PodIPs, pending.Status.Conditions, pending.Status.ContainerStatuses = "Pending", nil, nil, nil
		c.put(pending)
		time.Sleep(time.Duration(i) * interval / 4) // other phases of the interval
		running := time.Now()
		c.put(pod, endpointsOf(service, pod), sliceOf(service, pod))
		eventually(t, limit, "the first samples of a pod arrive, by each role", samples(name, len(roles)))
		t.Logf("first samples after %s", time.Since(running))
		limit = interval + time.Second + deadline

		deleted := time.Now()
		c.remove(pod)
		c.put(endpointsOf(service), sliceOf(service))
		eventually(t, 2*interval+interval/10+time.Second+deadline, "a deleted pod's series are stale", samples(name, 0))
		t.Logf("stale after %s", time.Since(deleted))
		end := float64(deleted.Add(2*interval).UnixMilli()) / 1000
		if got, err := central.query(fmt.Sprintf("pod_answers{pod=%q} @ %.3f", name, end)); err != nil || len(got) != 0 {
			t.Errorf("two intervals after a pod is deleted %d of its series are alive, %v", len(got), err)
		}
	}
	refused(t, central)
}

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shown are the targets of a process's /api/v1/targets, each as one line, in order.
type shown struct {
	active, dropped []string
	counts          map[string]int
}

func (p *process) shownTargets() (shown, error) {
	body, err := p.get("/api/v1/targets?state=any")
	if err != nil {
		return shown{}, err
	}
	type target struct {
		ScrapePool                    string            `json:"scrapePool"`
		DiscoveredLabels              map[string]string `json:"discoveredLabels"`
		Labels                        map[string]string `json:"labels,omitempty"`
		ScrapeURL                     string            `json:"scrapeUrl,omitempty"`
		ScrapeInterval, ScrapeTimeout string            `json:",omitempty"`
	}
	var answer struct {
		Data struct {
			ActiveTargets, DroppedTargets []target
			DroppedTargetCounts           map[string]int
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return shown{}, err
	}
	lines := func(of []target) []string {
		out := make([]string, 0, len(of))
		for _, t := range of {
			var b bytes.Buffer
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			if err := e.Encode(t); err != nil {
				p.t.Fatal(err)
			}
			out = append(out, strings.TrimSpace(b.String()))
		}
		slices.Sort(out)
		return out
	}
	return shown{lines(answer.Data.ActiveTargets), lines(answer.Data.DroppedTargets), answer.Data.DroppedTargetCounts}, nil
}

// against is nil when both show the same targets, else what differs first.
func (s shown) against(want shown) error {
	for _, d := range []struct {
		what      string
		got, want []string
	}{{"active", s.active, want.active}, {"dropped", s.dropped, want.dropped}} {
		extra, missing := apart(d.got, d.want)
		if len(extra)+len(missing) > 0 {
			return fmt.Errorf("%d %s targets, want %d; %d more than there should be, %d missing:\n%s", len(d.got), d.what, len(d.want),
				len(extra), len(missing), explain(extra, missing))
		}
	}
	for pool, n := range want.counts {
		if s.counts[pool] != n {
			return fmt.Errorf("%d targets of %s are said to be dropped, want %d", s.counts[pool], pool, n)
		}
	}
	if len(s.counts) != len(want.counts) {
		return fmt.Errorf("dropped targets are counted for %v, want %v", s.counts, want.counts)
	}
	return nil
}

// explain tells of a few lines that are too many or missing how they differ
// from the line of the other kind that is nearest.
func explain(extra, missing []string) string {
	var b strings.Builder
	tell := func(what string, lines, others []string) {
		for _, line := range lines[:min(4, len(lines))] {
			fields := strings.Split(line, `","`)
			var have, lack []string
			for _, other := range others {
				h, l := apart(slices.Sorted(slices.Values(fields)), slices.Sorted(slices.Values(strings.Split(other, `","`))))
				if have == nil || len(h)+len(l) < len(have)+len(lack) {
					have, lack = h, l
				}
			}
			if len(others) == 0 || len(have)+len(lack) > len(fields)/2 {
				fmt.Fprintf(&b, "%s, unlike any other: %s\n", what, line)
				continue
			}
			fmt.Fprintf(&b, "%s: %s...\n    it has   %q\n    it lacks %q\n", what, line[:min(120, len(line))], have, lack)
		}
	}
	tell("too many", extra, missing)
	tell("missing", missing, extra)
	return b.String()
}

// apart are the lines of a that b lacks, and of b that a lacks; both are sorted.
func apart(a, b []string) (onlyA, onlyB []string) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			onlyA, a = append(onlyA, a[0]), a[1:]
		case len(a) == 0 || b[0] < a[0]:
			onlyB, b = append(onlyB, b[0]), b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return onlyA, onlyB
}

// discoveries are the kubernetes_sd_configs that the two are compared on: each
// role with each option, by a job name. ACCESS stands for how the server is reached.
func discoveries() map[string]string {
	all := map[string]string{
		"pod-in-one":            "{ACCESS, role: pod, namespaces: {names: [red]}}",
		"pod-in-two":            "{ACCESS, role: pod, namespaces: {names: [red, blue]}, attach_metadata: {namespace: true}}",
		"pod-in-none":           "{ACCESS, role: pod, namespaces: {names: [nowhere]}}",
		"pod-selected":          "{ACCESS, role: pod, selectors: [{role: pod, label: 'tier in (gold, silver), v', field: status.phase=Running}]}",
		"pod-selected-nodes":    "{ACCESS, role: pod, attach_metadata: {node: true}, selectors: [{role: node, label: tier=gold}]}",
		"pod-owners":            "{ACCESS, role: pod, attach_metadata: {deployment: true, job: true, cronjob: true}}",
		"pod-all-metadata":      "{ACCESS, role: pod, attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}}",
		"node-selected":         "{ACCESS, role: node, selectors: [{role: node, label: '!tier'}]}",
		"node-by-field":         "{ACCESS, role: node, selectors: [{role: node, field: metadata.name=node-1}]}",
		"service-selected":      "{ACCESS, role: service, namespaces: {names: [blue]}, selectors: [{role: service, label: v=1}]}",
		"endpoints-in-one":      "{ACCESS, role: endpoints, namespaces: {names: [blue]}, attach_metadata: {node: true}}",
		"endpoints-selected":    "{ACCESS, role: endpoints, selectors: [{role: endpoints, label: tier}, {role: service, label: v}, {role: pod, label: tier}]}",
		"slices-selected":       "{ACCESS, role: endpointslice, selectors: [{role: endpointslice, label: kubernetes.io/service-name=svc-0}, {role: pod, field: status.phase=Running}, {role: service, label: tier}]}",
		"slices-in-two":         "{ACCESS, role: endpointslice, namespaces: {names: [red, blue]}, attach_metadata: {node: true}}",
		"ingress-selected":      "{ACCESS, role: ingress, selectors: [{role: ingress, label: tier=gold}], attach_metadata: {namespace: true}}",
		"ingress-in-one":        "{ACCESS, role: ingress, namespaces: {names: [red]}}",
		"pod-own":               "{role: pod, namespaces: {own_namespace: true}}",
		"service-own-and-other": "{role: service, namespaces: {own_namespace: true, names: [red]}}",
		"ingress-in-cluster":    "{role: ingress}",
	}
	for _, role := range []string{"node", "pod", "service", "endpoints", "endpointslice", "ingress"} {
		all[role] = "{ACCESS, role: " + role + "}"
		if role != "node" {
			all[role+"-namespaces"] = "{ACCESS, role: " + role + ", attach_metadata: {namespace: true}}"
		}
		if strings.HasPrefix(role, "endpoint") {
			all[role+"-nodes"] = "{ACCESS, role: " + role + ", attach_metadata: {node: true, namespace: true}}"
		}
	}
	return all
}

// comparedConfig has the discoveries, a third of them with a kubeconfig, a third
// by address and token, and a third by way of a proxy that knows JSON only, and
// jobs as clusters have them.
func (c *cluster) comparedConfig(kubeconfig, token string) string {
	byProxy := "api_server: '" + c.jsonOnly() + "', authorization: {credentials_file: " + token + "}"
	byFile := "kubeconfig_file: " + kubeconfig
	byAddress := "api_server: 'https://" + c.addr + "', tls_config: {ca_file: " + c.file("ca.crt") + "}, authorization: {credentials_file: " + token + "}"
	var b strings.Builder
	// Nothing listens where targets point, and nothing should be scraped much.
	b.WriteString("global: {scrape_interval: 1h}\nremote_write: [{url: 'http://127.0.0.1:1/w'}]\nscrape_configs:\n")
	n := 0
	all := discoveries()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		n++
		access := []string{byAddress, byFile, byProxy}[n%3]
		// All that was discovered is in the final labels, so that no two targets are one;
		// a third is dropped.
		fmt.Fprintf(&b, `- job_name: %s
  kubernetes_sd_configs: [%s]
  relabel_configs:
  - {action: labelmap, regex: __meta_kubernetes_(.+)}
  - {action: labelmap, regex: __address__, replacement: address}
  - {action: hashmod, source_labels: [__address__, __meta_kubernetes_pod_name], modulus: 3, target_label: __tmp}
  - {action: drop, source_labels: [__tmp], regex: '0'}
  - {action: replace, source_labels: [__address__], regex: ^$, target_label: __address__, replacement: 'none:1'}
`, name, strings.Replace(all[name], "ACCESS", access, 1))
	}
	b.WriteString(strings.ReplaceAll(`
- job_name: annotated-pods
  kubernetes_sd_configs: [{ACCESS, role: pod}]
  relabel_configs:
  - {action: keep, source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: 'true'}
  - {action: replace, source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], regex: (.+), target_label: __metrics_path__}
  - {action: replace, source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scheme], regex: (.+), target_label: __scheme__}
  - {action: replace, source_labels: [__address__, __meta_kubernetes_pod_annotation_prometheus_io_port], regex: '([^:]+)(?::\d+)?;(\d+)', replacement: '$1:$2', target_label: __address__}
  - {action: labelmap, regex: __meta_kubernetes_pod_label_(.+)}
  - {action: replace, source_labels: [__meta_kubernetes_namespace], target_label: namespace}
  - {action: replace, source_labels: [__meta_kubernetes_pod_name], target_label: pod}
  - {action: replace, source_labels: [__meta_kubernetes_pod_container_name], target_label: container}
  - {action: replace, source_labels: [__meta_kubernetes_pod_container_port_number, __meta_kubernetes_pod_container_port_protocol, __meta_kubernetes_pod_container_port_name], target_label: container_port}
- job_name: kubelet-cadvisor
  scheme: https
  metrics_path: /metrics/cadvisor
  bearer_token_file: TOKEN
  kubernetes_sd_configs: [{ACCESS, role: node}]
  relabel_configs:
  - {action: replace, source_labels: [__meta_kubernetes_node_address_InternalIP], target_label: __address__, replacement: '$1:10250'}
  - {action: labelmap, regex: __meta_kubernetes_node_label_(.+)}
  - {action: replace, source_labels: [__meta_kubernetes_node_name], target_label: instance}
- job_name: nodes-by-proxy
  scheme: https
  kubernetes_sd_configs: [{ACCESS, role: node}]
  relabel_configs:
  - {action: replace, target_label: __address__, replacement: 'SERVER'}
  - {action: replace, source_labels: [__meta_kubernetes_node_name], regex: (.+), target_label: __metrics_path__, replacement: '/api/v1/nodes/${1}/proxy/metrics'}
- job_name: one-service
  kubernetes_sd_configs: [{ACCESS, role: endpoints, namespaces: {names: [red]}}, {ACCESS, role: endpointslice, namespaces: {names: [red]}}]
  relabel_configs:
  - {action: keep, source_labels: [__meta_kubernetes_service_name, __meta_kubernetes_namespace], regex: svc-1;red}
  - {action: labelmap, regex: __meta_kubernetes_(.+)}
`, "ACCESS", byFile))
	return strings.NewReplacer("TOKEN", token, "SERVER", c.addr).Replace(b.String())
}

// reader makes an account that may read all that discovery reads; its name is reader.
func (c *cluster) reader() {
	c.t.Helper()
	c.apply(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules:
- {apiGroups: [""], resources: [nodes, namespaces, services, endpoints, pods], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [get, list, watch]}
- {apiGroups: [apps], resources: [replicasets], verbs: [get, list, watch]}
- {apiGroups: [batch], resources: [jobs], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
`)
}

// startOracle runs the current Prometheus agent on the config in dir.
func startOracle(t testing.TB, dir string) *process {
	t.Helper()
	if currentBinary == "" {
		t.Fatal("PROMETHEUS names no binary; run `make e2e`")
	}
	addr := freeAddr(t)
	return start(t, "prometheus", addr, "/-/ready", currentBinary, "--agent",
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.agent.path="+filepath.Join(t.TempDir(), "oracle"), "--web.listen-address="+addr)
}

// settled are the targets of a process once they stay the same.
func settled(t testing.TB, p *process) shown {
	t.Helper()
	last, err := p.shownTargets()
	since := time.Now()
	eventually(t, time.Minute, p.name+" has settled", func() error {
		var now shown
		if now, err = p.shownTargets(); err != nil {
			return err
		}
		if diff := now.against(last); diff != nil {
			last, since = now, time.Now()
			return diff
		}
		if time.Since(since) < 7*time.Second { // Prometheus hands groups on every 5 s
			return fmt.Errorf("the same for %s", time.Since(since))
		}
		return nil
	})
	return last
}

// The agent reads the same cluster by the same config as Prometheus and shows
// the same targets: those it starts with, and those that a storm of changes
// left, through a restart of the API server too. Prometheus starts after the storm again, as it does not follow each change
// to what it would have read at the start.
func TestTargetsOfAClusterAreThoseOfPrometheus(t *testing.T) {
	c := startCluster(t, "red", "blue", "green")
	c.reader()
	c.inCluster("blue", c.token("default", "reader"))
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "prometheus.yml"), c.comparedConfig(c.accountKubeconfig("default", "reader"), c.token("default", "reader")))
	seed, err := strconv.ParseUint(envOr("KUBE_STORM", "1"), 10, 64) // another number, another storm
	if err != nil {
		t.Fatal(err)
	}
	s := newStorm(seed, []string{"red", "blue", "green"}, 8)
	blow := func(n int) {
		for range n {
			if object, forget := s.next(); forget {
				c.remove(object)
			} else {
				c.put(object)
			}
		}
	}
	blow(400)
	agent, oracle := startAgent(t, dir, freeAddr(t)), startOracle(t, dir)
	compare := func(when string) {
		t.Helper()
		want := settled(t, oracle)
		if len(want.active) < 300 || len(want.dropped) < 100 {
			t.Fatalf("%s Prometheus has %d active and %d dropped targets; the storm is too weak to say anything", when, len(want.active), len(want.dropped))
		}
		eventually(t, 10*time.Second, when+" the agent has the targets of Prometheus", func() error {
			got, err := agent.shownTargets()
			if err != nil {
				return err
			}
			return got.against(want)
		})
		t.Logf("%s: %d active and %d dropped targets", when, len(want.active), len(want.dropped))
	}
	compare("at the start")
	oracle.end(syscall.SIGKILL)
	for round := range 3 {
		blow(200)
		if round == 1 { // the watches break, and go on in the midst of it
			c.killServer()
			c.startServer()
		}
		blow(200)
		oracle = startOracle(t, dir)
		compare("after a storm")
		oracle.end(syscall.SIGKILL)
	}
}

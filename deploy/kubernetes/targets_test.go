package kubernetes_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// meta spells labels without their prefix __meta_kubernetes_.
type meta map[string]string

// relabelled returns what a job's rules make of discovered labels, without the
// __meta_ ones; ok is false for a dropped target.
func relabelled(t *testing.T, dir, name, address string, m meta) (got map[string]string, ok bool) {
	t.Helper()
	sc := job(t, load(t, dir), name)
	b := labels.NewBuilder(labels.EmptyLabels())
	b.Set(model.AddressLabel, address)
	b.Set(model.SchemeLabel, sc.Scheme)
	b.Set(model.MetricsPathLabel, sc.MetricsPath)
	for k, v := range m {
		if k == "instance" {
			b.Set(k, v)
			continue
		}
		b.Set("__meta_kubernetes_"+k, v)
	}
	if !relabel.ProcessBuilder(b, sc.RelabelConfigs...) {
		return nil, false
	}
	got = map[string]string{}
	b.Range(func(l labels.Label) {
		if !strings.HasPrefix(l.Name, model.MetaLabelPrefix) {
			got[l.Name] = l.Value
		}
	})
	return got, true
}

func TestTargets(t *testing.T) {
	endpoint := func(namespace, service, port string) meta {
		return meta{"namespace": namespace, "service_name": service, "endpoint_port_name": port, "endpoint_node_name": "n1"}
	}
	pod := func(more meta) meta {
		m := meta{
			"namespace": "shop", "pod_name": "cart-1", "pod_node_name": "n1", "pod_ip": "10.42.0.5", "pod_phase": "Running",
			"pod_container_init": "false", "pod_label_app": "cart", "pod_annotation_prometheus_io_scrape": "true",
		}
		maps.Copy(m, more)
		return m
	}
	kept := func(scheme, address, path string) map[string]string {
		return map[string]string{
			"__scheme__": scheme, "__address__": address, "__metrics_path__": path,
			"app": "cart", "namespace": "shop", "pod": "cart-1", "node": "n1",
		}
	}
	node := meta{"node_name": "n1", "node_label_zone": "a", "instance": "n1"}
	for name, tc := range map[string]struct {
		job, address string
		meta         meta
		want         map[string]string // nil: dropped
	}{
		"node-exporter": {"node-exporter", "10.0.0.1:9100", endpoint("monitoring", "node-exporter", "metrics"), map[string]string{
			"__scheme__": "http", "__address__": "10.0.0.1:9100", "__metrics_path__": "/metrics", "instance": "n1", "node": "n1",
		}},
		"node-exporter in another namespace": {"node-exporter", "10.0.0.1:9100", endpoint("team", "node-exporter", "metrics"), nil},
		"another service":                    {"node-exporter", "10.0.0.1:9100", endpoint("monitoring", "prom-agent", "metrics"), nil},
		"another port of node-exporter":      {"node-exporter", "10.0.0.1:9101", endpoint("monitoring", "node-exporter", "debug"), nil},

		"cAdvisor": {"kubelet-cadvisor", "10.0.0.1:10255", node, map[string]string{
			"__scheme__": "https", "__address__": "10.0.0.1:10250", "__metrics_path__": "/metrics/cadvisor", "instance": "n1", "node": "n1", "zone": "a",
		}},
		"cAdvisor over IPv6": {"kubelet-cadvisor", "[fd00::1]:0", node, map[string]string{
			"__scheme__": "https", "__address__": "[fd00::1]:10250", "__metrics_path__": "/metrics/cadvisor", "instance": "n1", "node": "n1", "zone": "a",
		}},
		"kubelet through the API server": {"kubernetes-nodes", "10.0.0.1:10250", node, map[string]string{
			"__scheme__": "https", "__address__": "kubernetes.default.svc:443", "__metrics_path__": "/api/v1/nodes/n1/proxy/metrics", "instance": "n1", "node": "n1", "zone": "a",
		}},

		"kube-state-metrics": {"kube-state-metrics", "10.42.0.9:8080", endpoint("monitoring", "kube-state-metrics", "http-metrics"), map[string]string{
			"__scheme__": "http", "__address__": "10.42.0.9:8080", "__metrics_path__": "/metrics",
		}},
		"kube-state-metrics of a release": {"kube-state-metrics", "10.42.0.9:8080", endpoint("kube-system", "stack-kube-state-metrics", "http"), map[string]string{
			"__scheme__": "http", "__address__": "10.42.0.9:8080", "__metrics_path__": "/metrics",
		}},
		"its telemetry": {"kube-state-metrics", "10.42.0.9:8081", endpoint("monitoring", "kube-state-metrics", "telemetry"), nil},

		"API server": {"kube-apiserver", "10.0.0.1:6443", endpoint("default", "kubernetes", "https"), map[string]string{
			"__scheme__": "https", "__address__": "10.0.0.1:6443", "__metrics_path__": "/metrics",
		}},
		"service that is called so elsewhere": {"kube-apiserver", "10.42.0.9:443", endpoint("team", "kubernetes", "https"), nil},

		"pod, each of its ports": {"kubernetes-pods", "10.42.0.5:8080", pod(nil), kept("http", "10.42.0.5:8080", "/metrics")},
		"pod with all annotations": {"kubernetes-pods", "10.42.0.5:8080", pod(meta{
			"pod_annotation_prometheus_io_port": "9102", "pod_annotation_prometheus_io_path": "/m", "pod_annotation_prometheus_io_scheme": "https",
		}), kept("https", "10.42.0.5:9102", "/m")},
		"pod without a declared port": {"kubernetes-pods", "10.42.0.5", pod(meta{"pod_annotation_prometheus_io_port": "9102"}), kept("http", "10.42.0.5:9102", "/metrics")},
		"pod with IPv6": {"kubernetes-pods", "fd00::5", pod(meta{"pod_ip": "fd00::5", "pod_annotation_prometheus_io_port": "9102"}),
			kept("http", "[fd00::5]:9102", "/metrics")},
		"port that is no number":     {"kubernetes-pods", "10.42.0.5:8080", pod(meta{"pod_annotation_prometheus_io_port": "abc"}), kept("http", "10.42.0.5:8080", "/metrics")},
		"scheme that is none":        {"kubernetes-pods", "10.42.0.5:8080", pod(meta{"pod_annotation_prometheus_io_scheme": "gopher"}), kept("http", "10.42.0.5:8080", "/metrics")},
		"empty annotations":          {"kubernetes-pods", "10.42.0.5:8080", pod(meta{"pod_annotation_prometheus_io_port": "", "pod_annotation_prometheus_io_path": ""}), kept("http", "10.42.0.5:8080", "/metrics")},
		"labels do not hide the pod": {"kubernetes-pods", "10.42.0.5:8080", pod(meta{"pod_label_pod": "x", "pod_label_namespace": "y", "pod_label_node": "z"}), kept("http", "10.42.0.5:8080", "/metrics")},
		"pod that asks for nothing":  {"kubernetes-pods", "10.42.0.5:8080", pod(meta{"pod_annotation_prometheus_io_scrape": ""}), nil},
		"pod that says no":           {"kubernetes-pods", "10.42.0.5:8080", pod(meta{"pod_annotation_prometheus_io_scrape": "false"}), nil},
		"pod that has ended":         {"kubernetes-pods", "10.42.0.5:8080", pod(meta{"pod_phase": "Succeeded"}), nil},
		"init container":             {"kubernetes-pods", "10.42.0.5:8080", pod(meta{"pod_container_init": "true"}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := relabelled(t, "base", tc.job, tc.address, tc.meta)
			if ok != (tc.want != nil) || !maps.Equal(got, tc.want) {
				t.Errorf("got  %v\nwant %v", got, tc.want)
			}
		})
	}
}

func TestEdgeDropsWhatFewLookAt(t *testing.T) {
	cfg := load(t, "overlays/edge")
	for _, tc := range []struct {
		job  string
		kept bool
		set  labels.Labels
	}{
		{"kubelet-cadvisor", true, labels.FromStrings("__name__", "container_cpu_usage_seconds_total", "id", "/kubepods/pod1/c1", "pod", "cart-1")},
		{"kubelet-cadvisor", true, labels.FromStrings("__name__", "container_memory_working_set_bytes", "id", "/")},
		{"kubelet-cadvisor", true, labels.FromStrings("__name__", "container_fs_reads_bytes_total", "id", "/kubepods/pod1/c1", "pod", "cart-1")},
		{"kubelet-cadvisor", true, labels.FromStrings("__name__", "container_network_receive_bytes_total", "id", "/kubepods/pod1", "pod", "cart-1")},
		{"kubelet-cadvisor", true, labels.FromStrings("__name__", "machine_memory_bytes")},
		{"kubelet-cadvisor", false, labels.FromStrings("__name__", "container_memory_working_set_bytes", "id", "/system.slice/ssh.service")},
		{"kubelet-cadvisor", false, labels.FromStrings("__name__", "container_tasks_state", "id", "/kubepods/pod1/c1", "pod", "cart-1")},
		{"kubelet-cadvisor", false, labels.FromStrings("__name__", "container_network_tcp6_usage_total", "id", "/kubepods/pod1", "pod", "cart-1")},
		{"kubelet-cadvisor", false, labels.FromStrings("__name__", "container_network_advance_tcp_stats_total", "id", "/kubepods/pod1", "pod", "cart-1")},
		{"kubelet-cadvisor", false, labels.FromStrings("__name__", "container_fs_io_time_seconds_total", "id", "/kubepods/pod1/c1", "pod", "cart-1")},
		{"kubernetes-nodes", true, labels.FromStrings("__name__", "kubelet_running_pods")},
		{"kubernetes-nodes", false, labels.FromStrings("__name__", "kubelet_pod_start_duration_seconds_bucket", "le", "1")},
		{"kube-apiserver", true, labels.FromStrings("__name__", "apiserver_request_duration_seconds_count")},
		{"kube-apiserver", false, labels.FromStrings("__name__", "apiserver_request_duration_seconds_bucket", "le", "1")},
	} {
		if kept := relabel.ProcessBuilder(labels.NewBuilder(tc.set), job(t, cfg, tc.job).MetricRelabelConfigs...); kept != tc.kept {
			t.Errorf("%s %s: kept %t, want %t", tc.job, tc.set, kept, tc.kept)
		}
	}
}

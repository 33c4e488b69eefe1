package kubernetes_test

import (
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	rbacv1 "k8s.io/api/rbac/v1"
)

const (
	tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"
	caFile    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
)

var configDirs = []string{"base", "overlays/edge", "overlays/local"}

// load reads the prometheus.yml of a folder as Prometheus agent does.
func load(t *testing.T, dir string) *config.Config {
	t.Helper()
	cfg, err := config.LoadFile(filepath.Join(dir, "prometheus.yml"), true, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func job(t *testing.T, cfg *config.Config, name string) *config.ScrapeConfig {
	t.Helper()
	for _, sc := range cfg.ScrapeConfigs {
		if sc.JobName == name {
			return sc
		}
	}
	t.Fatalf("no job %s", name)
	return nil
}

// kubernetesConfig returns a job's only discovery.
func kubernetesConfig(t *testing.T, sc *config.ScrapeConfig) *kubernetes.SDConfig {
	t.Helper()
	if len(sc.ServiceDiscoveryConfigs) != 1 {
		t.Fatalf("%s has %d discoveries, want 1", sc.JobName, len(sc.ServiceDiscoveryConfigs))
	}
	sd, ok := sc.ServiceDiscoveryConfigs[0].(*kubernetes.SDConfig)
	if !ok {
		t.Fatalf("%s: discovery %T", sc.JobName, sc.ServiceDiscoveryConfigs[0])
	}
	return sd
}

func TestJobs(t *testing.T) {
	want := []string{"node-exporter", "kubelet-cadvisor", "kubernetes-nodes", "kube-state-metrics", "kubernetes-pods", "kube-apiserver"}
	for _, dir := range configDirs {
		var got []string
		for _, sc := range load(t, dir).ScrapeConfigs {
			got = append(got, sc.JobName)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: jobs %q, want %q", dir, got, want)
		}
	}
}

func TestEverySampleSaysItsCluster(t *testing.T) {
	for _, dir := range configDirs {
		cfg := load(t, dir)
		if cfg.GlobalConfig.ExternalLabels.Get("cluster") == "" {
			t.Errorf("%s: no external label cluster", dir)
		}
		if len(cfg.RemoteWriteConfigs) != 1 || cfg.RemoteWriteConfigs[0].Name == "" {
			t.Errorf("%s: want one remote with a name, for its position goes with the name", dir)
		}
	}
}

// What the file says of credentials is where the pod has them.
func TestCredentialsAreTheServiceAccounts(t *testing.T) {
	withToken := map[string]bool{"kubelet-cadvisor": true, "kubernetes-nodes": true, "kube-apiserver": true}
	for _, dir := range configDirs {
		for _, sc := range load(t, dir).ScrapeConfigs {
			got := ""
			if a := sc.HTTPClientConfig.Authorization; a != nil {
				got = a.CredentialsFile
			}
			want := ""
			if withToken[sc.JobName] {
				want = tokenFile
				if sc.Scheme != "https" || sc.HTTPClientConfig.TLSConfig.CAFile != caFile {
					t.Errorf("%s %s: scheme %s, CA %q", dir, sc.JobName, sc.Scheme, sc.HTTPClientConfig.TLSConfig.CAFile)
				}
			}
			if got != want {
				t.Errorf("%s %s: token %q, want %q", dir, sc.JobName, got, want)
			}
			if got, want := sc.HTTPClientConfig.TLSConfig.InsecureSkipVerify, sc.JobName == "kubelet-cadvisor"; got != want {
				t.Errorf("%s %s: insecure_skip_verify %t, want %t", dir, sc.JobName, got, want)
			}
		}
	}
}

// An overlay says how often and how much, never what: a fix of a job cannot be
// forgotten in one of the three files.
func TestOverlaysHaveTheBasesJobs(t *testing.T) {
	base := load(t, "base")
	for _, dir := range configDirs[1:] {
		cfg := load(t, dir)
		for _, want := range base.ScrapeConfigs {
			got := *job(t, cfg, want.JobName)
			got.ScrapeInterval, got.ScrapeTimeout = want.ScrapeInterval, want.ScrapeTimeout
			if dir == "overlays/edge" {
				got.MetricRelabelConfigs = want.MetricRelabelConfigs
			}
			if !reflect.DeepEqual(&got, want) {
				t.Errorf("%s: job %s differs from the base's:\ngot  %+v\nwant %+v", dir, want.JobName, got, *want)
			}
		}
	}
}

func TestEdgeSendsLessAndInLargerRequests(t *testing.T) {
	base, edge := load(t, "base"), load(t, "overlays/edge")
	if edge.GlobalConfig.ScrapeInterval <= base.GlobalConfig.ScrapeInterval {
		t.Errorf("scrape interval %s, the base has %s", edge.GlobalConfig.ScrapeInterval, base.GlobalConfig.ScrapeInterval)
	}
	b, e := base.RemoteWriteConfigs[0].QueueConfig, edge.RemoteWriteConfigs[0].QueueConfig
	if e.MaxSamplesPerSend <= b.MaxSamplesPerSend || e.MaxShards >= b.MaxShards || e.BatchSendDeadline <= b.BatchSendDeadline || e.MaxBackoff <= b.MaxBackoff {
		t.Errorf("queue %+v\nthe base's %+v", e, b)
	}
	for _, q := range []config.QueueConfig{b, e} {
		if q.Capacity < 2*q.MaxSamplesPerSend {
			t.Errorf("capacity %d for batches of %d", q.Capacity, q.MaxSamplesPerSend)
		}
	}
}

// right is one verb on one resource, or on a path of the API server.
type right struct{ group, verb, resource string }

func (r right) String() string { return strings.Join([]string{r.verb, r.group, r.resource}, " ") }

// discoveryRights are what a discovery lists and watches.
func discoveryRights(sd *kubernetes.SDConfig) []right {
	resources := map[kubernetes.Role][]right{
		kubernetes.RoleNode:          {{resource: "nodes"}},
		kubernetes.RolePod:           {{resource: "pods"}},
		kubernetes.RoleService:       {{resource: "services"}},
		kubernetes.RoleEndpoint:      {{resource: "endpoints"}, {resource: "services"}, {resource: "pods"}},
		kubernetes.RoleEndpointSlice: {{group: "discovery.k8s.io", resource: "endpointslices"}, {resource: "services"}, {resource: "pods"}},
		kubernetes.RoleIngress:       {{group: "networking.k8s.io", resource: "ingresses"}},
	}[sd.Role]
	if sd.AttachMetadata.Node {
		resources = append(resources, right{resource: "nodes"})
	}
	if sd.AttachMetadata.Namespace {
		resources = append(resources, right{resource: "namespaces"})
	}
	var rights []right
	for _, r := range resources {
		rights = append(rights, right{r.group, "list", r.resource}, right{r.group, "watch", r.resource})
	}
	return rights
}

func TestClusterRoleIsExactlyWhatTheJobsNeed(t *testing.T) {
	// What a scrape with the account's token is asked for by the server.
	scrapeRights := map[string]right{
		"kubelet-cadvisor": {verb: "get", resource: "nodes/metrics"},
		"kubernetes-nodes": {verb: "get", resource: "nodes/proxy"},
		"kube-apiserver":   {verb: "get", resource: "/metrics"},
	}
	need := map[right]bool{}
	for _, sc := range load(t, "base").ScrapeConfigs {
		sd := kubernetesConfig(t, sc)
		if sd.AttachMetadata.Deployment || sd.AttachMetadata.Job || sd.AttachMetadata.CronJob {
			t.Errorf("%s attaches what this table has no rights for: %+v", sc.JobName, sd.AttachMetadata)
		}
		for _, r := range discoveryRights(sd) {
			need[r] = true
		}
		if a := sc.HTTPClientConfig.Authorization; a != nil {
			r, ok := scrapeRights[sc.JobName]
			if !ok {
				t.Errorf("%s shows the account's token to its targets: what for?", sc.JobName)
			}
			need[r] = true
		}
	}
	has := map[right]bool{}
	for _, rule := range find[*rbacv1.ClusterRole](t, build(t, "base"), "prom-agent").Rules {
		if len(rule.ResourceNames) > 0 {
			t.Errorf("rule %+v is for some names only", rule)
		}
		for _, verb := range rule.Verbs {
			for _, url := range rule.NonResourceURLs {
				has[right{"", verb, url}] = true
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					has[right{group, verb, resource}] = true
				}
			}
		}
	}
	for r := range need {
		if !has[r] {
			t.Errorf("the role lacks: %s", r)
		}
	}
	for r := range has {
		if !need[r] {
			t.Errorf("no job needs: %s", r)
		}
	}
}

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// absent are the metrics of Prometheus agent that the agent does not have, and why.
var absent = map[string]string{
	"prometheus_notifications_":              "there are no alerts",
	"prometheus_template_":                   "there are no templates",
	"prometheus_web_federation_":             "there is nothing to federate",
	"prometheus_remote_read_":                "there is nothing to read",
	"prometheus_api_notification_":           "there are no notifications to the page",
	"prometheus_tsdb_wal_record_bytes_saved": "the log's records are not compressed as a whole",
	"prometheus_sd_azure_":                   "not compiled in",
	"prometheus_sd_consul_":                  "not compiled in",
	"prometheus_sd_kuma_":                    "not compiled in",
	"prometheus_sd_linode_":                  "not compiled in",
	"prometheus_sd_nomad_":                   "not compiled in",
	"prometheus_treecache_":                  "not compiled in",
}

// metricShape is a metric's type and the names of its labels.
func metricShapes(t *testing.T, p *process) map[string]string {
	t.Helper()
	text, err := p.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	sample := regexp.MustCompile(`^([a-zA-Z0-9_:]+)(?:\{(.*)\})? `)
	label := regexp.MustCompile(`([a-zA-Z0-9_]+)="`)
	types, shapes := map[string]string{}, map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, typ, _ := strings.Cut(rest, " ")
			types[name] = typ
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); base != name && (types[base] == "histogram" || types[base] == "summary") {
				name = base
			}
		}
		var names []string
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" && l[1] != "quantile" {
				names = append(names, l[1])
			}
		}
		slices.Sort(names)
		shapes[name] = fmt.Sprintf("%s by %v", types[name], names)
	}
	return shapes
}

// Dashboards and alerts for Prometheus agent go on working: every metric of it
// is there, with its type and its labels.
func TestSelfMetricsAreThoseOfPrometheusAgent(t *testing.T) {
	t.Parallel()
	if currentBinary == "" {
		t.Fatal("PROMETHEUS names no binary; run `make e2e`")
	}
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer sink.Close()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "targets.json"), `[{"targets":["127.0.0.1:1"]}]`)
	oracleAddr, agentAddr := ownAddr(t), ownAddr(t)
	writeFile(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf(`
global: {scrape_interval: 1s}
scrape_configs:
- job_name: both
  static_configs: [{targets: [%q, %q]}]
- job_name: file
  file_sd_configs: [{files: [targets.json]}]
- job_name: http
  http_sd_configs: [{url: 'http://127.0.0.1:1/x'}]
- job_name: pods
  kubernetes_sd_configs: [{role: pod, api_server: 'http://127.0.0.1:1'}]
- job_name: dns
  dns_sd_configs: [{names: [localhost], type: A, port: 80}]
remote_write:
- url: %s/api/v1/write
  name: central
`, oracleAddr, agentAddr, sink.URL))
	oracle := start(t, "prometheus", oracleAddr, "/-/ready", currentBinary, "--agent",
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.agent.path="+filepath.Join(dir, "oracle"), "--web.listen-address="+oracleAddr)
	agent := startAgent(t, dir, agentAddr)
	for _, p := range []*process{oracle, agent} {
		eventually(t, 30*time.Second, p.name+" has sent samples and was scraped", func() error {
			if p.metric("prometheus_remote_storage_bytes_total") == 0 || p.metric("prometheus_http_requests_total") < 3 {
				return fmt.Errorf("not yet")
			}
			return nil
		})
	}
	got := metricShapes(t, agent)
	for name, want := range metricShapes(t, oracle) {
		have, ok := got[name]
		switch {
		case ok && have != want:
			t.Errorf("%s is a %s, want %s", name, have, want)
		case !ok && !slices.ContainsFunc(slices.Collect(maps.Keys(absent)), func(prefix string) bool { return strings.HasPrefix(name, prefix) }):
			t.Errorf("%s, a %s, is missing", name, want)
		}
	}
	for prefix := range absent {
		for name := range got {
			if strings.HasPrefix(name, prefix) {
				t.Errorf("%s is listed as absent", name)
			}
		}
	}
}

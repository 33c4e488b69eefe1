package config

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/remotewrite"
	"promagent/scrape"
)

// wantAllSet fails for fields of v that are zero: a field that a stage has and
// the loader forgot.
func wantAllSet(t *testing.T, v any, except ...string) {
	t.Helper()
	s := reflect.ValueOf(v)
	skip := map[string]bool{}
	for _, name := range except {
		skip[name] = true
	}
	for i := range s.NumField() {
		if name := s.Type().Field(i).Name; s.Field(i).IsZero() && !skip[name] {
			t.Errorf("%s.%s is not set", s.Type(), name)
		}
	}
}

func TestJobCarriesEveryField(t *testing.T) {
	dir := write(t, map[string]string{"prometheus.yml": `
global: {external_labels: {dc: a}}
storage: {tsdb: {out_of_order_time_window: 1m}}
scrape_configs:
- job_name: all
  honor_labels: true
  honor_timestamps: true
  track_timestamps_staleness: true
  params: {p: [v, w]}
  scrape_interval: 30s
  scrape_timeout: 7s
  scrape_protocols: [OpenMetricsText1.0.0, PrometheusText0.0.4]
  fallback_scrape_protocol: PrometheusText0.0.4
  metrics_path: /m
  scheme: https
  enable_compression: true
  body_size_limit: 2MB
  sample_limit: 1
  target_limit: 2
  label_limit: 3
  label_name_length_limit: 4
  label_value_length_limit: 5
  keep_dropped_targets: 6
  native_histogram_bucket_limit: 7
  native_histogram_min_bucket_factor: 1.5
  metric_name_validation_scheme: legacy
  metric_name_escaping_scheme: dots
  scrape_native_histograms: true
  convert_classic_histograms_to_nhcb: true
  always_scrape_classic_histograms: true
  extra_scrape_metrics: true
  scrape_failure_log_file: failures.log
  basic_auth: {username: u, password: p}
  relabel_configs: [{source_labels: [a], target_label: b}]
  metric_relabel_configs: [{source_labels: [c], action: drop}]
  static_configs: [{targets: ["1:80"]}]
`})
	c, err := Load(filepath.Join(dir, "prometheus.yml"), Options{Features: Features{TypeAndUnitLabels: true}})
	if err != nil {
		t.Fatal(err)
	}
	wantAllSet(t, c.Scrape)
	job := c.Scrape.Jobs[0]
	wantAllSet(t, job)
	if len(job.Relabel) != 1 || len(job.MetricRelabel) != 1 || job.HTTP.BasicAuth.Password != "p" || len(job.DiscoveryFingerprint) != 32 {
		t.Errorf("got %+v", job)
	}
	job.Relabel, job.MetricRelabel, job.HTTP, job.DiscoveryFingerprint = nil, nil, commonconfig.HTTPClientConfig{}, ""
	want := scrape.JobConfig{
		Job: "all", HonorLabels: true, HonorTimestamps: true, TrackTimestampsStaleness: true,
		Params: map[string][]string{"p": {"v", "w"}}, Interval: 30 * time.Second, Timeout: 7 * time.Second,
		Protocols: []string{"OpenMetricsText1.0.0", "PrometheusText0.0.4"}, FallbackProtocol: "PrometheusText0.0.4",
		MetricsPath: "/m", Scheme: "https", EnableCompression: true,
		BodySizeLimit: 2 << 20, SampleLimit: 1, TargetLimit: 2, LabelLimit: 3, LabelNameLengthLimit: 4,
		LabelValueLengthLimit: 5, KeepDroppedTargets: 6,
		ValidationScheme: model.LegacyValidation, EscapingScheme: "dots",
		ScrapeNativeHistograms: true, ConvertClassicToNHCB: true, AlwaysScrapeClassic: true, ExtraMetrics: true,
		FailureLogFile: filepath.Join(dir, "failures.log"), TypeAndUnitLabels: true,
	}
	if !reflect.DeepEqual(job, want) {
		t.Errorf("got  %+v\nwant %+v", job, want)
	}
}

func TestJobInheritsFromGlobal(t *testing.T) {
	c := mustLoad(t, `
global:
  scrape_interval: 8s
  body_size_limit: 1KB
  sample_limit: 1
  target_limit: 2
  label_limit: 3
  label_name_length_limit: 4
  label_value_length_limit: 5
  keep_dropped_targets: 6
  scrape_failure_log_file: /f
  scrape_native_histograms: true
scrape_configs:
- job_name: a
- job_name: b
  sample_limit: 9
  scrape_native_histograms: false
`)
	a, b := c.Scrape.Jobs[0], c.Scrape.Jobs[1]
	a.HTTP, b.HTTP = commonconfig.HTTPClientConfig{}, commonconfig.HTTPClientConfig{}
	want := scrape.JobConfig{
		Job: "a", HonorTimestamps: true, Interval: 8 * time.Second, Timeout: 8 * time.Second,
		Protocols: []string{"PrometheusProto", "OpenMetricsText1.0.0", "OpenMetricsText0.0.1",
			"PrometheusText1.0.0", "PrometheusText0.0.4"},
		MetricsPath: "/metrics", Scheme: "http", EnableCompression: true,
		BodySizeLimit: 1 << 10, SampleLimit: 1, TargetLimit: 2, LabelLimit: 3, LabelNameLengthLimit: 4,
		LabelValueLengthLimit: 5, KeepDroppedTargets: 6, FailureLogFile: "/f",
		ValidationScheme: model.UTF8Validation, EscapingScheme: "allow-utf-8", ScrapeNativeHistograms: true,
		DiscoveryFingerprint: a.DiscoveryFingerprint,
	}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("a: got  %+v\nwant %+v", a, want)
	}
	want.Job, want.SampleLimit, want.ScrapeNativeHistograms, want.Protocols = "b", 9, false, want.Protocols[1:]
	if !reflect.DeepEqual(b, want) {
		t.Errorf("b: got  %+v\nwant %+v", b, want)
	}

	// Each key does in global what it does in a job.
	job := func(global, own string) scrape.JobConfig {
		t.Helper()
		return mustLoad(t, "global: {"+global+"}\nscrape_configs: [{"+own+"job_name: a}]").Scrape.Jobs[0]
	}
	for _, key := range []string{
		"scrape_interval: 40s", "scrape_timeout: 3s", "scrape_protocols: [PrometheusText0.0.4]", "body_size_limit: 1KB", "sample_limit: 7", "target_limit: 7",
		"label_limit: 7", "label_name_length_limit: 7", "label_value_length_limit: 7", "keep_dropped_targets: 7", "scrape_failure_log_file: /f",
		"metric_name_validation_scheme: legacy", "metric_name_escaping_scheme: dots", "extra_scrape_metrics: true",
	} {
		if got, want := job(key, ""), job("", key+", "); !reflect.DeepEqual(got, want) || reflect.DeepEqual(got, job("", "")) {
			t.Errorf("%s in global: got %+v\nin the job: %+v", key, got, want)
		}
	}
}

func TestDiscoveryFingerprintFollowsTheDiscoverySection(t *testing.T) {
	of := func(sections string) string {
		t.Helper()
		return mustLoad(t, "scrape_configs:\n- job_name: a\n  "+sections).Scrape.Jobs[0].DiscoveryFingerprint
	}
	base := of(`static_configs: [{targets: [x]}]`)
	if got := of("metrics_path: /other\n  static_configs: [{targets: [\"x\"]}]"); got != base {
		t.Error("what is not discovery counts")
	}
	for _, other := range []string{"", "static_configs: [{targets: [y]}]", "static_configs: [{targets: [x], labels: {l: v}}]",
		"static_configs: [{targets: [x]}]\n  file_sd_configs: [{files: [a.json]}]"} {
		if of(other) == base {
			t.Errorf("%q counts as the same", other)
		}
	}
}

func TestRemoteCarriesEveryField(t *testing.T) {
	c := mustLoad(t, `
global: {external_labels: {dc: a, none: $UNSET_BY_THIS_TEST}}
remote_write:
- url: https://h/write
  name: n
  protobuf_message: io.prometheus.write.v2.Request
  remote_timeout: 9s
  headers: {X-A: b}
  write_relabel_configs: [{source_labels: [a], action: keep}]
  send_exemplars: true
  send_native_histograms: true
  round_robin_dns: true
  failed_request_logging: true
  tls_config: {insecure_skip_verify: true}
  sigv4: {region: r}
  queue_config:
    capacity: 1
    max_shards: 3
    min_shards: 2
    max_samples_per_send: 4
    batch_send_deadline: 5s
    min_backoff: 6s
    max_backoff: 7s
    retry_on_http_429: true
    sample_age_limit: 8s
  metadata_config: {send: true, send_interval: 9s, max_samples_per_send: 10}
- url: http://azure/
  azuread: {cloud: AzurePublic, managed_identity: {client_id: "12345678-1234-1234-1234-123456789012"}}
- url: http://google/
  google_iam: {credentials_file: f}
- url: http://defaults/
prom_agent:
  remotes: [{name: n, max_bytes_per_second: 1KB, start: oldest, newest_first: true}]
`)
	r := c.RemoteWrite[0]
	wantAllSet(t, r, "AzureAD", "GoogleIAM") // one way to authenticate at a time
	wantAllSet(t, r.Queue)
	wantAllSet(t, r.Metadata)
	if c.RemoteWrite[1].AzureAD == nil || c.RemoteWrite[2].GoogleIAM == nil || r.SigV4.Region != "r" {
		t.Error("a way to authenticate got lost")
	}
	if want := labels.FromStrings("dc", "a"); !labels.Equal(r.ExternalLabels, want) {
		t.Errorf("external labels: got %v, want %v: an empty value is not attached", r.ExternalLabels, want)
	}
	if r.URL.String() != "https://h/write" || !r.HTTP.TLSConfig.InsecureSkipVerify || r.HTTP.EnableHTTP2 || r.RemoteTimeout != 9*time.Second ||
		r.Headers["X-A"] != "b" || len(r.WriteRelabel) != 1 || !r.V2() || r.Name != "n" || r.RemoteName != "n" {
		t.Errorf("got %+v", r)
	}
	if want := (remotewrite.QueueConfig{
		Capacity: 1, MaxShards: 3, MinShards: 2, MaxSamplesPerSend: 4, BatchSendDeadline: 5 * time.Second,
		MinBackoff: 6 * time.Second, MaxBackoff: 7 * time.Second, RetryOnRateLimit: true, SampleAgeLimit: 8 * time.Second,
	}); r.Queue != want {
		t.Errorf("queue: got %+v, want %+v", r.Queue, want)
	}
	if want := (remotewrite.MetadataConfig{Send: true, SendInterval: 9 * time.Second, MaxSamplesPerSend: 10}); r.Metadata != want {
		t.Errorf("metadata: got %+v, want %+v", r.Metadata, want)
	}

	d := c.RemoteWrite[3]
	if want := (remotewrite.QueueConfig{
		Capacity: 10000, MaxShards: 50, MinShards: 1, MaxSamplesPerSend: 2000, BatchSendDeadline: 5 * time.Second,
		MinBackoff: 30 * time.Millisecond, MaxBackoff: 5 * time.Second,
	}); d.Queue != want {
		t.Errorf("queue by default: got %+v, want %+v", d.Queue, want)
	}
	if d.V2() || d.ProtobufMessage != remotewrite.MessageV1 || d.RemoteTimeout != 30*time.Second || d.HTTP.EnableHTTP2 || d.Name != "" || d.RemoteName != d.Hash[:6] {
		t.Errorf("defaults: got %+v", d)
	}
}

package config

import (
	"log/slog"
	"testing"

	promconfig "github.com/prometheus/prometheus/config"
)

func TestRemotesAreNamedAsPrometheusNamesThem(t *testing.T) {
	prom, err := promconfig.Load(`
global: {external_labels: {a: b}}
remote_write:
- url: http://one:9090/api/v1/write
- url: https://user:secret@two/write
  remote_timeout: 10s
  protobuf_message: io.prometheus.write.v2.Request
  send_exemplars: true
  headers: {X-Tenant: t}
  basic_auth: {username: u, password: p}
  write_relabel_configs:
  - {source_labels: [a, b], regex: x.*, action: drop}
  queue_config: {capacity: 500, max_shards: 7, sample_age_limit: 1h}
  metadata_config: {send: false}
- url: http://three/write
  authorization: {credentials: c}
  tls_config: {insecure_skip_verify: true}
  sigv4:
- url: http://four/write
  name: named
- {url: "http://two/write", protobuf_message: io.prometheus.write.v2.Request}
`, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	// Read from the label remote_name of prometheus_remote_storage_shards_max
	// of Prometheus 3.15 with this config.
	want := []string{"b59bc5", "b018d3", "ce6be4", "named", "031a7f"}
	for i, rw := range prom.RemoteWriteConfigs {
		hash, err := remoteHash(rw)
		if err != nil {
			t.Fatal(err)
		}
		if got := remoteName(rw, hash); got != want[i] {
			t.Errorf("%s: got %q, want %q", rw.URL, got, want[i])
		}
	}
}

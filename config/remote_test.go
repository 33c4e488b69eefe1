package config

import "testing"

func TestRemotesAreNamedAsPrometheusNamesThem(t *testing.T) {
	c := mustLoad(t, `
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
`)
	// Read from the label remote_name of prometheus_remote_storage_shards_max
	// of Prometheus 3.15 with this config.
	want := []string{"b59bc5", "b018d3", "ce6be4", "named", "031a7f"}
	if len(c.RemoteWrite) != len(want) {
		t.Fatalf("got %d remotes, want %d", len(c.RemoteWrite), len(want))
	}
	for i, r := range c.RemoteWrite {
		if r.RemoteName != want[i] {
			t.Errorf("%s: got %q, want %q", r.URL.Redacted(), r.RemoteName, want[i])
		}
	}
}

func TestEqualRemotesHaveEqualHashes(t *testing.T) {
	r := mustLoad(t, `
remote_write:
- {url: "http://a/", basic_auth: {username: u, password: p}}
- {url: "http://a/", basic_auth: {username: u, password: another}, remote_timeout: 30s}
- {url: "http://b/", basic_auth: {username: u, password: p}}
`).RemoteWrite
	if r[0].Hash != r[1].Hash {
		t.Error("blocks that differ in a secret and in a default spelt out: got two hashes, want one")
	}
	if r[0].Hash == r[2].Hash {
		t.Error("blocks with different URLs have one hash")
	}
}

package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckConfigSaysWhatTheAgentWould(t *testing.T) {
	const good = `global: {external_labels: {cluster: edge}}
scrape_configs:
- job_name: node
  scrape_interval: 15s
  static_configs: [{targets: ['a:1', 'b:1']}]
- job_name: kinds
  file_sd_configs: [{files: ['x.yml']}]
  dns_sd_configs: [{names: ['x']}]
remote_write:
- {url: 'http://user:secret@central/api/v1/write', name: central, protobuf_message: io.prometheus.write.v2.Request}
`
	for _, c := range []struct {
		name, text string
		args       []string
		code       int
		want       []string
	}{
		{"good", good, nil, 0, []string{": OK\n", "scrape jobs: 2\n", "node: every 15s, timeout 10s; targets from static (2 targets)", "kinds: every 1m", "remote writes: 1", "central: io.prometheus.write.v2.Request to http://"}},
		{"empty", "", nil, 0, []string{": OK\n", "scrape jobs: 0"}},
		{"unknown field", "global: {scrape_intervall: 1s}", nil, 1, []string{": FAILED\n", "line 1", "scrape_intervall"}},
		{"bad value", "global: {scrape_interval: 1x}", nil, 1, []string{": FAILED\n", "1x"}},
		{"remote's CA missing", "remote_write: [{url: 'https://a/', tls_config: {ca_file: missing-ca.pem}}]", nil, 1, []string{": FAILED\n", "missing-ca.pem"}},
		{"job's CA missing", "scrape_configs: [{job_name: tls, tls_config: {ca_file: missing-ca.pem}}]", nil, 1, []string{": FAILED\n", "missing-ca.pem", "tls"}},
		{"CA missing, syntax only", "scrape_configs: [{job_name: tls, tls_config: {ca_file: missing-ca.pem}}]", []string{"--syntax-only"}, 0, []string{": OK\n"}},
		{"the same remote twice", "remote_write: [{url: 'http://a/'}, {url: 'http://a/'}]", nil, 1, []string{": FAILED\n", "duplicate remote write configs", "http://a/"}},
		{"unknown feature", "", []string{"--enable-feature=bogus"}, 0, []string{": OK\n", "Unknown option", "option=bogus"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c.yml")
			writeFile(t, file, c.text)
			got := executed(t, append([]string{"check", "config", file}, c.args...)...)
			if got.code != c.code || (got.stderr == "1 of 1 files failed\n") != (c.code == 1) {
				t.Errorf("%+v, want code %d", got, c.code)
			}
			for _, want := range append(c.want, file) {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("no %q in %s", want, got.stdout)
				}
			}
			if strings.Contains(got.stdout, "secret") {
				t.Errorf("a password is printed: %s", got.stdout)
			}
		})
	}
}

func TestCheckConfigGoesOnAfterABadFile(t *testing.T) {
	dir := t.TempDir()
	good, bad, missing := filepath.Join(dir, "good.yml"), filepath.Join(dir, "bad.yml"), filepath.Join(dir, "missing.yml")
	writeFile(t, good, "")
	writeFile(t, bad, "global: [")
	got := executed(t, "check", "config", bad, missing, good)
	if got.code != 1 || got.stderr != "2 of 3 files failed\n" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{bad + ": FAILED\n", missing + ": FAILED\n", good + ": OK\n"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("no %q in %s", want, got.stdout)
		}
	}
	if got := executed(t, "check", "config", "--enable-feature=otlp-deltatocumulative,otlp-native-delta-ingestion", good); got.code != 1 || !strings.Contains(got.stderr, "at the same time") {
		t.Errorf("features that exclude each other: %+v", got)
	}
}

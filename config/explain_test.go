//go:build !all_sd

package config

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestDiscoveryThatIsNotCompiledInIsNamedWithTheTag(t *testing.T) {
	dir := write(t, map[string]string{
		"one.yml": "scrape_configs:\n- job_name: web\n  consul_sd_configs: [{server: a}]\n",
		"two.yml": `
scrape_configs:
- job_name: web
  static_configs: [{targets: [a]}]
  ec2_sd_configs: [{}]
- job_name: good
- bogus: 1
  kuma_sd_configs: [{}]
  job_name: mesh
- consul_sd_configs: [{}]
`,
		"alerting.yml": "alerting: {alertmanagers: [{consul_sd_configs: [{server: a}]}]}",
		"files.yml":    "scrape_config_files: [one.yml]",
	})
	tests := []struct{ file, want string }{
		{"one.yml", "parsing YAML file DIR/one.yml: line 3: job \"web\" needs the service discovery \"consul\", " +
			"which is not part of this build: build with `-tags all_sd` for consul_sd_configs"},
		{"two.yml", "parsing YAML file DIR/two.yml: yaml: unmarshal errors:\n" +
			"  line 5: job \"web\" needs the service discovery \"ec2\", which is not part of this build: build with `-tags all_sd` for ec2_sd_configs\n" +
			"  line 7: field bogus not found in type config.ScrapeConfig\n" +
			"  line 8: job \"mesh\" needs the service discovery \"kuma\", which is not part of this build: build with `-tags all_sd` for kuma_sd_configs\n" +
			"  line 10: job \"(unnamed)\" needs the service discovery \"consul\", which is not part of this build: build with `-tags all_sd` for consul_sd_configs"},
		{"alerting.yml", "parsing YAML file DIR/alerting.yml: field alerting is not allowed in agent mode"},
		{"files.yml", "\"DIR/one.yml\": line 3: job \"web\" needs the service discovery \"consul\", " +
			"which is not part of this build: build with `-tags all_sd` for consul_sd_configs"},
	}
	for _, tt := range tests {
		_, err := Load(filepath.Join(dir, tt.file), Options{})
		if err == nil {
			t.Errorf("%s: got no error", tt.file)
			continue
		}
		if got := strings.ReplaceAll(err.Error(), dir, "DIR"); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.file, got, tt.want)
		}
	}
}

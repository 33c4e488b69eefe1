//go:build all_sd

package config

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.yaml.in/yaml/v2"
)

func TestTheWholeExampleOfPrometheusLoadsWithoutItsServerParts(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(testdata(t), "conf.good.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks yaml.MapSlice
	if err := yaml.Unmarshal(content, &blocks); err != nil {
		t.Fatal(err)
	}
	blocks = slices.DeleteFunc(blocks, func(b yaml.MapItem) bool {
		return slices.Contains([]any{"alerting", "rule_files", "remote_read"}, b.Key)
	})
	content, err = yaml.Marshal(blocks)
	if err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, string(content))
	if len(c.Discovery) < 30 {
		t.Errorf("jobs: got %d, want 30 or more", len(c.Discovery))
	}
}

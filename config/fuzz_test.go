package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever stands in the file: what Prometheus takes is taken, and shown the
// same; what it refuses is refused, for its reason or for a better one.
func FuzzLoadAgreesWithPrometheus(f *testing.F) {
	dir, err := upstreamDir()
	if err != nil {
		f.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "config", "testdata", "*.yml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte("&0"))
	path := filepath.Join(f.TempDir(), "prometheus.yml")
	f.Fuzz(func(t *testing.T, content []byte) {
		if strings.Contains(string(content), "prom_agent") {
			return // may be ours
		}
		if strings.Contains(string(content), "scrape_config_files") {
			return // a glob of any kind would read what else is on the disk
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path, Options{})
		want, jobs, wantErr := oracle(path)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("got error %v, Prometheus has %v", err, wantErr)
		}
		if err != nil {
			if !strings.Contains(err.Error(), wantErr.Error()) && !strings.Contains(err.Error(), "all_sd") &&
				!strings.Contains(err.Error(), "not allowed in agent mode") {
				t.Errorf("got error %q, Prometheus has %q", err, wantErr)
			}
			return
		}
		if got.YAML() != withOurDefaults(want, got) && !strings.Contains(got.YAML(), "xxxxx@") {
			t.Errorf("shows another config:\n%s\nPrometheus:\n%s", got.YAML(), want)
		}
		if len(got.Discovery) != len(jobs) {
			t.Errorf("jobs: got %d, want %d", len(got.Discovery), len(jobs))
		}
	})
}

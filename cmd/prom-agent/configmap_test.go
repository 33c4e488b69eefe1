package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A mounted ConfigMap is a directory of symlinks into ..data, which is itself a
// symlink: the kubelet makes a new directory and swaps that one.
func TestAutoReloadNoticesAConfigMapThatTheKubeletSwaps(t *testing.T) {
	dir := t.TempDir()
	version := 0
	swap := func(files map[string]string) {
		t.Helper()
		version++
		data := fmt.Sprintf("..version_%d", version)
		if err := os.Mkdir(filepath.Join(dir, data), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			writeFile(t, filepath.Join(dir, data, name), text)
			if link := filepath.Join(dir, name); version == 1 {
				if err := os.Symlink(filepath.Join("..data", name), link); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := os.Symlink(data, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	targets := map[string]func() bool{}
	address := map[string]string{}
	for _, name := range []string{"first", "second", "third"} {
		at, scrapes := exporter(t)
		address[name] = at
		targets[name] = func() bool { return scrapes.Load() > 0 }
	}
	const main = "scrape_config_files: ['jobs.yml']\n"
	swap(map[string]string{"prometheus.yml": main, "jobs.yml": "scrape_configs:\n" + job("a", address["first"])})
	a := &agentProcess{process: startCommand(t, exec.Command(agentBinary, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.agent.path="+t.TempDir(),
		"--web.listen-address=127.0.0.1:0", "--config.auto-reload", "--config.auto-reload-interval=1s", "--scrape.discovery-reload-interval=20ms"))}
	until(t, "the first target is scraped", targets["first"])
	swap(map[string]string{"prometheus.yml": main, "jobs.yml": "scrape_configs:\n" + job("a", address["second"])})
	until(t, "a changed file of jobs is taken", targets["second"])
	swap(map[string]string{"prometheus.yml": "scrape_configs:\n" + job("b", address["third"]), "jobs.yml": ""})
	until(t, "the changed config is taken", targets["third"])
	a.waitFor(`(?s)Completed loading of configuration file.*Completed loading of configuration file.*Completed loading of configuration file`)
}

package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLocalDeploymentIsValidAndStartsQuietly(t *testing.T) {
	file, err := filepath.Abs("../../deploy/local/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	if got := executed(t, "check", "config", file); got.code != 0 {
		t.Errorf("check config: %+v", got)
	}
	p := start(t, "--config.file="+file, "--storage.agent.path="+t.TempDir(), "--web.listen-address=127.0.0.1:0", "--scrape.discovery-reload-interval=10ms", "--storage.remote.flush-deadline=1s")
	p.waitFor("Server is ready")
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for line := range strings.Lines(p.output()) {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "discovery") {
			t.Errorf("at the start it logs %s", line)
		}
	}
}

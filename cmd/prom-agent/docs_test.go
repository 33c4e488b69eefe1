package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every metric that the documentation names is there, and every one that
// Prometheus agent does not have is named in docs/compatibility.md.
func TestDocumentedMetricsAreThoseOfTheAgent(t *testing.T) {
	a := startAgent(t, `{scrape_configs: [{job_name: j, static_configs: [{targets: ['127.0.0.1:1']}]}], remote_write: [{url: 'http://127.0.0.1:1/'}]}`)
	families := map[string]bool{}
	for range 100 { // the remote's appear when its delivery begins
		code, body := a.request("GET", "/metrics")
		if code != 200 {
			t.Fatalf("/metrics: %d %s", code, body)
		}
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(body, -1) {
			families[m[1]] = true
		}
		if families["prom_agent_remote_behind_samples"] {
			break
		}
	}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	compatibility := ""
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) == "compatibility.md" {
			compatibility = string(text)
		}
		for _, name := range regexp.MustCompile("`(?:prometheus|prom_agent)_[a-z0-9_]+[`{]").FindAllString(string(text), -1) {
			if name = name[1 : len(name)-1]; !families[name] && !strings.HasSuffix(name, "_") {
				t.Errorf("%s names %s, which the agent does not have", file, name)
			}
		}
	}
	for name := range families {
		if strings.HasPrefix(name, "prom_agent_") && !strings.Contains(compatibility, "`"+name+"`") {
			t.Errorf("docs/compatibility.md does not name %s", name)
		}
	}
}

// The tests that docs/guarantees.md names are there.
func TestGuaranteesNameTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	exist := map[string]bool{}
	err = filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(code, -1) {
			exist[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1)
	if len(named) < 30 {
		t.Errorf("%d tests are named", len(named))
	}
	for _, m := range named {
		if !exist[string(m[1])] {
			t.Errorf("docs/guarantees.md names %s, which there is not", m[1])
		}
	}
}

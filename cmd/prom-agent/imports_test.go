package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers is the table of docs/architecture.md: what a package may import of
// this module. A stage never imports the stage that it feeds.
var layers = map[string][]string{
	"relabel":          {},
	"template":         {},
	"scrape/expfmt":    {},
	"wal":              {},
	"discovery":        {},
	"scrape":           {"discovery", "relabel", "template", "scrape/expfmt"},
	"wal/record":       {"template", "wal"},
	"remotewrite/wire": {"template", "relabel"},
	"remotewrite":      {"template", "relabel", "wal", "wal/record", "remotewrite/wire"},
	"config":           {"discovery", "relabel", "scrape", "wal", "remotewrite"},
	"web":              {"discovery", "scrape", "remotewrite", "config"},
	"cmd/prom-agent":   {"discovery", "relabel", "template", "scrape/expfmt", "scrape", "wal", "wal/record", "remotewrite/wire", "remotewrite", "config", "web"},
	"wal/waltest":      {"wal"},
	"test/e2e":         {},
}

func TestImportsPointUpTheTable(t *testing.T) {
	const module = "promagent/"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[0], module)
		allowed, ok := layers[pkg]
		if !ok {
			t.Errorf("%s has no line in the table: what may it import?", pkg)
			continue
		}
		seen++
		for _, imp := range words[1:] {
			if imp, ours := strings.CutPrefix(imp, module); ours && !slices.Contains(allowed, imp) {
				t.Errorf("%s imports %s: a stage declares what it needs from the stage below it, and cmd plugs it in", pkg, imp)
			}
		}
	}
	if seen != len(layers) {
		t.Errorf("%d packages found, the table has %d", seen, len(layers))
	}
}

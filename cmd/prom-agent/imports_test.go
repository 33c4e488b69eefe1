package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// layers is the table of docs/architecture.md: what a package may import of
// this module. A stage never imports the stage that it feeds.
var layers = map[string][]string{
	"relabel":                       {},
	"template":                      {},
	"scrape/expfmt":                 {},
	"wal":                           {},
	"discovery":                     {"discovery/group", "discovery/kubernetes"},
	"scrape":                        {"discovery", "discovery/group", "relabel", "template", "scrape/expfmt", "config/httpclient"},
	"wal/record":                    {"template", "wal"},
	"remotewrite/wire":              {"template", "relabel"},
	"remotewrite":                   {"template", "relabel", "wal", "wal/record", "remotewrite/wire", "config/httpclient"},
	"config/httpclient":             {},
	"config/settings":               {},
	"config":                        {"config/settings", "discovery", "relabel", "scrape", "wal", "remotewrite"},
	"web":                           {"discovery", "scrape", "remotewrite", "config"},
	"discovery/group":               {},
	"discovery/kubernetes/object":   {},
	"discovery/kubernetes/watch":    {"discovery/kubernetes/object"},
	"discovery/kubernetes":          {"discovery/group", "discovery/kubernetes/object", "discovery/kubernetes/watch"},
	"discovery/kubernetes/kubetest": {"discovery/group"}, // for tests, as the ones at the end
	"deploy/kubernetes":             {},
	"test/drain":                    {},
	"cmd/prom-agent":                {"discovery", "relabel", "template", "scrape/expfmt", "scrape", "wal", "wal/record", "remotewrite/wire", "remotewrite", "config", "config/settings", "web"},
	"wal/waltest":                   {"wal"}, // for tests: no other line names it
	"test/e2e":                      {},
	"test/hostile":                  {"test/hostile/parts"},
	"test/hostile/parts":            {},
	"test/rig":                      {},
}

func TestImportsPointUpTheTable(t *testing.T) {
	const module = "promagent/"
	out, err := exec.Command("go", "list", "-tags", "all_sd", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
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

// The table above is that of the documentation, which leaves out what only tests use.
func TestImportTableIsTheDocumentedOne(t *testing.T) {
	doc, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(doc), "| package | may import (of ours) |\n")
	if !found {
		t.Fatal("no table of imports in docs/architecture.md")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	documented := map[string]bool{"wal/waltest": true, "test/e2e": true, "discovery/kubernetes/kubetest": true, "deploy/kubernetes": true, "test/drain": true, "test/hostile": true, "test/hostile/parts": true, "test/rig": true}
	for _, row := range regexp.MustCompile(`(?m)^\| (\w.*?) \| (.*?) \|$`).FindAllStringSubmatch(table, -1) {
		may := regexp.MustCompile(` \(.*?\)`).ReplaceAllString(row[2], "")
		for pkg := range strings.SplitSeq(row[1], ", ") {
			documented[pkg] = true
			var allowed []string
			switch may {
			case "nothing":
			case "everything":
				continue
			default:
				allowed = strings.Split(may, ", ")
			}
			got := slices.Sorted(slices.Values(layers[pkg]))
			if slices.Sort(allowed); !slices.Equal(got, allowed) {
				t.Errorf("%s: the test allows %q, the documentation %q", pkg, got, allowed)
			}
		}
	}
	for pkg := range layers {
		if !documented[pkg] {
			t.Errorf("%s is not documented", pkg)
		}
	}
}

package settings

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestEveryRowSaysWhatBecomesOfItsSetting(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All() {
		id := fmt.Sprint(s.Kind, s.Name, s.Value)
		if seen[id] {
			t.Errorf("%s stands there twice", s)
		}
		seen[id] = true
		switch s.Status {
		case NotYet, NoMeaning:
			if s.Says == "" || s.Test != "" || strings.HasSuffix(s.Says, ".") || strings.ToLower(s.Says[:1]) != s.Says[:1] && !strings.HasPrefix(s.Says, "OpenMetrics") {
				t.Errorf("%s: what it says goes on after a colon, and one test is for all such settings; got %+v", s, s)
			}
			if s.Kind == Flag && s.Default == "" {
				t.Errorf("%s has no default", s)
			}
		default:
			if s.Test == "" || s.Default != "" || s.Says != "" && s.Kind != Feature {
				t.Errorf("%s: which test shows its effect? %+v", s, s)
			}
		}
	}
	if len(seen) < 250 {
		t.Errorf("only %d rows", len(seen))
	}
}

func TestTestsOfSettingsExist(t *testing.T) {
	exist := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllSubmatch(code, -1) {
			exist[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]string{}
	for _, s := range All() {
		if s.Test != "" && !exist[s.Test] {
			missing[s.Test] += " " + s.String()
		}
	}
	for test, of := range missing {
		t.Errorf("there is no %s, which is to show the effect of%s", test, of)
	}
}

//go:generate go test -run TestDocumentationHasTheTable . -update
var update = flag.Bool("update", false, "write what is generated into docs/compatibility.md")

func TestDocumentationHasTheTable(t *testing.T) {
	const file, begin, end = "../../docs/compatibility.md", "<!-- settings: begin; go generate ./config/settings writes it -->\n", "<!-- settings: end -->\n"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(b), begin)
	old, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place between %q and %q", file, begin, end)
	}
	now := documentation()
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+now+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != now {
		t.Errorf("%s is out of date: run go generate ./config/settings", file)
	}
}

// documentation is the table as docs/compatibility.md has it.
func documentation() string {
	var b strings.Builder
	works := map[Kind]int{}
	for _, s := range All() {
		switch {
		case s.Own || s.Status != Works:
		case s.Kind == Key:
			works[Key] += len(s.Paths())
		default:
			works[s.Kind]++
		}
	}
	fmt.Fprintf(&b, "Implemented: %d flags, %d features, %d config keys and %d labels that control a scrape. Server-mode flags, and the keys `alerting`,\n"+
		"`rule_files` and `remote_read`, are rejected, as by Prometheus agent; so are secret references (`*_ref`). Any other setting with a non-default value is\n"+
		"logged: flags and features at startup, keys also at each reload, labels if a relabelling rule or a static config names them (labels that come from\n"+
		"discovery are not seen). `check config` prints the same for keys and labels, and for features that it gets with `--enable-feature`.\n", works[Flag], works[Feature], works[Key], works[Label])
	for _, part := range []struct {
		status Status
		title  string
	}{
		{NotYet, "Not implemented yet: accepted, with a warning in the log"},
		{NoMeaning, "Not applicable: accepted, with an info line in the log"},
	} {
		fmt.Fprintf(&b, "\n| %s | |\n|---|---|\n", part.title)
		var says string
		var names []string
		row := func() {
			if len(names) > 0 {
				fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(names, ", "), says)
			}
			names = nil
		}
		for _, s := range All() {
			if s.Status != part.status {
				continue
			}
			if s.Says != says {
				row()
			}
			says = s.Says
			names = append(names, "`"+s.String()+"`")
		}
		row()
	}
	return b.String()
}

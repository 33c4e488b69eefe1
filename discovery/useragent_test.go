package discovery

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What Prometheus makes at the start of the program is set by us, or told by an option.
func TestEveryUserAgentInAVariableIsKnown(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.ReadFile("useragent_all.go")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(strings.TrimSpace(string(dir)), "discovery")
	variable := regexp.MustCompile(`(?m)^(?:var |\t)(\w+) +(?:string )?= version\.(?:Prometheus|Component)UserAgent\(`)
	found := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, v := range variable.FindAllStringSubmatch(string(code), -1) {
			found++
			kind, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			if kind != "http" && !strings.Contains(string(ours), " github.com/prometheus/prometheus/discovery/"+kind+"."+v[1]+"\n") {
				t.Errorf("discovery %s keeps its User-Agent in the variable %s, which nobody sets", kind, v[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found != 6 {
		t.Errorf("%d variables found, want 6", found)
	}
}

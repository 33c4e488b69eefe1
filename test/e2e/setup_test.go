package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// On a machine that lacks a program, test/setup must say so: it once took a
// function of its own for the program and installed nothing.
func TestSetupNamesEveryPackageThatIsMissing(t *testing.T) {
	t.Parallel()
	bare := t.TempDir()
	for _, tool := range []string{"bash", "dirname"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bare, tool)); err != nil {
			t.Fatal(err)
		}
	}
	missing := func() string {
		cmd := exec.Command("../setup", "--missing")
		cmd.Env = []string{"PATH=" + bare, "HOME=" + bare}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	if got, want := missing(), "prometheus prometheus-node-exporter iproute2 util-linux gcc"; got != want {
		t.Errorf("on a bare machine %q is missing, want %q", got, want)
	}
	for _, program := range []string{"prometheus", "prometheus-node-exporter", "ip", "flock", "gcc"} {
		if err := os.WriteFile(filepath.Join(bare, program), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := missing(); got != "" {
		t.Errorf("with every program there, %q is missing", got)
	}
}

package kubernetes_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// docs/deploy.md names the jobs, and patches a flag by its place.
func TestDocumentationFitsTheManifests(t *testing.T) {
	text := string(readFile(t, "../../docs/deploy.md"))
	for _, sc := range load(t, "base").ScrapeConfigs {
		if !strings.Contains(text, "| `"+sc.JobName+"` |") {
			t.Errorf("docs/deploy.md does not say what %s scrapes", sc.JobName)
		}
	}
	args := agentDeployment(t).Spec.Template.Spec.Containers[0].Args
	const size = "--storage.agent.retention.max-size=8GB"
	i := slices.Index(args, size)
	if want := fmt.Sprintf("{op: test, path: /spec/template/spec/containers/0/args/%d, value: %s}", i, size); !strings.Contains(text, want) {
		t.Errorf("docs/deploy.md lacks %s", want)
	}
	for setting, resources := range map[string]string{"node": "nodes", "namespace": "namespaces", "deployment": "replicasets` of `apps", "job": "jobs` of `batch"} {
		if !strings.Contains(text, "`"+resources+"` for `"+setting+"`") {
			t.Errorf("docs/deploy.md does not say which right attach_metadata needs for %s", setting)
		}
	}
	for _, r := range []string{"`nodes/metrics`", "`nodes/proxy`", "`/metrics`", "`nodes`", "`pods`", "`endpoints`, `services`"} {
		if !strings.Contains(text, "of "+r+" |") {
			t.Errorf("docs/deploy.md does not say what the right to %s is for", r)
		}
	}
}

package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
	"go.yaml.in/yaml/v2"

	"promagent/discovery"
)

// These tests hold the loader against Prometheus's own, with the whole of the
// config testdata that comes with the module. With the build tag all_sd they
// cover every service discovery: go test -tags all_sd ./config

// upstreamDir finds the sources of Prometheus that this module builds with.
var upstreamDir = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	return strings.TrimSpace(string(out)), err
})

func upstream(t *testing.T) string {
	t.Helper()
	dir, err := upstreamDir()
	if err != nil {
		t.Fatalf("find the sources of Prometheus: %v", err)
	}
	return dir
}

func testdata(t *testing.T) string { return filepath.Join(upstream(t), "config", "testdata") }

// oracle loads as Prometheus does at its start.
func oracle(path string) (*promconfig.Config, []*promconfig.ScrapeConfig, error) {
	c, err := promconfig.LoadFile(path, true, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	jobs, err := c.GetScrapeConfigs()
	return c, jobs, err
}

// withOurDefaults is what Prometheus shows of c, but for the default that is
// another one here.
func withOurDefaults(c *promconfig.Config, got *Config) string {
	unset := c.Runtime.GoGC == promconfig.DefaultRuntimeConfig.GoGC || c.Runtime.GoGC == 0 // a document that is null has no defaults
	if unset && got.Runtime.GoGC == DefaultGoGC {
		c.Runtime.GoGC = DefaultGoGC
	}
	return c.String()
}

var sdKey = regexp.MustCompile(`(?m)^[^#\n]*?\b(\w+)_sd_configs:`)

// missing returns the first kind of discovery that the config at path needs
// and this build lacks, and the file that has it.
func missing(t *testing.T, path string) (kind, file string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range sdKey.FindAllStringSubmatch(string(content), -1) {
		if discovery.Missing(m[1]) {
			return m[1], path
		}
	}
	var more struct {
		Files []string `yaml:"scrape_config_files"`
	}
	if yaml.Unmarshal(content, &more) != nil {
		return "", ""
	}
	for _, pattern := range more.Files {
		matches, _ := filepath.Glob(filepath.Join(filepath.Dir(path), pattern))
		for _, m := range matches {
			if kind, file := missing(t, m); kind != "" {
				return kind, file
			}
		}
	}
	return "", ""
}

func TestUpstreamTestdata(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(testdata(t), "*.yml"))
	if err != nil || len(paths) < 200 {
		t.Fatalf("testdata: %d files, %v; want 200 or more", len(paths), err)
	}
	loaded, refused, lacking := 0, 0, 0
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			got, err := Load(path, Options{})
			if kind, file := missing(t, path); kind != "" {
				lacking++
				if err == nil {
					t.Fatalf("loaded, with a discovery %q that this build lacks", kind)
				}
				for _, want := range []string{file, "line ", "job \"", strconv.Quote(kind), "-tags all_sd"} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("got %q, want it to contain %q", err, want)
					}
				}
				return
			}
			want, jobs, wantErr := oracle(path)
			if wantErr != nil {
				refused++
				if err == nil {
					t.Fatalf("loaded; Prometheus: %v", wantErr)
				}
				if !strings.Contains(err.Error(), wantErr.Error()) {
					t.Errorf("got error %q, Prometheus has %q", err, wantErr)
				}
				return
			}
			if strings.HasSuffix(path, ".bad.yml") {
				// A file that its own loader takes is no test of anything.
				t.Errorf("Prometheus takes it")
			}
			loaded++
			if err != nil {
				t.Fatalf("refused: %v", err)
			}
			if got.YAML() != withOurDefaults(want, got) {
				t.Errorf("shows another config:\n%s\nPrometheus:\n%s", got.YAML(), want)
			}
			if len(got.Scrape.Jobs) != len(jobs) {
				t.Fatalf("jobs: got %d, want %d", len(got.Scrape.Jobs), len(jobs))
			}
			for i, job := range got.Scrape.Jobs {
				if job.Job != jobs[i].JobName || job.Interval != time.Duration(jobs[i].ScrapeInterval) {
					t.Errorf("job %d: got %q every %v, want %q every %v", i, job.Job, job.Interval, jobs[i].JobName, jobs[i].ScrapeInterval)
				}
			}
			if len(got.RemoteWrite) != len(want.RemoteWriteConfigs) {
				t.Errorf("remotes: got %d, want %d", len(got.RemoteWrite), len(want.RemoteWriteConfigs))
			}
			if len(got.Discovery) != len(jobs) {
				t.Errorf("jobs: got %d, want %d", len(got.Discovery), len(jobs))
			}
			for _, job := range jobs {
				configs, ok := got.Discovery[job.JobName]
				if !ok || !reflect.DeepEqual(configs, job.ServiceDiscoveryConfigs) {
					t.Errorf("discovery of job %q: got %v, want %v", job.JobName, configs, job.ServiceDiscoveryConfigs)
				}
			}
		})
	}
	t.Logf("%d loaded, %d refused, %d with a discovery that this build lacks", loaded, refused, lacking)
	if loaded < 40 || refused < 70 {
		t.Errorf("%d loaded, %d refused: too few to mean anything", loaded, refused)
	}
}

// expectedErrors returns Prometheus's own table of bad files and messages.
func expectedErrors(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(upstream(t), "config", "config_test.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Names) != 1 || v.Names[0].Name != "expectedErrors" || len(v.Values) != 1 {
			return true
		}
		for _, row := range v.Values[0].(*ast.CompositeLit).Elts {
			fields := map[string]string{}
			for _, f := range row.(*ast.CompositeLit).Elts {
				kv := f.(*ast.KeyValueExpr)
				fields[kv.Key.(*ast.Ident).Name] = text(t, kv.Value)
			}
			table[fields["filename"]] = fields["errMsg"]
		}
		return false
	})
	return table
}

// text evaluates a string expression of literals.
func text(t *testing.T, e ast.Expr) string {
	t.Helper()
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if err != nil {
			t.Fatal(err)
		}
		return s
	case *ast.BinaryExpr:
		return text(t, e.X) + text(t, e.Y)
	}
	t.Fatalf("expression %T in the table of errors", e)
	return ""
}

func TestBadFilesAreRefusedWithTheMessageThatPrometheusExpects(t *testing.T) {
	table := expectedErrors(t)
	if len(table) < 100 {
		t.Fatalf("only %d rows in Prometheus's table", len(table))
	}
	compared := 0
	for name, want := range table {
		path := filepath.Join(testdata(t), name)
		if kind, _ := missing(t, path); kind != "" {
			continue // what is said then is the business of TestUpstreamTestdata
		}
		compared++
		want = strings.ReplaceAll(want, "testdata/", testdata(t)+"/") // where its own tests see them
		if _, err := Load(path, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want one that contains %q", name, err, want)
		}
	}
	if compared < 70 {
		t.Errorf("only %d of %d compared", compared, len(table))
	}
}

func TestShownConfigLoadsAsTheSame(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(testdata(t), "*good.yml"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range paths {
		c, err := Load(path, Options{})
		if err != nil || strings.Contains(c.YAML(), "$") && strings.HasPrefix(filepath.Base(path), "external_labels") {
			continue // not for agents, or not in this build; a $ of an expanded value would be expanded again
		}
		n++
		again, err := load(t, c.YAML(), Options{})
		if err != nil {
			t.Errorf("%s: load what is shown: %v\n%s", filepath.Base(path), err, c.YAML())
			continue
		}
		// A false that is true by default is not shown in otlp: so it is upstream.
		if got, want := beforeOTLP(again.YAML()), beforeOTLP(c.YAML()); got != want {
			t.Errorf("%s: shown:\n%s\nthen:\n%s", filepath.Base(path), want, got)
		}
		if !reflect.DeepEqual(again.Discovery, c.Discovery) {
			t.Errorf("%s: discovery: got %v, want %v", filepath.Base(path), again.Discovery, c.Discovery)
		}
	}
	if n < 30 {
		t.Errorf("only %d files compared", n)
	}
}

func beforeOTLP(y string) string {
	y, _, _ = strings.Cut(y, "\notlp:\n")
	return strings.TrimSuffix(y, "\n")
}

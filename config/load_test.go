package config

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/file"
	sdhttp "github.com/prometheus/prometheus/discovery/http"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/config/settings"
)

// write puts files, by path below a new directory, and returns the directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// load loads content as prometheus.yml.
func load(t *testing.T, content string, o Options) (*Config, error) {
	t.Helper()
	return Load(filepath.Join(write(t, map[string]string{"prometheus.yml": content}), "prometheus.yml"), o)
}

func mustLoad(t *testing.T, content string) *Config {
	t.Helper()
	c, err := load(t, content, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEmptyFileGivesTheDefaults(t *testing.T) {
	for _, content := range []string{"", "global:\n", "runtime:\n", "global: {}\nruntime: {}\n"} {
		c := mustLoad(t, content)
		want := Runtime{GoGC: DefaultGoGC, LogLevel: "info"}
		if envGoGC != "" {
			want.GoGC = promconfig.DefaultRuntimeConfig.GoGC // as of the start of this process
		}
		if c.Runtime != want {
			t.Errorf("%q: runtime: got %+v, want %+v", content, c.Runtime, want)
		}
		if len(c.Discovery) != 0 || c.Scrape.OutOfOrderWindow != 0 || !c.ExternalLabels.IsEmpty() {
			t.Errorf("%q: got %+v, want nothing", content, c)
		}
		if !strings.Contains(c.YAML(), fmt.Sprintf("gogc: %d\n", c.Runtime.GoGC)) {
			t.Errorf("%q: gogc is not shown as it is in force: %s", content, c.YAML())
		}
		if !strings.Contains(c.YAML(), "scrape_interval: 1m") {
			t.Errorf("%q: the defaults are not shown: %s", content, c.YAML())
		}
	}
}

func TestRuntimeTellsWhatWasGiven(t *testing.T) {
	tests := []struct {
		env, file string
		gogc      int // 0: the default
		want      Runtime
	}{
		{"", "", 0, Runtime{LogLevel: "info"}},
		{"", "runtime: {gogc: 42}", 42, Runtime{LogLevel: "info"}},
		{"", "runtime: {gogc: -1, log_level: WARN}", -1, Runtime{LogLevel: "warn", LevelGiven: true}},
		{"", "runtime: {log_level: debug}", 0, Runtime{LogLevel: "debug", LevelGiven: true}},
		{"60", "", 0, Runtime{LogLevel: "info"}},
		{"60", "runtime: {gogc: 75}", 75, Runtime{LogLevel: "info"}},
	}
	for _, tt := range tests {
		switch tt.want.GoGC = tt.gogc; {
		case tt.gogc == 0 && tt.env == "":
			tt.want.GoGC = DefaultGoGC
		case tt.gogc == 0:
			tt.want.GoGC = promconfig.DefaultRuntimeConfig.GoGC // as of the start of this process
		}
		prom, err := promconfig.Load(tt.file, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := runtimeOf(prom, []byte(tt.file), tt.env); err != nil || got != tt.want {
			t.Errorf("GOGC=%q, %q: got %+v, %v, want %+v", tt.env, tt.file, got, err, tt.want)
		}
	}
	// What is set while the process runs was not given.
	before := mustLoad(t, "").Runtime
	t.Setenv("GOGC", "50")
	if got := mustLoad(t, "").Runtime; got != before {
		t.Errorf("after GOGC was set: got %+v, want %+v", got, before)
	}
	if _, err := load(t, "runtime: {log_level: loud}", Options{}); err == nil || !strings.Contains(err.Error(), "loud") {
		t.Errorf("a log level that does not exist: got error %v", err)
	}
}

func TestOutOfOrderWindow(t *testing.T) {
	c := mustLoad(t, "storage: {tsdb: {out_of_order_time_window: 1h30m}}")
	if want := 90 * time.Minute; c.Scrape.OutOfOrderWindow != want {
		t.Errorf("got %v, want %v", c.Scrape.OutOfOrderWindow, want)
	}
}

func TestExternalLabelsExpandTheEnvironment(t *testing.T) {
	t.Setenv("REGION", "north")
	t.Setenv("EMPTY", "")
	var log bytes.Buffer
	c, err := load(t, `
global:
  external_labels:
    $REGION: name
    a: $REGION
    b: x-${REGION}-$$y
    c: ${UNSET_BY_THIS_TEST}
    d: pre$EMPTY
scrape_configs:
- job_name: $REGION
`, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	want := labels.FromMap(map[string]string{"$REGION": "name", "a": "north", "b": "x-north-$y", "c": "", "d": "pre"})
	if !labels.Equal(c.ExternalLabels, want) {
		t.Errorf("got %v, want %v", c.ExternalLabels, want)
	}
	if _, ok := c.Discovery["$REGION"]; !ok {
		t.Errorf("something else than external labels was expanded: %v", c.Discovery)
	}
	for _, name := range []string{"UNSET_BY_THIS_TEST", "EMPTY"} {
		if w := fmt.Sprintf(`level=WARN msg="Empty environment variable" name=%s`, name); !strings.Contains(log.String(), w) {
			t.Errorf("no warning about %s in %q", name, log.String())
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	c := mustLoad(t, `
scrape_configs:
- job_name: a
  basic_auth: {username: u, password: hidden1}
  static_configs: [{targets: ["1:80"]}]
- job_name: b
  oauth2: {client_id: id, client_secret: hidden2, token_url: "http://t"}
  http_headers: {X-A: {secrets: [hidden3]}}
  http_sd_configs: [{url: "http://u:hidden4@h/", authorization: {credentials: hidden5}}]
remote_write:
- url: http://u:hidden6@h/
  sigv4: {access_key: k, secret_key: hidden7}
`)
	for what, text := range map[string]string{"YAML": c.YAML(), "Summary": c.Summary()} {
		if strings.Contains(text, "hidden") {
			t.Errorf("%s shows a secret:\n%s", what, text)
		}
	}
	if u := c.Discovery["b"][0].(*sdhttp.SDConfig).URL; !strings.Contains(u, "hidden4") {
		t.Errorf("the discovery itself got the URL %q", u)
	}
	for _, want := range []string{"password: <secret>", "client_secret: <secret>", "xxxxx@h", "secret_key: <secret>"} {
		if !strings.Contains(c.YAML(), want) {
			t.Errorf("YAML does not show %q:\n%s", want, c.YAML())
		}
	}
}

func TestPathsAreRelativeToTheFileThatHoldsThem(t *testing.T) {
	dir := write(t, map[string]string{
		"prometheus.yml": `
scrape_config_files: ["jobs/*.yml", "none/*.yml", "one.yml"]
scrape_configs:
- job_name: main
  file_sd_configs: [{files: [main.json, /abs/main.json]}]
`,
		"jobs/a.yml": "scrape_configs: [{job_name: a, file_sd_configs: [{files: [a.json]}]}]",
		"jobs/b.yml": "scrape_configs: [{job_name: b, file_sd_configs: [{files: [../b.json]}]}]",
		"one.yml":    "scrape_configs: [{job_name: one, file_sd_configs: [{files: [one.json]}]}]",
	})
	c, err := Load(filepath.Join(dir, "prometheus.yml"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for job, configs := range c.Discovery {
		for _, f := range configs[0].(*file.SDConfig).Files {
			rel, err := filepath.Rel(dir, f)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(f, "/abs") {
				rel = f
			}
			got[job] = append(got[job], rel)
		}
	}
	want := map[string][]string{
		"main": {"main.json", "/abs/main.json"}, "a": {"jobs/a.json"}, "b": {"b.json"}, "one": {"one.json"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestErrorsNameTheFileAndTheField(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"unknown field", map[string]string{"prometheus.yml": "globl: {}"},
			[]string{"parsing YAML file ", "prometheus.yml: ", "line 1: field globl not found"}},
		{"unknown discovery", map[string]string{"prometheus.yml": "scrape_configs:\n- job_name: a\n  karma_sd_configs: []\n"},
			[]string{"prometheus.yml: ", "line 3: field karma_sd_configs not found"}},
		{"alerting", map[string]string{"prometheus.yml": "alerting: {alertmanagers: [{static_configs: [{targets: [a]}]}]}"},
			[]string{"prometheus.yml: ", "field alerting is not allowed in agent mode"}},
		{"rule_files", map[string]string{"prometheus.yml": "rule_files: [a.yml]"},
			[]string{"prometheus.yml: ", "field rule_files is not allowed in agent mode"}},
		{"remote_read", map[string]string{"prometheus.yml": "remote_read: [{url: http://a}]"},
			[]string{"prometheus.yml: ", "field remote_read is not allowed in agent mode"}},
		{"job twice", map[string]string{
			"prometheus.yml": "scrape_config_files: [a.yml]\nscrape_configs: [{job_name: j}]",
			"a.yml":          "scrape_configs: [{job_name: j}]",
		}, []string{`a.yml": `, `found multiple scrape configs with job name "j", first found in main config file`}},
		{"scrape config file", map[string]string{
			"prometheus.yml": "scrape_config_files: [a.yml]",
			"a.yml":          "global: {}",
		}, []string{`a.yml": `, "line 1: field global not found"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(filepath.Join(write(t, tt.files), "prometheus.yml"), Options{})
			if err == nil {
				t.Fatal("got no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to contain %q", err, want)
				}
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none.yml"), Options{}); !os.IsNotExist(err) || !strings.Contains(err.Error(), "none.yml") {
		t.Errorf("a file that does not exist: got %v", err)
	}
}

func TestFeaturesMoveOnlyWhatIsNotGiven(t *testing.T) {
	yes, no := true, false
	given := map[*bool]string{nil: "", &yes: "extra_scrape_metrics: true", &no: "extra_scrape_metrics: false"}
	for _, on := range []bool{false, true} {
		for global, g := range given {
			for job, j := range given {
				dir := write(t, map[string]string{
					"prometheus.yml": fmt.Sprintf("global: {%s}\nscrape_config_files: [a.yml]\nscrape_configs: [{%s}]", g,
						strings.TrimSuffix("job_name: main, "+j, ", ")),
					"a.yml": fmt.Sprintf("scrape_configs: [{%s}]", strings.TrimSuffix("job_name: a, "+j, ", ")),
				})
				want := on
				if global != nil {
					want = *global
				}
				if got := effective(t, dir, Features{ExtraScrapeMetrics: on}, "", func(s *promconfig.ScrapeConfig) any {
					return s.ExtraScrapeMetricsEnabled()
				}); job == nil && !reflect.DeepEqual(got, []any{want, want}) {
					t.Errorf("feature %v, global %q: got %v, want %v", on, g, got, want)
				} else if job != nil && !reflect.DeepEqual(got, []any{*job, *job}) {
					t.Errorf("feature %v, global %q, job %q: got %v, want %v", on, g, j, got, *job)
				}
			}
		}
	}
	if *promconfig.DefaultGlobalConfig.ExtraScrapeMetrics {
		t.Error("a default of the parser was changed")
	}
}

func TestStartTimestampsPreferProtobuf(t *testing.T) {
	protocols := func(s *promconfig.ScrapeConfig) any { return s.ScrapeProtocols }
	first, plain := promconfig.DefaultProtoFirstScrapeProtocols, promconfig.DefaultScrapeProtocols
	text := []promconfig.ScrapeProtocol{promconfig.PrometheusText0_0_4}
	const text004 = "scrape_protocols: [PrometheusText0.0.4]"
	tests := []struct {
		f           Features
		global, job string
		want        []promconfig.ScrapeProtocol
	}{
		{Features{}, "", "", plain},
		{Features{StartTimestamps: true}, "", "", first},
		{Features{StartTimestampZeros: true}, "", "", first},
		{Features{StartTimestampsMade: true}, "", "", plain},
		{Features{StartTimestamps: true}, text004, "", text},
		{Features{StartTimestamps: true}, "", text004, text},
		{Features{StartTimestamps: true}, "", "scrape_protocols: [OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0, PrometheusText0.0.4]", plain},
	}
	for _, tt := range tests {
		dir := write(t, map[string]string{
			"prometheus.yml": fmt.Sprintf("global: {%s}\nscrape_config_files: [a.yml]\nscrape_configs: [{%s}]", tt.global,
				strings.TrimSuffix("job_name: main, "+tt.job, ", ")),
			"a.yml": fmt.Sprintf("scrape_configs: [{%s}]", strings.TrimSuffix("job_name: a, "+tt.job, ", ")),
		})
		shown := ""
		if tt.f.ParsesStartTimestamps() && tt.global == "" {
			shown = "scrape_protocols:\n  - PrometheusProto\n"
		}
		if got := effective(t, dir, tt.f, shown, protocols); !reflect.DeepEqual(got, []any{tt.want, tt.want}) {
			t.Errorf("%+v, global %q, job %q: got %v, want %v", tt.f, tt.global, tt.job, got, tt.want)
		}
	}
}

// effective returns what of says of each job in dir, in order, once the
// config was loaded with f; shown must be part of what the config shows.
func effective(t *testing.T, dir string, f Features, shown string, of func(*promconfig.ScrapeConfig) any) []any {
	t.Helper()
	path := filepath.Join(dir, "prometheus.yml")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	prom, err := parse(path, content, Options{Logger: slog.New(slog.DiscardHandler), Features: f})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(prom.String(), shown) {
		t.Errorf("%q is not part of the config shown:\n%s", shown, prom)
	}
	jobs, err := prom.GetScrapeConfigs()
	if err != nil {
		t.Fatal(err)
	}
	var got []any
	for _, job := range jobs {
		got = append(got, of(job))
	}
	return got
}

func TestFeatureNames(t *testing.T) {
	tests := []struct {
		values []string
		want   Features
		logged []string
	}{
		{nil, Features{}, nil},
		{[]string{"extra-scrape-metrics,st-storage", "zstd-scrape"},
			Features{ExtraScrapeMetrics: true, StartTimestamps: true, ZstdScrape: true},
			[]string{"level=WARN msg=\"This feature flag is being phased out"}},
		{[]string{"auto-reload-config"}, Features{AutoReload: true}, []string{"level=WARN", "--config.auto-reload"}},
		{[]string{"agent"}, Features{}, nil},
		{[]string{"type-and-unit-labels"}, Features{TypeAndUnitLabels: true}, []string{`msg="Feature enabled" option=type-and-unit-labels`}},
		{[]string{"zstd-scrape,metadata-wal-records"}, Features{ZstdScrape: true, MetadataWALRecords: true},
			[]string{`msg="This feature flag changes nothing: it is always on here" option=zstd-scrape`}},
		{[]string{"st-storage,teleport"}, Features{StartTimestamps: true},
			[]string{`level=WARN msg="Unknown option for --enable-feature" option=teleport`}},
		{[]string{"otlp-deltatocumulative"}, Features{OTLPDeltaToCumulative: true}, nil},
		{[]string{"native-histograms", "promql-experimental-functions"}, Features{}, nil},
	}
	for _, tt := range tests {
		var log bytes.Buffer
		got := ParseFeatures(tt.values, slog.New(slog.NewTextHandler(&log, nil)))
		if got != tt.want {
			t.Errorf("%q: got %+v, want %+v", tt.values, got, tt.want)
		}
		if err := got.Check(); err != nil {
			t.Errorf("%q: %v", tt.values, err)
		}
		for _, want := range tt.logged {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%q: logged %q, want %q", tt.values, log.String(), want)
			}
		}
		if tt.logged == nil && strings.Contains(log.String(), "WARN") {
			t.Errorf("%q: warned %q", tt.values, log.String())
		}
	}
	if ParseFeatures([]string{"otlp-deltatocumulative", "otlp-native-delta-ingestion"}, nil).Check() == nil {
		t.Error("two features that exclude each other: got no error")
	}
}

// The features that Prometheus takes, whether it documents them or not.
func TestEveryFeatureOfPrometheusHasARow(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(upstream(t), "cmd/prometheus/main.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"agent": true} // of older versions
	ast.Inspect(file, func(n ast.Node) bool {
		f, ok := n.(*ast.FuncDecl)
		if !ok || f.Name.Name != "setFeatureListOptions" {
			return true
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CaseClause); ok {
				for _, e := range c.List {
					known[text(t, e)] = true
				}
			}
			return true
		})
		return false
	})
	if len(known) < 30 {
		t.Fatalf("only %d features found in Prometheus's main.go: %v", len(known), known)
	}
	for name := range known {
		if _, ok := settings.Of(settings.Feature, name); !ok {
			t.Errorf("%s has no row: what becomes of it?", name)
		}
	}
	for _, s := range settings.All() {
		if s.Kind == settings.Feature && !known[s.Name] {
			t.Errorf("%s has a row, and Prometheus no such feature", s)
		}
	}
}

// "Feature enabled" is said of what is switched on, and of nothing else.
func TestOnlyFeaturesThatDoSomethingAreEnabled(t *testing.T) {
	enabled := 0
	for _, s := range settings.All() {
		if s.Kind != settings.Feature {
			continue
		}
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, nil))
		ParseFeatures([]string{s.Name}, logger)
		settings.Log(logger, settings.OfFeatures([]string{s.Name}))
		want := ""
		switch {
		case s.Status == settings.NotYet:
			want = fmt.Sprintf("level=WARN msg=%q setting=\"--enable-feature=%s\"\n", "This setting is not implemented yet and has no effect: "+s.Says, s.Name)
		case s.Status == settings.NoMeaning:
			want = fmt.Sprintf("settings=\"--enable-feature=%s\"\n", s.Name)
		case s.Says != "":
			want = fmt.Sprintf("changes nothing: %s\" option=%s\n", s.Says, s.Name)
		default:
			enabled++
			want = fmt.Sprintf("msg=\"Feature enabled\" option=%s\n", s.Name)
		}
		if !strings.Contains(log.String(), want) || strings.Contains(log.String(), "enabled") != strings.Contains(want, "enabled") {
			t.Errorf("%s: logged %q, want %q", s, log.String(), want)
		}
	}
	if enabled != 3 {
		t.Errorf("%d features are switched on", enabled)
	}
}

func TestChecksumFollowsTheFilesThatMakeTheConfig(t *testing.T) {
	dir := write(t, map[string]string{
		"prometheus.yml": "scrape_config_files: [jobs/*.yml]\nscrape_configs: [{job_name: m, file_sd_configs: [{files: [t.json]}]}]",
		"jobs/a.yml":     "scrape_configs: [{job_name: a}]",
		"t.json":         "[]",
	})
	path := filepath.Join(dir, "prometheus.yml")
	sum := func() string {
		t.Helper()
		s, err := Checksum(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	set := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	seen := []string{sum()}
	if len(seen[0]) != 64 || sum() != seen[0] {
		t.Errorf("got %q and then %q, want the same 64 digits", seen[0], sum())
	}
	set("t.json", "[{}]")
	if sum() != seen[0] {
		t.Error("a file of file_sd counts")
	}
	for _, change := range []func(){
		func() { set("jobs/a.yml", "scrape_configs: [{job_name: b}]") },
		func() { set("jobs/b.yml", "") },
		func() { set("prometheus.yml", "scrape_config_files: [jobs/*.yml]") },
	} {
		change()
		if s := sum(); slices.Contains(seen, s) {
			t.Error("a change of a config file does not count")
		} else {
			seen = append(seen, s)
		}
	}
	set("prometheus.yml", "scrape_config_files: {")
	if _, err := Checksum(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("not YAML: got error %v, want one that names the file", err)
	}
}

func TestSummarySaysWhatTheConfigHolds(t *testing.T) {
	c := mustLoad(t, `
global: {scrape_interval: 15s}
scrape_configs:
- job_name: nodes
  static_configs: [{targets: ["1:80", "2:80"]}, {targets: ["3:80"]}]
  file_sd_configs: [{files: [a.json]}, {files: [b.json]}]
  dns_sd_configs: [{names: [a]}]
- job_name: idle
  scrape_timeout: 5s
remote_write:
- {url: "http://u:p@one/write", name: first}
- {url: "http://two/write", protobuf_message: io.prometheus.write.v2.Request}
`)
	got := c.Summary()
	want := `scrape jobs: 2
  nodes: every 15s, timeout 10s; targets from dns, file (2 configs), static (3 targets)
  idle: every 15s, timeout 5s; targets from nowhere
remote writes: 2
  first: prometheus.WriteRequest to http://u:xxxxx@one/write
  031a7f: io.prometheus.write.v2.Request to http://two/write
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := mustLoad(t, "").Summary(); !strings.Contains(got, "stay in the log") {
		t.Errorf("without a remote write: got %q, want a remark about it", got)
	}
}

func TestConfigMayBeReadByManyWhileAnotherIsLoaded(t *testing.T) {
	dir := write(t, map[string]string{
		"prometheus.yml": "scrape_config_files: [a.yml]\nscrape_configs: [{job_name: m, static_configs: [{targets: [a]}]}]\nremote_write: [{url: http://a}]",
		"a.yml":          "scrape_configs: [{job_name: a}]",
	})
	path := filepath.Join(dir, "prometheus.yml")
	c, err := Load(path, Options{Features: Features{ExtraScrapeMetrics: true, StartTimestamps: true}})
	if err != nil {
		t.Fatal(err)
	}
	yaml := c.YAML()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				other, err := Load(path, Options{Features: Features{ExtraScrapeMetrics: true, StartTimestamps: true}})
				if err != nil {
					t.Error(err)
					return
				}
				if c.YAML() != yaml || other.YAML() != yaml || other.Summary() != c.Summary() || len(c.Discovery) != 2 {
					t.Error("what is loaded changed")
					return
				}
			}
		})
	}
	wg.Wait()
}

package main

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"promagent/config/settings"
)

// want is the default of every flag of Prometheus, as text, in both modes; a
// server's flags are shown by the API too.
var want = map[string]string{
	"agent": "true", "config.file": "prometheus.yml", "config.auto-reload": "false", "config.auto-reload-interval": "30s",
	"web.listen-address": "0.0.0.0:9090", "auto-gomaxprocs": "true", "auto-gomemlimit": "true", "auto-gomemlimit.ratio": "0.9", "auto-gomemlimit.refresh-interval": "0s",
	"web.config.file": "", "web.read-timeout": "5m", "web.max-connections": "512", "web.max-notifications-subscribers": "16",
	"web.external-url": "", "web.route-prefix": "/", "web.user-assets": "", "web.enable-lifecycle": "false", "web.enable-admin-api": "false",
	"web.enable-remote-write-receiver": "false", "web.enable-otlp-receiver": "false",
	"web.remote-write-receiver.accepted-protobuf-messages": "prometheus.WriteRequest,io.prometheus.write.v2.Request",
	"web.console.templates":                                "consoles", "web.console.libraries": "console_libraries",
	"web.page-title": "Prometheus Time Series Collection and Processing Server", "web.cors.origin": ".*",
	"storage.remote.flush-deadline": "1m", "scrape.adjust-timestamps": "true", "scrape.timestamp-tolerance": "2ms",
	"enable-feature": "", "write-documentation": "false", "log.level": "info", "log.format": "logfmt",

	"storage.agent.path": "data-agent/", "storage.agent.wal-segment-size": "0B", "storage.agent.wal-compression": "true", "storage.agent.wal-compression-type": "snappy",
	"storage.agent.wal-truncate-frequency": "0s", "storage.agent.retention.min-time": "5m", "storage.agent.retention.max-time": "0s",
	"storage.agent.checkpoint-from-in-memory-series": "false", "storage.agent.checkpoint-batch-size": "1000", "storage.agent.no-lockfile": "false",
	"storage.agent.retention.max-size": "80%", "storage.agent.wal-sync-interval": "1s", // ours
	"scrape.discovery-reload-interval": "500ms", // Prometheus: 5s

	"storage.tsdb.path": "data/", "storage.tsdb.min-block-duration": "2h", "storage.tsdb.max-block-duration": "0s", "storage.tsdb.max-block-chunk-segment-size": "0B",
	"storage.tsdb.wal-segment-size": "0B", "storage.tsdb.retention.time": "15d", "storage.tsdb.retention.size": "0B", "storage.tsdb.no-lockfile": "false",
	"storage.tsdb.allow-overlapping-compaction": "true", "storage.tsdb.wal-compression": "true", "storage.tsdb.wal-compression-type": "snappy",
	"storage.tsdb.head-chunks-write-queue-size": "0", "storage.tsdb.samples-per-chunk": "120", "storage.tsdb.delayed-compaction.max-percent": "10",
	"storage.tsdb.delay-compact-file.path": "", "storage.tsdb.block-reload-interval": "1m",
	"storage.remote.read-sample-limit": "50000000", "storage.remote.read-concurrent-limit": "10", "storage.remote.read-max-bytes-in-frame": "1048576", "web.search.max-limit": "10000",
	"rules.alert.for-outage-tolerance": "1h", "rules.alert.for-grace-period": "10m", "rules.alert.resend-delay": "1m", "rules.max-concurrent-evals": "4",
	"alertmanager.notification-queue-capacity": "10000", "alertmanager.notification-batch-size": "256", "alertmanager.drain-notification-queue-on-shutdown": "true",
	"query.lookback-delta": "5m", "query.timeout": "2m", "query.max-concurrency": "20", "query.max-samples": "50000000",
}

func TestEveryFlagHasTheDefaultOfPrometheus(t *testing.T) {
	a := startAgent(t, "")
	_, body := a.request("GET", "/api/v1/status/flags")
	var got struct{ Data map[string]string }
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	given := []string{"config.file", "storage.agent.path", "web.listen-address", "web.enable-lifecycle", "scrape.discovery-reload-interval"}
	for name, value := range want {
		v, ok := got.Data[name]
		switch {
		case !ok:
			t.Errorf("--%s is not shown", name)
		case slices.Contains(given, name):
		case v != value:
			t.Errorf("--%s is %q, want %q", name, v, value)
		}
	}
	for name := range got.Data {
		if _, ok := want[name]; !ok {
			t.Errorf("--%s is shown and not in the table", name)
		}
	}
	if got.Data["config.file"] != a.file || got.Data["web.enable-lifecycle"] != "true" {
		t.Errorf("flags that were given are shown as %q and %q", got.Data["config.file"], got.Data["web.enable-lifecycle"])
	}
}

func TestDocumentedFlagsOfPrometheusAreKnown(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(upstream(t), "docs/command-line/prometheus.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (?:<code class="text-nowrap">-\w</code>, )?<code class="text-nowrap">--([\w.-]+)</code>.* \| (.*) \| (?:`+"`(.*)`"+`)? ?\|$`).FindAllStringSubmatch(string(doc), -1)
	if len(rows) < 55 {
		t.Fatalf("%d flags found in the documentation", len(rows))
	}
	server := map[string]bool{}
	for _, s := range serverOnly {
		server[strings.TrimPrefix(s.name, "!")] = true
	}
	different := map[string]bool{
		"web.remote-write-receiver.accepted-protobuf-messages": true, // a Go expression there
		"storage.remote.read-sample-limit":                     true, // 5e7 there
		"storage.agent.retention.max-time":                     true, // ours has none: the size limit bounds the log
	}
	for _, row := range rows {
		name, help, value := row[1], row[2], row[3]
		if name == "help" || name == "version" {
			continue
		}
		ours, ok := want[name]
		if !ok {
			t.Errorf("--%s is not known", name)
			continue
		}
		if value != "" && value != ours && !different[name] {
			t.Errorf("--%s defaults to %q, that of Prometheus to %q", name, ours, value)
		}
		if only := strings.Contains(help, "Use with server mode only"); only != server[name] {
			t.Errorf("--%s: refused as a server's: %v, want %v", name, server[name], only)
		}
	}
}

// The documentation leaves out what is hidden, and defaults that are no text in the code.
func TestFlagsInTheCodeOfPrometheusAreKnown(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "cmd/prometheus/main.go"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"log.level": true, "log.format": true} // those come from a library
	declared := regexp.MustCompile(`(?:a\.Flag\(|serverOnlyFlag\(a,|agentOnlyFlag\(a,)\s*"([\w.-]+)"`).FindAllStringSubmatchIndex(string(code), -1)
	for i, at := range declared {
		name, declaration := string(code[at[2]:at[3]]), string(code[at[3]:])
		if i+1 < len(declared) {
			declaration = string(code[at[3]:declared[i+1][0]])
		}
		known[name] = true
		ours, ok := want[name]
		if !ok {
			t.Errorf("--%s is not known", name)
			continue
		}
		zero := ""
		switch {
		case strings.Contains(declaration, "Default("): // the documentation shows it, or a line of want
			continue
		case name == "storage.tsdb.retention.time": // the config's default is written into the flag
			zero = "15d"
		case strings.Contains(declaration, "SetValue("):
			zero = "0s"
		case strings.Contains(declaration, "BytesVar("):
			zero = "0B"
		case name == "web.route-prefix": // resolved
			zero = "/"
		case name == "write-documentation":
			zero = "false"
		case name == "agent": // always
			zero = "true"
		}
		if ours != zero {
			t.Errorf("--%s is shown as %q, Prometheus shows %q", name, ours, zero)
		}
	}
	ownFlags := []string{"storage.agent.retention.max-size", "storage.agent.wal-sync-interval"}
	for name := range want {
		if !known[name] && !slices.Contains(ownFlags, name) {
			t.Errorf("--%s is no flag of Prometheus", name)
		}
	}
}

func TestServerFlagsAreRefusedByNameBeforeTheConfigIsRead(t *testing.T) {
	for _, s := range serverOnly {
		name, isBool := strings.CutPrefix(s.name, "!")
		args := []string{"--agent", "--config.file=missing.yml", "--" + name + "=1"}
		typed := "--" + name
		if isBool {
			args[2] = "--no-" + name
		}
		got := executed(t, args...)
		if text := `The following flag(s) can not be used in agent mode: ["` + typed + `"]`; got.code != 3 || got.stderr != text || got.stdout != "" {
			t.Errorf("%v: %+v, want code 3 and %q", args, got, text)
		}
	}
	got := executed(t, "--query.timeout=1m", "--log.level=debug", "--storage.tsdb.path", "x")
	if text := `The following flag(s) can not be used in agent mode: ["--query.timeout" "--storage.tsdb.path"]`; got.code != 3 || got.stderr != text {
		t.Errorf("two in the order of appearance: %+v", got)
	}
}

// executed runs the command in this process: for command lines that end before anything starts.
func executed(t testing.TB, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stdout, stderr strings.Builder
	return outcome{execute(ctx, args, &stdout, &stderr), stdout.String(), stderr.String()}
}

func TestBadCommandLines(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string // in stderr
	}{
		{[]string{"--bogus"}, 2, "Error parsing command line arguments: unknown long flag '--bogus'"},
		{[]string{"--config.file=a", "--config.file=b"}, 2, "Error parsing command line arguments: flag 'config.file' cannot be repeated"},
		{[]string{"--web.max-connections=many"}, 2, "Error parsing command line arguments: --web.max-connections=many: "},
		{[]string{"--web.max-connections=0"}, 2, "--web.max-connections must be positive, is 0"},
		{[]string{"--web.read-timeout=-1s"}, 2, `--web.read-timeout=-1s: not a valid duration string: "-1s"`},
		{[]string{"--log.level=loud"}, 2, "unrecognized log level loud"},
		{[]string{"extra"}, 2, "extra"},
		{[]string{"@missing"}, 2, `"missing"`},
		{[]string{`--web.external-url="http://a"`}, 2, "URL must not begin or end with quotes"},
		{[]string{"--web.external-url=http://a\x7f"}, 2, "parse external URL"},
		{[]string{"--web.listen-address=nonsense"}, 2, "--web.listen-address=nonsense: "},
		{[]string{"--web.cors.origin=("}, 2, `could not compile CORS regex string "("`},
		{[]string{"--storage.agent.wal-segment-size=1MB"}, 1, "flag 'storage.agent.wal-segment-size' must be set between 10MB and 256MB"},
		{[]string{"--storage.agent.wal-segment-size=257MB"}, 1, "flag 'storage.agent.wal-segment-size' must be set between 10MB and 256MB"},
		{[]string{"--storage.agent.wal-segment-size=10485761B"}, 1, "must be a multiple of 32KB"},
		{[]string{"--storage.agent.wal-compression-type=lz4"}, 2, "must be one of snappy,zstd"},
		{[]string{"--storage.agent.checkpoint-batch-size=0"}, 1, "--storage.agent.checkpoint-batch-size must be greater than 0."},
		{[]string{"--auto-gomemlimit.ratio=0"}, 1, "--auto-gomemlimit.ratio must be greater than 0 and less than or equal to 1."},
		{[]string{"--auto-gomemlimit.ratio=1.1"}, 1, "--auto-gomemlimit.ratio must be greater than 0 and less than or equal to 1."},
		{[]string{"--enable-feature=otlp-deltatocumulative,otlp-native-delta-ingestion"}, 1, "cannot enable otlp-deltatocumulative and otlp-native-delta-ingestion"},
		{[]string{"--web.remote-write-receiver.accepted-protobuf-messages=x"}, 2, `unknown remote write message \"x\"`},
		{[]string{"--web.remote-write-receiver.accepted-protobuf-messages=prometheus.WriteRequest", "--web.remote-write-receiver.accepted-protobuf-messages=prometheus.WriteRequest"}, 2, "given twice"},
		{[]string{"--storage.agent.retention.max-size=0%"}, 2, `--storage.agent.retention.max-size: "0%" is not a percentage above 0 and up to 100`},
		{[]string{"--storage.agent.retention.max-size=101%"}, 2, `--storage.agent.retention.max-size: "101%" is not a percentage`},
		{[]string{"--storage.agent.retention.max-size=nan%"}, 2, `--storage.agent.retention.max-size: "nan%" is not a percentage`},
		{[]string{"--storage.agent.retention.max-size=1QB"}, 2, `--storage.agent.retention.max-size: "1QB"`},
		{[]string{"--storage.agent.retention.max-size=10KB"}, 2, "less than 1MB"},
		{[]string{"check", "config"}, 2, "required argument 'file' not provided"},
		{[]string{"wal", "inspect"}, 2, "required argument 'dir' not provided"},
		{[]string{"receive", "--interval=0s"}, 1, "--interval must be positive"},
	} {
		got := executed(t, c.args...)
		if got.code != c.code || !strings.Contains(got.stderr, strings.ReplaceAll(c.want, `\"`, `"`)) {
			t.Errorf("%q: code %d, want %d; stderr %q, want %q in it", c.args, got.code, c.code, got.stderr, c.want)
		}
		if usage := strings.HasPrefix(got.stdout, "usage: "); usage != strings.Contains(got.stderr, "Error parsing") {
			t.Errorf("%q: usage printed: %v; stdout %q", c.args, usage, got.stdout)
		}
	}
}

func TestEveryFlagOfAnAgentIsTaken(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "more"), "--storage.agent.retention.min-time=1m\n--storage.agent.retention.max-time=2h\n")
	a := startAgent(t, "", "--agent", "--enable-feature=agent", "--config.auto-reload", "--config.auto-reload-interval", "1ms", "--no-auto-gomaxprocs", "--auto-gomemlimit",
		"--auto-gomemlimit.ratio=0.5", "--auto-gomemlimit.refresh-interval=1h", "--web.read-timeout=1m", "--web.max-connections=4", "--web.max-notifications-subscribers=2",
		"--web.external-url=http://h.example/p/", "--web.user-assets="+dir, "--web.enable-admin-api",
		"--web.remote-write-receiver.accepted-protobuf-messages=prometheus.WriteRequest", "--web.console.templates=a",
		"--web.console.libraries=b", "--web.page-title=a page", "--web.cors.origin=http://a", "--storage.agent.wal-segment-size=10MB", "--no-storage.agent.wal-compression",
		"--storage.agent.wal-compression-type=zstd", "--storage.agent.wal-truncate-frequency=1h", "@"+filepath.Join(dir, "more"),
		"--storage.agent.checkpoint-from-in-memory-series", "--storage.agent.checkpoint-batch-size=10", "--storage.agent.no-lockfile", "--storage.agent.retention.max-size=1GB",
		"--storage.agent.wal-sync-interval=0s", "--storage.remote.flush-deadline=1s", "--no-scrape.adjust-timestamps", "--scrape.timestamp-tolerance=1ms", "--log.level=debug", "--log.format=logfmt")
	if code, body := a.request("GET", "/p/-/ready"); code != 200 {
		t.Errorf("ready under the external URL's path: %d %s", code, body)
	}
	_, body := a.request("GET", "/p/api/v1/status/flags")
	for _, s := range []string{`"config.auto-reload-interval":"1s"`, `"web.route-prefix":"/p"`, `"web.page-title":"a page"`, `"storage.agent.retention.max-time":"2h"`, `"storage.agent.wal-segment-size":"10MiB"`, `"agent":"true"`} {
		if !strings.Contains(body, s) {
			t.Errorf("no %s in %s", s, body)
		}
	}
	if _, err := os.Stat(filepath.Join(a.data, "lock")); !os.IsNotExist(err) {
		t.Errorf("a lock file with --storage.agent.no-lockfile: %v", err)
	}
}

func TestVersionAndHelp(t *testing.T) {
	got := runToEnd(t, "--version")
	if got.code != 0 || !strings.HasPrefix(got.stdout, "prom-agent, version "+compatible+"+prom-agent.") || got.stderr != "" {
		t.Errorf("--version: %+v", got)
	}
	for _, args := range [][]string{{"--help"}, {"-h"}, {"run", "--help"}, {"--help-long"}} {
		got := runToEnd(t, args...)
		if got.code != 0 || got.stderr != "" {
			t.Errorf("%v: code %d, stderr %q", args, got.code, got.stderr)
		}
		for _, flag := range []string{"--config.file=", "--storage.agent.path=", "--log.level=", "--[no-]agent"} {
			if !strings.Contains(got.stdout, flag) {
				t.Errorf("%v does not tell of %s", args, flag)
			}
		}
		if strings.Contains(got.stdout, "--query.timeout") {
			t.Errorf("%v tells of a server's flag", args)
		}
	}
	if got := runToEnd(t, "--help"); !strings.Contains(got.stdout, "check config") || !strings.Contains(got.stdout, "receive") {
		t.Errorf("--help does not name the commands: %s", got.stdout)
	}
}

func TestDocumentationOfTheCommandLineIsPrinted(t *testing.T) {
	got := executed(t, "--write-documentation", "--config.file=missing.yml")
	if got.code != 0 || got.stderr != "" {
		t.Errorf("code %d, stderr %q", got.code, got.stderr)
	}
	for _, row := range []string{"--config.file</code>", "--storage.agent.retention.max-size</code>", "check config"} {
		if !strings.Contains(got.stdout, row) {
			t.Errorf("no %s in %s", row, got.stdout)
		}
	}
}

func TestExternalURL(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	web := func(name, content string) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, content)
		return path
	}
	tls, plain := web("tls.yml", "tls_server_config: {cert_file: a, key_file: b}"), web("plain.yml", "basic_auth_users: {a: b}")
	for _, c := range []struct{ text, listen, web, prefix, url, route string }{
		{"", "0.0.0.0:9090", "", "", "http://" + host + ":9090", "/"},
		{"", "[::]:80", "", "/a/", "http://" + host + ":80", "/a"},
		{"", "0.0.0.0:9090", tls, "", "https://" + host + ":9090", "/"},
		{"", "0.0.0.0:9090", plain, "", "http://" + host + ":9090", "/"},
		{"", "0.0.0.0:9090", web("empty.yml", "tls_server_config: {}"), "", "http://" + host + ":9090", "/"},
		{"", "0.0.0.0:9090", web("broken.yml", "{"), "", "http://" + host + ":9090", "/"},
		{"", "0.0.0.0:9090", filepath.Join(dir, "missing.yml"), "", "http://" + host + ":9090", "/"},
		{"http://h/x", "0.0.0.0:9090", tls, "", "http://h/x", "/x"},
		{"https://h/x/y/", "0.0.0.0:9090", "", "", "https://h/x/y", "/x/y"},
		{"https://h/x", "0.0.0.0:9090", "", "/", "https://h/x", "/"},
		{"https://h/x", "0.0.0.0:9090", "", "y", "https://h/x", "/y"},
		{"https://h", "0.0.0.0:9090", "", "", "https://h", "/"},
	} {
		f := flags{externalURLText: c.text, listenAddresses: []string{c.listen}, webConfigFile: c.web, routePrefix: c.prefix, retentionMaxSize: "80%", maxConnections: 1}
		if err := f.resolve(); err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if f.externalURL.String() != c.url || f.routePrefix != c.route {
			t.Errorf("%+v: URL %s, prefix %s", c, f.externalURL, f.routePrefix)
		}
	}
}

func TestAutoReloadIntervalIsAtLeastASecond(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{time.Millisecond: time.Second, time.Minute: time.Minute} {
		f := flags{listenAddresses: []string{":1"}, retentionMaxSize: "1GB", maxConnections: 1}
		if err := f.autoReloadInterval.Set(given.String()); err != nil && given != time.Minute {
			t.Fatal(err)
		}
		if given == time.Minute {
			if err := f.autoReloadInterval.Set("1m"); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.resolve(); err != nil {
			t.Fatal(err)
		}
		if got := time.Duration(f.autoReloadInterval); got != want {
			t.Errorf("%v became %v, want %v", given, got, want)
		}
	}
}

// The flags of the binary, the table of settings and Prometheus agree; its
// hidden flags, too, as its code has them.
func TestEveryFlagHasARow(t *testing.T) {
	main, err := parser.ParseFile(token.NewFileSet(), filepath.Join(upstream(t), "cmd/prometheus/main.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]bool{"help": true, "version": true, "log.level": true, "log.format": true} // declared elsewhere
	ast.Inspect(main, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 2 {
			return true
		}
		name := call.Args[0]
		switch f := call.Fun.(type) {
		case *ast.SelectorExpr:
			if f.Sel.Name != "Flag" {
				return true
			}
		case *ast.Ident:
			if f.Name != "serverOnlyFlag" && f.Name != "agentOnlyFlag" {
				return true
			}
			name = call.Args[1]
		default:
			return true
		}
		if literal, ok := name.(*ast.BasicLit); ok {
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			theirs[text] = true
		}
		return true
	})
	if len(theirs) < 65 {
		t.Fatalf("only %d flags found in Prometheus's main.go", len(theirs))
	}
	server, ours := map[string]bool{}, map[string]bool{}
	for _, s := range serverOnly {
		server[strings.TrimPrefix(s.name, "!")] = true
	}
	if len(server) != len(serverOnly) {
		t.Errorf("a server's flag is listed twice: %v", slices.Sorted(maps.Keys(server)))
	}
	var f flags
	app, run, _ := newApp(&f)
	for _, flag := range slices.Concat(app.Model().Flags, run.Model().Flags) {
		ours[flag.Name] = true
		if s, ok := settings.Of(settings.Flag, flag.Name); ok && s.Default != "" && s.Default != strings.Join(flag.Default, ",") && flag.Default != nil {
			t.Errorf("%s: its default is %q, in the table %q", s, flag.Default, s.Default)
		}
	}
	for name := range theirs {
		if _, ok := settings.Of(settings.Flag, name); !ok {
			t.Errorf("--%s has no row: what becomes of it?", name)
		}
	}
	for _, s := range settings.All() {
		if s.Kind != settings.Flag {
			continue
		}
		if theirs[s.Name] == s.Own {
			t.Errorf("%s: Prometheus has it: %v; the table says that it is ours: %v", s, theirs[s.Name], s.Own)
		}
		if ours[s.Name] == (s.Name == "version") { // the version is declared with the commands
			t.Errorf("%s is a flag of the agent: %v", s, ours[s.Name])
		}
		if refused := s.Status == settings.Refused; refused != server[s.Name] {
			t.Errorf("%s is refused as a server's: %v, in the table: %v", s, server[s.Name], refused)
		}
		delete(ours, s.Name)
	}
	for name := range ours {
		if !strings.HasPrefix(name, "help-") && !strings.HasPrefix(name, "completion-") { // the flag parser's own
			t.Errorf("--%s has no row", name)
		}
	}
}

// upstream finds the sources of Prometheus that this module builds with.
func upstream(t *testing.T) string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(dir))
}

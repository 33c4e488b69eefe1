package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	promconfig "github.com/prometheus/prometheus/config"
)

var nopLogger = slog.New(slog.DiscardHandler)

const twoRemotes = "remote_write:\n- {name: central, url: 'http://central/'}\n- {name: spare, url: 'http://spare/'}\n- {url: 'http://unnamed/'}\n"

func TestOwnBlockSaysHowARemoteIsSentTo(t *testing.T) {
	type want struct {
		limit  int64
		oldest bool
		newest bool
	}
	for _, tt := range []struct {
		name, block    string
		central, spare want
	}{
		{"none", "", want{}, want{}},
		{"empty", "prom_agent:\n", want{}, want{}},
		{"an empty mapping", "prom_agent: {}\n", want{}, want{}},
		{"no remotes", "prom_agent:\n  remotes:\n", want{}, want{}},
		{"a remote without settings", "prom_agent: {remotes: [{name: central}]}\n", want{}, want{}},
		{"settings without values", "prom_agent: {remotes: [{name: central, start: , max_bytes_per_second: , newest_first: }]}\n", want{}, want{}},
		{"both", "prom_agent:\n  remotes:\n  - name: central\n    max_bytes_per_second: 250KB # of the link\n    start: end\n  - name: spare\n    start: oldest\n",
			want{limit: 250 << 10}, want{oldest: true}},
		{"the other order", "prom_agent: {remotes: [{start: oldest, name: spare}, {max_bytes_per_second: 1MiB, name: central}]}\n", want{limit: 1 << 20}, want{oldest: true}},
		{"quoted", "\"prom_agent\": {\"remotes\": [{\"name\": \"central\", \"max_bytes_per_second\": \"1B\"}]}\n", want{limit: 1}, want{}},
		{"no limit", "prom_agent: {remotes: [{name: central, max_bytes_per_second: 0}, {name: spare, max_bytes_per_second: 0KB}]}\n", want{}, want{}},
		{"the newest first", "prom_agent: {remotes: [{name: central, newest_first: true}, {name: spare, newest_first: false}]}\n", want{newest: true}, want{}},
		{"a fraction", "prom_agent: {remotes: [{name: central, max_bytes_per_second: 1.5MB}]}\n", want{limit: 3 << 19}, want{}},
		{"an anchor of elsewhere", "global: {external_labels: {x: &a 1KB}}\nprom_agent: {remotes: [{name: central, max_bytes_per_second: *a}]}\n", want{limit: 1 << 10}, want{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, content := range []string{tt.block + twoRemotes, twoRemotes + tt.block} {
				c := mustLoad(t, content)
				for i, w := range []want{tt.central, tt.spare, {}} {
					if got := (want{c.RemoteWrite[i].MaxBytesPerSecond, c.RemoteWrite[i].FromOldest, c.RemoteWrite[i].NewestFirst}); got != w {
						t.Errorf("remote %d: got %+v, want %+v, of %q", i, got, w, content)
					}
				}
				back := mustLoad(t, c.YAML())
				if back.YAML() != c.YAML() {
					t.Errorf("what is shown changes when it is loaded:\n%s\nthen\n%s", c.YAML(), back.YAML())
				}
				for i := range c.RemoteWrite {
					if !c.RemoteWrite[i].Equal(&back.RemoteWrite[i]) {
						t.Errorf("remote %d is another one when what is shown is loaded:\n%s", i, c.YAML())
					}
				}
			}
		})
	}
}

func TestOwnBlockIsShownWithItsDefaults(t *testing.T) {
	c := mustLoad(t, twoRemotes+"prom_agent: {remotes: [{name: spare, max_bytes_per_second: 250KB}, {name: central, start: oldest, newest_first: true}]}\n")
	const want = "\nprom_agent:\n  remotes:\n  - name: spare\n    max_bytes_per_second: 250KiB\n    start: end\n    newest_first: false\n  - name: central\n    max_bytes_per_second: 0B\n    start: oldest\n    newest_first: true\n"
	if !strings.HasSuffix(c.YAML(), want) {
		t.Errorf("got %s\nwant at the end %s", c.YAML(), want)
	}
	for _, text := range []string{"spare: prometheus.WriteRequest to http://spare/, at most 250KiB/s\n", "central: prometheus.WriteRequest to http://central/, from the oldest record on, the newest first\n"} {
		if !strings.Contains(c.Summary(), text) {
			t.Errorf("no %q in %s", text, c.Summary())
		}
	}
}

func TestWrongOwnBlockIsRefusedWithLineKeyAndValue(t *testing.T) {
	for _, tt := range []struct {
		name, block string
		want        []string
	}{
		{"a scalar", "prom_agent: yes", []string{"line 1: prom_agent must be a mapping", `"yes"`}},
		{"a list", "prom_agent: [1]", []string{"line 1: prom_agent must be a mapping", "a list"}},
		{"an unknown key", "prom_agent:\n  remote: []", []string{`line 2: prom_agent: unknown key "remote"`, "remotes"}},
		{"a key that is no text", "prom_agent:\n  [a]: b", []string{"line 2: prom_agent: a key must be a text", "a list"}},
		{"remotes that are none", "prom_agent:\n  remotes: {name: central}", []string{"line 2: prom_agent.remotes must be a list", "a mapping"}},
		{"a remote that is none", "prom_agent:\n  remotes:\n  - central", []string{"line 3: prom_agent.remotes[0] must be a mapping", `"central"`}},
		{"a remote that is empty", "prom_agent:\n  remotes:\n  -", []string{"line 3: prom_agent.remotes[0].name is missing"}},
		{"no name", "prom_agent:\n  remotes:\n  - start: end", []string{"line 3: prom_agent.remotes[0].name is missing"}},
		{"an empty name", "prom_agent:\n  remotes:\n  - name: ''", []string{"line 3: prom_agent.remotes[0].name is missing"}},
		{"an unknown setting", "prom_agent:\n  remotes:\n  - name: central\n    max_bytes: 1KB", []string{`line 4: prom_agent.remotes[0]: unknown key "max_bytes"`, "max_bytes_per_second", "start"}},
		{"a setting twice", "prom_agent:\n  remotes:\n  - name: central\n    start: end\n    start: oldest", []string{`line 5: prom_agent.remotes[0]: key "start" stands there twice`}},
		{"a list of names", "prom_agent:\n  remotes:\n  - name: [central]", []string{"line 3: prom_agent.remotes[0].name must be a text", "a list"}},
		{"a limit without unit", "prom_agent:\n  remotes:\n  - name: central\n    max_bytes_per_second: 250", []string{"line 4: prom_agent.remotes[0].max_bytes_per_second", `"250"`, "250KB"}},
		{"a limit of another unit", "prom_agent:\n  remotes:\n  - name: central\n    max_bytes_per_second: 1Mbit", []string{"line 4: prom_agent.remotes[0].max_bytes_per_second", `"1Mbit"`}},
		{"a negative limit", "prom_agent:\n  remotes:\n  - name: central\n    max_bytes_per_second: -1KB", []string{"line 4: prom_agent.remotes[0].max_bytes_per_second", `"-1KB"`}},
		{"a limit below a byte", "prom_agent:\n  remotes:\n  - name: central\n    max_bytes_per_second: 0.1B", []string{"line 4: prom_agent.remotes[0].max_bytes_per_second", `"0.1B"`}},
		{"a limit that is no number", "prom_agent:\n  remotes:\n  - name: central\n    max_bytes_per_second: {}", []string{"line 4: prom_agent.remotes[0].max_bytes_per_second must be", "a mapping"}},
		{"a boolean limit", "prom_agent:\n  remotes:\n  - name: central\n    max_bytes_per_second: true", []string{"line 4: prom_agent.remotes[0].max_bytes_per_second", `"true"`}},
		{"an unknown start", "prom_agent:\n  remotes:\n  - name: central\n    start: begin", []string{"line 4: prom_agent.remotes[0].start", `"begin"`, "end", "oldest"}},
		{"a boolean that is none", "prom_agent:\n  remotes:\n  - name: central\n    newest_first: 1", []string{"line 4: prom_agent.remotes[0].newest_first must be true or false", `"1"`}},
		{"a boolean that is a list", "prom_agent:\n  remotes:\n  - name: central\n    newest_first: []", []string{"line 4: prom_agent.remotes[0].newest_first must be true or false", "a list"}},
		{"a remote twice", "prom_agent:\n  remotes:\n  - name: central\n  - name: central", []string{`line 4: prom_agent.remotes[1].name: "central" stands there twice`}},
		{"an unknown remote", "prom_agent:\n  remotes:\n  - name: central\n  - name: centrl", []string{`line 4: prom_agent.remotes[1].name: no remote_write block is named "centrl"`, `"central", "spare"`}},
		{"the block twice", "prom_agent: {}\nglobal: {}\nprom_agent: {}", []string{`line 3: key "prom_agent" stands there twice`, "line 1"}},
		{"an anchor", "prom_agent:\n  remotes:\n  - name: &a central", []string{"line 3: prom_agent", "anchor", "&a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.block+"\n"+twoRemotes, Options{})
			if err == nil {
				t.Fatal("it is taken")
			}
			for _, want := range append(tt.want, "parsing YAML file", "prometheus.yml") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %q", want, err)
				}
			}
		})
	}
	_, err := load(t, "remote_write: [{url: 'http://a/'}]\nprom_agent: {remotes: [{name: central}]}\n", Options{})
	if err == nil || !strings.Contains(err.Error(), "no remote_write block has a name") {
		t.Errorf("no named remote: got error %v", err)
	}
}

// What Prometheus says of its part, it says with the lines of the file.
func TestOwnBlockMovesNoLine(t *testing.T) {
	const block = "prom_agent: # ours\n  # a comment\n\n  remotes:\n  - name: central\n    start: oldest\n\n# of the next one\n"
	for _, tt := range []struct{ name, before, block, after string }{
		{"first", "", block, "global: {scrape_intervall: 1s}\n"},
		{"in the middle", "runtime: {}\n", block, "global:\n  scrape_intervall: 1s\n"},
		{"last", "global:\n  scrape_intervall: 1s\n", block, ""},
		{"without a newline at the end", "global:\n  scrape_intervall: 1s\n", "prom_agent: {}", ""},
		{"a document's begin and end", "---\n", block, "global:\n  scrape_intervall: 1s\n...\n---\nx: y\n"},
		{"CRLF", "global: {}\r\n", strings.ReplaceAll(block, "\n", "\r\n"), "runtime: {scrape_intervall: 1s}\r\n"},
		{"other line breaks", "# a\u0085# b\u2028# c\rglobal: {}\n", block, "runtime: {scrape_intervall: 1s}\n"},
		{"a BOM", "\ufeff", block, "global: {scrape_intervall: 1s}\n"},
		{"indented", "", "  prom_agent:\n    remotes: []\n", "  global:\n    scrape_intervall: 1s\n"},
		{"in one line", "{", "prom_agent: {remotes: [{name: '}'}]}, ", "global: {scrape_intervall: 1s}}\n"},
		{"last in one line", "{ global: {scrape_intervall: 1s, external_labels: {x: 'ü'}}, ", "prom_agent: {remotes: [\n{name: c}\n]}", "\n} # end\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			content := tt.before + tt.block + tt.after
			_, err := load(t, content, Options{})
			_, want := promconfig.Load(content, nopLogger) // prom_agent is as unknown to it as the other
			if err == nil || want == nil {
				t.Fatalf("got %v, Prometheus %v", err, want)
			}
			var line string // of Prometheus's error of the same place
			for _, l := range strings.Split(want.Error(), "\n") {
				if strings.Contains(l, "scrape_intervall") {
					line = strings.TrimSpace(l)
				}
			}
			if line == "" || !strings.Contains(err.Error(), line) {
				t.Errorf("got error %q, want one with %q", err, line)
			}
			if strings.Contains(err.Error(), "prom_agent") {
				t.Errorf("got error %q", err)
			}
		})
	}
}

func TestOwnBlockChangesNothingElse(t *testing.T) {
	dir, err := upstreamDir()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "config", "testdata", "conf.good.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, with, without string }{
		{"alone", "prom_agent: {remotes: []}\n", ""},
		{"alone, in braces", "{prom_agent: {remotes: []}}\n", "{}"},
		{"in JSON", `{"global": {"external_labels": {"a": "b"}}, "prom_agent": {"remotes": []}}`, `{"global": {"external_labels": {"a": "b"}}}`},
		{"at the begin of JSON", `{"prom_agent": {"remotes": []}, "global": {"external_labels": {"a": "b"}}}`, `{"global": {"external_labels": {"a": "b"}}}`},
		{"after a text that keeps its end", "global:\n  external_labels:\n    a: |+\n      b\n\nprom_agent:\n\n\n  remotes:\n\nruntime: {gogc: 7}\n",
			"global:\n  external_labels:\n    a: |+\n      b\n\nruntime: {gogc: 7}\n"},
		{"its name elsewhere", "# prom_agent: {\nglobal: {external_labels: {prom_agent: '}'}}\nprom_agent: {}\n", "global: {external_labels: {prom_agent: '}'}}\n"},
		{"its name elsewhere alone", "# prom_agent: {\nglobal: {external_labels: {prom_agent: '}'}}\n", "global: {external_labels: {prom_agent: '}'}}\n"},
		{"a large file", strings.Replace(string(text), "\nscrape_configs:", "\nprom_agent:\n  remotes: []\nscrape_configs:", 1), string(text)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "a large file" { // not all of it is for agents
				rest, _, _, err := takeOut([]byte(tt.with))
				if err != nil {
					t.Fatal(err)
				}
				got, err := promconfig.Load(string(rest), nopLogger)
				want, wantErr := promconfig.Load(tt.without, nopLogger)
				if (err == nil) != (wantErr == nil) || err == nil && got.String() != want.String() {
					t.Errorf("got %v, %v, want %v, %v", got, err, want, wantErr)
				}
				return
			}
			got, want := mustLoad(t, tt.with), mustLoad(t, tt.without)
			if got.YAML() != want.YAML() || got.Runtime != want.Runtime || !reflect.DeepEqual(got.ExternalLabels, want.ExternalLabels) {
				t.Errorf("got\n%s\nwant\n%s", got.YAML(), want.YAML())
			}
		})
	}
}

func TestKeysOfOurOwnAreNamed(t *testing.T) {
	c := mustLoad(t, "global: {}\nprom_agent:\n  remotes:\n  - name: central\n    start: oldest\n  - max_bytes_per_second: 1KB\n    name: spare\n"+twoRemotes)
	want := []Key{
		{2, "prom_agent"}, {3, "prom_agent.remotes"}, {4, "prom_agent.remotes[0].name"}, {5, "prom_agent.remotes[0].start"},
		{6, "prom_agent.remotes[1].max_bytes_per_second"}, {7, "prom_agent.remotes[1].name"},
	}
	if !slices.Equal(c.OwnKeys, want) {
		t.Errorf("got %v, want %v", c.OwnKeys, want)
	}
	if c := mustLoad(t, twoRemotes); len(c.OwnKeys) > 0 {
		t.Errorf("got %v, want none", c.OwnKeys)
	}
}

func TestOwnBlockChangesTheChecksum(t *testing.T) {
	path := filepath.Join(write(t, map[string]string{"prometheus.yml": twoRemotes}), "prometheus.yml")
	before, err := Checksum(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(twoRemotes+"prom_agent: {remotes: [{name: central, start: oldest}]}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if after, err := Checksum(path); err != nil || after == before {
		t.Errorf("got %q, %v after %q", after, err, before)
	}
}

func TestDocumentedExampleIsTaken(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(text), "```yaml\n")
	example, _, found := strings.Cut(example, "```")
	if !found {
		t.Fatal("there is no example")
	}
	if r := mustLoad(t, example).RemoteWrite[0]; r.MaxBytesPerSecond != 250<<10 || r.FromOldest {
		t.Errorf("got %+v", r)
	}
}

// Whatever stands in the file, what is left of it is what was there.
func FuzzOwnBlockIsTakenOut(f *testing.F) {
	for _, s := range []string{
		"prom_agent: {}\nglobal: {}\n", "{prom_agent: {a: '}'}, x: y}", "x: |+\n  a\n\nprom_agent:\n- 1\n", "? prom_agent\n: x\na: b", "&a prom_agent: x\nb: *a",
		"\ufeff{a: b, prom_agent: c}", "--- {prom_agent: x}\n...\n", "a: \"x\n  prom_agent: y\"\nprom_agent: z",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		rest, key, value, err := takeOut(content)
		if err != nil || key == nil {
			if err == nil && string(rest) != string(content) {
				t.Errorf("%q became %q", content, rest)
			}
			return
		}
		if n, want := strings.Count(string(rest), "\n"), strings.Count(string(content), "\n"); n != want {
			t.Errorf("%q became %q: %d lines, want %d", content, rest, n, want)
		}
		_, _ = readOwn(key, value) // must end
	})
}

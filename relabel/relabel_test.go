package relabel

import (
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v2"
)

// rules reads rules as they stand in a configuration.
func rules(t testing.TB, text string) []*promrelabel.Config {
	t.Helper()
	var cfgs []*promrelabel.Config
	if err := yaml.UnmarshalStrict([]byte(text), &cfgs); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return cfgs
}

func compiled(t testing.TB, text string) Rules {
	t.Helper()
	r, err := Compile(rules(t, text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func TestRulesDoAsPrometheusDoes(t *testing.T) {
	in := labels.FromStrings("__name__", "http_requests_total", "job", "api", "instance", "10.0.0.1:80", "le", "1.0",
		"code", "200", "method", "GET", "empty_after", "x", "__tmp", "a;b", "line", "a\nb")
	f := func(text, want string) {
		t.Helper()
		r := compiled(t, text)
		lb := labels.NewBuilder(in)
		got := "dropped"
		if r.Apply(lb) {
			got = lb.Labels().String()
		}
		ref := labels.NewBuilder(in)
		oracle := "dropped"
		cfgs := rules(t, text)
		for _, c := range cfgs {
			if err := c.Validate(model.UTF8Validation); err != nil {
				t.Fatal(err)
			}
		}
		if promrelabel.ProcessBuilder(ref, cfgs...) {
			oracle = ref.Labels().String()
		}
		if got != oracle {
			t.Errorf("%s:\n got %s\nPrometheus %s", text, got, oracle)
		}
		if want != "" && (want == "dropped") != (got == "dropped") || want != "dropped" && !strings.Contains(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
	f(`[]`, `job="api"`)
	f(`[{source_labels: [__name__], regex: 'http_.*', action: keep}]`, `job="api"`)
	f(`[{source_labels: [__name__], regex: 'http_', action: keep}]`, `dropped`)
	f(`[{source_labels: [__name__], regex: 'go_.+|http_requests_total', action: drop}]`, `dropped`)
	f(`[{source_labels: [__name__], regex: 'a|b|c', action: DROP}]`, `job="api"`)
	f(`[{source_labels: [__name__], action: keep}]`, `job="api"`)
	f(`[{action: drop}]`, `dropped`)
	f(`[{source_labels: [missing], regex: '', action: keep}]`, `job="api"`)
	f(`[{source_labels: [missing], regex: '', action: drop}]`, `dropped`)
	f(`[{source_labels: [line], regex: 'a.b', action: keep}]`, `job="api"`)
	f(`[{source_labels: [job, code], separator: '/', regex: 'api/(200|404)', action: keep}]`, `job="api"`)
	f(`[{source_labels: [job, code], regex: 'api;500', action: keep}]`, `dropped`)
	f(`[{source_labels: [job], target_label: app}]`, `app="api"`)
	f(`[{source_labels: [missing], target_label: code}, {source_labels: [code], regex: '', action: keep}]`, `job="api"`)
	f(`[{source_labels: [job, missing, code], target_label: all}]`, `all="api;;200"`)
	f(`[{target_label: env, replacement: prod}]`, `env="prod"`)
	f(`[{target_label: code, replacement: ''}]`, `job="api"`)
	f(`[{source_labels: [job], regex: api|web, target_label: env, replacement: prod}]`, `env="prod"`)
	f(`[{source_labels: [job], regex: web, target_label: env, replacement: prod}]`, `job="api"`)
	f(`[{source_labels: [code], regex: '(.).*', target_label: class, replacement: '${1}xx'}]`, `class="2xx"`)
	f(`[{source_labels: [job], regex: '(.+)', target_label: 'is_$1', replacement: yes}]`, `is_api="yes"`)
	f(`[{source_labels: [instance], regex: '(.+)', target_label: '$1', replacement: yes}]`, `"10.0.0.1:80"="yes"`)
	f(`[{source_labels: [job], regex: '(x)?.*', target_label: '$1', replacement: yes}]`, `job="api"`)
	f(`[{source_labels: [job], regex: '.*', target_label: app, replacement: '$0'}]`, `app="api"`)
	f(`[{source_labels: [job], target_label: app, replacement: '$2'}]`, `job="api"`)
	f(`[{source_labels: [job], regex: '(?i)API', target_label: app, replacement: x}]`, `app="x"`)
	f(`[{source_labels: [__name__, job], target_label: shard, modulus: 8, action: hashmod}]`, `shard=`)
	f(`[{regex: 'c(.*)', replacement: 'x_$1', action: labelmap}]`, `x_ode="200"`)
	f(`[{regex: 'method|__tmp', action: labeldrop}]`, `job="api"`)
	f(`[{regex: 'job|instance', action: labelkeep}]`, `{instance="10.0.0.1:80", job="api"}`)
	f(`[{source_labels: [method], target_label: method, action: lowercase}]`, `method="get"`)
	f(`[{source_labels: [job], target_label: job, action: uppercase}]`, `job="API"`)
	f(`[{source_labels: [job], target_label: job, action: keepequal}]`, `job="api"`)
	f(`[{source_labels: [job], target_label: job, action: dropequal}]`, `dropped`)
	f(`[{source_labels: [job], target_label: code, action: keepequal}]`, `dropped`)
	f(`[{source_labels: [code], target_label: le}, {source_labels: [le], regex: '200', action: drop}, {target_label: job, replacement: x}]`, `dropped`)
}

func TestBadRulesAreRefused(t *testing.T) {
	f := func(cfg *promrelabel.Config, want string) {
		t.Helper()
		ok := promrelabel.DefaultRelabelConfig
		ok.TargetLabel = "x"
		_, err := Compile([]*promrelabel.Config{&ok, cfg})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "rule 1") {
			t.Errorf("got %v, want an error about rule 1: %s", err, want)
		}
	}
	with := func(change func(*promrelabel.Config)) *promrelabel.Config {
		c := promrelabel.DefaultRelabelConfig
		c.TargetLabel = "x"
		change(&c)
		return &c
	}
	f(nil, "empty rule")
	f(with(func(c *promrelabel.Config) { c.Regex.Regexp = nil }), "regular expression")
	f(with(func(c *promrelabel.Config) { c.Action = "" }), "relabel action cannot be empty")
	f(with(func(c *promrelabel.Config) { c.Action = "sort" }), "unknown relabel action")
	f(with(func(c *promrelabel.Config) { c.TargetLabel = "" }), "requires 'target_label' value")
	f(with(func(c *promrelabel.Config) { c.Action = promrelabel.HashMod }), "non-zero modulus")
	f(with(func(c *promrelabel.Config) {
		c.TargetLabel, c.NameValidationScheme = "a b", model.LegacyValidation
	}), "invalid 'target_label'")
}

func TestCompileKeepsItsOwnCopy(t *testing.T) {
	cfgs := rules(t, `[{source_labels: [job], regex: api, action: drop}]`)
	r, err := Compile(cfgs)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfgs[0].NameValidationScheme; got != model.UnsetValidation {
		t.Errorf("the config that was handed in has changed: %v", got)
	}
	cfgs[0].SourceLabels[0] = "instance"
	cfgs[0].Action = promrelabel.Keep
	if r.Apply(labels.NewBuilder(labels.FromStrings("job", "api"))) {
		t.Error("rules follow later changes of the config")
	}
}

func TestTraceShowsEveryStep(t *testing.T) {
	r := compiled(t, `[{target_label: a, replacement: "1"}, {source_labels: [job], regex: api, action: drop}, {target_label: b, replacement: "2"}]`)
	f := func(job string, want ...string) {
		t.Helper()
		steps := r.Trace(labels.FromStrings("job", job))
		if len(steps) != len(want) {
			t.Fatalf("%d steps, want %d", len(steps), len(want))
		}
		for i, s := range steps {
			got := "dropped " + s.Output.String()
			if s.Keep {
				got = s.Output.String()
			}
			if got != want[i] {
				t.Errorf("job %s, step %d: %s, want %s", job, i, got, want[i])
			}
			if s.Rule == nil || s.Rule.Action == "" {
				t.Errorf("step %d does not show its rule", i)
			}
		}
	}
	f("web", `{a="1", job="web"}`, `{a="1", job="web"}`, `{a="1", b="2", job="web"}`)
	f("api", `{a="1", job="api"}`, `dropped {}`, `dropped {}`)
}

func TestEqualSeesEveryDifference(t *testing.T) {
	const base = `[{source_labels: [a, b], separator: ',', regex: 'x(.*)', target_label: c, replacement: 'y$1'}]`
	r := compiled(t, base)
	if !r.Equal(compiled(t, base)) {
		t.Error("equal rules differ")
	}
	if !(Rules{}).Equal(compiled(t, `[]`)) || !compiled(t, `[]`).Empty() || r.Empty() || r.Len() != 1 {
		t.Error("empty rules are not told from others")
	}
	for _, other := range []string{
		`[]`,
		`[{source_labels: [a, c], separator: ',', regex: 'x(.*)', target_label: c, replacement: 'y$1'}]`,
		`[{source_labels: [a], separator: ',', regex: 'x(.*)', target_label: c, replacement: 'y$1'}]`,
		`[{source_labels: [a, b], separator: ';', regex: 'x(.*)', target_label: c, replacement: 'y$1'}]`,
		`[{source_labels: [a, b], separator: ',', regex: 'z(.*)', target_label: c, replacement: 'y$1'}]`,
		`[{source_labels: [a, b], separator: ',', regex: 'x(.*)', target_label: d, replacement: 'y$1'}]`,
		`[{source_labels: [a, b], separator: ',', regex: 'x(.*)', target_label: c, replacement: 'z$1'}]`,
		`[{source_labels: [a, b], separator: ',', regex: 'x(.*)', target_label: c, action: hashmod, modulus: 2}]`,
		`[{source_labels: [a, b], separator: ',', regex: 'x(.*)', target_label: c, action: hashmod, modulus: 3}]`,
	} {
		if r.Equal(compiled(t, other)) {
			t.Errorf("%s equals %s", base, other)
		}
	}
	legacy := rules(t, base)
	legacy[0].NameValidationScheme = model.LegacyValidation
	if l, err := Compile(legacy); err != nil || r.Equal(l) {
		t.Errorf("the validation scheme is not compared (%v)", err)
	}
}

func TestQuickRulesDoNotAllocate(t *testing.T) {
	r := compiled(t, `[{source_labels: [__name__], regex: 'go_.*|process_.*', action: drop}, {source_labels: [job], regex: 'api|web', action: keep},
		{source_labels: [job], regex: db, target_label: env, replacement: x}]`)
	lb := labels.NewBuilder(labels.FromStrings("__name__", "http_requests_total", "job", "api"))
	if n := testing.AllocsPerRun(100, func() {
		if !r.Apply(lb) {
			t.Fatal("dropped")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzRule holds one rule, and a second application of it, equal to Prometheus's.
func FuzzRule(f *testing.F) {
	for _, seed := range [][6]string{
		{"keep", "a", ";", "(.*)", "b", "$1"}, {"drop", "a,b", ";", "x|y|z", "b", "$1"}, {"replace", "a", ";", "(.*)", "c", "${1}"},
		{"replace", "a,b,c", "-", "x(.*)", "c", "y$1"}, {"replace", "", "", "", "c", "v"}, {"replace", "a", "", "x.*", "c", ""},
		{"keep", "a", "", "(?i)X.*|foo-.+-bar", "", "$1"}, {"drop", "a", "", "^x$", "", "$1"}, {"drop", "a", "", ".+|", "", "$1"},
		{"keep", "a", "", "x)|(?:y", "", "$1"}, {"labelmap", "", ";", "(.)", "", "x$1"}, {"replace", "a", ";", "(.*)", "x$1", "$1"},
		{"keep", "a", ";", "(?-s).*", "", "$1"}, {"keep", "a", ";", "(?i:K)elvin|ſ", "", "$1"}, {"drop", "a", ";", "[^\n]*", "", "$1"},
		{"replace", "a", ";", ".*", "c", "x"}, {"hashmod", "a", ";", "(.*)", "c", "$1"}, {"keepequal", "a", ";", "(.*)", "b", "$1"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4], seed[5], "x1", "foo-\n-bar", "\xffK")
	}
	f.Fuzz(func(t *testing.T, action, sources, separator, regex, target, replacement, a, b, c string) {
		if len(regex) > 200 {
			return
		}
		re, err := promrelabel.NewRegexp(regex)
		if err != nil {
			return
		}
		cfg := promrelabel.DefaultRelabelConfig
		cfg.Action, cfg.Separator, cfg.Modulus = promrelabel.Action(action), separator, uint64(len(a))
		if regex != "(.*)" {
			cfg.Regex = re
		}
		cfg.TargetLabel, cfg.Replacement = target, replacement
		if cfg.Action == promrelabel.KeepEqual || cfg.Action == promrelabel.DropEqual {
			cfg.Modulus = 0
		}
		for s := range strings.SplitSeq(sources, ",") {
			cfg.SourceLabels = append(cfg.SourceLabels, model.LabelName(s))
		}
		r, err := Compile([]*promrelabel.Config{&cfg, &cfg})
		if err != nil {
			return
		}
		oracle := cfg
		if err := oracle.Validate(model.UTF8Validation); err != nil {
			t.Fatalf("compiled what is not valid: %v", err)
		}
		in := labels.FromStrings("a", a, "b", b, "c", c)
		got, want := labels.NewBuilder(in), labels.NewBuilder(in)
		gotKeep, wantKeep := r.Apply(got), promrelabel.ProcessBuilder(want, &oracle, &oracle)
		if gotKeep != wantKeep {
			t.Fatalf("%+v on %s: keep %v, Prometheus %v", cfg, in, gotKeep, wantKeep)
		}
		if gotKeep && !labels.Equal(got.Labels(), want.Labels()) {
			t.Fatalf("%+v on %s:\n got %s\nwant %s", cfg, in, got.Labels(), want.Labels())
		}
	})
}

// go test -run xxx -bench . ./relabel
func BenchmarkApply(b *testing.B) {
	for _, bench := range []struct{ name, rules string }{
		{"drop=prefixes", `[{source_labels: [__name__], regex: 'go_.*|process_.*|promhttp_.*', action: drop}]`},
		{"keep=literals", `[{source_labels: [__name__], regex: 'up|http_requests_total|http_request_duration_seconds_bucket', action: keep}]`},
		{"replace=constant", `[{target_label: env, replacement: prod}]`},
		{"replace=copy", `[{source_labels: [job], target_label: app}]`},
	} {
		cfgs := rules(b, bench.rules)
		r, err := Compile(cfgs)
		if err != nil {
			b.Fatal(err)
		}
		in := labels.FromStrings("__name__", "http_requests_total", "job", "api", "instance", "10.0.0.1:80", "code", "200")
		lb := labels.NewBuilder(in)
		b.Run(bench.name+"/by=ours", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				lb.Reset(in)
				r.Apply(lb)
			}
		})
		b.Run(bench.name+"/by=prometheus", func(b *testing.B) {
			for _, c := range cfgs {
				if err := c.Validate(model.UTF8Validation); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				lb.Reset(in)
				promrelabel.ProcessBuilder(lb, cfgs...)
			}
		})
	}
}

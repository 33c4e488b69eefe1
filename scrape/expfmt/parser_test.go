package expfmt

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

func parser(t testing.TB, f Format, opts Options) *Parser {
	t.Helper()
	p, err := NewParser(f, opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// line parses a line that must be good.
func line(t testing.TB, p *Parser, s string) Entry {
	t.Helper()
	e, err := p.Line([]byte(s))
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return e
}

func TestOnlyTextFormatsHaveLines(t *testing.T) {
	for _, f := range []Format{Unknown, Protobuf, Protobuf + 1} {
		if _, err := NewParser(f, Options{}); err == nil || !strings.Contains(err.Error(), "not supported") {
			t.Errorf("%v: got %v", f, err)
		}
		if err := parser(t, Text004, Options{}).Reset(f); err == nil {
			t.Errorf("%v: a parser can be reset to it", f)
		}
	}
}

func TestBoundsAreCanonicalWhenTheTypeSaysSo(t *testing.T) {
	p := parser(t, Text004, Options{})
	f := func(series, want string) {
		t.Helper()
		line(t, p, series+" 1")
		if got := p.Labels().String(); got != want {
			t.Errorf("%s: got %s, want %s", series, got, want)
		}
	}
	f(`a_bucket{le="1"}`, `{__name__="a_bucket", le="1"}`)
	line(t, p, "# TYPE a histogram")
	f(`a_bucket{le="1"}`, `{__name__="a_bucket", le="1.0"}`)
	f(`a_bucket{le="1e1"}`, `{__name__="a_bucket", le="10.0"}`)
	f(`a_bucket{le="+Inf"}`, `{__name__="a_bucket", le="+Inf"}`)
	f(`a_bucket{le="x",quantile="1"}`, `{__name__="a_bucket", le="x", quantile="1"}`)
	line(t, p, "# TYPE b summary")
	f(`b{quantile="1",le="1"}`, `{__name__="b", le="1", quantile="1.0"}`)
	line(t, p, "# TYPE c untyped")
	f(`c{le="1",quantile="1"}`, `{__name__="c", le="1", quantile="1"}`)
	p.SetFamily(Family{Name: "a", Type: model.MetricTypeHistogram})
	f(`a_bucket{le="1"}`, `{__name__="a_bucket", le="1.0"}`)
	p.SetFamily(Family{Name: "d", Help: "no type"})
	f(`a_bucket{le="1"}`, `{__name__="a_bucket", le="1.0"}`)
	if err := p.Reset(Text004); err != nil {
		t.Fatal(err)
	}
	f(`a_bucket{le="1"}`, `{__name__="a_bucket", le="1"}`)
}

func TestTypeAndUnitBecomeLabels(t *testing.T) {
	p := parser(t, OpenMetrics100, Options{TypeAndUnitLabels: true})
	p.SetFamily(Family{Name: "a_seconds", Type: model.MetricTypeCounter, Unit: "seconds"})
	line(t, p, `a_seconds_total{__type__="x",b="c"} 1`)
	if got, want := p.Labels().String(), `{__name__="a_seconds_total", __type__="counter", __unit__="seconds", b="c"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMetadataGoesWithItsFamilyOnly(t *testing.T) {
	p := parser(t, OpenMetrics100, Options{})
	if _, ok := p.Family("a"); ok {
		t.Error("metadata from nowhere")
	}
	for _, l := range []string{"# HELP a_seconds it's\\n\\\"good\\\"", "# TYPE a_seconds histogram", "# UNIT a_seconds seconds"} {
		line(t, p, l)
	}
	want := Family{Name: "a_seconds", Help: "it's\n\"good\"", Unit: "seconds", Type: model.MetricTypeHistogram}
	if got, ok := p.Family("a_seconds_bucket"); !ok || got != want {
		t.Errorf("got %+v, %v; want %+v", got, ok, want)
	}
	if _, ok := p.Family("a_seconds_total"); ok {
		t.Error("a_seconds_total has a histogram's metadata")
	}
	line(t, p, "# TYPE b gauge")
	if got, ok := p.Family("b"); !ok || got != (Family{Name: "b", Type: model.MetricTypeGauge}) {
		t.Errorf("got %+v, %v: something of the family before", got, ok)
	}
	if _, ok := p.Family("a_seconds_sum"); ok {
		t.Error("a family goes on behind the next one's metadata")
	}
	if err := p.Reset(Text004); err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Family("b"); ok {
		t.Error("a family survives Reset")
	}
}

func TestNamesOfAFamily(t *testing.T) {
	f := func(metric, family string, typ model.MetricType, want bool) {
		t.Helper()
		if got := belongs(metric, family, typ); got != want {
			t.Errorf("%s of %s %s: got %v", metric, typ, family, got)
		}
	}
	for _, typ := range []model.MetricType{"", "unknown", "gauge", "stateset"} {
		f("a", "a", typ, true)
		f("a_total", "a", typ, false)
		f("b", "a", typ, false)
		f("a_b", "a", typ, false)
	}
	f("a", "a", "counter", true)
	f("a_total", "a", "counter", true)
	f("a_total", "a_total", "counter", true)
	f("a", "a_total", "counter", false)
	f("a_created", "a", "counter", false)
	f("a_b_total", "a", "counter", false)
	f("a", "a", "histogram", true)
	f("a_bucket", "a", "histogram", true)
	f("a_sum", "a", "histogram", true)
	f("a_count", "a", "histogram", true)
	f("a_total", "a", "histogram", false)
	f("a_count", "a_count", "histogram", false)
	f("a_count_sum", "a_count", "histogram", true)
	f("a_gsum", "a", "histogram", false)
	f("a_bucket", "a", "gaugehistogram", true)
	f("a_gsum", "a", "gaugehistogram", true)
	f("a_gcount", "a", "gaugehistogram", true)
	f("a_count", "a", "gaugehistogram", false)
	f("a_sum", "a", "summary", true)
	f("a_count", "a", "summary", true)
	f("a_bucket", "a", "summary", false)
	f("a_info", "a", "info", true)
	f("a_info", "a_info", "info", true)
	f("a", "a", "info", true)
}

func TestExemplarLabelsAreUnescaped(t *testing.T) {
	p, err := NewParser(OpenMetrics100, Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.Line([]byte(`a_total 1 # {x="a \"b\" \\ c\nd \e"} 1`))
	if err != nil || !e.HasExemplar {
		t.Fatalf("got %+v, %v", e, err)
	}
	if got, want := e.Exemplar.Labels.Get("x"), "a \"b\" \\ c\nd \\e"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStartTimestampsAreToldApart(t *testing.T) {
	f := func(on bool, typ, series string, want Kind) {
		t.Helper()
		p := parser(t, OpenMetrics100, Options{StartTimestamps: on})
		line(t, p, "# TYPE a "+typ)
		e := line(t, p, series+" 1520872607.123")
		if e.Kind != want || e.Value != 1520872607.123 || string(e.Series) != series {
			t.Errorf("%s of a %s, %v: got %+v", series, typ, on, e)
		}
	}
	f(true, "counter", "a_created", Created)
	f(true, "histogram", `a_created{b="c"}`, Created)
	f(true, "summary", `{"a_created",b="c"}`, Created)
	f(true, "gauge", "a_created", Series)
	f(true, "counter", "a_total", Series)
	f(false, "counter", "a_created", Series)
}

func TestErrorsSpeakAsPrometheusDoes(t *testing.T) {
	f := func(format Format, body, want string) {
		t.Helper()
		o := ours(strings.NewReader(body), format, Options{}, nil, nil)
		if !o.failed || !strings.Contains(o.err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", body, o.err, want)
		}
	}
	f(Text004, "a{b=\"\xff\"} 1\n", "invalid UTF-8 label value")
	f(Text004, "a\n", `expected value after metric, got "\n" ("INVALID") while parsing: "a\n"`)
	f(Text004, "# TYPE a enum\n", `invalid metric type "enum"`)
	f(Text004, "# HELP a \xff\n", "is not a valid utf8 string")
	f(Text004, "{b=\"c\"} 1\n", "metric name not set while parsing")
	f(Text004, "a 1 x\n", "expected timestamp or new record")
	f(Text004, "a{b=\""+strings.Repeat("x", 2*maxQuoted)+"\n", "malformed line")
	f(OpenMetrics100, "a 1\n", "data does not end with # EOF")
	f(OpenMetrics100, "# EOF\na 1\n", "unexpected data after # EOF")
	f(OpenMetrics100, "# UNIT a b\n# EOF\n", `unit "b" not a suffix of metric "a"`)
	f(OpenMetrics100, "a 1 NaN\n# EOF\n", "invalid timestamp")
	f(OpenMetrics100, "\n# EOF\n", "expected a valid start token")
}

func TestLinesBehindTheEnd(t *testing.T) {
	p := parser(t, OpenMetrics100, Options{})
	if err := p.End(); !errors.Is(err, ErrNoEOF) {
		t.Errorf("got %v, want %v", err, ErrNoEOF)
	}
	if e := line(t, p, "# EOF"); e.Kind != EOF {
		t.Errorf("got %+v", e)
	}
	if err := p.End(); err != nil {
		t.Error(err)
	}
	if _, err := p.Line([]byte("a 1")); err == nil {
		t.Error("a line behind the end is taken")
	}
	p = parser(t, Text004, Options{})
	if e := line(t, p, "\x00"); e.Kind != EOF {
		t.Errorf("got %+v", e)
	}
	if e := line(t, p, "a 1"); e.Kind != EOF {
		t.Errorf("got %+v behind the end", e)
	}
	lines := NewLines(strings.NewReader("a 1\n\x00\nb 1\n"), Text004, 0)
	if _, err := lines.Next(); err != nil {
		t.Fatal(err)
	}
	if err := p.Finish(lines); err != nil || lines.Bytes() != 10 {
		t.Errorf("got %v and %d bytes", err, lines.Bytes())
	}
}

func TestLinesDoNotAllocate(t *testing.T) {
	p := parser(t, OpenMetrics100, Options{})
	var body [][]byte
	for _, l := range []string{"# HELP a some help", "# TYPE a histogram", `a_bucket{le="1",method="GET"} 17`, "a_sum 0.5 1700000000.123"} {
		body = append(body, []byte(l))
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, l := range body {
			if _, err := p.Line(l); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestLabelsOutliveTheLine(t *testing.T) {
	p := parser(t, Text004, Options{})
	l := []byte(`a{b="c\\d",e="f"} 1`)
	if _, err := p.Line(l); err != nil {
		t.Fatal(err)
	}
	got := p.Labels()
	clear(l)
	if want := labels.FromStrings("__name__", "a", "b", `c\d`, "e", "f"); !labels.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

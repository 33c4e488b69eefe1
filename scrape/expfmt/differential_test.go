package expfmt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// The tests in this file hold the package equal to Prometheus's textparse: for
// any body, both must see the same entries and agree whether it ends well.

// outcome is what a parser makes of a body, in words.
type outcome struct {
	entries []string
	failed  bool
	err     error
}

func (o *outcome) series(series []byte, lset labels.Labels, v float64, ts *int64, ex *exemplar.Exemplar) {
	s := fmt.Sprintf("series %q labels %q value %x", series, lset.String(), math.Float64bits(v))
	if ts != nil {
		s += fmt.Sprintf(" at %d", *ts)
	}
	if ex != nil {
		s += fmt.Sprintf(" exemplar %q value %x", ex.Labels.String(), math.Float64bits(ex.Value))
		if ex.HasTs {
			s += fmt.Sprintf(" at %d", ex.Ts)
		}
	}
	o.entries = append(o.entries, s)
}

func (o *outcome) meta(what string, metric, text []byte) {
	o.entries = append(o.entries, fmt.Sprintf("%s of %q: %q", what, metric, text))
}

// unescaped puts right the labels of exemplars, which textparse leaves as they
// are written.
func unescaped(ls labels.Labels) labels.Labels {
	escapes := strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\n`, "\n")
	var sb labels.ScratchBuilder
	ls.Range(func(l labels.Label) { sb.Add(escapes.Replace(l.Name), escapes.Replace(l.Value)) })
	sb.Sort()
	return sb.Labels()
}

// theirs is the outcome of textparse.
func theirs(body []byte, f Format, opts Options) outcome {
	var o outcome
	p, err := textparse.New(bytes.Clone(body), f.String(), nil, textparse.ParserOptions{
		EnableTypeAndUnitLabels: opts.TypeAndUnitLabels,
		OpenMetricsSkipSTSeries: opts.StartTimestamps,
	})
	for err == nil {
		var e textparse.Entry
		if e, err = p.Next(); err != nil {
			break
		}
		switch e {
		case textparse.EntryType:
			m, t := p.Type()
			o.meta("type", m, []byte(t))
		case textparse.EntryHelp:
			m, t := p.Help()
			o.meta("help", m, t)
		case textparse.EntryUnit:
			m, t := p.Unit()
			o.meta("unit", m, t)
		case textparse.EntryComment:
			o.meta("comment", nil, p.Comment())
		case textparse.EntrySeries:
			series, ts, v := p.Series()
			var lset labels.Labels
			p.Labels(&lset)
			var ex *exemplar.Exemplar
			if x := new(exemplar.Exemplar); p.Exemplar(x) {
				x.Labels = unescaped(x.Labels)
				ex = x
			}
			o.series(series, lset, v, ts, ex)
		}
	}
	o.failed, o.err = !errors.Is(err, io.EOF), err
	return o
}

// knownKey is a series text in its context: the TYPE and UNIT in force.
type knownKey struct{ series, context string }

// ours is the outcome of this package. With known it takes the way of a
// scrape: a line whose series text is known is not parsed but split.
func ours(r io.Reader, f Format, opts Options, known map[knownKey]labels.Labels, fast *int) outcome {
	var o outcome
	lines := NewLines(r, f, 0)
	defer lines.Close()
	p, err := NewParser(f, opts)
	if err != nil {
		return outcome{failed: true, err: err}
	}
	for o.err == nil {
		line, err := lines.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			o.err = err
			break
		}
		context := string(p.mtype) + " " + p.unit
		if series, value, timestamp, ok := Split(line); ok && known != nil {
			if lset, ok := known[knownKey{string(series), context}]; ok {
				v, err := ParseFloat(value)
				var ts *int64
				if err == nil && timestamp != nil {
					ts = new(int64)
					*ts, err = ParseTimestamp(f, timestamp)
				}
				if err == nil {
					o.series(series, lset, v, ts, nil)
					*fast++
					continue
				}
			}
		}
		if line, err = lines.Whole(); err != nil {
			o.err = err
			break
		}
		var e Entry
		e, o.err = p.Line(line)
		switch e.Kind {
		case Type:
			o.meta("type", e.Metric, []byte(e.MetricType))
		case Help:
			o.meta("help", e.Metric, e.Text)
		case Unit:
			o.meta("unit", e.Metric, e.Text)
		case Comment:
			o.meta("comment", nil, e.Text)
		case Series:
			var ts *int64
			if e.HasTime {
				ts = &e.Time
			}
			var ex *exemplar.Exemplar
			if e.HasExemplar {
				ex = &exemplar.Exemplar{Labels: e.Exemplar.Labels, Value: e.Exemplar.Value, HasTs: e.Exemplar.HasTime, Ts: e.Exemplar.Time}
			}
			lset := p.Labels()
			o.series(e.Series, lset, e.Value, ts, ex)
			if known != nil {
				known[knownKey{string(e.Series), context}] = lset
			}
		}
		if e.Kind == EOF {
			break
		}
	}
	if o.err == nil {
		o.err = p.Finish(lines)
	}
	o.failed = o.err != nil
	return o
}

// same fails the test unless both see the same in body.
func same(t *testing.T, body []byte, f Format, opts Options, got outcome) {
	t.Helper()
	want := theirs(body, f, opts)
	if n := len(got.entries); errors.Is(got.err, ErrNoEOF) && !bytes.HasSuffix(body, []byte("\n")) && want.failed && len(want.entries) == n+1 {
		// OpenMetrics cut off behind a sample: no entry of the last line here,
		// whereas textparse takes it when spaces stand behind it.
		want.entries = want.entries[:n]
	}
	for i := range max(len(want.entries), len(got.entries)) {
		g, w := "nothing", "nothing"
		if i < len(got.entries) {
			g = got.entries[i]
		}
		if i < len(want.entries) {
			w = want.entries[i]
		}
		if g != w {
			t.Fatalf("%s %+v: entry %d of %q:\n got %s\nwant %s\n(got error %v, want %v)", f, opts, i, body, g, w, got.err, want.err)
		}
	}
	if got.failed != want.failed {
		t.Fatalf("%s %+v: %q:\n got error %v\nwant %v", f, opts, body, got.err, want.err)
	}
}

// compare runs body through both, line by line and then the way of a scrape
// that has seen it before. It returns how many lines were only split.
func compare(t *testing.T, body []byte, f Format, opts Options) (fast int) {
	t.Helper()
	same(t, body, f, opts, ours(bytes.NewReader(body), f, opts, nil, nil))
	known := map[knownKey]labels.Labels{}
	ours(bytes.NewReader(body), f, opts, known, &fast)
	fast = 0
	same(t, body, f, opts, ours(iotest.HalfReader(bytes.NewReader(body)), f, opts, known, &fast))
	return fast
}

// everyWay are the formats and options that bodies are compared under.
func everyWay(run func(Format, Options)) {
	for _, f := range []Format{Text004, OpenMetrics100} {
		run(f, Options{})
		run(f, Options{TypeAndUnitLabels: true, StartTimestamps: f.OpenMetrics()})
	}
	run(Text100, Options{})
	run(OpenMetrics001, Options{StartTimestamps: true})
}

// corpus returns the expositions that textparse is tested with.
var corpus = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		return nil, fmt.Errorf("find prometheus's source: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "model/textparse/testdata/*.txt"))
	if err != nil {
		return nil, err
	}
	bodies := map[string][]byte{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		bodies[filepath.Base(file)] = b
	}
	if len(bodies) == 0 {
		return nil, errors.New("prometheus's source has no testdata")
	}
	return bodies, nil
})

func TestRealExpositionsAreUnderstoodAsByTextparse(t *testing.T) {
	bodies, err := corpus()
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range bodies {
		everyWay(func(f Format, opts Options) { compare(t, body, f, opts) })
		f := Text004
		if strings.Contains(name, ".om.") {
			f = OpenMetrics100
		}
		if want := theirs(body, f, Options{}); !want.failed && len(want.entries) > 100 {
			if fast := compare(t, body, f, Options{}); fast < len(want.entries)/4 {
				t.Errorf("%s: %d of %d entries took the short way", name, fast, len(want.entries))
			}
		}
	}
}

func TestOddLinesAreUnderstoodAsByTextparse(t *testing.T) {
	for _, body := range nasties {
		everyWay(func(f Format, opts Options) {
			compare(t, []byte(body), f, opts)
			compare(t, []byte(body+"# EOF"), f, opts)
			compare(t, []byte(body+"# EOF\n"), f, opts)
			compare(t, []byte("# TYPE a histogram\n"+body+"\n# EOF\n"), f, opts)
			compare(t, []byte("# TYPE a summary\n"+body+"a 1\n# EOF\n\x00"), f, opts)
		})
	}
}

func FuzzBodies(f *testing.F) {
	for _, body := range nasties {
		f.Add([]byte(body), uint8(0))
		f.Add([]byte(body+"# EOF\n"), uint8(1))
		f.Add([]byte("# TYPE a histogram\n"+body+"\n# EOF\n"), uint8(7))
	}
	bodies, err := corpus()
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range bodies {
		for i := range 8 {
			if end := bytes.LastIndexByte(body[:min(len(body), 400*(i+1))], '\n') + 1; end > 0 {
				start := bytes.IndexByte(body[end/2:], '\n') + end/2 + 1
				f.Add(append(bytes.Clone(body[min(start, end):end]), "# EOF\n"...), uint8(i))
			}
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, way uint8) {
		format := Text004
		if way&1 != 0 {
			format = OpenMetrics100
		}
		compare(t, body, format, Options{TypeAndUnitLabels: way&2 != 0, StartTimestamps: way&4 != 0})
	})
}

// tokens are what FuzzTokens composes bodies of: single bytes of the grammar
// and whole pieces.
var tokens = []string{
	"a", "b_total", "a_created", "{", "}", "\"", "\\", "\n", " ", "\t", ",", "=", "1", "2.5", "NaN", "-3", "\x00", "\xff", "ü", "#", "# ", "# {",
	"# HELP ", "# TYPE ", "# UNIT ", "# EOF", "# EOF\n", "# HELP a ", "# TYPE a ", "# TYPE \"a\" ", "# UNIT a_s s", "counter\n", "histogram\n", "summary\n", "gauge\n",
	"untyped\n", "{a=\"b\"}", "{a=\"b\",", "{le=\"1\"}", "{le=\"", "quantile=\"0.50\"", "{\"a b\",", "=\"", "\"}", "\",", " 1\n", " 1 2\n", "} 1\n", "\"} 1\n", " # {a=\"b\"} 1\n",
	" # {a=\"b\"} 1 2\n", "a 1\n", "a{le=\"5\"} 1\n", "a{quantile=\"1\"} 2 3\n", "{\"a\"} 1\n", "\r", "x\ny",
}

func FuzzTokens(f *testing.F) {
	f.Add([]byte{28, 32, 52, 52, 26}, uint8(1))
	f.Add([]byte{29, 33, 53, 51, 35, 36, 45}, uint8(0))
	f.Add([]byte{0, 41, 3, 4, 5, 43, 7, 44, 47, 49}, uint8(3))
	f.Fuzz(func(t *testing.T, picks []byte, way uint8) {
		var body []byte
		for _, p := range picks[:min(len(picks), 100)] {
			body = append(body, tokens[int(p)%len(tokens)]...)
		}
		format := Text004
		if way&1 != 0 {
			format = OpenMetrics100
		}
		opts := Options{TypeAndUnitLabels: way&2 != 0, StartTimestamps: way&4 != 0}
		compare(t, body, format, opts)
		compare(t, append(body, "\n# EOF\n"...), format, opts)
	})
}

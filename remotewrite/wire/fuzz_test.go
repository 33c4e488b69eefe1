package wire

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"promagent/relabel"
	"promagent/template"
)

// FuzzRequests makes blocks, external labels and write relabelling out of a
// seed and a text, and holds our requests against the messages that
// Prometheus's own types make of the labels that its own packages compute.
func FuzzRequests(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, "a,b,ä,/dev/sda1,\x00,10.0.0.1:9100")
	}
	f.Add(uint64(3), strings.Repeat("long value ", 40)+","+strings.Repeat("x", 127)+","+strings.Repeat("y", 128))
	f.Fuzz(func(t *testing.T, seed uint64, text string) {
		g := &generator{rand.New(rand.NewPCG(seed, 3)), strings.Split(text, ",")}
		b := g.block()
		external, cfgs := g.labels(3), g.rules()
		r, err := relabel.Compile(cfgs)
		if err != nil {
			t.Fatalf("%v: %v", cfgs, err)
		}
		plan := NewPlans(r, external).Block(b)
		e1, e2 := NewEncoder(false), NewEncoder(true)
		e1.Reset()
		e2.Reset()
		var want1 prompb.WriteRequest
		want2 := writev2.Request{}
		symbols := writev2.NewSymbolTable()
		var samples1, samples2 []string
		for it := b.Slots(); it.Next(); {
			l, ok := g.byPrometheus(&it, external, cfgs)
			if ok != plan.Keep(it.Slot) {
				t.Fatalf("slot %d: keep is %t, want %t", it.Slot, plan.Keep(it.Slot), ok)
			}
			if !ok {
				continue
			}
			s := g.samples()
			e1.Add(plan, it.Slot, s)
			e2.Add(plan, it.Slot, s)
			ts1 := prompb.TimeSeries{Labels: prompb.FromLabels(l, nil)}
			sc := b.Schemas[it.Schema]
			ts2 := writev2.TimeSeries{LabelsRefs: symbols.SymbolizeLabels(l, nil), Metadata: writev2.Metadata{
				Type: writev2.FromMetadataType(model.MetricType(sc.Type)), HelpRef: symbols.Symbolize(sc.Help), UnitRef: symbols.Symbolize(sc.Unit)}}
			for i, at := range s.Times {
				ts1.Samples = append(ts1.Samples, prompb.Sample{Timestamp: at, Value: s.Values[i]})
				x := writev2.Sample{Timestamp: at, Value: s.Values[i]}
				if len(s.Starts) > 0 {
					x.StartTimestamp = s.Starts[i]
				}
				ts2.Samples = append(ts2.Samples, x)
				samples1 = append(samples1, sampleText(at, s.Values[i], 0))
				samples2 = append(samples2, sampleText(at, s.Values[i], x.StartTimestamp))
			}
			for _, x := range s.Exemplars {
				xl := labels.FromStrings(x.Labels...)
				ts1.Exemplars = append(ts1.Exemplars, prompb.Exemplar{Labels: prompb.FromLabels(xl, nil), Value: x.Value, Timestamp: x.Time})
				ts2.Exemplars = append(ts2.Exemplars, writev2.Exemplar{LabelsRefs: symbols.SymbolizeLabels(xl, nil), Value: x.Value, Timestamp: x.Time})
			}
			want1.Timeseries = append(want1.Timeseries, ts1)
			want2.Timeseries = append(want2.Timeseries, ts2)
		}
		want2.Symbols = symbols.Symbols()

		var got1 prompb.WriteRequest
		raw1, raw2 := e1.Request(), e2.Request()
		if err := got1.Unmarshal(raw1); err != nil {
			t.Fatal(err)
		}
		if got, want := mustMarshal(t, &got1), mustMarshal(t, &want1); got != want {
			t.Errorf("1.x:\n got %v\nwant %v", got1.Timeseries, want1.Timeseries)
		}
		var got2 writev2.Request
		if err := got2.Unmarshal(raw2); err != nil {
			t.Fatal(err)
		}
		if got, want := spellOut(t, &got2), spellOut(t, &want2); got != want {
			t.Errorf("2.0:\n got %v\nwant %v", got, want)
		}
		for v2, want := range map[bool][]string{false: samples1, true: samples2} {
			raw := raw1
			if v2 {
				raw = raw2
			}
			var got []string
			if err := EachSample(raw, v2, func(at int64, v float64, start int64) { got = append(got, sampleText(at, v, start)) }); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("read back, 2.0 %v:\n got %v\nwant %v", v2, got, want)
			}
		}
	})
}

func sampleText(at int64, v float64, start int64) string {
	return fmt.Sprint(at, " ", math.Float64bits(v), " ", start)
}

func mustMarshal(t *testing.T, m interface{ Marshal() ([]byte, error) }) string {
	t.Helper()
	raw, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// spellOut writes a request of 2.0 without symbols: their order is free.
func spellOut(t *testing.T, r *writev2.Request) string {
	t.Helper()
	if len(r.Symbols) == 0 || r.Symbols[0] != "" {
		t.Fatalf("the first symbol is not empty: %q", r.Symbols)
	}
	var out strings.Builder
	refs := func(list []uint32) {
		for _, n := range list {
			fmt.Fprintf(&out, "%q ", r.Symbols[n])
		}
	}
	for _, ts := range r.Timeseries {
		refs(ts.LabelsRefs)
		fmt.Fprintf(&out, "%v %q %q", ts.Metadata.Type, r.Symbols[ts.Metadata.HelpRef], r.Symbols[ts.Metadata.UnitRef])
		for _, s := range ts.Samples {
			fmt.Fprintf(&out, " %x@%d from %d", math.Float64bits(s.Value), s.Timestamp, s.StartTimestamp)
		}
		for _, x := range ts.Exemplars {
			fmt.Fprintf(&out, " exemplar %x@%d ", math.Float64bits(x.Value), x.Timestamp)
			refs(x.LabelsRefs)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// generator makes everything that a request depends on.
type generator struct {
	*rand.Rand
	texts []string
}

var fuzzNames = []string{"a", "b", "device", "instance", "job", "le", "zone", "ä"}

func (g *generator) text() string { return g.texts[g.IntN(len(g.texts))] }

func (g *generator) labels(max int) labels.Labels {
	lb := labels.NewBuilder(labels.EmptyLabels())
	for range g.IntN(max + 1) {
		lb.Set(fuzzNames[g.IntN(len(fuzzNames))], g.text())
	}
	return lb.Labels()
}

// block has slots of a few schemas; values of own labels are never empty.
func (g *generator) block() *template.Block {
	b := template.NewBuilder(g.labels(4))
	types := []model.MetricType{model.MetricTypeCounter, model.MetricTypeGauge, model.MetricTypeHistogram, model.MetricTypeSummary, model.MetricTypeInfo, model.MetricTypeStateset, model.MetricTypeGaugeHistogram, ""}
	for range 1 + g.IntN(4) {
		s := template.Schema{Name: fmt.Sprint("m", g.IntN(3)), Whole: g.IntN(4) == 0, Type: string(types[g.IntN(len(types))])}
		if g.IntN(2) == 0 {
			s.Family, s.Help, s.Unit = s.Name, g.text(), g.text()
		}
		for _, i := range g.Perm(len(fuzzNames))[:g.IntN(len(fuzzNames))] {
			s.Labels = append(s.Labels, fuzzNames[i])
		}
		sc := template.Intern(s)
		for range 1 + g.IntN(5) {
			values := make([]string, len(s.Labels))
			for i := range values {
				if values[i] = g.text(); values[i] == "" {
					values[i] = "e"
				}
			}
			b.Add(sc, values)
		}
	}
	return b.Block()
}

func (g *generator) rules() []*promrelabel.Config {
	names := append([]string{"__name__"}, fuzzNames...)
	regexes := []string{"(.*)", "(.+)", "a.*", "m[01]", "", "(a)(.*)", "zone|job", "b|device|le|__name__", "[^e]*"}
	replacements := []string{"$1", "", "x", "${1}y", "$2$1"}
	actions := []promrelabel.Action{promrelabel.Replace, promrelabel.Keep, promrelabel.Drop, promrelabel.LabelDrop, promrelabel.LabelKeep,
		promrelabel.LabelMap, promrelabel.HashMod, promrelabel.Lowercase, promrelabel.Uppercase, promrelabel.KeepEqual, promrelabel.DropEqual}
	var out []*promrelabel.Config
	for range g.IntN(4) {
		c := promrelabel.DefaultRelabelConfig
		c.NameValidationScheme = model.UTF8Validation
		c.Action = actions[g.IntN(len(actions))]
		for range 1 + g.IntN(2) {
			c.SourceLabels = append(c.SourceLabels, model.LabelName(names[g.IntN(len(names))]))
		}
		c.Regex = promrelabel.MustNewRegexp(regexes[g.IntN(len(regexes))])
		c.TargetLabel = names[g.IntN(len(names))]
		c.Replacement = replacements[g.IntN(len(replacements))]
		c.Modulus = uint64(1 + g.IntN(4))
		switch c.Action { // these refuse what they do not use
		case promrelabel.LabelDrop, promrelabel.LabelKeep:
			c.SourceLabels, c.TargetLabel, c.Modulus = nil, "", 0
			c.Separator, c.Replacement = promrelabel.DefaultRelabelConfig.Separator, promrelabel.DefaultRelabelConfig.Replacement
		case promrelabel.KeepEqual, promrelabel.DropEqual:
			c.Regex, c.Modulus = promrelabel.DefaultRelabelConfig.Regex, 0
			c.Separator, c.Replacement = promrelabel.DefaultRelabelConfig.Separator, promrelabel.DefaultRelabelConfig.Replacement
		case promrelabel.LabelMap, promrelabel.Lowercase, promrelabel.Uppercase:
			c.Replacement = "$1"
		}
		if err := c.Validate(model.UTF8Validation); err != nil {
			continue
		}
		out = append(out, &c)
	}
	return out
}

// byPrometheus is what Prometheus's packages make of a slot's series.
func (g *generator) byPrometheus(it *template.Slots, external labels.Labels, cfgs []*promrelabel.Config) (labels.Labels, bool) {
	var sb labels.ScratchBuilder
	lb := labels.NewBuilder(it.Series(&sb))
	external.Range(func(l labels.Label) {
		if lb.Get(l.Name) == "" {
			lb.Set(l.Name, l.Value)
		}
	})
	if !promrelabel.ProcessBuilder(lb, cfgs...) {
		return labels.EmptyLabels(), false
	}
	out := lb.Labels()
	return out, !out.IsEmpty()
}

func (g *generator) samples() Samples {
	var s Samples
	starts := g.IntN(3) == 0
	for k := range 1 + g.IntN(3)*g.IntN(12) {
		s.Times = append(s.Times, g.Int64N(2_000_000_000_000)-1000)
		s.Values = append(s.Values, [...]float64{g.Float64(), 0, 1, math.Copysign(0, -1), math.Inf(-1), math.Float64frombits(template.StaleNaN), math.Float64frombits(g.Uint64())}[g.IntN(7)])
		if starts {
			s.Starts = append(s.Starts, int64(k)*g.Int64N(1000))
		}
	}
	for range g.IntN(3) {
		s.Exemplars = append(s.Exemplars, template.Extra{Time: g.Int64N(1000), Value: g.Float64(), Labels: []string{"span", g.text() + "s", "trace_id", g.text() + "t"}})
	}
	return s
}

package wire

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"promagent/relabel"
	"promagent/template"
)

func rules(t testing.TB, cfgs ...promrelabel.Config) relabel.Rules {
	t.Helper()
	var list []*promrelabel.Config
	for _, c := range cfgs {
		full := promrelabel.DefaultRelabelConfig
		full.NameValidationScheme = model.UTF8Validation
		if c.Action != "" {
			full.Action = c.Action
		}
		if c.Regex.Regexp != nil {
			full.Regex = c.Regex
		}
		full.SourceLabels, full.TargetLabel = c.SourceLabels, c.TargetLabel
		if c.Replacement != "" {
			full.Replacement = c.Replacement
		}
		list = append(list, &full)
	}
	r, err := relabel.Compile(list)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// block has series of several schemas, one of which brings a job of its own.
func block() *template.Block {
	b := template.NewBuilder(labels.FromStrings("instance", "10.0.0.1:9100", "job", "node", "zone", "z1"))
	cpu := template.Intern(template.Schema{Name: "node_cpu_seconds_total", Labels: []string{"mode", "cpu"}, Family: "node_cpu_seconds_total", Type: "counter", Help: "Seconds the CPUs spent."})
	fs := template.Intern(template.Schema{Name: "node_fs_bytes", Labels: []string{"device", "a", "zz"}, Family: "node_fs_bytes", Type: "gauge", Unit: "bytes"})
	own := template.Intern(template.Schema{Name: "pushed", Labels: []string{"job"}})
	whole := template.Intern(template.Schema{Name: "bare", Labels: []string{"x"}, Whole: true})
	for c := range 30 {
		b.Add(cpu, []string{"idle", fmt.Sprint(c)})
		b.Add(cpu, []string{"user", fmt.Sprint(c)})
		b.Add(fs, []string{fmt.Sprintf("/dev/sd%d", c), "ä", "yes"})
		b.Add(own, []string{fmt.Sprint("job", c)})
		b.Add(whole, []string{fmt.Sprint(c)})
	}
	b.Add(template.Intern(template.Schema{Name: "up"}), nil)
	return b.Block()
}

// want is what Prometheus's packages make of a slot: external labels, then relabelling.
func want(it *template.Slots, external labels.Labels, r relabel.Rules) (labels.Labels, bool) {
	var sb labels.ScratchBuilder
	lb := labels.NewBuilder(it.Series(&sb))
	external.Range(func(l labels.Label) {
		if lb.Get(l.Name) == "" {
			lb.Set(l.Name, l.Value)
		}
	})
	if !r.Apply(lb) {
		return labels.EmptyLabels(), false
	}
	out := lb.Labels()
	return out, !out.IsEmpty()
}

func ruleSets(t testing.TB) map[string]relabel.Rules {
	re := func(s string) promrelabel.Regexp { return promrelabel.MustNewRegexp(s) }
	return map[string]relabel.Rules{
		"none":     {},
		"constant": rules(t, promrelabel.Config{TargetLabel: "region", Replacement: "eu"}),
		"drop":     rules(t, promrelabel.Config{Action: promrelabel.Drop, SourceLabels: model.LabelNames{"__name__"}, Regex: re("node_cpu.*")}),
		"labeldrop": rules(t, promrelabel.Config{Action: promrelabel.LabelDrop, Regex: re("zone|mode")},
			promrelabel.Config{Action: promrelabel.LabelMap, Regex: re("(device)"), Replacement: "old_$1"}),
		"rename": rules(t, promrelabel.Config{SourceLabels: model.LabelNames{"cpu"}, TargetLabel: "core", Regex: re("(.+)"), Replacement: "c$1"}),
		"empty":  rules(t, promrelabel.Config{Action: promrelabel.LabelKeep, Regex: re("cpu")}),
	}
}

func TestRequestsDecodeToWhatPrometheusWouldSend(t *testing.T) {
	b := block()
	external := labels.FromStrings("cluster", "edge-1", "zone", "lost", "none", "")
	external = labels.NewBuilder(external).Set("mode", "lost").Labels()
	for name, r := range ruleSets(t) {
		t.Run(name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 2))
			plans := NewPlans(r, external)
			plan := plans.Block(b)
			e1, e2 := NewEncoder(false), NewEncoder(true)
			for range 2 { // encoders are used again
				e1.Reset()
				e2.Reset()
				var wantSeries []string
				kept := 0
				for it := b.Slots(); it.Next(); {
					l, ok := want(&it, external, r)
					if ok != plan.Keep(it.Slot) {
						t.Fatalf("slot %d: keep is %t", it.Slot, plan.Keep(it.Slot))
					}
					if !ok {
						continue
					}
					kept++
					if got := plan.Labels(it.Slot); got.String() != l.String() {
						t.Fatalf("slot %d: labels %s, want %s", it.Slot, got, l)
					}
					var s Samples
					for k := range 1 + rnd.IntN(20) {
						s.Times = append(s.Times, 1_700_000_000_000+int64(k)*15000)
						s.Values = append(s.Values, [...]float64{rnd.Float64(), 0, math.Copysign(0, -1), math.Float64frombits(template.StaleNaN)}[rnd.IntN(4)])
					}
					if rnd.IntN(4) == 0 {
						s.Exemplars = []template.Extra{{Time: 5, Value: 2, Labels: []string{"trace_id", fmt.Sprint(it.Slot)}}}
					}
					e1.Add(plan, it.Slot, s)
					e2.Add(plan, it.Slot, s)
					sc := b.Schemas[it.Schema]
					wantSeries = append(wantSeries, fmt.Sprintf("%s %v %s|%s", describe(l, s), s.Exemplars, sc.Help, sc.Unit))
				}
				if kept != plan.Kept() {
					t.Errorf("kept %d, want %d", plan.Kept(), kept)
				}
				compareV1(t, e1.Request(), wantSeries)
				compareV2(t, e2.Request(), wantSeries)
			}
		})
	}
}

func describe(l labels.Labels, s Samples) string {
	out := l.String()
	for i := range s.Times {
		out += fmt.Sprintf(" %x@%d", math.Float64bits(s.Values[i]), s.Times[i])
	}
	return out
}

func compareV1(t *testing.T, raw []byte, want []string) {
	t.Helper()
	var req prompb.WriteRequest
	if err := req.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	if len(req.Timeseries) != len(want) {
		t.Fatalf("1.x: %d series, want %d", len(req.Timeseries), len(want))
	}
	for i, ts := range req.Timeseries {
		var s Samples
		for _, x := range ts.Samples {
			s.Times, s.Values = append(s.Times, x.Timestamp), append(s.Values, x.Value)
		}
		for _, x := range ts.Exemplars {
			s.Exemplars = append(s.Exemplars, template.Extra{Time: x.Timestamp, Value: x.Value, Labels: []string{x.Labels[0].Name, x.Labels[0].Value}})
		}
		var lb labels.ScratchBuilder
		for k, l := range ts.Labels {
			if k > 0 && ts.Labels[k-1].Name >= l.Name {
				t.Errorf("labels are not sorted: %v", ts.Labels)
			}
			lb.Add(l.Name, l.Value)
		}
		got := fmt.Sprintf("%s %v ", describe(lb.Labels(), s), s.Exemplars)
		if len(want[i]) < len(got) || want[i][:len(got)] != got {
			t.Fatalf("1.x series %d:\n got %s\nwant %s", i, got, want[i])
		}
	}
}

func compareV2(t *testing.T, raw []byte, want []string) {
	t.Helper()
	var req writev2.Request
	if err := req.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	if len(req.Timeseries) != len(want) {
		t.Fatalf("2.0: %d series, want %d", len(req.Timeseries), len(want))
	}
	seen := map[string]bool{}
	for i, s := range req.Symbols {
		if seen[s] || (s == "") != (i == 0) {
			t.Errorf("symbol %d %q is there twice, or is empty", i, s)
		}
		seen[s] = true
	}
	for i, ts := range req.Timeseries {
		var s Samples
		for _, x := range ts.Samples {
			s.Times, s.Values = append(s.Times, x.Timestamp), append(s.Values, x.Value)
		}
		for _, x := range ts.Exemplars {
			s.Exemplars = append(s.Exemplars, template.Extra{Time: x.Timestamp, Value: x.Value, Labels: []string{req.Symbols[x.LabelsRefs[0]], req.Symbols[x.LabelsRefs[1]]}})
		}
		var lb labels.ScratchBuilder
		for k := 0; k < len(ts.LabelsRefs); k += 2 {
			lb.Add(req.Symbols[ts.LabelsRefs[k]], req.Symbols[ts.LabelsRefs[k+1]])
		}
		got := fmt.Sprintf("%s %v %s|%s", describe(lb.Labels(), s), s.Exemplars, req.Symbols[ts.Metadata.HelpRef], req.Symbols[ts.Metadata.UnitRef])
		if got != want[i] {
			t.Fatalf("2.0 series %d:\n got %s\nwant %s", i, got, want[i])
		}
	}
}

func TestShardHashFollowsNameJobAndInstanceAsLogged(t *testing.T) {
	b := block()
	plain := NewPlans(relabel.Rules{}, labels.EmptyLabels()).Block(b)
	other := NewPlans(ruleSets(t)["labeldrop"], labels.FromStrings("cluster", "x")).Block(b)
	byKey := map[string]uint64{}
	for it := b.Slots(); it.Next(); {
		if plain.Hash(it.Slot) != other.Hash(it.Slot) {
			t.Fatalf("slot %d: the hash depends on the remote", it.Slot)
		}
		var sb labels.ScratchBuilder
		l := it.Series(&sb)
		key := l.Get("__name__") + "\xff" + l.Get("job") + "\xff" + l.Get("instance")
		if h, ok := byKey[key]; ok && h != plain.Hash(it.Slot) {
			t.Fatalf("%s: two hashes", key)
		}
		byKey[key] = plain.Hash(it.Slot)
	}
	distinct := map[uint64]bool{}
	for _, h := range byKey {
		distinct[h] = true
	}
	if len(distinct) != len(byKey) {
		t.Errorf("%d hashes for %d keys", len(distinct), len(byKey))
	}
}

func BenchmarkEncode(b *testing.B) {
	tb := template.NewBuilder(labels.FromStrings("instance", "10.0.0.1:9100", "job", "cadvisor"))
	sc := template.Intern(template.Schema{Name: "container_cpu_usage_seconds_total", Labels: []string{"container", "id", "image", "name", "namespace", "pod", "r"}})
	for i := range 1000 {
		tb.Add(sc, []string{"app", fmt.Sprintf("/kubepods.slice/kubepods-burstable.slice/pod%d.slice", i%50), "registry.local/edge/app:v1", fmt.Sprint("cri", i%50), "team-1", fmt.Sprint("app-", i%50), fmt.Sprint(i / 50)})
	}
	plan := NewPlans(relabel.Rules{}, labels.FromStrings("cluster", "edge-1")).Block(tb.Block())
	for _, v2 := range []bool{false, true} {
		b.Run(fmt.Sprintf("v2=%t", v2), func(b *testing.B) {
			e := NewEncoder(v2)
			s := Samples{Times: []int64{1_700_000_000_000}, Values: []float64{12.5}}
			b.ReportAllocs()
			for b.Loop() {
				e.Reset()
				for i := range 1000 {
					e.Add(plan, i, s)
				}
				e.Request()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/series")
		})
	}
}

package template

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s does not panic", what)
		}
	}()
	f()
}

func TestABuilderRefusesWhatIsNoSlot(t *testing.T) {
	sc := Intern(Schema{Name: "m", Labels: []string{"a"}})
	b := NewBuilder(labels.EmptyLabels())
	mustPanic(t, "a slot with two values for one label", func() { b.Add(sc, []string{"1", "2"}) })
	mustPanic(t, "a slot with no value for one label", func() { b.Add(sc, nil) })
	for i := range MaxSlots {
		if got := b.Add(sc, []string{fmt.Sprint(i)}); got != i {
			t.Fatalf("got slot %d, want %d", got, i)
		}
	}
	mustPanic(t, "slot 1025", func() { b.Add(sc, []string{"x"}) })
	if got := b.Block().Len(); got != MaxSlots {
		t.Errorf("got %d slots, want %d", got, MaxSlots)
	}
}

func TestABuilderCopiesValues(t *testing.T) {
	b := NewBuilder(labels.EmptyLabels())
	sc := Intern(Schema{Name: "m", Labels: []string{"a", "b"}})
	values := []string{"one", "two"}
	b.Add(sc, values)
	values[0], values[1] = "three", "one"
	b.Add(sc, values)
	block := b.Block()
	if got, want := fmt.Sprint(series(block)), `[{__name__="m", a="one", b="two"} {__name__="m", a="three", b="one"}]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if block.Strings() != 3 || block.String(0) != "one" || block.String(2) != "three" {
		t.Errorf("got %d strings, want one, two, three", block.Strings())
	}
}

func TestSlotsOfManySchemasAndStrings(t *testing.T) {
	b := NewBuilder(labels.FromStrings("job", "j"))
	var want []string
	for i := range MaxSlots { // numbers of one and two bytes
		sc := Intern(Schema{Name: fmt.Sprint("m", i%300), Labels: []string{"x", "y"}})
		v := []string{fmt.Sprint("v", i), fmt.Sprint("v", i/2)}
		b.Add(sc, v)
		want = append(want, labels.FromStrings("__name__", sc.Name, "job", "j", "x", v[0], "y", v[1]).String())
	}
	block := b.Block()
	got := series(block)
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("slot %d: got %s, want %s", i, got[i], want[i])
		}
	}
	n := 0
	for it := block.Slots(); it.Next(); n++ {
		if it.Slot != n || len(it.Values) != 2 || block.Schemas[it.Schema].Name != fmt.Sprint("m", n%300) {
			t.Fatalf("slot %d: got slot %d of schema %d with %d values", n, it.Slot, it.Schema, len(it.Values))
		}
	}
}

func TestTheTargetsLabelsLieUnderTheSlots(t *testing.T) {
	for _, c := range []struct {
		name   string
		target labels.Labels
		schema Schema
		values []string
		want   labels.Labels
	}{
		{"merged and sorted", labels.FromStrings("job", "j", "a", "1"), Schema{Name: "m", Labels: []string{"z", "b"}}, []string{"9", "2"},
			labels.FromStrings("__name__", "m", "a", "1", "b", "2", "job", "j", "z", "9")},
		{"the slot's wins", labels.FromStrings("job", "j", "instance", "i"), Schema{Name: "m", Labels: []string{"job"}}, []string{"own"},
			labels.FromStrings("__name__", "m", "instance", "i", "job", "own")},
		{"whole", labels.FromStrings("job", "j"), Schema{Name: "m", Labels: []string{"a"}, Whole: true}, []string{"1"},
			labels.FromStrings("__name__", "m", "a", "1")},
		{"a name in the target's labels", labels.FromStrings("__name__", "no", "job", "j"), Schema{Name: "m"}, nil,
			labels.FromStrings("__name__", "m", "job", "j")},
	} {
		b := NewBuilder(c.target)
		b.Add(Intern(c.schema), c.values)
		var lb labels.ScratchBuilder
		it := b.Block().Slots()
		it.Next()
		if got := it.Series(&lb); !labels.Equal(got, c.want) {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestSamplesOfAPart(t *testing.T) {
	b := NewBuilder(labels.EmptyLabels())
	for i := range 4 {
		b.Add(Intern(Schema{Name: fmt.Sprint("m", i)}), nil)
	}
	p := Part{Block: b.Block()}
	if got := p.Samples(); got != 4 || p.State(3) != Value {
		t.Errorf("got %d samples without states, want 4", got)
	}
	p.States = []State{Value, Stale, Absent, Absent}
	p.Extra = []Extra{{Slot: 0, Kind: Sample}, {Slot: 0, Kind: Exemplar}}
	if got := p.Samples(); got != 3 || p.State(1) != Stale {
		t.Errorf("got %d samples, want 3", got)
	}
}

// histogramBlock is a block of the most common kind of series.
func histogramBlock() *Block {
	b := NewBuilder(labels.FromStrings("instance", "10.0.0.1:8080", "job", "api", "namespace", "team-a", "pod", "api-6c9d-x2x4"))
	bounds := []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"}
	sc := Intern(Schema{Name: "http_request_duration_seconds_bucket", Labels: []string{"code", "handler", "method", "le"},
		Family: "http_request_duration_seconds", Type: "histogram", Help: "Duration of requests."})
	for i := 0; b.Len() < 1020; i++ {
		for _, le := range bounds {
			b.Add(sc, []string{"200", fmt.Sprint("/api/v1/resource/", i), "GET", le})
		}
	}
	return b.Block()
}

// podBlock has identifiers in every series.
func podBlock() *Block {
	r := rand.New(rand.NewPCG(1, 1))
	b := NewBuilder(labels.FromStrings("instance", "10.0.0.1:8080", "job", "kube-state-metrics"))
	for range 40 {
		ns, pod := fmt.Sprint("team-", r.IntN(8)), fmt.Sprintf("checkout-%08x-%05x", r.Uint32(), r.Uint32()&0xfffff)
		uid := fmt.Sprintf("%016x-%016x", r.Uint64(), r.Uint64())
		for k := range 24 {
			b.Add(Intern(Schema{Name: fmt.Sprint("kube_pod_status_", k), Labels: []string{"namespace", "pod", "uid"},
				Family: fmt.Sprint("kube_pod_status_", k), Type: "gauge", Help: "A state of the pod."}), []string{ns, pod, uid})
		}
	}
	return b.Block()
}

func TestASeriesIsFewBytes(t *testing.T) {
	for name, c := range map[string]struct {
		block *Block
		most  float64
	}{
		"histograms": {histogramBlock(), 9},
		"pods":       {podBlock(), 10},
	} {
		n := float64(c.block.Len())
		inMemory, encoded := float64(c.block.Size())/n, float64(len(c.block.AppendTo(nil)))/n
		t.Logf("%s: %.1f bytes per series in memory, %.1f encoded", name, inMemory, encoded)
		if inMemory > c.most || encoded > c.most {
			t.Errorf("%s: a series takes %.1f bytes in memory and %.1f encoded, want at most %.0f", name, inMemory, encoded, c.most)
		}
	}
}

// go test -run '^$' -bench . ./template
func BenchmarkBuilder(b *testing.B) {
	from := podBlock()
	b.ReportAllocs()
	for b.Loop() {
		nb := NewBuilder(from.Target)
		for it := from.Slots(); it.Next(); {
			nb.AddFrom(from, from.Schemas[it.Schema], it.Values)
		}
		nb.Block()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*from.Len()), "ns/series")
	b.ReportMetric(float64(from.Size())/float64(from.Len()), "B/series")
}

func BenchmarkSlots(b *testing.B) {
	block := podBlock()
	b.ReportAllocs()
	for b.Loop() {
		for it := block.Slots(); it.Next(); {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*block.Len()), "ns/series")
}

func BenchmarkDecode(b *testing.B) {
	block := podBlock()
	body := block.AppendTo(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(body); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*block.Len()), "ns/series")
}

func BenchmarkIntern(b *testing.B) {
	s := Schema{Name: "m", Labels: []string{"a", "b"}, Family: "m", Type: "counter", Help: "Something that is counted."}
	kept := Intern(s)
	b.ReportAllocs()
	for b.Loop() {
		if Intern(s) != kept {
			b.Fatal("another schema")
		}
	}
}

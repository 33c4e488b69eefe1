package wire

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"weak"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"

	"promagent/relabel"
	"promagent/template"
)

// podBlock has n series of a schema of the given name.
func podBlock(name, instance string, n int) *template.Block {
	b := template.NewBuilder(labels.FromStrings("instance", instance, "job", "j"))
	sc := template.Intern(template.Schema{Name: name, Labels: []string{"pod"}})
	for i := range n {
		b.Add(sc, []string{fmt.Sprint("pod-", instance, "-", i)})
	}
	return b.Block()
}

// perSeries makes a shape for every series: a label is a part of another.
func perSeries(t testing.TB) relabel.Rules {
	return rules(t, promrelabel.Config{SourceLabels: model.LabelNames{"pod"}, Regex: promrelabel.MustNewRegexp("pod-(.*)"), TargetLabel: "id", Replacement: "$1"})
}

// checkBooks counts anew what plans account for.
func checkBooks(t *testing.T, p *Plans) {
	t.Helper()
	bytes, uses := 0, map[*shape]int{}
	for _, v := range p.views {
		bytes += v.size()
		for _, s := range v.shapes {
			uses[s]++
		}
	}
	for s, n := range uses {
		bytes += s.size()
		if s.uses != n || p.shapes[s.id] != s {
			t.Errorf("a shape with %d uses says %d, interned: %t", n, s.uses, p.shapes[s.id] == s)
		}
	}
	if len(p.shapes) != len(uses) {
		t.Errorf("%d shapes are interned, %d are in use", len(p.shapes), len(uses))
	}
	if p.bytes != bytes {
		t.Errorf("the plans take %d bytes, they count %d", bytes, p.bytes)
	}
}

func TestPlansKeepNoBlockAlive(t *testing.T) {
	for name, r := range map[string]relabel.Rules{"plain": {}, "relabelled": perSeries(t)} {
		t.Run(name, func(t *testing.T) {
			p := NewPlans(r, labels.FromStrings("cluster", "x"))
			var blocks []weak.Pointer[template.Block]
			for i := range 50 {
				b := podBlock(fmt.Sprint("metric", i), fmt.Sprint(i), 20)
				p.Block(b)
				blocks = append(blocks, weak.Make(b))
			}
			runtime.GC()
			for i, w := range blocks {
				if w.Value() != nil {
					t.Errorf("block %d is alive after its last user went", i)
				}
			}
			live := podBlock("live", "live", 1)
			p.Block(live)
			if len(p.views) != 1 || len(p.shapes) > 2 {
				t.Errorf("%d plans and %d shapes are left, want those of the one live block", len(p.views), len(p.shapes))
			}
			checkBooks(t, p)
			runtime.KeepAlive(live)
		})
	}
}

func TestPlanOfALiveBlockIsMadeOnce(t *testing.T) {
	p := NewPlans(perSeries(t), labels.EmptyLabels())
	var blocks []*template.Block
	var views []weak.Pointer[view] // not kept by the test
	for i := range 50 {
		b := podBlock("m", fmt.Sprint(i), 10)
		blocks = append(blocks, b)
		views = append(views, weak.Make(p.Block(b).view))
	}
	for range 3 {
		runtime.GC()
		for i, b := range blocks {
			if p.Block(podBlock("m", "gone", 1)); p.Block(b).view != views[i].Value() {
				t.Fatalf("block %d has another plan than before", i)
			}
		}
	}
	checkBooks(t, p)
	if n := testing.AllocsPerRun(100, func() { p.Block(blocks[0]) }); n >= 1 {
		t.Errorf("a look-up allocates %v times", n)
	}
}

func TestPlanInUseKeepsItsBlock(t *testing.T) {
	p := NewPlans(relabel.Rules{}, labels.EmptyLabels())
	plan := p.Block(podBlock("m", "a", 3))
	for range 3 {
		runtime.GC()
		p.Block(podBlock("m", "gone", 1))
	}
	if got, want := plan.Labels(2).String(), `{__name__="m", instance="a", job="j", pod="pod-a-2"}`; got != want {
		t.Errorf("the labels are %s, want %s", got, want)
	}
	if p.Block(plan.Block) != plan {
		t.Error("the block has two plans")
	}
}

func TestPlansStayWithinTheirBytes(t *testing.T) {
	for name, r := range map[string]relabel.Rules{"plain": {}, "relabelled": perSeries(t)} {
		t.Run(name, func(t *testing.T) {
			var blocks []*template.Block
			all := NewPlans(r, labels.EmptyLabels())
			for i := range 400 {
				blocks = append(blocks, podBlock("m", fmt.Sprint(i), 30))
				all.Block(blocks[i])
			}
			p := NewPlans(r, labels.EmptyLabels())
			p.limit = all.bytes / 2
			first := p.Block(blocks[0])
			want := first.Labels(7).String()
			made := 0
			for range 3 {
				for _, b := range blocks {
					had := p.views[weak.Make(b)]
					if p.Block(b).view != had {
						made++
					}
					if p.bytes > p.limit {
						t.Fatalf("the plans take %d bytes of %d", p.bytes, p.limit)
					}
				}
				checkBooks(t, p)
			}
			if made <= len(blocks) || made >= 3*len(blocks) {
				t.Errorf("%d plans were made in 3 rounds of %d blocks, want some of them again", made, len(blocks))
			}
			if p.bytes < p.limit/2 {
				t.Errorf("the plans take %d bytes only of %d", p.bytes, p.limit)
			}
			if got := first.Labels(7).String(); got != want { // a plan in use does not mind
				t.Errorf("the labels are %s, want %s", got, want)
			}
		})
	}
}

func TestPlanBeyondTheLimitIsStillMade(t *testing.T) {
	p := NewPlans(relabel.Rules{}, labels.EmptyLabels())
	p.limit = 1
	for i := range 3 {
		if got, want := p.Block(podBlock("m", fmt.Sprint(i), 1)).Kept(), 1; got != want {
			t.Errorf("%d series are kept, want %d", got, want)
		}
		if len(p.views) != 1 {
			t.Errorf("%d plans are there, want the last one", len(p.views))
		}
		checkBooks(t, p)
	}
}

func TestPlansAreForConcurrentUse(t *testing.T) {
	p := NewPlans(perSeries(t), labels.EmptyLabels())
	p.limit = 50_000
	var blocks []*template.Block
	for i := range 20 {
		blocks = append(blocks, podBlock("m", fmt.Sprint(i), 30))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			e := NewEncoder(true)
			for range 5 {
				e.Reset()
				for _, b := range blocks {
					plan := p.Block(b)
					e.Add(plan, 3, Samples{Times: []int64{1}, Values: []float64{1}})
				}
				runtime.GC()
			}
		})
	}
	wg.Wait()
	checkBooks(t, p)
}

func BenchmarkPlans(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("blocks=%d", n), func(b *testing.B) {
			p := NewPlans(relabel.Rules{}, labels.EmptyLabels())
			var blocks []*template.Block
			for i := range n {
				blocks = append(blocks, podBlock("m", fmt.Sprint(i), 100))
				p.Block(blocks[i])
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p.Block(blocks[i%n])
			}
		})
	}
}

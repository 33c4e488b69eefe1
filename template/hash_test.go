package template

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

func hashes(h *SeriesHasher, b *Block) (out []uint64) {
	for it := b.Slots(); it.Next(); {
		out = append(out, h.Hash(&it))
	}
	return out
}

func TestASeriesHasTheSameHashInEveryBlock(t *testing.T) {
	target := labels.FromStrings("instance", "i", "job", "j", "zone", "")
	block := func(target labels.Labels, sc Schema, values ...string) *Block {
		b := NewBuilder(target)
		b.Add(Intern(Schema{Name: "before", Labels: []string{"x"}}), []string{"y"}) // another dictionary
		b.Add(Intern(sc), values)
		return b.Block()
	}
	var h SeriesHasher
	for name, b := range map[string]*Block{
		"the labels in another order":  block(target, Schema{Name: "m", Labels: []string{"b", "a"}}, "2", "1"),
		"a label without a value":      block(target, Schema{Name: "m", Labels: []string{"a", "none", "b"}}, "1", "", "2"),
		"its own instance":             block(labels.FromStrings("instance", "other", "job", "j"), Schema{Name: "m", Labels: []string{"a", "b", "instance"}}, "1", "2", "i"),
		"all labels its own":           block(labels.FromStrings("more", "x"), Schema{Name: "m", Labels: []string{"a", "b", "instance", "job"}, Whole: true}, "1", "2", "i", "j"),
		"the name among its labels":    block(target, Schema{Labels: []string{"__name__", "a", "b"}}, "m", "1", "2"),
		"a target with a label as own": block(labels.FromStrings("instance", "i", "job", "j", "a", "9"), Schema{Name: "m", Labels: []string{"a", "b"}}, "1", "2"),
	} {
		want := hashes(&h, block(target, Schema{Name: "m", Labels: []string{"a", "b"}}, "1", "2"))[1]
		if got := hashes(&h, b)[1]; got != want {
			t.Errorf("%s: got %x, want %x", name, got, want)
		}
	}
	if got, want := hashes(&h, block(target, Schema{Name: "m", Labels: []string{"a", "b"}}, "1", "2"))[1], uint64(0x7d3f9cbebfa6a32c); got != want {
		t.Errorf("got %#x, want %#x: positions on disk rest on it", got, want)
	}
}

func TestHashesSpreadSeriesEvenly(t *testing.T) {
	const n, parts = 20_000, 50
	seen := map[uint64]bool{}
	var in [parts]int
	var h SeriesHasher
	for i := range n / 100 {
		b := NewBuilder(labels.FromStrings("instance", fmt.Sprint(i%20), "job", "j"))
		for k := range 100 {
			b.Add(Intern(Schema{Name: fmt.Sprint("m", i/20), Labels: []string{"a", "b"}}), []string{fmt.Sprint(k % 10), fmt.Sprint(k / 10)})
		}
		for _, x := range hashes(&h, b.Block()) {
			seen[x] = true
			in[x%parts]++
		}
	}
	if len(seen) != n {
		t.Errorf("%d series have %d hashes", n, len(seen))
	}
	for i, got := range in {
		if got < n/parts*3/4 || got > n/parts*5/4 {
			t.Errorf("part %d has %d of %d series", i, got, n)
		}
	}
}

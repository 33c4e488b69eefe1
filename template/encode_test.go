package template

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

func sampleBlock() *Block {
	b := NewBuilder(labels.FromStrings("instance", "10.0.0.1:9100", "job", "node"))
	cpu := Intern(Schema{Name: "node_cpu_seconds_total", Labels: []string{"cpu", "mode"}, Family: "node_cpu_seconds_total", Type: "counter", Help: "Seconds."})
	for c := range 20 {
		for _, m := range []string{"idle", "user"} {
			b.Add(cpu, []string{fmt.Sprint(c), m})
		}
	}
	b.Add(Intern(Schema{Name: "up"}), nil)
	b.Add(Intern(Schema{Name: "x", Labels: []string{"job"}, Whole: true}), []string{"other"})
	return b.Block()
}

func series(b *Block) (all []string) {
	var lb labels.ScratchBuilder
	for it := b.Slots(); it.Next(); {
		all = append(all, it.Series(&lb).String())
	}
	return all
}

func TestDecodedBlockHasTheSameSeries(t *testing.T) {
	b := sampleBlock()
	got, err := Decode(b.AppendTo(nil))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(series(got)) != fmt.Sprint(series(b)) {
		t.Errorf("got %v, want %v", series(got), series(b))
	}
	for i, s := range got.Schemas {
		if s != b.Schemas[i] {
			t.Errorf("schema %d is another one", i)
		}
	}
	want := []string{`{__name__="up", instance="10.0.0.1:9100", job="node"}`, `{__name__="x", job="other"}`}
	if tail := series(b)[40:]; fmt.Sprint(tail) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", tail, want)
	}
}

func TestSlotsMoveBetweenBlocks(t *testing.T) {
	b := sampleBlock()
	nb := NewBuilder(b.Target)
	for it := b.Slots(); it.Next(); {
		if it.Slot%2 == 0 {
			nb.AddFrom(b, b.Schemas[it.Schema], it.Values)
		}
	}
	got, all := series(nb.Block()), series(b)
	for i, s := range got {
		if s != all[2*i] {
			t.Errorf("slot %d: got %s, want %s", i, s, all[2*i])
		}
	}
}

func TestABodyThatIsCutOffIsRefused(t *testing.T) {
	body := sampleBlock().AppendTo(nil)
	for n := range body {
		if b, err := Decode(body[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are a block of %d slots", n, len(body), b.Len())
		}
	}
	if _, err := Decode(append(body[:len(body):len(body)], 0)); err == nil {
		t.Error("a body with a byte too many is a block")
	}
}

func TestHostileCountsAllocateLittle(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	for at := range 5 { // origin, labels, schemas, dictionary, slots
		body := append(make([]byte, at), huge...)
		if got := testing.AllocsPerRun(10, func() {
			if _, err := Decode(body); err == nil {
				t.Error("a count beyond the body is taken")
			}
		}); got > 10 {
			t.Errorf("%v allocations at field %d", got, at)
		}
	}
}

func TestADecodedBlockKeepsNothingOfTheBody(t *testing.T) {
	b := sampleBlock()
	body := b.AppendTo(nil)
	got, err := Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	clear(body)
	if fmt.Sprint(series(got)) != fmt.Sprint(series(b)) {
		t.Error("the block has changed with the body")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sampleBlock().AppendTo(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := Decode(body)
		if err != nil {
			return
		}
		if len(series(b)) != b.Len() {
			t.Fatalf("%d series in %d slots", len(series(b)), b.Len())
		}
		again, err := Decode(b.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.AppendTo(nil), b.AppendTo(nil)) {
			t.Fatal("does not round trip")
		}
	})
}

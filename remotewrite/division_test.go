package remotewrite

import (
	"math/rand/v2"
	"testing"
)

// sendDivided sends a batch of n samples to a receiver that refuses whatever
// holds a bad one, and returns what it accepted.
func sendDivided(n, refused int, bad func(i int) bool) (accepted []int, requests int) {
	d := divide(n, refused)
	for {
		p, ok := d.next()
		if !ok {
			return accepted, requests
		}
		requests++
		refused := false
		for i := p.from; i < p.to; i++ {
			refused = refused || bad(i)
		}
		switch {
		case !refused:
			for i := p.from; i < p.to; i++ {
				accepted = append(accepted, i)
			}
			d.done(true)
		case !d.refused():
			d.done(false)
		}
	}
}

func TestOneBadSampleCostsOnlyItself(t *testing.T) {
	for _, n := range []int{1, 2, 3, 500, 2000, 10_000} {
		for _, bad := range []int{0, n / 3, n - 1} {
			for _, before := range []int{0, 1} {
				accepted, requests := sendDivided(n, before, func(i int) bool { return i == bad })
				if len(accepted) != n-1 {
					t.Errorf("%d samples, %d bad, %d refused before: %d accepted", n, bad, before, len(accepted))
				}
				if requests > 30 {
					t.Errorf("%d samples, %d bad, %d refused before: %d requests", n, bad, before, requests)
				}
			}
		}
	}
}

func TestPartsKeepOrderWithinTheBoundOfRequests(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		n := 1 + rnd.IntN(3000)
		share := rnd.Float64()
		bad := make([]bool, n)
		for i := range bad {
			bad[i] = rnd.Float64() < share
		}
		accepted, requests := sendDivided(n, rnd.IntN(8), func(i int) bool { return bad[i] })
		if requests > maxRequests {
			t.Fatalf("%d requests", requests)
		}
		last := -1
		for _, i := range accepted {
			if i <= last || bad[i] {
				t.Fatalf("%d accepted after %d", i, last)
			}
			last = i
		}
	}
}

func TestWhatIsTooLargeIsHalvedAsOftenAsItTakes(t *testing.T) {
	d := divide(1000, 0)
	got := 0
	for {
		p, ok := d.next()
		if !ok {
			break
		}
		if p.len() > 1 {
			if !d.tooLarge() {
				t.Fatalf("a part of %d was not halved", p.len())
			}
			continue
		}
		if d.tooLarge() {
			t.Fatal("a single sample was halved")
		}
		if p.from != got {
			t.Fatalf("sample %d, want %d", p.from, got)
		}
		got++
		d.done(true)
	}
	if got != 1000 {
		t.Errorf("%d samples sent, want 1000", got)
	}
}

func TestAProbeGoesBeforeTheRest(t *testing.T) {
	d := divide(3, 0)
	for i := range 2 {
		if !d.probe() {
			t.Fatalf("no probe before sample %d", i)
		}
		if p, _ := d.next(); p != (part{i, i + 1}) {
			t.Fatalf("the probe is %v, want sample %d", p, i)
		}
		d.done(false)
	}
	if d.probe() {
		t.Error("the last sample is a probe of nothing")
	}
	if got := d.rest(); got != (part{2, 3}) {
		t.Errorf("the rest is %v", got)
	}
	if _, ok := d.next(); ok || d.probe() || d.rest() != (part{}) {
		t.Error("something comes after the rest")
	}
}

package remotewrite

import "testing"

// What Prometheus decides for the same measurements.
func TestShardsFollowTheMeasurementsAsPrometheusDoes(t *testing.T) {
	for _, c := range []struct {
		prev                   int
		in, out, busy, backlog float64
		want                   int
	}{
		{1, 0, 0, 0, 0, 1}, {10, 0, 0, 0, 0, 10}, {1, 10, 10, 1, 0, 1}, {10, 10, 10, 5, 0, 5}, {7, 10, 10, 5, 0, 7},
		{1, 10, 10, 10, 0, 10}, {8, 10, 10, 10, 0, 8}, {2, 10, 10, 2, 20, 4}, {4, 10, 10, 4, 90, 22}, {22, 10, 20, 4, 10, 3},
		{3, 10, 10, 2, 0, 2}, {1, 10, 10, 1.2, 0, 2}, {1, 10, 10, 1.4, 0, 2}, {2, 10, 10, 1.2, 0, 2}, {2, 10, 10, 0.9, 0, 1},
		{3, 10, 10, 2.01, 0, 3}, {3, 10, 10, 1.99, 0, 2},
	} {
		got, desired := scale(scaling{in: c.in, out: c.out, busy: c.busy, behind: c.backlog}, c.prev, 1, 50)
		if got != c.want {
			t.Errorf("%+v: got %d (desired %v)", c, got, desired)
		}
	}
}

func TestShardsStayWithinTheirLimits(t *testing.T) {
	if got, _ := scale(scaling{in: 10, out: 10, busy: 100}, 1, 1, 50); got != 50 {
		t.Errorf("got %d shards, the most is 50", got)
	}
	if got, _ := scale(scaling{in: 10, out: 10, busy: 0.1}, 40, 5, 50); got != 5 {
		t.Errorf("got %d shards, the least is 5", got)
	}
	if got, _ := scale(scaling{in: 10, out: 10, busy: 0.1, behind: 11}, 40, 5, 50); got != 40 {
		t.Errorf("got %d shards, an endpoint that is behind does not scale down", got)
	}
}

package remotewrite

import (
	"testing"
	"time"
)

func TestShardsGrowFastWhileABacklogGoesOutFasterWithThem(t *testing.T) {
	const most = 50
	const waiting = 10_000_000
	linear := func(n int) int { return 40_000 * n }
	for _, tc := range []struct {
		name   string
		rate   func(shards int) int // samples per second
		change func(step int, l *load)
		want   []int // shards after each step
	}{
		{"a remote that takes all", linear, func(int, *load) {}, []int{1, 8, 50, 50, 50}},
		{"as many as the backlog needs", linear, func(_ int, l *load) { l.waiting = 238_000 }, []int{1, 6, 6, 6}},
		{"no more than have something to do", func(n int) int { return 400 * n }, func(_ int, l *load) { l.waiting = 20_000 }, []int{1, 2, 2}},
		{"a machine that is full", func(n int) int { return min(40_000*n, 600_000) }, func(int, *load) {}, []int{1, 8, 50, 19, 19}},
		{"shards that wait for something else", func(n int) int { return 40_000 * (2*n + 1) / 3 }, func(_ int, l *load) { l.fastest = time.Second }, []int{1, 8, 50, 50}},
		{"a link that is full", func(int) int { return 40_000 }, func(int, *load) {}, []int{1, 8, 1, 1, 1, 1}},
		{"no backlog", linear, func(_ int, l *load) { l.backlog = false }, []int{1, 1, 1}},
		{"a limit on bytes", linear, func(_ int, l *load) { l.limited = true }, []int{1, 1, 1}},
		{"failing at first", linear, func(step int, l *load) { l.failing = step <= 1 }, []int{1, 1, 8, 50}},
		{"a failure after a step", linear, func(step int, l *load) {
			if step >= 2 {
				l.all.failed = 1
			}
		}, []int{1, 8, 1, 1, 1}},
		{"nothing was sent", func(int) int { return 0 }, func(int, *load) {}, []int{1, 1, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r ramp
			now, shards := time.Unix(1000, 0), 1
			var all counts
			for i, want := range tc.want {
				now = now.Add(time.Second)
				all.samples += tc.rate(shards)
				all.requests += tc.rate(shards) / 2000
				all.busy += time.Duration(shards) * time.Second // every shard is at work all the time
				l := load{all: all, waiting: waiting, batch: 2000, backlog: true, fastest: time.Duration(50+i) * time.Millisecond}
				tc.change(i, &l)
				if shards = r.step(now, l, shards, most); shards != want {
					t.Fatalf("step %d: %d shards, want %d", i, shards, want)
				}
			}
		})
	}
}

func TestShardsMayGrowAgainAfterARest(t *testing.T) {
	var r ramp
	now := time.Unix(1000, 0)
	l := load{waiting: 10_000_000, batch: 2000, backlog: true}
	step := func(d time.Duration, sent, current int) int {
		now = now.Add(d)
		l.all.samples += sent
		l.all.busy += d * time.Duration(current)
		return r.step(now, l, current, 50)
	}
	step(time.Second, 0, 1)
	if got := step(time.Second, 40_000, 1); got != 8 {
		t.Fatalf("%d shards, want 8", got)
	}
	if got := step(10*time.Millisecond, 0, 8); got != 8 { // too soon to tell
		t.Fatalf("%d shards at once, want 8", got)
	}
	if got := step(time.Second, 40_000, 8); got != 1 { // nothing gained
		t.Fatalf("%d shards, want 1", got)
	}
	if got := step(rampRest-time.Second, 40_000*29, 1); got != 1 {
		t.Fatalf("%d shards before the rest is over, want 1", got)
	}
	if got := step(2*time.Second, 80_000, 1); got != 8 {
		t.Errorf("%d shards after the rest, want 8", got)
	}
}

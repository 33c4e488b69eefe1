package scrape

import "sync"

// guards keep order between targets that may expose the same series: those
// that share their job and instance, and series that bring a job or instance
// of their own. For these, and only these, the time of the newest sample is
// kept per series, across all targets.
type guards struct {
	mu    sync.Mutex // guards what follows
	pairs map[pair]int
	last  map[uint64]int64 // by hash of the series' labels, ms
	older map[uint64]int64 // those of the generation before
}

type pair struct{ job, instance string }

// rotateAt is the number of series in a generation.
const rotateAt = 1 << 20

// enter counts a target in, leave out.
func (g *guards) enter(p pair) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pairs == nil {
		g.pairs = map[pair]int{}
	}
	g.pairs[p]++
}

func (g *guards) leave(p pair) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pairs[p]--; g.pairs[p] <= 0 {
		delete(g.pairs, p)
	}
}

// guard returns the guard of a scrape by a target with that pair.
func (g *guards) guard(p pair) *guard {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &guard{all: g, shared: g.pairs[p] > 1}
}

// guard is guards as one scrape sees it.
type guard struct {
	all    *guards
	shared bool // all of the target's series are watched, not only those with a job or instance of their own
}

// after says whether t is after the newest sample of a series, and if so
// makes t the newest.
func (g *guard) after(hash uint64, t int64) bool {
	a := g.all
	a.mu.Lock()
	defer a.mu.Unlock()
	last, ok := a.last[hash]
	if !ok {
		last, ok = a.older[hash]
	}
	if ok && t <= last {
		return false
	}
	if a.last == nil {
		a.last = map[uint64]int64{}
	}
	a.last[hash] = t
	if len(a.last) > rotateAt { // what no scrape has touched for a whole generation is forgotten
		a.older, a.last = a.last, nil
	}
	return true
}

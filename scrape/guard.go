package scrape

import (
	"math"
	"sync"
)

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
	mine   map[uint64]change
}

// change is what a scrape has done to the time of a series' newest sample.
type change struct{ before, after int64 }

// afterTimed is after for a sample that brings its timestamp: those of one
// scrape may come in any order, and undo takes them back.
func (g *guard) afterTimed(hash uint64, t, window int64) bool {
	a := g.all
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := g.mine[hash]
	if !ok {
		if c.before, ok = a.newest(hash); !ok {
			c.before = math.MinInt64
		}
		c.after = c.before
	}
	if tooLate(t, g.floor(hash), window) {
		return false
	}
	if g.mine == nil {
		g.mine = map[uint64]change{}
	}
	g.mine[hash] = c
	g.raise(hash, t)
	return true
}

// floor is what a sample of a series must be newer than: all samples but this
// scrape's own. g.all.mu is held.
func (g *guard) floor(hash uint64) int64 {
	last, ok := g.all.newest(hash)
	if !ok {
		return math.MinInt64
	}
	if c, ok := g.mine[hash]; ok && last == c.after {
		return c.before
	}
	return last
}

// raise notes a sample's time. g.all.mu is held.
func (g *guard) raise(hash uint64, t int64) {
	if last, ok := g.all.newest(hash); !ok || last < t {
		g.all.set(hash, t)
	}
	if c, ok := g.mine[hash]; ok {
		c.after = max(c.after, t)
		g.mine[hash] = c
	}
}

// undo forgets the timed samples of a scrape that has failed.
func (g *guard) undo() {
	if g == nil || len(g.mine) == 0 {
		return
	}
	a := g.all
	a.mu.Lock()
	defer a.mu.Unlock()
	for hash, c := range g.mine {
		if last, _ := a.newest(hash); last == c.after {
			a.set(hash, c.before)
		}
	}
}

// newest is the time of a series' newest sample. g.mu is held.
func (g *guards) newest(hash uint64) (int64, bool) {
	last, ok := g.last[hash]
	if !ok {
		last, ok = g.older[hash]
	}
	return last, ok
}

// set notes the time of a series' newest sample. g.mu is held.
func (g *guards) set(hash uint64, t int64) {
	if g.last == nil {
		g.last = map[uint64]int64{}
	}
	g.last[hash] = t
	if len(g.last) > rotateAt { // what no scrape has touched for a whole generation is forgotten
		g.older, g.last = g.last, nil
	}
}

// after says whether t is after the newest sample of a series that is not this
// scrape's own, or late by less than the window, and if so notes t.
func (g *guard) after(hash uint64, t, window int64) bool {
	a := g.all
	a.mu.Lock()
	defer a.mu.Unlock()
	if tooLate(t, g.floor(hash), window) {
		return false
	}
	g.raise(hash, t)
	return true
}

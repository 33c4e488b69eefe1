package remotewrite

import (
	"math"
	"time"
)

const (
	scaleInterval  = 10 * time.Second
	scaleWeight    = 0.2  // of the newest tick in the averages
	scaleTolerance = 0.3  // a change smaller than this share is not made
	scaleCatchUp   = 0.05 // share of the backlog to be sent per second
)

// average is an exponentially weighted moving average of a rate per second.
type average struct {
	value float64
	began bool
}

// tick takes in what was counted during d.
func (a *average) tick(n float64, d time.Duration) {
	rate := n / d.Seconds()
	switch {
	case a.began:
		a.value += scaleWeight * (rate - a.value)
	case n > 0: // the first one that says anything
		a.value, a.began = rate, true
	}
}

// scaling are the measurements that the number of shards follows.
type scaling struct {
	in      float64 // samples committed to the log, per second
	out     float64 // samples sent, per second
	dropped float64 // samples dropped by relabelling or age, per second
	busy    float64 // seconds spent sending, per second
	behind  float64 // seconds that the newest sample sent is behind the newest in the log
	bytes   float64 // of requests, per second
	limit   float64 // of those; 0: none
}

// shards is how many shards the measurements ask for, not rounded and not
// limited; ok is false when nothing is sent, which says nothing. With a limit on
// bytes it is no more than uses that up: further shards would only wait.
func (s scaling) shards() (desired float64, ok bool) {
	if s.out <= 0 {
		return 0, false
	}
	kept := s.out / (s.out + s.dropped)
	pending := s.behind * s.in * kept
	demand := s.in*kept + scaleCatchUp*pending
	if s.limit > 0 && s.bytes > 0 {
		demand = min(demand, s.out*s.limit/s.bytes)
	}
	return s.busy / s.out * demand, true
}

// scale returns the number of shards to run with instead of current, between
// least and most, and the desired number as measured.
func scale(s scaling, current, least, most int) (shards int, desired float64) {
	desired, ok := s.shards()
	if !ok {
		return current, float64(current)
	}
	lower, upper := float64(current)*(1-scaleTolerance), float64(current)*(1+scaleTolerance)
	n := math.Ceil(desired)
	if n >= lower && n <= upper || n < float64(current) && s.behind > 10 {
		return current, desired
	}
	return int(min(max(n, float64(least)), float64(most))), desired
}

package remotewrite

import (
	"math"
	"time"
)

const (
	rampInterval = 100 * time.Millisecond // least time of a step
	rampPatience = time.Second            // most time of a step in which something was sent
	rampRequests = 2                      // of every shard, which make a step
	rampFactor   = 8                      // most by which the shards grow in one step
	rampGain     = 0.1                    // of a step's growth that must be seen in the throughput
	rampWhole    = 0.7                    // of it that speaks for a further step in any case
	rampQueueing = 1.5                    // times the fastest request that one takes where requests wait for each other
	rampReserve  = 1.25                   // times the shards that a throughput needs
	rampShare    = 1                      // of the backlog to be sent per second
	rampRest     = 30 * time.Second
)

// ramp makes an endpoint's shards more while it works off a backlog, in steps
// of some requests instead of the ten seconds that the scaler takes, and for a
// larger share of the backlog. As in the slow start of TCP, a failure ends it
// for a while, and a step that gained nothing is taken back: the link or the
// remote is what is slow. When a step gained a part of what it could, and requests
// take longer than they need to, there are as many shards as the throughput
// needs: as in TCP Vegas, more of them would only queue somewhere.
type ramp struct {
	last   time.Time
	seen   counts    // at last
	before float64   // samples per second before the last step; 0: there was none
	from   int       // shards before it
	until  time.Time // no step before

	fastest time.Duration // request of the backlog; 0: none
}

// load is what a ramp looks at.
type load struct {
	all     counts        // since the start
	failing bool          // some request, now
	waiting uint64        // samples in the log that the remote does not have
	batch   int           // most samples of a request
	backlog bool          // what is read is a backlog
	limited bool          // by a configured rate
	fastest time.Duration // request since the last look; 0: none
}

// begin makes now the beginning of what the next step is measured by: after a
// change of the shards, for the time that it took says nothing.
func (r *ramp) begin(now time.Time, l load) { r.last, r.seen = now, l.all }

// step returns how many shards there should be instead of current, at most
// most. It looks at no less than an interval, and at some requests of each.
func (r *ramp) step(now time.Time, l load, current, most int) int {
	if l.fastest > 0 && (r.fastest == 0 || l.fastest < r.fastest) {
		r.fastest = l.fastest
	}
	d := now.Sub(r.last)
	if d < rampInterval*9/10 || d < rampPatience && l.all.requests-r.seen.requests < rampRequests*current && !l.failing {
		return current
	}
	first, was := r.last.IsZero(), r.seen
	r.begin(now, l)
	samples := float64(l.all.samples - was.samples)
	rate := samples / d.Seconds()
	switch {
	case first:
		return current
	case l.failing || l.all.failed > was.failed:
		if r.before == 0 {
			return current
		}
		r.before, r.until = 0, now.Add(rampRest) // that was too much
		return min(r.from, current)
	case !l.backlog:
		r.before, r.fastest = 0, 0
		return current
	case l.limited || samples == 0 || now.Before(r.until):
		return current
	}
	if r.before > 0 {
		growth := float64(current)/float64(r.from) - 1
		switch gain := rate/r.before - 1; {
		case gain < rampGain*growth:
			r.before, r.until = 0, now.Add(rampRest)
			return min(r.from, current)
		case gain < rampWhole*growth:
			requests := float64(max(1, l.all.requests-was.requests))
			if (l.all.busy-was.busy).Seconds()/requests < rampQueueing*r.fastest.Seconds() {
				break
			}
			r.before, r.until = 0, now.Add(rampRest)
			needed := rampReserve * rate * r.fastest.Seconds() / (samples / requests)
			return min(max(int(math.Ceil(needed)), r.from), current)
		}
		r.before = 0
	}
	each := (l.all.busy - was.busy).Seconds() / samples
	// Fewer samples than these for each have nothing to do at once.
	useful := float64(l.waiting) / float64(4*l.batch)
	wanted := min(math.Ceil(each*rampShare*float64(l.waiting)), useful, float64(rampFactor*current), float64(most))
	if wanted < float64(current)*(1+scaleTolerance) {
		return current
	}
	r.before, r.from = rate, current
	return int(wanted)
}

package remotewrite

import (
	"context"
	"math"
	"slices"
	"time"
)

const (
	// branchAge is how much data, by its time, a remote must lack for the
	// newest to go first. A request that hangs until its timeout, or a receiver
	// that is replaced, is over before and needs no other order; those who look
	// at the data have not lost sight of a series by then.
	branchAge = 2 * time.Minute
	// maxBacklogs bounds what is delivered beside the newest data: each takes
	// shards and memory.
	maxBacklogs = 4
)

// branch leaves what an endpoint has before it to itself as a backlog, and has
// another one follow the log's end, when the newest data is to go first and the
// remote answers again after it has missed a lot. The reader calls it; what is
// under way goes on undisturbed.
func (e *Endpoint) branch(ctx context.Context) {
	if !e.answers.Load() {
		return
	}
	if !e.cfg.Load().NewestFirst || e.isBacklog() || e.missed() < branchAge {
		e.answers.Store(false)
		return
	}
	d := e.delivery
	if len(d.all()) > maxBacklogs {
		return // as soon as one is delivered
	}
	e.answers.Store(false)
	cfg := d.cfg.Load()
	at, total := end(d.store)
	s := beginningAt(at, total, cfg)
	bound := Bound{at, total}
	next := newEndpoint(d)
	next.begin(Stretch{State: s})
	next.noneFits.Store(e.noneFits.Load())

	e.mu.Lock()
	next.led.limits.batch = e.led.limits.batch // nobody else knows of next yet
	e.bound, e.walk.bound = bound, bound
	d.parts.Lock()
	d.progress[len(d.progress)-1] = Stretch{e.led.state(), bound}
	d.endpoints, d.progress = append(d.endpoints, next), append(d.progress, Stretch{State: s})
	d.save() // both at once: whatever happens, what is not in the one is in the other
	d.parts.Unlock()
	e.mu.Unlock()
	if now := d.cfg.Load(); now != cfg {
		next.reconfigure(now)
	}
	samples, age := e.behind(time.Now())
	e.log.Info("The remote is far behind: the newest data goes first, and the backlog beside it", "backlog_samples", samples, "age", age.Round(time.Second))
	d.start(ctx, next)
}

// missed is for how long the remote has got nothing, by the times of the oldest
// sample that it lacks and the newest one.
func (e *Endpoint) missed() time.Duration {
	now := time.Now()
	samples, age := e.behind(now)
	if samples == 0 {
		return 0
	}
	_, newest := e.store.Newest()
	return age - max(0, now.Sub(time.UnixMilli(newest)))
}

// leave ends a backlog whose samples are final.
func (e *Endpoint) leave() {
	d := e.delivery
	d.parts.Lock()
	i := slices.Index(d.endpoints, e)
	d.endpoints, d.progress = slices.Delete(d.endpoints, i, i+1), slices.Delete(d.progress, i, i+1)
	d.save()
	main := d.endpoints[len(d.endpoints)-1]
	d.parts.Unlock()
	e.log.Info("A backlog is delivered")
	main.wakeReader()
}

func (e *Endpoint) isBacklog() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bound != (Bound{})
}

// desired is the number of shards that the measurements ask for.
func (e *Endpoint) desired() float64 { return math.Float64frombits(e.wanted.Load()) }

// bounds are the least and the most shards that an endpoint may have. Backlogs
// share what the one that follows the log's end does not use, but for one shard
// each, which they need to come to an end.
func (e *Endpoint) bounds() (least, most int) {
	q := e.cfg.Load().Queue
	if !e.isBacklog() {
		return q.MinShards, q.MaxShards
	}
	all := e.delivery.all()
	main := all[len(all)-1]
	main.mu.Lock()
	used := len(main.led.lanes)
	main.mu.Unlock()
	most = max(1, (q.MaxShards-used)/max(1, len(all)-1))
	return min(q.MinShards, most), most
}

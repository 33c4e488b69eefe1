package scrape

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
)

// ending is how a loop is told to stop.
type ending int32

const (
	running  ending = iota
	handOver        // another loop goes on with its memory
	quiet           // the job or the process ends: nothing more is said of its series
	removed         // the target is gone: its series become stale, unless another target has them
)

// loop scrapes one target: wait, fetch, read, append, report.
type loop struct {
	target  *target
	rules   *rules
	fetcher *fetcher
	memory  *memory
	env     *environment
	failure *failureLog // nil: none

	forced  atomic.Pointer[error] // fails every scrape without a request: there are too many targets
	stop    chan struct{}         // closed when how is set
	how     atomic.Int32
	done    chan struct{}
	block   *template.Block // of the report samples
	hashes  []uint64        // of their labels, by slot
	reports atomic.Int64    // slots of block, for readers beside the loop; 0 before the first scrape

	last    time.Time // start of the last scrape
	scraped bool      // at least once
}

// environment is what all loops of the process share.
type environment struct {
	sink      Sink
	metrics   *metrics
	guards    guards
	inFlight  inFlight
	decode    chan struct{} // one place per processor: bodies are unpacked by that many at a time
	log       *slog.Logger
	seed      atomic.Uint64
	late      atomic.Int64 // the out-of-order window, ms
	origins   atomic.Uint32
	dial      func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's own
	align     bool
	tolerance time.Duration
}

// Sink is where finished scrapes go. Append must not keep the batch.
type Sink interface {
	Append(*template.Batch) error
}

func newLoop(t *target, r *rules, f *fetcher, m *memory, env *environment, fl *failureLog) *loop {
	if m == nil {
		m = &memory{series: series{target: t.public, origin: env.origins.Add(1)}, lastTime: math.MinInt64}
	}
	return &loop{target: t, rules: r, fetcher: f, memory: m, env: env, failure: fl, stop: make(chan struct{}), done: make(chan struct{})}
}

func (l *loop) pair() pair {
	return pair{l.target.public.Get("job"), l.target.public.Get("instance")}
}

// end tells the loop to stop; it does so when the scrape under way is done.
func (l *loop) end(how ending) {
	if l.how.CompareAndSwap(int32(running), int32(how)) {
		close(l.stop)
	} else if how == quiet {
		l.how.Store(int32(quiet)) // also of one that waits to mark its series stale
	}
}

// run scrapes until the loop is ended.
func (l *loop) run() {
	defer close(l.done)
	l.env.guards.enter(l.pair())
	defer l.env.guards.leave(l.pair())
	tick := time.NewTicker(l.target.interval)
	defer tick.Stop()
	if !l.wait(l.target.offset(time.Now(), l.env.seed.Load())) {
		if ending(l.how.Load()) == removed {
			l.endOfRun(tick)
		}
		return
	}
	tick.Reset(l.target.interval)
	turns := turns{interval: l.target.interval, aligned: time.Now().Round(0)}
	if l.env.align {
		turns.tolerance = min(l.env.tolerance, l.target.interval/100)
	} else {
		turns.tolerance = -1
	}
	for {
		if at, ok := turns.next(time.Now().Round(0)); ok {
			l.scrape(at)
		}
		select {
		case <-tick.C:
		case <-l.stop:
			if ending(l.how.Load()) == removed {
				l.endOfRun(tick)
			}
			return
		}
		if ending(l.how.Load()) != running {
			if ending(l.how.Load()) == removed {
				l.endOfRun(tick)
			}
			return
		}
	}
}

// turns are the times of a loop's scrapes.
type turns struct {
	interval  time.Duration
	tolerance time.Duration // by which a time may be off the schedule and is taken for the scheduled one; less than 0: by nothing
	aligned   time.Time     // scheduled
	last      time.Time     // of the last scrape
}

// next is the time of the scrape that begins now, as its samples have it. A
// machine that was stopped for a moment has a turn that is late and the next one
// in the same millisecond: there is no time for that one, and ok is false.
func (t *turns) next(now time.Time) (at time.Time, ok bool) {
	at = now
	if t.tolerance >= 0 {
		if late := now.Sub(t.aligned); late >= t.interval {
			// At once: a clock that leaps from 1970 to now is behind by a billion turns.
			t.aligned = t.aligned.Add(late.Truncate(t.interval))
		}
		if now.Sub(t.aligned) <= t.tolerance {
			at = t.aligned
		}
	}
	if !t.last.IsZero() && at.UnixMilli() == t.last.UnixMilli() && !now.Before(t.last) { // else the clock was set back
		return time.Time{}, false
	}
	t.last = at
	return at, true
}

// wait waits, unless the loop is ended before.
func (l *loop) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ending(l.how.Load()) == running
	case <-l.stop:
		return false
	}
}

// scrape makes one scrape at the given time.
func (l *loop) scrape(at time.Time) {
	start := time.Now()
	interval := intervalText(l.target.interval)
	if l.scraped {
		d := start.Sub(l.last).Seconds()
		l.env.metrics.intervalLength.WithLabelValues(interval).Observe(d)
		l.env.metrics.intervalLengths.WithLabelValues(interval).Observe(d)
	}
	l.last, l.scraped = start, true

	var b *body
	var err error
	if forced := l.forced.Load(); forced != nil {
		err = *forced
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), l.target.timeout)
		b, err = l.fetcher.get(ctx, l.target, &l.env.inFlight)
		cancel()
		if err != nil {
			err = timeoutError(err, l.target.timeout)
			l.failure.write(l.rules.cfg.Job, l.target, err)
		}
	}
	l.env.decode <- struct{}{}
	defer func() { <-l.env.decode }()
	w := works.Get().(*work)
	defer works.Put(w)
	rd := &reader{r: l.rules, m: l.memory, w: w, guard: l.env.guards.guard(l.pair()), t: at.UnixMilli(), late: l.env.late.Load()}
	w.begin(l.memory.series.len())
	fetched := err == nil
	if fetched {
		if err = rd.body(b); err != nil && rd.broken {
			l.failure.write(l.rules.cfg.Job, l.target, err)
		}
		b.release()
	}
	if errors.Is(err, errBodyLimit) {
		rd.c.bodyLimit = true
		rd.c.bytes = -1
	}
	if fetched && err != nil {
		l.env.log.Debug("Scrape failed", "scrape_pool", l.rules.cfg.Job, "target", l.target.url.Redacted(), "err", err)
	}
	duration := time.Since(start)
	ordered := !tooLate(rd.t, l.memory.lastTime, rd.late) // false after the clock was set back
	batch := rd.finishBatch(err)
	if rd.c.flushed {
		l.env.metrics.cacheFlushes.Inc()
	}
	if ordered {
		batch.Parts = append(batch.Parts, l.report(rd.guard, rd.t, rd.late, duration, err, &rd.c))
	} else {
		l.makeBlock()
		rd.c.reportsOutOfOrder = l.block.Len()
	}
	if appendErr := l.env.sink.Append(&batch); appendErr != nil {
		l.env.log.Error("Scrape commit failed", "scrape_pool", l.rules.cfg.Job, "target", l.target.url.Redacted(), "err", appendErr)
		l.memory.exemplars = exemplars{} // it has lost some; all are new when they are exposed again
		if err == nil {
			err = appendErr
		}
	}
	w.parts = batch.Parts[:0]
	l.env.metrics.count(&rd.c)
	l.complain(start, &rd.c, err)
	if l.rules.cfg.ExtraMetrics {
		l.env.metrics.scrapeDuration.Observe(duration.Seconds())
	}
	l.target.report(start, duration, err)
}

// reportNames are the samples that every scrape makes of itself, then those
// of extra scrape metrics.
var reportNames = []string{
	"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added",
	"scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes",
}

const plainReports = 5

// report makes the report samples' part of the scrape at t, ms.
func (l *loop) report(g *guard, t, late int64, d time.Duration, err error, c *counts) template.Part {
	l.makeBlock()
	up := 1.0
	if err != nil {
		up = 0
	}
	values := []float64{up, d.Seconds(), float64(c.scraped), float64(c.kept), float64(c.added)}
	if l.block.Len() > plainReports {
		values = append(values, l.target.timeout.Seconds(), float64(l.rules.cfg.SampleLimit), float64(c.bytes))
	}
	p := template.Part{Block: l.block, Values: values}
	if g.shared {
		p.States = make([]template.State, len(values))
		for i, h := range l.hashes {
			if !g.after(h, t, late) {
				p.States[i] = template.Absent
			}
		}
	}
	return p
}

// makeBlock makes the block of the report samples.
func (l *loop) makeBlock() {
	if l.block != nil {
		return
	}
	l.block = reportBlock(l.target.public, l.memory.series.origin, l.rules.cfg.ExtraMetrics)
	l.reports.Store(int64(l.block.Len()))
	var sb labels.ScratchBuilder
	for it := l.block.Slots(); it.Next(); {
		l.hashes = append(l.hashes, it.Series(&sb).Hash())
	}
}

func reportBlock(target labels.Labels, origin uint32, extra bool) *template.Block {
	b := template.NewBuilder(target)
	b.Origin = origin
	names := reportNames
	if !extra {
		names = names[:plainReports]
	}
	for _, n := range names {
		b.Add(template.Intern(template.Schema{Name: n}), nil)
	}
	return b.Block()
}

// endOfRun marks the series of a target that is gone as stale, at the time at
// which it would have been scraped next, but only after one more interval: a
// target that comes back by then under another identity goes on with them.
func (l *loop) endOfRun(tick *time.Ticker) {
	if l.memory.lastTime == math.MinInt64 {
		return // never scraped
	}
	still := func(c <-chan time.Time) bool {
		deadline := time.NewTicker(100 * time.Millisecond) // to see that the pool has ended meanwhile
		defer deadline.Stop()
		for {
			select {
			case <-c:
				return ending(l.how.Load()) == removed
			case <-deadline.C:
				if ending(l.how.Load()) != removed {
					return false
				}
			}
		}
	}
	if !still(tick.C) {
		return
	}
	staleAt := time.Now().Round(0)
	if !still(tick.C) || !still(time.After(l.target.interval/10)) {
		return
	}
	t := staleAt.UnixMilli()
	m := l.memory
	if t <= m.lastTime {
		return
	}
	g := l.env.guards.guard(l.pair())
	var batch template.Batch
	batch.Time = t
	for _, b := range m.series.blocks {
		states := make([]template.State, b.block.Len())
		any := false
		for k := range states {
			states[k] = template.Absent
			slot := int(b.base) + k
			watched := g.shared || m.series.own != nil && m.series.own[slot]
			if m.series.tracked[slot] && (m.series.last == nil || t > m.series.last[slot]) && (!watched || g.after(m.series.hashes[slot], t, 0)) {
				states[k], any = template.Stale, true
			}
		}
		if any {
			batch.Parts = append(batch.Parts, template.Part{Block: b.block, States: states, Values: make([]float64, len(states))})
		}
	}
	l.makeBlock()
	if !g.shared { // another target with this job and instance reports under the same names
		states := make([]template.State, l.block.Len())
		for k := range states {
			states[k] = template.Stale
		}
		batch.Parts = append(batch.Parts, template.Part{Block: l.block, States: states, Values: make([]float64, len(states))})
	}
	if err := l.env.sink.Append(&batch); err != nil {
		l.env.log.Error("Stale markers could not be committed", "scrape_pool", l.rules.cfg.Job, "target", l.target.url.Redacted(), "err", err)
	}
}

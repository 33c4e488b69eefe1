package remotewrite

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	backlogAge      = 10 * time.Second       // data at least this much older than the newest is a backlog
	persistEvery    = 250 * time.Millisecond // and measurements for the metrics
	persistPatience = 100 * time.Millisecond // of a request with the disk that its position goes to
	readPause       = time.Second            // after the log could not be read
	inFlightGrace   = time.Second            // for requests under way when a configuration changes, or others fail at the end
)

// Endpoint delivers a stretch of the log to one remote, in order: one follows
// the log's end, and others may deliver backlogs.
type Endpoint struct {
	*delivery      // what it shares with the others of the remote
	unread    step // of the reader: what the disk did not give yet

	failing   atomic.Int32 // shards that are between two attempts
	lastRetry atomic.Int64 // ns since the epoch: until when a recent failure speaks against resharding
	readTime  atomic.Int64 // ms: of the last entry read
	sentTime  atomic.Int64 // ms: of the newest sample with a final answer
	seenTime  atomic.Int64 // ms: of the newest sample dealt
	noneFits  atomic.Bool  // the shards' newest finding: batches are too large down to their single samples

	failingSince atomic.Pointer[time.Time] // of the first failure after the last final answer, nil: none
	silent       atomic.Bool               // no final answer since the start, or since a failure
	answers      atomic.Bool               // the remote answers again: is it far behind?
	wanted       atomic.Uint64             // shards that the measurements ask for, as bits of a float64

	mu      sync.Mutex // guards what follows
	led     *ledger
	walk    *walk
	wakers  []chan struct{} // by shard
	wake    chan struct{}   // of the reader
	resize  bool            // configure has changed the bounds of the shards
	sent    counts          // since the last measurement of the scaling
	all     counts          // of samples, failed attempts and busy time, since the start
	fastest time.Duration   // request since the ramp's last look; 0: none
	bound   Bound           // of a backlog

	givenUp map[int]bool // shards that have ended before their time, at the end
}

// counts are what the number of shards follows.
type counts struct {
	samples, dropped int
	requests         int // batches that are final
	failed           int // attempts that were made again
	busy             time.Duration
	bytes            int // of requests, every attempt
}

// newEndpoint returns an endpoint that does not know yet where it is.
func newEndpoint(d *delivery) *Endpoint {
	e := &Endpoint{delivery: d, wake: make(chan struct{}, 1)}
	e.silent.Store(true)
	return e
}

// begin has the endpoint go on where it was.
func (e *Endpoint) begin(s Stretch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.led = newLedger(s.State, limitsOf(e.cfg.Load()), time.Now())
	e.walk = newWalk(e.store, e.led, &e.mu)
	e.bound, e.walk.bound = s.Bound, s.Bound
}

// reconfigure takes over what may change while the endpoint runs.
func (e *Endpoint) reconfigure(cfg *Config) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.led != nil {
		e.led.limits = limitsOf(cfg)
	}
	e.resize = true
	e.answers.Store(true) // what is to go first may have changed
	e.wakeReader()
}

// bounded is the number of shards that the configuration allows and that is
// nearest to n; changed says whether it has changed since the last call.
func (e *Endpoint) bounded(n int) (shards int, changed bool) {
	e.mu.Lock()
	changed, e.resize = e.resize, false
	e.mu.Unlock()
	least, most := e.bounds()
	return min(max(n, least), most), changed
}

func limitsOf(cfg *Config) limits {
	return limits{batch: cfg.Queue.MaxSamplesPerSend, deadline: cfg.Queue.BatchSendDeadline, ahead: cfg.Queue.SampleAgeLimit == 0, starts: cfg.V2()}
}

// run delivers until ctx ends, or until all of a backlog is final. After ctx it
// delivers what has been read, as long as the remote answers and no longer than
// it was told.
func (e *Endpoint) run(ctx context.Context) {
	// Requests outlive ctx by the time of the flush.
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	crew := e.startShards(sending)
	scaler := scaler{e: e, last: time.Now(), total: e.store.Total()}
	tick := time.NewTicker(scaleInterval)
	defer tick.Stop()
	var ramp ramp
	quick := time.NewTicker(rampInterval)
	defer quick.Stop()
	var sh sheet
	delivered := false // all of a backlog
	for ctx.Err() == nil && !delivered {
		select {
		case <-tick.C:
			if n := scaler.decide(time.Now()); n != len(crew.stop) {
				crew = e.reshard(ctx, sending, crew, n)
			}
		case <-quick.C:
			now := time.Now()
			_, most := e.bounds()
			if n := ramp.step(now, e.load(now), len(crew.stop), most); n != len(crew.stop) {
				crew = e.reshard(ctx, sending, crew, n)
				now = time.Now()
				ramp.begin(now, e.load(now))
			}
		default:
			if n, changed := e.bounded(len(crew.stop)); changed && n != len(crew.stop) {
				crew = e.reshard(ctx, sending, crew, n)
			}
		}
		e.branch(ctx)
		delivered = e.read(ctx, &sh)
	}
	if !delivered {
		e.flush(time.Duration(e.flushFor.Load()))
	}
	cancel()
	crew.end()
	e.mu.Lock()
	e.persist()
	e.mu.Unlock()
	if delivered {
		e.leave()
	}
}

// read reads and deals one step, or waits for something to do, a second at
// most. It says whether all of a backlog is final.
func (e *Endpoint) read(ctx context.Context, sh *sheet) (delivered bool) {
	changed := e.store.Changed()
	cfg := e.cfg.Load()
	_, newest := e.store.Newest()
	if newest == 0 {
		newest = time.Now().UnixMilli()
	}
	newest = min(newest, time.Now().UnixMilli()) // a clock that was ahead
	since := newest - max(2*cfg.Queue.BatchSendDeadline, backlogAge).Milliseconds()
	var err error
	st, v := e.unread, stepped
	if len(st.entries) == 0 {
		var gone lost
		st, v, gone, err = e.walk.advance(since)
		e.noteLost(gone)
	}
	switch {
	case err != nil:
		e.complain("The log cannot be read; trying again", err)
		e.wakeShards()
		if sleep(ctx, readPause, nil) != nil {
			return false
		}
	case v == stepped:
		missing, err := sh.load(e.store, st, st.place(e.walk.span), e.plans.Block)
		if err != nil { // nothing of the step has been dealt
			e.unread = st
			e.complain("The log cannot be read; trying again", err)
			e.mu.Lock()
			e.led.flush()
			e.mu.Unlock()
			e.wakeShards()
			_ = sleep(ctx, readPause, nil) // ended or not, the caller looks
			return false
		}
		e.unread = step{}
		from, to := st.entries[0].Time, st.entries[len(st.entries)-1].Time
		e.noteLost(lost{samples: missing.gone, from: from, to: to, reason: lossRetention})
		if missing.corrupt > 0 {
			e.metrics.decodeFailures.Inc()
			e.noteLost(lost{samples: missing.corrupt, from: from, to: to, reason: lossCorrupt})
		}
		e.metrics.recordsRead.WithLabelValues("samples").Add(float64(len(st.entries)))
		last := st.entries[len(st.entries)-1].Time
		e.readTime.Store(last)
		if last < e.began.UnixMilli() {
			e.metrics.sentPreTailing.Add(float64(st.samples))
		}
		e.deal(ctx, sh)
	case v == ended:
		e.mu.Lock()
		e.led.flush()
		n := e.led.outstanding()
		e.mu.Unlock()
		if n == 0 {
			return true
		}
		e.wakeShards()
		e.wait(ctx, nil, false)
	default:
		e.wakeShards() // blocked: what hinders has been made due
		e.wait(ctx, changed, v == atEnd)
	}
	return false
}

// wait waits for the log to grow, for a shard to finish something, or a moment.
func (e *Endpoint) wait(ctx context.Context, changed <-chan struct{}, atEnd bool) {
	if !atEnd {
		changed = nil
	}
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-changed:
	case <-e.wake:
	case <-t.C:
	case <-ctx.Done():
	}
}

// deal deals the sheet, waiting for room where there is none, and makes the
// requests of portions that are full.
func (e *Endpoint) deal(ctx context.Context, sh *sheet) {
	for {
		cfg := e.cfg.Load()
		now := time.Now()
		oldest := int64(-1 << 62)
		if cfg.Queue.SampleAgeLimit > 0 {
			oldest = now.Add(-cfg.Queue.SampleAgeLimit).UnixMilli()
		}
		var n tally
		e.mu.Lock()
		done := sh.deal(e.led, now, oldest, cfg.SendExemplars, &n)
		if done {
			e.walk.leave(sh.step)
		}
		e.sent.dropped += int(n.dropped + n.tooOld)
		press, full := e.led.toPress()
		e.mu.Unlock()
		e.metrics.samplesDropped.WithLabelValues(reasonDroppedSeries).Add(float64(n.dropped))
		e.metrics.samplesDropped.WithLabelValues(reasonTooOld).Add(float64(n.tooOld))
		e.metrics.exemplarsDropped.WithLabelValues(reasonDroppedSeries).Add(float64(n.exemplarsDropped))
		e.metrics.exemplarsDropped.WithLabelValues(reasonTooOld).Add(float64(n.exemplarsTooOld))
		if n.dealt > 0 {
			raise(&e.seenTime, n.highest)
		}
		if press != nil {
			e.press(press)
		}
		e.wakeShards()
		if done {
			return
		}
		if full {
			continue
		}
		e.branch(ctx)
		e.metrics.enqueueRetries.Inc()
		select {
		case <-e.wake:
		case <-ctx.Done():
			return
		}
	}
}

// press makes the request of a portion.
func (e *Endpoint) press(b *batch) {
	pr := e.presses.take()
	defer e.presses.put(pr)
	samples, _, _ := pr.encode(b, part{0, b.samples()}, math.MinInt64)
	packed := pr.pack(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	b.press = wasPressed
	if b.mayFreeze(samples, e.v2) {
		b.packed = append(e.led.newRequest(), packed...)
		e.led.freeze(b)
	}
}

func raise(to *atomic.Int64, v int64) {
	for {
		old := to.Load()
		if v <= old || to.CompareAndSwap(old, v) {
			return
		}
	}
}

// noteLost counts what cannot reach the remote any more, and says so.
func (e *Endpoint) noteLost(l lost) {
	if l.samples == 0 {
		return
	}
	reason := reasonRetention
	if l.reason == lossCorrupt {
		reason = reasonCorrupt
	}
	e.metrics.lost.WithLabelValues(reason).Add(float64(l.samples))
	e.lost.Add(l.samples)
	e.log.Error("Samples of the log are lost to this remote", "samples", l.samples, "reason", reason,
		"from", time.UnixMilli(l.from).UTC().Format(time.RFC3339), "to", time.UnixMilli(l.to).UTC().Format(time.RFC3339))
}

// persist hands the cursor the state. e.mu is held.
func (e *Endpoint) persist() { e.note(e) }

// wakeShards makes every shard look at its lane.
func (e *Endpoint) wakeShards() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	loose := e.led.takeable() // as many of the shards without work get something
	for i, w := range e.wakers {
		ln := &e.led.lanes[i]
		switch {
		case loose > 0 && ln.sending == nil:
			loose--
		case e.led.ready(i, now) || ln.filling != nil && !ln.armed:
			ln.armed = true
		default:
			continue
		}
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// wakeReader tells the reader that a shard has finished something.
func (e *Endpoint) wakeReader() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// crew are the shards' goroutines.
type crew struct {
	stop []chan struct{}
	wg   *sync.WaitGroup
}

// end ends the shards; a batch in work is given up.
func (c crew) end() {
	for _, s := range c.stop {
		close(s)
	}
	c.wg.Wait()
}

// startShards starts a goroutine per lane.
func (e *Endpoint) startShards(ctx context.Context) crew {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := crew{wg: &sync.WaitGroup{}}
	e.wakers = nil
	for i := range e.led.lanes {
		w, stop := make(chan struct{}, 1), make(chan struct{})
		e.wakers = append(e.wakers, w)
		c.stop = append(c.stop, stop)
		s := &shard{e: e, number: i, wake: w, stop: stop, noneFits: e.noneFits.Load()}
		c.wg.Go(func() { s.run(ctx) })
	}
	return c
}

// reshard changes the number of shards, when all that has been dealt can be
// delivered before: it gives up when the remote does not answer.
func (e *Endpoint) reshard(ctx, sending context.Context, c crew, n int) crew {
	deadline := time.Now().Add(scaleInterval)
	for {
		e.mu.Lock()
		e.led.flush()
		may := e.led.mayReshard()
		caughtUp := e.led.caughtUp()
		e.mu.Unlock()
		if may {
			break
		}
		if !caughtUp || e.failing.Load() > 0 || time.Now().After(deadline) || ctx.Err() != nil {
			return c
		}
		e.wakeShards()
		e.wait(ctx, nil, false)
	}
	c.end()
	e.mu.Lock()
	e.log.Info("Remote storage resharding", "from", len(e.led.lanes), "to", n)
	e.led.reshard(n, time.Now())
	e.persist()
	e.mu.Unlock()
	return e.startShards(sending)
}

// behind says how far the remote is behind the log, or behind the backlog's bound.
func (e *Endpoint) behind(now time.Time) (samples uint64, age time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Stretch{e.led.state(), e.bound}
	if samples = s.Pending(e.store.Total()); samples == 0 {
		return 0, 0
	}
	oldest := e.readTime.Load()
	e.led.each(func(b *batch) {
		if b.samples() > 0 && (oldest == 0 || b.from < oldest) {
			oldest = b.from
		}
	})
	if oldest == 0 {
		return samples, 0
	}
	return samples, max(0, now.Sub(time.UnixMilli(oldest)))
}

// load is what the ramp looks at.
func (e *Endpoint) load(now time.Time) load {
	waiting, _ := e.behind(now)
	cfg := e.cfg.Load()
	e.mu.Lock()
	defer e.mu.Unlock()
	fastest := e.fastest
	e.fastest = 0
	return load{
		all: e.all, fastest: fastest, failing: e.failing.Load() > 0, waiting: waiting,
		batch: cfg.Queue.MaxSamplesPerSend, backlog: e.walk.span.Kind == Window, limited: cfg.MaxBytesPerSecond > 0,
	}
}

// scaler measures, and decides on the number of shards.
type scaler struct {
	e                      *Endpoint
	last                   time.Time
	total                  uint64
	in, out, dropped, busy average
	bytes                  average
}

// decide takes a measurement and returns the number of shards to run with.
func (s *scaler) decide(now time.Time) int {
	e, d := s.e, now.Sub(s.last)
	e.mu.Lock()
	c := e.sent
	e.sent = counts{}
	lanes := len(e.led.lanes)
	e.mu.Unlock()
	total := e.store.Total()
	s.in.tick(float64(total-s.total), d)
	s.out.tick(float64(c.samples), d)
	s.dropped.tick(float64(c.dropped), d)
	s.busy.tick(c.busy.Seconds(), d)
	s.bytes.tick(float64(c.bytes), d)
	s.last, s.total = now, total
	_, newest := e.store.Newest()
	behind := 0.0
	if newest > now.UnixMilli() { // the clock was ahead: until it is there again, the newest time says nothing
		_, age := e.behind(now)
		behind = age.Seconds()
	} else if sent := e.sentTime.Load(); sent > 0 && newest > sent {
		behind = float64(newest-sent) / 1000
	}
	if samples, _ := e.behind(now); e.isBacklog() && s.in.value > 0 { // of the time that it takes to come in
		behind = float64(samples) / s.in.value
	}
	cfg := e.cfg.Load()
	least, most := e.bounds()
	n, desired := scale(scaling{
		in: s.in.value, out: s.out.value, dropped: s.dropped.value, busy: s.busy.value, behind: behind,
		bytes: s.bytes.value, limit: float64(cfg.MaxBytesPerSecond),
	}, lanes, least, most)
	e.wanted.Store(math.Float64bits(desired))
	if c.samples == 0 || now.UnixNano() < e.lastRetry.Load() {
		n = lanes
	}
	return min(max(n, least), most)
}

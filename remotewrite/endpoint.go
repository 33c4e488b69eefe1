package remotewrite

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"promagent/relabel"
	"promagent/remotewrite/wire"
	"promagent/wal"
	"promagent/wal/record"
)

const (
	backlogAge    = 10 * time.Second       // data at least this much older than the newest is a backlog
	persistEvery  = 250 * time.Millisecond // and measurements for the metrics
	maxWaiting    = 1 << 17                // samples that wait in all shards' queues together
	readPause     = time.Second            // after the log could not be read
	inFlightGrace = time.Second            // for requests under way when a configuration changes, or others fail at the end
)

// Endpoint delivers the log to one remote.
type Endpoint struct {
	store   *record.Store
	cursor  *wal.Cursor
	plans   *wire.Plans
	metrics *metrics
	log     *slog.Logger
	v2      bool
	began   time.Time
	unread  step // of the reader: what the disk did not give yet

	client atomic.Pointer[Client]
	cfg    atomic.Pointer[Config] // queue sizes and limits may change while it runs

	flushFor  atomic.Int64 // ns: how long the end may take to deliver what is left
	failing   atomic.Int32 // shards that are between two attempts
	lastRetry atomic.Int64 // ns since the epoch: until when a recent failure speaks against resharding
	readTime  atomic.Int64 // ms: of the last entry read
	sentTime  atomic.Int64 // ms: of the newest sample with a final answer
	seenTime  atomic.Int64 // ms: of the newest sample dealt
	lost      atomic.Uint64
	replies   replies
	lines     lines
	rate      *limiter
	noneFits  atomic.Bool // the shards' newest finding: batches are too large down to their single samples

	failingSince atomic.Pointer[time.Time] // of the first failure after the last final answer, nil: none

	mu     sync.Mutex // guards what follows
	led    *ledger
	walk   *walk
	wakers []chan struct{} // by shard
	wake   chan struct{}   // of the reader
	news   chan struct{}   // closed and replaced by configure
	resize bool            // configure has changed the bounds of the shards
	sent   counts          // since the last measurement of the scaling

	givenUp map[int]bool // shards that have ended before their time, at the end
}

// counts are what the number of shards follows.
type counts struct {
	samples, dropped int
	busy             time.Duration
	bytes            int // of requests, every attempt
}

func compileRules(cfg *Config) (relabel.Rules, error) {
	rules, err := relabel.Compile(cfg.WriteRelabel)
	if err != nil {
		return relabel.Rules{}, fmt.Errorf("write_relabel_configs of remote %s: %w", cfg.RemoteName, err)
	}
	return rules, nil
}

// newEndpoint returns the endpoint of a remote that goes on where its cursor
// is, or begins where its configuration says.
func newEndpoint(cfg *Config, store *record.Store, cursor *wal.Cursor, m *metrics, userAgent string, log *slog.Logger) (*Endpoint, error) {
	rules, err := compileRules(cfg)
	if err != nil {
		return nil, err
	}
	c, err := NewClient(*cfg, userAgent)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{
		store: store, cursor: cursor, plans: wire.NewPlans(rules, cfg.ExternalLabels), metrics: m, v2: cfg.V2(), began: time.Now(),
		log: log.With("remote_name", cfg.RemoteName, "url", cfg.URL.Redacted()), wake: make(chan struct{}, 1), news: make(chan struct{}),
		rate: newLimiter(cfg.MaxBytesPerSecond, func(d time.Duration) { m.rateLimited.Add(d.Seconds()) }),
	}
	e.client.Store(c)
	e.cfg.Store(cfg)
	return e, nil
}

// configure takes over what may change while the endpoint runs: the client, the
// limit and the queue's sizes. Shards that wait for their next attempt make it at once.
func (e *Endpoint) configure(cfg *Config, c *Client) {
	old := e.client.Swap(c)
	e.cfg.Store(cfg)
	e.rate.set(cfg.MaxBytesPerSecond)
	old.close()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.led != nil {
		e.led.limits = limitsOf(cfg)
	}
	close(e.news)
	e.news, e.resize = make(chan struct{}), true
	e.wakeReader()
}

// reconfigured is closed at the next change of the configuration.
func (e *Endpoint) reconfigured() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.news
}

// bounded is the number of shards that the configuration allows and that is
// nearest to n; changed says whether it has changed since the last call.
func (e *Endpoint) bounded(n int) (shards int, changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	changed, e.resize = e.resize, false
	q := e.cfg.Load().Queue
	return min(max(n, q.MinShards), q.MaxShards), changed
}

func limitsOf(cfg *Config) limits {
	q := cfg.Queue
	return limits{
		batch: q.MaxSamplesPerSend, queue: max(1, q.Capacity/q.MaxSamplesPerSend), waiting: max(maxWaiting, q.MaxSamplesPerSend),
		deadline: q.BatchSendDeadline,
	}
}

// stateOf is where the endpoint goes on.
func (e *Endpoint) stateOf() State {
	if _, b, ok := e.cursor.Load(); ok {
		var s State
		err := s.Decode(b)
		if err == nil {
			return s
		}
		where := "end"
		if e.cfg.Load().FromOldest {
			where = "oldest record"
		}
		e.log.Error("The stored position cannot be read; delivery begins at the log's "+where, "err", err)
	}
	return beginning(e.store, e.cfg.Load())
}

// Run delivers until ctx ends; then it delivers what has been read, as long as
// the remote answers and no longer than it was told, and returns.
func (e *Endpoint) Run(ctx context.Context) error {
	s := e.stateOf()
	e.mu.Lock()
	e.led = newLedger(s, limitsOf(e.cfg.Load()), time.Now())
	e.walk = newWalk(e.store, e.led, &e.mu)
	e.persist()
	e.mu.Unlock()

	// Requests outlive ctx by the time of the flush.
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var background sync.WaitGroup
	measuring, stopMeasuring := context.WithCancel(sending)
	background.Go(func() { e.measure(measuring) })
	if cfg := e.cfg.Load(); !e.v2 && cfg.Metadata.Send {
		background.Go(func() { e.sendMetadata(ctx) })
	}

	crew := e.startShards(sending)
	scaler := scaler{e: e, last: time.Now(), total: e.store.Total()}
	tick := time.NewTicker(scaleInterval)
	defer tick.Stop()
	var sh sheet
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			if n := scaler.decide(time.Now()); n != len(crew.stop) {
				crew = e.reshard(ctx, sending, crew, n)
			}
		default:
			if n, changed := e.bounded(len(crew.stop)); changed && n != len(crew.stop) {
				crew = e.reshard(ctx, sending, crew, n)
			}
		}
		e.read(ctx, &sh)
	}
	e.flush(time.Duration(e.flushFor.Load()))
	cancel()
	crew.end()
	stopMeasuring()
	background.Wait()
	e.mu.Lock()
	e.persist()
	e.mu.Unlock()
	e.client.Load().close()
	return nil
}

// read reads and deals one step, or waits for something to do, a second at most.
func (e *Endpoint) read(ctx context.Context, sh *sheet) {
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
		if sleep(ctx, readPause, nil) != nil {
			return
		}
	case v == stepped:
		missing, err := sh.load(e.store, st, st.place(e.walk.span), e.plans.Block)
		if err != nil { // nothing of the step has been dealt
			e.unread = st
			e.complain("The log cannot be read; trying again", err)
			_ = sleep(ctx, readPause, nil) // ended or not, the caller looks
			return
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
	default:
		e.wakeShards() // blocked: what hinders has been made due
		e.wait(ctx, changed, v == atEnd)
	}
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

// deal deals the sheet, waiting for room where there is none.
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
		e.mu.Unlock()
		e.metrics.samplesDropped.WithLabelValues(reasonDroppedSeries).Add(float64(n.dropped))
		e.metrics.samplesDropped.WithLabelValues(reasonTooOld).Add(float64(n.tooOld))
		e.metrics.exemplarsDropped.WithLabelValues(reasonDroppedSeries).Add(float64(n.exemplarsDropped))
		e.metrics.exemplarsDropped.WithLabelValues(reasonTooOld).Add(float64(n.exemplarsTooOld))
		if n.dealt > 0 {
			raise(&e.seenTime, n.highest)
		}
		e.wakeShards()
		if done {
			return
		}
		e.metrics.enqueueRetries.Inc()
		select {
		case <-e.wake:
		case <-ctx.Done():
			return
		}
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
func (e *Endpoint) persist() {
	s := e.led.state()
	e.cursor.Set(s.Low(), s.AppendTo(nil))
}

// wakeShards makes every shard look at its lane.
func (e *Endpoint) wakeShards() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for i, w := range e.wakers {
		ln := &e.led.lanes[i]
		if e.led.ready(i, now) || ln.filling != nil && !ln.armed {
			ln.armed = true
			select {
			case w <- struct{}{}:
			default:
			}
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
		s := &shard{e: e, number: i, wake: w, stop: stop, encoder: wire.NewEncoder(e.v2), mayHalve: true, noneFits: e.noneFits.Load()}
		c.wg.Go(func() { s.run(ctx) })
	}
	e.metrics.shards.Set(float64(len(e.led.lanes)))
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

// behind says how far the remote is behind the log.
func (e *Endpoint) behind(now time.Time) (samples uint64, age time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.led.state()
	if total := e.store.Total(); total > s.Passed {
		samples = total - s.Passed
	}
	if samples == 0 {
		return 0, 0
	}
	oldest := e.readTime.Load()
	for i := range e.led.lanes {
		if b := e.led.lanes[i].oldest(); b != nil && len(b.times) > 0 && (oldest == 0 || b.times[0] < oldest) {
			oldest = b.times[0]
		}
	}
	if oldest == 0 {
		return samples, 0
	}
	return samples, max(0, now.Sub(time.UnixMilli(oldest)))
}

// measure persists the position and sets the gauges until ctx ends.
func (e *Endpoint) measure(ctx context.Context) {
	tick := time.NewTicker(persistEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		cfg := e.cfg.Load()
		e.mu.Lock()
		e.persist()
		pending, exemplars := 0, 0
		for i := range e.led.lanes {
			e.led.lanes[i].each(func(b *batch) {
				pending += b.samples()
				exemplars += len(b.exemplars)
			})
		}
		lanes := len(e.led.lanes)
		segment := e.led.reader.Segment
		e.mu.Unlock()
		samples, age := e.behind(time.Now())
		m := e.metrics
		m.samplesPending.Set(float64(pending))
		m.exemplarsPending.Set(float64(exemplars))
		m.shards.Set(float64(lanes))
		m.shardsMin.Set(float64(cfg.Queue.MinShards))
		m.shardsMax.Set(float64(cfg.Queue.MaxShards))
		m.shardCapacity.Set(float64(cfg.Queue.Capacity))
		m.maxSamplesPerSend.Set(float64(cfg.Queue.MaxSamplesPerSend))
		m.currentSegment.Set(float64(segment))
		m.behindSamples.Set(float64(samples))
		m.behindBytes.Set(float64(e.behindBytes(samples)))
		m.behindSeconds.Set(age.Seconds())
		m.highest.Set(float64(e.seenTime.Load() / 1000))
		m.highestSent.Set(float64(e.sentTime.Load() / 1000))
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
	cfg := e.cfg.Load()
	n, desired := scale(scaling{
		in: s.in.value, out: s.out.value, dropped: s.dropped.value, busy: s.busy.value, behind: behind,
		bytes: s.bytes.value, limit: float64(cfg.MaxBytesPerSecond),
	}, lanes, cfg.Queue.MinShards, cfg.Queue.MaxShards)
	e.metrics.shardsDesired.Set(desired)
	if c.samples == 0 || now.UnixNano() < e.lastRetry.Load() {
		n = lanes
	}
	return min(max(n, cfg.Queue.MinShards), cfg.Queue.MaxShards)
}

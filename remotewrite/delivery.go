package remotewrite

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"promagent/remotewrite/wire"
	"promagent/wal"
	"promagent/wal/record"
)

// delivery is all that is done for one remote: the endpoint that follows the
// log's end, those that deliver backlogs (none unless the newest data goes
// first), and what they have in common.
type delivery struct {
	store   *record.Store
	cursor  *wal.Cursor
	plans   *wire.Plans
	metrics *metrics
	log     *slog.Logger
	v2      bool
	began   time.Time

	metadata func(yield func(Metadata) bool) // of all targets; nil: none is sent

	client atomic.Pointer[Client]
	cfg    atomic.Pointer[Config] // queue sizes and limits may change while it runs

	flushFor atomic.Int64 // ns: how long the end may take to deliver what is left
	lost     atomic.Uint64
	replies  replies
	lines    lines
	rate     *limiter
	presses  presses

	tasks sync.WaitGroup // of the endpoints

	parts     sync.Mutex    // guards what follows; taken after an endpoint's mutex
	endpoints []*Endpoint   // in the order of the log: backlogs, then the one that follows the end
	progress  Progress      // of each of the endpoints
	encoded   []byte        // memory of the progress's bytes
	news      chan struct{} // closed and replaced by configure
}

// newDelivery returns the delivery to a remote that goes on where its cursor
// is, or begins where its configuration says.
func newDelivery(made *prepared, store *record.Store, cursor *wal.Cursor, m *metrics, log *slog.Logger) *delivery {
	cfg := made.cfg
	d := &delivery{
		store: store, cursor: cursor, plans: wire.NewPlans(made.rules, cfg.ExternalLabels), metrics: m, v2: cfg.V2(), began: time.Now(),
		log:     log.With("remote_name", cfg.RemoteName, "url", cfg.URL.Redacted()),
		rate:    newLimiter(cfg.MaxBytesPerSecond, func(d time.Duration) { m.rateLimited.Add(d.Seconds()) }),
		presses: newPresses(cfg.V2()),
		news:    make(chan struct{}),
	}
	d.client.Store(made.client)
	d.cfg.Store(cfg)
	d.endpoints, d.progress = []*Endpoint{newEndpoint(d)}, make(Progress, 1)
	return d
}

// configure takes over what may change while the endpoints run: the client, the
// limit and the queue's sizes. Shards that wait for their next attempt make it at once.
func (d *delivery) configure(made *prepared) {
	cfg := made.cfg
	old := d.client.Swap(made.client)
	d.cfg.Store(cfg)
	d.rate.set(cfg.MaxBytesPerSecond)
	old.close()
	for _, e := range d.all() { // one that is made meanwhile has the new configuration
		e.reconfigure(cfg)
	}
	d.parts.Lock()
	defer d.parts.Unlock()
	close(d.news)
	d.news = make(chan struct{})
}

// reconfigured is closed at the next change of the configuration.
func (d *delivery) reconfigured() <-chan struct{} {
	d.parts.Lock()
	defer d.parts.Unlock()
	return d.news
}

// all are the endpoints.
func (d *delivery) all() []*Endpoint {
	d.parts.Lock()
	defer d.parts.Unlock()
	return slices.Clone(d.endpoints)
}

// main is the endpoint that follows the log's end.
func (d *delivery) main() *Endpoint {
	d.parts.Lock()
	defer d.parts.Unlock()
	return d.endpoints[len(d.endpoints)-1]
}

// stored is where the delivery goes on.
func (d *delivery) stored() Progress {
	cfg := d.cfg.Load()
	low, b, ok := d.cursor.Load()
	if !ok {
		return Progress{{State: beginning(d.store, cfg)}}
	}
	var p Progress
	err := p.Decode(b)
	if err == nil {
		return p
	}
	at, before, rerr := from(d.store, low)
	s := beginningAt(at, before, cfg)
	d.log.Error("The stored position cannot be read; perhaps a later release has written it. All from the lowest place on that the remote still needs is sent, some of it again",
		"from", at.String(), "samples", d.store.Total()-min(before, d.store.Total()), "err", errors.Join(err, rerr))
	return Progress{{State: s}}
}

// begin makes the endpoints of what is stored. Until then none knows where it is.
func (d *delivery) begin() {
	cfg := d.cfg.Load()
	p := d.stored()
	main := d.main()
	var endpoints []*Endpoint
	for i, s := range p {
		e := main
		if i < len(p)-1 {
			e = newEndpoint(d)
		}
		e.begin(s)
		endpoints = append(endpoints, e)
	}
	d.parts.Lock()
	d.endpoints, d.progress = slices.Clone(endpoints), p
	d.save()
	d.parts.Unlock()
	if now := d.cfg.Load(); now != cfg { // configure may not have seen them
		for _, e := range endpoints {
			e.reconfigure(now)
		}
	}
}

// Run delivers until ctx ends; then it delivers what has been read, as long as
// the remote answers and no longer than it was told, and returns.
func (d *delivery) Run(ctx context.Context) {
	d.begin()
	var background sync.WaitGroup
	measuring, stopMeasuring := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMeasuring()
	background.Go(func() { d.measure(measuring) })
	switch cfg := d.cfg.Load(); {
	case !cfg.Metadata.Send:
	case d.v2: // a default, so that no warning is due
		d.log.Info("'metadata_config.send' is ignored when using Remote Write 2.0; metadata is sent with the samples")
	default:
		background.Go(func() { d.sendMetadata(ctx) })
	}
	for _, e := range d.all() {
		d.start(ctx, e)
	}
	d.tasks.Wait()
	stopMeasuring()
	background.Wait()
	d.client.Load().close()
}

// start runs an endpoint until ctx ends, or its backlog is delivered.
func (d *delivery) start(ctx context.Context, e *Endpoint) {
	d.tasks.Go(func() { e.run(ctx) })
}

// note takes over how far an endpoint is. Its mutex is held.
func (d *delivery) note(e *Endpoint) {
	d.parts.Lock()
	defer d.parts.Unlock()
	if i := slices.Index(d.endpoints, e); i >= 0 {
		e.led.stateTo(&d.progress[i].State)
		d.save()
	}
}

// save hands the cursor the progress. d.parts is held.
func (d *delivery) save() {
	d.encoded = d.progress.AppendTo(d.encoded[:0])
	d.cursor.Set(d.progress.Low(), d.encoded)
}

// low is the lowest position that the remote still needs.
func (d *delivery) low() wal.Pos {
	d.parts.Lock()
	defer d.parts.Unlock()
	return d.progress.Low()
}

// demand is how much a remote has before it.
type demand struct {
	samples, exemplars int // dealt, and not final
	shards             int
	backlogs           int
	behind             uint64 // samples
	behindBytes        int64
	age                time.Duration // of the oldest
	failing            bool
	desired            float64 // shards
	seen, sent         int64   // times, ms: newest dealt, newest final
	segment            uint64  // that is read, of the endpoint that follows the log's end
}

// demand adds up the endpoints. ok is false while they do not know where they are.
func (d *delivery) demand(now time.Time) (a demand, ok bool) {
	for endpoints := d.all(); ; {
		a, ok = demand{}, true
		for _, e := range endpoints {
			ok = e.addTo(&a, now) && ok
		}
		a.backlogs = len(endpoints) - 1
		again := d.all()
		if slices.Equal(endpoints, again) { // else what one handed over to another might be in neither
			return a, ok
		}
		endpoints = again
	}
}

// addTo adds an endpoint to a demand, if it knows where it is.
func (e *Endpoint) addTo(a *demand, now time.Time) bool {
	if !e.running() {
		return false
	}
	e.mu.Lock()
	e.led.each(func(b *batch) {
		a.samples += b.samples()
		a.exemplars += len(b.exemplars)
	})
	a.shards += len(e.led.lanes)
	a.segment = e.led.reader.Segment
	e.mu.Unlock()
	a.failing = a.failing || e.failing.Load() > 0
	a.desired += e.desired()
	a.seen = max(a.seen, e.seenTime.Load())
	a.sent = max(a.sent, e.sentTime.Load())
	samples, age := e.behind(now)
	a.behind += samples
	a.age = max(a.age, age)
	a.behindBytes += e.behindBytes(samples)
	return true
}

// running says whether the endpoint knows where it is.
func (e *Endpoint) running() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.led != nil
}

// measure persists the positions and sets the gauges until ctx ends.
func (d *delivery) measure(ctx context.Context) {
	tick := time.NewTicker(persistEvery)
	defer tick.Stop()
	for {
		d.show(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, e := range d.all() {
			e.mu.Lock()
			e.persist()
			e.mu.Unlock()
		}
	}
}

// show sets the gauges.
func (d *delivery) show(now time.Time) {
	a, _ := d.demand(now)
	cfg, m := d.cfg.Load(), d.metrics
	m.samplesPending.Set(float64(a.samples))
	m.exemplarsPending.Set(float64(a.exemplars))
	m.shards.Set(float64(a.shards))
	m.shardsDesired.Set(a.desired)
	m.shardsMin.Set(float64(cfg.Queue.MinShards))
	m.shardsMax.Set(float64(cfg.Queue.MaxShards))
	m.shardCapacity.Set(float64(cfg.Queue.Capacity))
	m.maxSamplesPerSend.Set(float64(cfg.Queue.MaxSamplesPerSend))
	m.currentSegment.Set(float64(a.segment))
	m.behindSamples.Set(float64(a.behind))
	m.behindBytes.Set(float64(a.behindBytes))
	m.behindSeconds.Set(a.age.Seconds())
	m.highest.Set(float64(a.seen / 1000))
	m.highestSent.Set(float64(a.sent / 1000))
}

package remotewrite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"promagent/wal"
	"promagent/wal/record"
)

// orphanGrace is how long the position of a remote that is not configured any
// more is kept: a configuration that was taken back finds it again. It pins
// the log meanwhile.
const orphanGrace = 10 * time.Minute

// Options are what a Manager needs from outside.
type Options struct {
	Registerer    prometheus.Registerer // nil: none
	Logger        *slog.Logger          // nil: nothing is logged
	UserAgent     string
	FlushDeadline time.Duration                   // bound on the flush at shutdown
	Metadata      func(yield func(Metadata) bool) // of all targets, for 1.x; nil: none is sent
}

// Manager runs an endpoint per remote_write block.
type Manager struct {
	o     Options
	store *record.Store
	shown shown

	changed chan struct{} // endpoints are to be started

	reloading sync.Mutex // one works on cursors at a time; taken before mu, and held while the disk works
	mu        sync.Mutex // guards what follows
	todo      []*remote  // to be started
	ending    []*remote  // told to end, or ended
	stopped   bool
	remotes   []*remote            // in force, in the file's order; like orphans changed under both: either is enough to read
	orphans   map[string]time.Time // positions that no block has, since when
}

// remote is a configured remote and its endpoint.
type remote struct {
	*prepared        // this and identity are changed under both of the manager's mutexes
	identity  string // its cursor's name
	cursor    *wal.Cursor
	delivery  *delivery // nil: not begun yet
	after     []*remote // end before this one starts: they have the same cursor, or the same name in metrics
	stopOnce  sync.Once
	stopping  chan struct{} // closed when it is to end
	done      chan struct{} // closed when it has ended
}

// NewManager returns a Manager without remotes.
func NewManager(store *record.Store, o Options) (*Manager, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry() // read by nobody
	}
	m := &Manager{o: o, store: store, changed: make(chan struct{}, 1), orphans: map[string]time.Time{}}
	m.shown.all = map[*metrics]bool{}
	if err := errors.Join(o.Registerer.Register(newTotals(store)), o.Registerer.Register(&m.shown)); err != nil {
		return nil, fmt.Errorf("register remote write metrics: %w", err)
	}
	return m, nil
}

// Change is a configuration and all that is made of it. Nothing has changed
// yet, and putting it into force makes nothing more that could fail. It has to be
// committed or dropped, once.
type Change struct {
	m      *Manager
	cfgs   []Config
	blocks []*prepared // of each of cfgs
}

// Prepare makes all that a configuration needs, also of blocks that do not
// change: one whose files are gone is an error.
func (m *Manager) Prepare(cfgs []Config) (*Change, error) {
	c := &Change{m: m, cfgs: slices.Clone(cfgs)}
	var err error
	c.blocks, err = prepareAll(c.cfgs, m.o.UserAgent)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Drop lets go of what was made; what is in force stays as it is.
func (c *Change) Drop() { closeAll(c.blocks) }

// Commit puts the change into force, and keeps every position. It waits for no remote.
func (c *Change) Commit() {
	m, cfgs := c.m, c.cfgs
	m.reloading.Lock()
	defer m.reloading.Unlock()
	m.mu.Lock()
	stopped := m.stopped
	m.mu.Unlock()
	if stopped {
		c.Drop()
		return
	}
	// Without m.mu: a disk that hangs must not keep anybody else waiting.
	ids, cursors, moves := m.settle(cfgs)
	known := m.store.Log().Cursors()

	m.mu.Lock()
	defer m.mu.Unlock()
	old := map[string]*remote{}
	for _, r := range m.remotes {
		if to, ok := moves[r.identity]; ok {
			r.identity = to
		}
		old[r.identity] = r
	}
	m.orphan(ids, known, time.Now())
	if m.stopped {
		c.Drop()
		return
	}
	var next, fresh []*remote
	for i := range cfgs {
		cfg, made := &cfgs[i], c.blocks[i]
		was := old[ids[i]]
		delete(old, ids[i])
		switch {
		case was != nil && !was.ended() && was.cfg.Equal(cfg):
			made.client.close()
			next = append(next, was)
			continue
		case was != nil && !was.ended() && was.delivery != nil && was.cfg.SameDelivery(cfg) &&
			was.cfg.RemoteName == cfg.RemoteName && was.cfg.URL.String() == cfg.URL.String() && was.cfg.Metadata == cfg.Metadata:
			was.delivery.configure(made)
			was.prepared = made
			next = append(next, was)
			continue
		}
		r := &remote{prepared: made, identity: ids[i], cursor: cursors[i], stopping: make(chan struct{}), done: make(chan struct{})}
		next, fresh = append(next, r), append(fresh, r)
		if was != nil {
			was.end(inFlightGrace)
			m.ending = append(m.ending, was)
		}
	}
	for _, r := range old { // not configured any more
		r.end(inFlightGrace)
		m.ending = append(m.ending, r)
	}
	m.ending = slices.DeleteFunc(m.ending, (*remote).ended)
	for _, r := range fresh {
		for _, was := range m.ending {
			if was.cursor == r.cursor || was.cfg.RemoteName == r.cfg.RemoteName {
				r.after = append(r.after, was)
			}
		}
	}
	m.todo = append(m.todo, fresh...)
	m.remotes = next
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// orphan notes the positions that no block has. m.reloading and m.mu are held.
func (m *Manager) orphan(ids, known []string, now time.Time) {
	orphans := map[string]time.Time{}
	for _, id := range known {
		if slices.Contains(ids, id) {
			continue
		}
		if orphans[id] = m.orphans[id]; orphans[id].IsZero() {
			orphans[id] = now
		}
	}
	m.orphans = orphans
}

// ended says whether the remote is not sent to any more.
func (r *remote) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// end tells the remote's endpoint to end; requests under way get grace. The
// manager's mutex is held.
func (r *remote) end(grace time.Duration) {
	r.stopOnce.Do(func() {
		if r.delivery != nil {
			r.delivery.flushFor.Store(int64(grace))
		}
		close(r.stopping)
	})
}

// Run runs the endpoints until ctx ends; then they deliver what is left, as
// long as their remotes answer and no longer than the flush deadline.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	idle := make(chan struct{}, 1) // nobody forgets orphans just now
	idle <- struct{}{}
	for {
		m.mu.Lock()
		todo := m.todo
		m.todo = nil
		m.mu.Unlock()
		for _, r := range todo {
			wg.Go(func() { m.runRemote(ctx, r) })
		}
		select {
		case <-m.changed:
		case <-tick.C:
			select {
			case <-idle:
				wg.Go(func() { // its disk may hang
					m.forgetOrphans(time.Now())
					idle <- struct{}{}
				})
			default:
			}
		case <-ctx.Done():
			m.mu.Lock()
			m.stopped = true
			for _, r := range m.todo {
				close(r.done) // never started
			}
			m.todo = nil
			for _, r := range m.remotes {
				r.end(m.o.FlushDeadline)
			}
			m.mu.Unlock()
			wg.Wait()
			return nil
		}
	}
}

// runRemote runs one endpoint from the end of the one before to its own.
func (m *Manager) runRemote(ctx context.Context, r *remote) {
	defer close(r.done)
	for _, was := range r.after {
		<-was.done
	}
	if ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	r.after = nil
	made := r.prepared
	m.mu.Unlock()
	metrics := newMetrics(made.cfg.RemoteName, made.cfg.URL.Redacted(), made.cfg.V2())
	m.shown.add(metrics)
	defer m.shown.remove(metrics)
	d := newDelivery(made, m.store, r.cursor, metrics, m.o.Logger)
	d.metadata = m.o.Metadata
	m.mu.Lock()
	r.delivery = d
	m.mu.Unlock()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		select {
		case <-r.stopping:
		case <-r.done:
		}
		stop()
	}()
	d.Run(running)
}

// forgetOrphans lets go of positions that nobody has wanted for a while.
func (m *Manager) forgetOrphans(now time.Time) {
	m.reloading.Lock()
	defer m.reloading.Unlock()
	for id, since := range maps.Clone(m.orphans) {
		if now.Sub(since) < orphanGrace {
			continue
		}
		m.sayUndelivered("The position of a remote that is gone is given up", id, m.undelivered(id, m.store.Log().Cursor(id)))
		if err := m.store.Log().RemoveCursor(id); err != nil {
			m.o.Logger.Error("The position of a remote that is gone could not be removed; trying again", "remote", id, "err", err)
			continue
		}
		m.mu.Lock()
		delete(m.orphans, id)
		m.mu.Unlock()
	}
}

// RemoteStatus is a remote as the API shows it.
type RemoteStatus struct {
	Name          string  `json:"name"`
	URL           string  `json:"url"` // without password
	Message       string  `json:"protobufMessage"`
	Shards        int     `json:"shards"`
	Pending       int     `json:"pendingSamples"`
	BehindSamples uint64  `json:"behindSamples"`
	BehindBytes   int64   `json:"behindBytes"`
	BehindSeconds float64 `json:"behindSeconds"`
	LostSamples   uint64  `json:"lostSamples"`
	Failing       bool    `json:"failing"`            // between two attempts
	Backlogs      int     `json:"backlogs,omitempty"` // that are delivered beside the newest data

	RefusedSamples uint64    `json:"refusedSamples"`
	Refusing       bool      `json:"refusing"` // a sample within the last minute
	LastError      string    `json:"lastError,omitempty"`
	LastErrorTime  time.Time `json:"lastErrorTime,omitzero"`

	Position wal.Pos `json:"position"`
}

// Status describes the remotes in the file's order.
func (m *Manager) Status() []RemoteStatus {
	m.mu.Lock()
	type entry struct {
		cfg    *Config
		d      *delivery
		cursor *wal.Cursor
	}
	var all []entry
	for _, r := range m.remotes {
		all = append(all, entry{r.cfg, r.delivery, r.cursor})
	}
	m.mu.Unlock()
	out := []RemoteStatus{}
	now := time.Now()
	for _, r := range all {
		s := RemoteStatus{Name: r.cfg.RemoteName, URL: r.cfg.URL.Redacted(), Message: r.cfg.ProtobufMessage}
		running := false
		if d := r.d; d != nil {
			var a demand
			if a, running = d.demand(now); running {
				s.Shards, s.Pending, s.Backlogs = a.shards, a.samples+a.exemplars, a.backlogs
				s.Position = d.low()
				s.BehindSamples, s.BehindSeconds, s.BehindBytes = a.behind, a.age.Seconds(), a.behindBytes
			}
			s.LostSamples, s.Failing = d.lost.Load(), a.failing
			d.replies.read(&s, now)
		}
		if !running { // (yet): it is behind all the same
			s.BehindSamples = pending(r.cursor, m.store)
		}
		out = append(out, s)
	}
	return out
}

// totals are the metrics that Prometheus has once for all remotes.
type totals struct {
	store                                             *record.Store
	samples, exemplars, histograms, highest, interner *prometheus.Desc
	start                                             uint64
}

func newTotals(s *record.Store) *totals {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("prometheus_remote_storage_"+name, help, nil, nil)
	}
	return &totals{
		store: s, start: s.Total(),
		samples:    desc("samples_in_total", "Samples committed to the log."),
		exemplars:  desc("exemplars_in_total", "Exemplars committed to the log."),
		histograms: desc("histograms_in_total", "Histograms committed to the log."),
		highest:    desc("highest_timestamp_in_seconds", "Time of the newest scrape in the log."),
		interner:   desc("string_interner_zero_reference_releases_total", "Always 0: there is no interner."),
	}
}

func (t *totals) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{t.samples, t.exemplars, t.histograms, t.highest, t.interner} {
		ch <- d
	}
}

func (t *totals) Collect(ch chan<- prometheus.Metric) {
	_, newest := t.store.Newest()
	counter := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	counter(t.samples, float64(t.store.Total()-t.start))
	counter(t.exemplars, float64(t.store.Stats().Exemplars))
	counter(t.histograms, 0)
	counter(t.interner, 0)
	ch <- prometheus.MustNewConstMetric(t.highest, prometheus.GaugeValue, float64(newest/1000))
}

// Package scrape turns target groups into scrapes, and scrapes into batches.
//
// The path through it: Manager.Run takes changed groups from discovery, once
// per reload interval; a pool per job relabels them into targets and runs a
// loop for each. A loop fetches the body, still packed, and reads it line by
// line: the target's script knows each line by a hash and says which slot it
// is for; only lines never seen before are parsed, relabelled and checked. What
// has no value any more is stale. The outcome, report samples included, is one
// batch for the Sink.
//
// It knows nothing of what happens to a batch, and never waits for a receiver.
package scrape

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/osutil"

	"promagent/discovery"
	"promagent/discovery/group"
)

// Options are what a Manager needs from outside.
type Options struct {
	Sink               Sink
	Registerer         prometheus.Registerer
	Logger             *slog.Logger // nil: nothing is logged
	UserAgent          string
	ReloadInterval     time.Duration // between two times that changed groups are taken over; default 5 s
	AdjustTimestamps   bool          // align timestamps with the schedule when they are off by no more than
	TimestampTolerance time.Duration
	Dial               func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's own
	Hostname           func() (string, error)                                               // of this machine, for the seed that spreads scrapes; nil: the fully qualified one
}

// Manager runs the jobs' pools.
type Manager struct {
	o   Options
	env *environment

	changed   chan struct{} // one place: something is pending
	reloading sync.Mutex    // one commit at a time
	mu        sync.Mutex    // guards what follows
	pools     map[string]*pool
	pending   map[string]map[string]group.Group // by job and source: changed, and not taken over yet
	held      map[string]map[string]group.Group // of jobs without a pool yet
	stopped   bool
}

// New returns a Manager without jobs.
func New(o Options) (*Manager, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry() // read by nobody
	}
	if o.ReloadInterval == 0 {
		o.ReloadInterval = 5 * time.Second
	}
	if o.Hostname == nil {
		o.Hostname = osutil.GetFQDN
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register scrape metrics: %w", err)
	}
	man := &Manager{
		o: o, changed: make(chan struct{}, 1), pools: map[string]*pool{}, pending: map[string]map[string]group.Group{}, held: map[string]map[string]group.Group{},
		env: &environment{
			sink: o.Sink, metrics: m, log: o.Logger, align: o.AdjustTimestamps, tolerance: o.TimestampTolerance, dial: o.Dial,
			decode: make(chan struct{}, runtime.GOMAXPROCS(0)),
		},
	}
	m.memory.pools = man.all
	return man, nil
}

func (m *Manager) all() []*pool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.pools))
}

// Change is a configuration and all that is made of it. Nothing has changed
// yet, and putting it into force makes nothing more that could fail. It has to be
// committed or dropped, once.
type Change struct {
	m       *Manager
	seed    uint64               // that spreads scrapes
	late    time.Duration        // the out-of-order window
	jobs    map[string]*prepared // by name; of a job that stays as it is what its pool runs with
	files   map[string]*os.File  // failure logs, by job
	made    []string             // names of those that were not there before
	leftOut []LeftOut
}

// LeftOut is a new job that cannot be made.
type LeftOut struct {
	Job string
	Err error
}

// Check says what an agent that starts with the jobs would make of them: which
// ones it would leave out, or why it would refuse all.
func Check(jobs []JobConfig) (leftOut []LeftOut, err error) {
	for i := range jobs {
		c := &jobs[i]
		if _, err := prepare(c, "", nil); err != nil {
			leftOut = append(leftOut, LeftOut{c.Job, err})
			continue
		}
		if c.FailureLogFile == "" {
			continue
		}
		if err := checkFailureLog(c.FailureLogFile); err != nil {
			return nil, fmt.Errorf("job %q: %w", c.Job, err)
		}
	}
	return leftOut, nil
}

// Prepare makes all that a configuration needs. A new job that cannot be made is
// left out, which Commit logs and counts; for a job that runs the same is an error.
func (m *Manager) Prepare(cfg Config) (*Change, error) {
	m.mu.Lock()
	current := maps.Clone(m.pools)
	m.mu.Unlock()
	c := &Change{
		m: m, seed: offsetSeed(m.o.Hostname, cfg.ExternalLabels), late: cfg.OutOfOrderWindow,
		jobs: map[string]*prepared{}, files: map[string]*os.File{},
	}
	var errs []error
	for i := range cfg.Jobs {
		job := &cfg.Jobs[i]
		old := current[job.Job]
		if old != nil {
			if p := old.inForce(); p.cfg.equal(job) {
				c.jobs[job.Job] = p
				continue
			}
		}
		p, err := prepare(job, m.o.UserAgent, m.env.dial)
		switch {
		case err == nil:
			c.jobs[job.Job] = p
		case old != nil:
			m.env.metrics.reloadsFailed.Inc()
			errs = append(errs, fmt.Errorf("reload scrape pool: %w", err))
		default:
			c.leftOut = append(c.leftOut, LeftOut{job.Job, err})
		}
	}
	if len(errs) == 0 {
		errs = append(errs, c.openFailureLogs())
	}
	if err := errors.Join(errs...); err != nil {
		c.Drop()
		return nil, err
	}
	return c, nil
}

// openFailureLogs opens the jobs' failure logs, also of those that do not
// change: a reload is how one goes on with a new file after the old one was
// moved away.
func (c *Change) openFailureLogs() error {
	for job, p := range c.jobs {
		if p.cfg.FailureLogFile == "" {
			continue
		}
		f, made, err := openFailureLog(p.cfg.FailureLogFile)
		if err != nil {
			return fmt.Errorf("job %q: %w", job, err)
		}
		c.files[job] = f
		if made {
			c.made = append(c.made, p.cfg.FailureLogFile)
		}
	}
	return nil
}

// Drop lets go of what was made; what is in force stays as it is.
func (c *Change) Drop() {
	for _, f := range c.files {
		f.Close() // nothing was written
	}
	for _, name := range c.made {
		if err := os.Remove(name); err != nil {
			c.m.o.Logger.Warn("An empty scrape failure log of a config that is not put into force cannot be removed", "err", err)
		}
	}
}

// Commit puts the change into force. It waits for scrapes under way of the jobs
// that change.
func (c *Change) Commit() {
	m := c.m
	m.reloading.Lock()
	defer m.reloading.Unlock()
	var wg sync.WaitGroup
	limit := make(chan struct{}, runtime.GOMAXPROCS(0))
	inBackground := func(f func()) {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			f()
		})
	}
	m.mu.Lock()
	if m.stopped {
		m.mu.Unlock()
		c.Drop()
		return
	}
	m.env.seed.Store(c.seed)
	m.env.late.Store(c.late.Milliseconds())
	for job, p := range m.pools {
		if c.jobs[job] == nil {
			delete(m.pools, job)
			delete(m.pending, job)
			inBackground(p.stop)
		}
	}
	for job, n := range c.jobs {
		file := c.files[job]
		if p := m.pools[job]; p != nil {
			inBackground(func() { p.become(n, file) })
			continue
		}
		m.pools[job] = newPool(n, file, m.env, m.o.Logger)
		m.env.metrics.pools.Inc()
		m.env.metrics.poolTargets.WithLabelValues(job).Set(0)
		if groups := m.held[job]; groups != nil {
			m.pending[job] = groups
			delete(m.held, job)
			m.wake()
		}
	}
	m.mu.Unlock()
	for _, l := range c.leftOut {
		m.env.metrics.pools.Inc() // as in Prometheus, where the pools that cannot be made count among all
		m.env.metrics.poolsFailed.Inc()
		m.o.Logger.Error("error creating new scrape pool", "err", l.Err, "scrape_pool", l.Job)
	}
	wg.Wait()
}

// offsetSeed makes the spread of scrapes differ between agents. It is
// Prometheus's: one that takes over from it scrapes at the same times.
func offsetSeed(hostname func() (string, error), external labels.Labels) uint64 {
	host, err := hostname()
	if err != nil {
		host = "localhost"
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s%s", host, external.String())
	return h.Sum64()
}

// settle is how long the first change after a quiet time waits for others.
const settle = 100 * time.Millisecond

// Run takes updates over until ctx ends or updates is closed; then it stops
// all loops. Scrapes under way are finished.
//
// What changes after a quiet time is taken over at once: after a start or for a
// new pod every second counts. While changes keep coming, they are taken over
// once per ReloadInterval.
func (m *Manager) Run(ctx context.Context, updates <-chan []discovery.Update) error {
	defer m.stop()
	var last time.Time
	var due <-chan time.Time
	for {
		select {
		case us, ok := <-updates:
			if !ok {
				updates = nil
				continue
			}
			m.collect(us)
		case <-m.changed:
			if due == nil {
				due = time.After(max(min(settle, m.o.ReloadInterval), time.Until(last.Add(m.o.ReloadInterval))))
			}
		case <-due:
			due, last = nil, time.Now()
			m.apply()
		case <-ctx.Done():
			return nil
		}
	}
}

// wake says that something is pending.
func (m *Manager) wake() {
	select {
	case m.changed <- struct{}{}:
	default: // it is known
	}
}

// collect notes what has changed.
func (m *Manager) collect(us []discovery.Update) {
	defer m.wake()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range us {
		into := m.pending
		if m.pools[u.Job] == nil {
			into = m.held
		}
		if u.Gone {
			delete(into, u.Job)
			continue
		}
		if into[u.Job] == nil {
			into[u.Job] = map[string]group.Group{}
		}
		for _, g := range u.Groups {
			if m.pools[u.Job] == nil && g.Len() == 0 { // nobody has heard of it
				delete(into[u.Job], g.Source)
				continue
			}
			into[u.Job][g.Source] = g
		}
	}
}

// apply hands what has changed to the pools.
func (m *Manager) apply() {
	m.mu.Lock()
	pending := m.pending
	m.pending = map[string]map[string]group.Group{}
	pools := maps.Clone(m.pools)
	m.mu.Unlock()
	for job, groups := range pending {
		if p := pools[job]; p != nil && !p.update(groups) { // also without groups: the job is known to have none
			m.putBack(job, p, groups)
		}
	}
}

// putBack keeps groups for the next time, as far as no newer ones have come.
func (m *Manager) putBack(job string, p *pool, groups map[string]group.Group) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pools[job] != p {
		return
	}
	if m.pending[job] == nil {
		m.pending[job] = map[string]group.Group{}
	}
	for source, g := range groups {
		if _, newer := m.pending[job][source]; !newer {
			m.pending[job][source] = g
		}
	}
	m.wake()
}

func (m *Manager) stop() {
	m.mu.Lock()
	m.stopped = true
	pools := m.pools
	m.pools = map[string]*pool{}
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, p := range pools {
		wg.Go(p.stop)
	}
	wg.Wait()
}

// Pools describes the jobs, sorted by name.
func (m *Manager) Pools() []PoolStatus {
	all := m.all()
	out := make([]PoolStatus, 0, len(all))
	for _, p := range all {
		out = append(out, p.status())
	}
	slices.SortFunc(out, func(a, b PoolStatus) int {
		if a.Job < b.Job {
			return -1
		}
		return 1
	})
	return out
}

package scrape

import (
	"cmp"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/config/httpclient"
	"promagent/discovery/group"
	"promagent/relabel"
)

// pool is a job: its targets, by the sources that they come from, and a loop
// for each.
type pool struct {
	env *environment
	log *slog.Logger

	// changing is held by whoever changes the pool, also while that waits for
	// scrapes; mu is held for the change alone, so that who looks at the pool
	// need not wait. Both are held to write what follows, either to read it.
	changing sync.Mutex
	mu       sync.Mutex
	*prepared
	failure  *failureLog // nil: none
	sources  map[string]*source
	users    map[uint64]int   // how many targets of sources a loop is for, by their identity
	loops    map[uint64]*loop // by the target's identity
	stopping []*loop          // that have been told to end and may not have yet
	stopped  bool

	closing sync.WaitGroup // of failure logs
}

// source is a group and what became of it.
type source struct {
	group   group.Group
	targets []*target
	dropped []int32 // numbers of the group's targets that relabelling has dropped
}

// prepared is all that a pool runs a job with. It is made once, before it is put
// into force, and never written to.
type prepared struct {
	cfg     *JobConfig
	relabel relabel.Rules
	rules   *rules
	fetcher *fetcher
}

func prepare(cfg *JobConfig, userAgent string, dial httpclient.DialFunc) (*prepared, error) {
	p := &prepared{cfg: cfg}
	var err error
	if p.relabel, err = relabel.Compile(cfg.Relabel); err != nil {
		return nil, fmt.Errorf("relabel_configs of job %q: %w", cfg.Job, err)
	}
	metric, err := relabel.Compile(cfg.MetricRelabel)
	if err != nil {
		return nil, fmt.Errorf("metric_relabel_configs of job %q: %w", cfg.Job, err)
	}
	p.rules = &rules{cfg, metric}
	if p.fetcher, err = newFetcher(cfg, userAgent, dial); err != nil {
		return nil, fmt.Errorf("job %q: %w", cfg.Job, err)
	}
	return p, nil
}

// newPool returns the pool of a job; failures is its failure log, nil: none.
func newPool(n *prepared, failures *os.File, env *environment, log *slog.Logger) *pool {
	return &pool{
		env: env, log: log.With("scrape_pool", n.cfg.Job), prepared: n, failure: newFailureLog(failures),
		sources: map[string]*source{}, users: map[uint64]int{}, loops: map[uint64]*loop{},
	}
}

// inForce is what the pool runs with, after any change that is under way.
func (p *pool) inForce() *prepared {
	p.changing.Lock()
	defer p.changing.Unlock()
	return p.prepared
}

func (p *pool) job() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.Job
}

// running are the loops, in no order.
func (p *pool) running() []*loop {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.loops))
}

// update takes over groups that have changed; a group without targets ends its
// source. False: the pool is being reloaded, which may take as long as a scrape;
// try again later.
func (p *pool) update(groups map[string]group.Group) bool {
	if !p.changing.TryLock() {
		return false
	}
	defer p.changing.Unlock()
	if p.stopped {
		return true
	}
	begin := time.Now()
	built := map[string]*source{}
	for name, g := range groups {
		if g.Len() > 0 {
			built[name] = p.build(p.cfg, p.relabel, g)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var gone, here []*target
	for name := range groups {
		if s := p.sources[name]; s != nil {
			gone = append(gone, s.targets...)
		}
		if built[name] == nil {
			delete(p.sources, name)
			continue
		}
		p.sources[name] = built[name]
		here = append(here, built[name].targets...)
	}
	p.sync(begin, gone, here)
	return true
}

// build relabels the targets of a group.
func (p *pool) build(cfg *JobConfig, rules relabel.Rules, g group.Group) *source {
	s := &source{group: g}
	var b labelBuilder
	for i := range g.Len() {
		d := discovered{g.Targets, i}
		t, err := newTarget(&b, cfg, rules, d)
		switch {
		case err != nil:
			p.env.metrics.syncFailed.WithLabelValues(cfg.Job).Inc()
			p.log.Error("Creating target failed", "err", fmt.Errorf("instance %d in group %s: %w", i, g.Source, err))
		case t == nil:
			s.dropped = append(s.dropped, int32(i))
		default:
			s.targets = append(s.targets, t)
		}
	}
	s.dropped = slices.Clip(s.dropped)
	return s
}

// sync makes the loops those of the sources' targets, of which some have gone
// and some have come: the same ones, mostly. Both locks are held.
func (p *pool) sync(begin time.Time, gone, here []*target) {
	for _, t := range here {
		p.users[t.hash]++
	}
	for _, t := range gone {
		if p.users[t.hash]--; p.users[t.hash] > 0 {
			continue
		}
		delete(p.users, t.hash)
		if l := p.loops[t.hash]; l != nil {
			l.end(removed)
			delete(p.loops, t.hash)
			p.stopping = append(p.stopping, l)
		}
	}
	p.stopping = slices.DeleteFunc(p.stopping, func(l *loop) bool {
		select {
		case <-l.done:
			return true
		default:
			return false
		}
	})
	for _, t := range here {
		if l := p.loops[t.hash]; l != nil {
			l.target.seen(t.found)
			continue
		}
		p.start(t, nil)
	}
	for _, t := range gone { // of several that are one
		if l := p.loops[t.hash]; l != nil && l.target.isFrom(t.found) {
			p.seenElsewhere(l.target)
		}
	}
	p.limit()
	m := p.env.metrics
	m.poolTargets.WithLabelValues(p.cfg.Job).Set(float64(len(p.loops)))
	m.poolTargetLimit.WithLabelValues(p.cfg.Job).Set(float64(p.cfg.TargetLimit))
	m.poolSymbols.WithLabelValues(p.cfg.Job).Set(0)
	m.poolSyncs.WithLabelValues(p.cfg.Job).Inc()
	if len(p.sources) > 0 { // as in Prometheus
		m.syncFailed.WithLabelValues(p.cfg.Job)
	}
	d := time.Since(begin).Seconds()
	m.syncLength.WithLabelValues(p.cfg.Job).Observe(d)
	m.syncLengths.WithLabelValues(p.cfg.Job).Observe(d)
}

// seenElsewhere makes what discovery says of the target that of a source which
// has it. Both locks are held.
func (p *pool) seenElsewhere(t *target) {
	for _, s := range p.sources {
		for _, other := range s.targets {
			if other.hash == t.hash {
				t.seen(other.found)
				return
			}
		}
	}
}

// start begins to scrape a target; m is what an earlier loop knew of it. Both locks are held.
func (p *pool) start(t *target, m *memory) {
	l := newLoop(t, p.rules, p.fetcher, m, p.env, p.failure)
	p.loops[t.hash] = l
	go l.run()
}

// limit fails all targets when there are too many. Both locks are held.
func (p *pool) limit() {
	var err error
	if n := len(p.loops); p.cfg.TargetLimit > 0 && n > p.cfg.TargetLimit {
		p.env.metrics.targetLimit.Inc()
		err = fmt.Errorf("target_limit exceeded (number of targets: %d, limit: %d)", n, p.cfg.TargetLimit)
	}
	for _, l := range p.loops {
		if err != nil {
			l.forced.Store(&err)
		} else {
			l.forced.Store(nil)
		}
	}
}

// become has the pool run with n, and its failures go to a file that was opened
// for n, nil: none. What it runs with already is kept, but for the file: the old one may
// have been moved away.
func (p *pool) become(n *prepared, failures *os.File) {
	begin := time.Now()
	p.changing.Lock()
	defer p.changing.Unlock()
	switch {
	case p.stopped:
		newFailureLog(failures).close()
	case n == p.prepared:
		p.failure.replace(failures)
	default:
		p.reload(begin, n, newFailureLog(failures))
	}
}

// reload puts a configuration into force. Scrapes under way are finished; what
// is known of the targets' series is kept where it stays true. While it waits
// for the scrapes, the pool looks as it did before. p.changing is held.
func (p *pool) reload(begin time.Time, n *prepared, failure *failureLog) {
	old, oldFailure := p.prepared, p.failure
	keep := p.cfg.keepsCache(n.cfg)
	sources := map[string]*source{}
	for name, s := range p.sources {
		sources[name] = p.build(n.cfg, n.relabel, s.group)
	}
	next, kin := map[uint64]*target{}, map[uint64]*target{}
	for _, s := range sources {
		for _, t := range s.targets {
			next[t.hash], kin[t.kin] = t, t
		}
	}
	how := handOver
	if !keep {
		how = removed // its series end, unless the new loop exposes them
	}
	ended := map[uint64]uint64{} // loops, by the identity of the target that comes in their place
	for hash, l := range p.loops {
		t := next[hash]
		if t == nil && keep {
			// The interval is part of the identity; what is known of the series is not.
			if t = kin[l.target.kin]; t != nil {
				if _, taken := ended[t.hash]; taken || p.loops[t.hash] != nil {
					t = nil
				}
			}
		}
		if t != nil { // else sync ends it
			l.end(how)
			ended[t.hash] = hash
		}
	}
	if keep {
		for _, hash := range ended {
			<-p.loops[hash].done
		}
	}
	behind := p.replace(n, failure, begin, sources, next, ended, keep)
	old.fetcher.closeIdle()
	if oldFailure != nil {
		p.closing.Go(func() { oldFailure.closeAfter(behind) })
	}
	p.env.metrics.reloads.Inc()
	p.env.metrics.reloadLength.WithLabelValues(intervalText(n.cfg.Interval)).Observe(time.Since(begin).Seconds())
}

// replace is the part of reload that is seen from outside. It returns the loops
// that go on with what is not in use any more, until they end.
func (p *pool) replace(n *prepared, failure *failureLog, begin time.Time, sources map[string]*source, next map[uint64]*target, ended map[uint64]uint64, keep bool) (behind []*loop) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prepared, p.failure = n, failure
	var gone, here []*target
	for _, src := range p.sources {
		gone = append(gone, src.targets...)
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		here = append(here, sources[name].targets...)
	}
	p.sources = sources
	loops := map[uint64]*loop{} // that go, by the identity of the target that comes
	for to, hash := range ended {
		loops[to] = p.loops[hash]
		delete(p.loops, hash)
	}
	for to, l := range loops {
		t := next[to]
		t.takeStatus(l.target)
		if keep {
			p.start(t, l.memory)
		} else {
			p.start(t, nil)
			p.stopping = append(p.stopping, l)
		}
	}
	p.sync(begin, gone, here)
	return slices.Clone(p.stopping)
}

// takeStatus goes on with what is known of the target's last scrape.
func (t *target) takeStatus(old *target) {
	old.mu.Lock()
	defer old.mu.Unlock()
	t.complaints = old.complaints
	t.lastError, t.lastScrape, t.lastDuration, t.health = old.lastError, old.lastScrape, old.lastDuration, old.health
}

// stop ends all loops without marking anything stale, and waits for them.
func (p *pool) stop() {
	p.changing.Lock()
	p.mu.Lock()
	p.stopped = true
	all := append(slices.Collect(maps.Values(p.loops)), p.stopping...)
	fetcher, failure, job := p.fetcher, p.failure, p.cfg.Job
	p.loops, p.stopping = map[uint64]*loop{}, nil
	p.mu.Unlock()
	p.changing.Unlock()
	for _, l := range all {
		l.end(quiet)
	}
	for _, l := range all {
		<-l.done
	}
	fetcher.closeIdle()
	failure.close()
	p.closing.Wait()
	p.env.metrics.forget(job)
}

// TargetStatus is an active target as the API shows it.
type TargetStatus struct {
	Discovered   func() labels.Labels // made when asked for
	Labels       labels.Labels
	URL          string
	Health       Health
	LastError    string
	LastScrape   time.Time // zero before the first
	LastDuration time.Duration
	Interval     string  // as the target's label has it
	Timeout      string  // likewise
	Refused      Refused // since the target was first seen
	Metadata     func() []Metadata
}

// PoolStatus is a job as the API shows it.
type PoolStatus struct {
	Job          string
	Targets      []TargetStatus          // by URL
	Dropped      iter.Seq[labels.Labels] // discovered labels of dropped targets, as many as are to be kept; made one by one
	DroppedCount int
}

// status describes the pool.
func (p *pool) status() PoolStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	cfg, sources := p.cfg, maps.Clone(p.sources)
	s := PoolStatus{Job: cfg.Job, Dropped: droppedOf(cfg, sources)}
	for _, l := range p.loops {
		t := l.target
		t.mu.Lock()
		from := t.from
		ts := TargetStatus{
			Discovered: func() labels.Labels { return new(labelBuilder).discovered(cfg, from) },
			Labels:     t.public, URL: t.url.Redacted(), Health: t.health, LastScrape: t.lastScrape,
			LastDuration: t.lastDuration, Interval: t.labels.Get(model.ScrapeIntervalLabel), Timeout: t.labels.Get(model.ScrapeTimeoutLabel), Refused: t.complaints.total(), Metadata: l.memory.meta.list,
		}
		if t.lastError != nil {
			ts.LastError = t.lastError.Error()
		}
		t.mu.Unlock()
		s.Targets = append(s.Targets, ts)
	}
	slices.SortFunc(s.Targets, func(a, b TargetStatus) int {
		return cmp.Or(cmp.Compare(a.URL, b.URL), labels.Compare(a.Labels, b.Labels))
	})
	for _, src := range sources {
		s.DroppedCount += len(src.dropped)
	}
	return s
}

// droppedOf are the discovered labels of the targets that relabelling has
// dropped, by source, as many as the job keeps.
func droppedOf(cfg *JobConfig, sources map[string]*source) iter.Seq[labels.Labels] {
	return func(yield func(labels.Labels) bool) {
		var b labelBuilder
		kept := 0
		for _, name := range slices.Sorted(maps.Keys(sources)) {
			src := sources[name]
			for _, i := range src.dropped {
				if cfg.KeepDroppedTargets > 0 && kept == cfg.KeepDroppedTargets {
					return
				}
				kept++
				if !yield(b.discovered(cfg, discovered{src.group.Targets, int(i)})) {
					return
				}
			}
		}
	}
}

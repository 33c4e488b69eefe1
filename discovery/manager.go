package discovery

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	sd "github.com/prometheus/prometheus/discovery"

	"promagent/discovery/kubernetes"
)

// Manager runs the providers of all jobs. Its methods may be called from any
// goroutine.
type Manager struct {
	log        *slog.Logger
	httpClient []commonconfig.HTTPClientOption // of discoveries that make requests
	metrics    *sd.Metrics                     // of the manager itself
	mechanisms *sd.SDMetrics                   // of the discoveries
	clusters   *kubernetes.Clusters

	out     chan []Update
	changed chan struct{} // providers are to be started or stopped
	news    chan struct{} // pending is not empty
	hurry   chan struct{} // pending holds what a commit changed

	made atomic.Uint64 // providers so far; numbers them

	// mu guards what is in force, and what each provider found.
	mu        sync.Mutex
	undecided []*Change              // neither committed nor dropped yet
	providers []*provider            // that run: those with a job, and those that an undecided change counts on; by age
	unused    []*provider            // of changes that were dropped, which Run lets go of
	jobs      map[string][]*provider // every job is a key
	refreshes map[refreshLabels]bool // label sets that refresh metrics may exist for
	pending   pending
	leaving   map[string]*leaving // by job: groups that go when their successors are there
}

// refreshLabels are the labels under which a refreshing discovery counts: its
// kind, and the job that it was made for.
type refreshLabels struct{ kind, job string }

// New returns a Manager without jobs. It registers its metrics, those of the
// discoveries that are compiled in included, with o.Registerer.
func New(o Options) (*Manager, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry() // read by nobody
	}
	metrics, err := sd.NewManagerMetrics(o.Registerer, "scrape")
	if err != nil {
		return nil, fmt.Errorf("register discovery metrics: %w", err)
	}
	mechanisms, err := sd.CreateAndRegisterSDMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register discovery metrics: %w", err)
	}
	clusters, err := kubernetes.NewClusters(o.Logger.With("discovery", "kubernetes"), mechanisms.MechanismMetrics["kubernetes"], o.UserAgent)
	if err != nil {
		return nil, fmt.Errorf("prepare Kubernetes discovery: %w", err)
	}
	var httpClient []commonconfig.HTTPClientOption
	if o.UserAgent != "" {
		httpClient = append(httpClient, commonconfig.WithUserAgent(o.UserAgent))
		setUserAgents(o.UserAgent)
	}
	return &Manager{
		log:        o.Logger,
		httpClient: httpClient,
		metrics:    metrics,
		mechanisms: mechanisms,
		clusters:   clusters,
		out:        make(chan []Update),
		changed:    make(chan struct{}, 1),
		news:       make(chan struct{}, 1),
		hurry:      make(chan struct{}, 1),
		jobs:       map[string][]*provider{},
		refreshes:  map[refreshLabels]bool{},
		pending:    pending{},
		leaving:    map[string]*leaving{},
	}, nil
}

// Updates returns the channel on which changes arrive. It has one reader, and
// is closed when Run returns.
func (m *Manager) Updates() <-chan []Update { return m.out }

// Change is the jobs of a configuration and all that is made for them. Nothing
// has changed yet, and putting it into force makes nothing more that could fail.
// It has to be committed or dropped, once: what it counts on runs until then.
type Change struct {
	m      *Manager
	jobs   map[string][]*provider
	made   []*provider // for this change
	failed []failure

	// Guarded by Manager.mu.
	providers []*provider            // that it counts on
	refreshes map[refreshLabels]bool // label sets of those that it has made
}

// failure is a config whose provider cannot be made.
type failure struct {
	job, kind string
	err       error
}

// Prepare makes the providers that jobs (by name) need and do not run yet.
//
// A config whose provider cannot be made costs its job these targets until the
// next commit, which Commit logs and counts; it is not an error.
func (m *Manager) Prepare(jobs map[string]Configs) (*Change, error) {
	for job, configs := range jobs {
		if slices.Contains(configs, nil) {
			return nil, fmt.Errorf("prepare discovery of job %q: config is nil", job)
		}
	}
	c := &Change{m: m, jobs: make(map[string][]*provider, len(jobs)), refreshes: map[refreshLabels]bool{}}
	m.mu.Lock()
	c.providers = slices.Clone(m.providers) // any of them, as yet
	m.undecided = append(m.undecided, c)
	m.mu.Unlock()

	byKind := map[string][]*provider{}
	for _, known := range c.providers {
		byKind[known.kind] = append(byKind[known.kind], known)
	}
	used := map[*provider]bool{}
	for _, job := range slices.Sorted(maps.Keys(jobs)) {
		ps := []*provider{}
		for _, config := range jobs[job] {
			kind := config.Name()
			i := slices.IndexFunc(byKind[kind], func(k *provider) bool { return k.serves(config) })
			if i < 0 {
				made, err := c.newProvider(config, job)
				if err != nil {
					c.failed = append(c.failed, failure{job, kind, err})
					continue
				}
				c.made = append(c.made, made)
				i = len(byKind[kind])
				byKind[kind] = append(byKind[kind], made)
			}
			pr := byKind[kind][i]
			if !slices.Contains(ps, pr) {
				ps = append(ps, pr)
			}
			used[pr] = true
		}
		c.jobs[job] = ps
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c.providers = slices.Collect(maps.Keys(used))
	m.settleLocked()
	return c, nil
}

// Drop lets go of what was made; what is in force stays as it is.
func (c *Change) Drop() {
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unused = append(m.unused, c.made...)
	c.decidedLocked()
}

// Commit puts the jobs into force. It does not wait for a provider to start or to stop.
func (c *Change) Commit() {
	m := c.m
	for _, f := range c.failed {
		m.log.Error("Cannot create service discovery", "err", f.err, "type", f.kind, "config", f.job)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for job, old := range m.jobs {
		now, stays := c.jobs[job]
		var ended []string
		for _, pr := range old {
			if !slices.Contains(now, pr) {
				for _, g := range pr.groups {
					ended = append(ended, g.Source)
				}
			}
		}
		m.leaveLocked(job, ended, now)
		if !stays {
			m.pending.end(job)
			m.metrics.DiscoveredTargets.DeleteLabelValues(job)
			m.metrics.LastUpdated.DeleteLabelValues(job)
		}
	}
	for _, pr := range m.providers {
		pr.jobs = nil
	}
	for job, now := range c.jobs {
		old, known := m.jobs[job]
		if !known {
			m.pending.announce(job)
		}
		for _, pr := range now {
			pr.jobs = append(pr.jobs, job)
			if !slices.Contains(old, pr) {
				for _, g := range pr.groups {
					m.pending.add(job, g)
					m.stayLocked(job, g.Source)
				}
			}
		}
	}
	m.jobs = c.jobs
	for _, pr := range c.made {
		m.providers = append(m.providers, pr)
		if pr.discoverer == nil {
			m.metrics.ReceivedUpdates.Inc()
		}
	}
	slices.SortFunc(m.providers, func(a, b *provider) int { return cmp.Compare(a.number, b.number) })
	for job := range m.jobs {
		m.countLocked(job)
	}
	m.metrics.FailedConfigs.Set(float64(len(c.failed)))
	c.decidedLocked()
	if len(m.pending) > 0 {
		wake(m.news)
		wake(m.hurry)
	}
}

// decidedLocked notes that the change is committed or dropped.
func (c *Change) decidedLocked() {
	c.m.undecided = slices.DeleteFunc(c.m.undecided, func(u *Change) bool { return u == c })
	c.m.settleLocked()
}

// settleLocked ends the providers that neither a job nor an undecided change
// needs, and removes the refresh metrics that nobody counts under: those of
// providers that ended, and of ones that were made and never committed.
func (m *Manager) settleLocked() {
	awaited, live := map[*provider]bool{}, map[refreshLabels]bool{}
	for _, c := range m.undecided {
		for _, pr := range c.providers {
			awaited[pr] = true
		}
		maps.Copy(live, c.refreshes)
	}
	m.providers = slices.DeleteFunc(m.providers, func(pr *provider) bool { return len(pr.jobs) == 0 && !awaited[pr] })
	for _, pr := range m.providers {
		live[pr.refresh] = true
	}
	for l := range m.refreshes {
		if !live[l] {
			m.mechanisms.RefreshManager.DeleteLabelValues(l.kind, l.job)
		}
	}
	m.refreshes = live
	wake(m.changed)
}

// countLocked sets the number of targets of job.
func (m *Manager) countLocked(job string) {
	n := 0
	for _, pr := range m.jobs[job] {
		n += pr.targets
	}
	m.metrics.DiscoveredTargets.WithLabelValues(job).Set(float64(n))
}

// Run runs the providers until ctx is done and all of them returned. It may
// be called once; what was committed before loses nothing.
func (m *Manager) Run(ctx context.Context) error {
	defer close(m.out)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { m.send(ctx) })
	wg.Go(func() {
		if err := m.clusters.Run(ctx); err != nil {
			m.log.Error("Kubernetes discovery has ended", "err", err)
		}
	})

	running := map[*provider]context.CancelFunc{}
	for {
		m.mu.Lock()
		now, unused := slices.Clone(m.providers), m.unused
		m.unused = nil
		m.mu.Unlock()
		for _, pr := range unused {
			wg.Go(pr.release)
		}
		for pr, cancel := range running {
			if !slices.Contains(now, pr) {
				cancel()
				delete(running, pr)
			}
		}
		for _, pr := range now {
			if running[pr] != nil || pr.discoverer == nil {
				continue
			}
			prCtx, cancel := context.WithCancel(ctx)
			running[pr] = cancel
			wg.Go(func() { m.run(prCtx, pr) })
		}
		select {
		case <-ctx.Done():
			for _, cancel := range running {
				cancel()
			}
			return nil
		case <-m.changed:
		}
	}
}

// wake leaves a mark in c, a channel of capacity 1, for who reads it next.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

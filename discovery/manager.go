package discovery

import (
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
	mu         sync.Mutex
	generation uint64                 // commits so far
	providers  []*provider            // those with a job, by age
	jobs       map[string][]*provider // every job is a key
	refreshes  map[refreshLabels]bool // label sets that refresh metrics may exist for
	pending    pending
	leaving    map[string]*leaving // by job: groups that go when their successors are there
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

// Prepare makes the providers that jobs (by name) need and do not run yet;
// commit makes jobs the ones in force. Nothing changes before commit, and a
// prepared change may be dropped. commit neither fails nor waits for a
// provider to start or to stop.
//
// A config whose provider cannot be made is logged and counted, and costs its
// job these targets until the next commit; it is not an error.
func (m *Manager) Prepare(jobs map[string]Configs) (commit func(), err error) {
	for job, configs := range jobs {
		if slices.Contains(configs, nil) {
			return nil, fmt.Errorf("prepare discovery of job %q: config is nil", job)
		}
	}
	jobs = maps.Clone(jobs)
	p := m.plan(jobs)
	return func() {
		for !m.apply(p) { // another commit came between: what is running is not what was planned with
			p = m.plan(jobs)
		}
	}, nil
}

// plan is the set of providers that jobs need, made against one generation.
type plan struct {
	generation uint64
	providers  []*provider
	jobs       map[string][]*provider
	failed     int // configs without a provider
}

func (m *Manager) plan(jobs map[string]Configs) *plan {
	m.mu.Lock()
	p := &plan{generation: m.generation, jobs: make(map[string][]*provider, len(jobs))}
	byKind := map[string][]*provider{}
	for _, known := range m.providers {
		byKind[known.kind] = append(byKind[known.kind], known)
	}
	m.mu.Unlock()

	used := map[*provider]bool{}
	for _, job := range slices.Sorted(maps.Keys(jobs)) {
		ps := []*provider{}
		for _, c := range jobs[job] {
			kind := c.Name()
			i := slices.IndexFunc(byKind[kind], func(k *provider) bool { return k.serves(c) })
			if i < 0 {
				made, err := m.newProvider(c, job)
				if err != nil {
					m.log.Error("Cannot create service discovery", "err", err, "type", kind, "config", job)
					p.failed++
					continue
				}
				i = len(byKind[kind])
				byKind[kind] = append(byKind[kind], made)
			}
			pr := byKind[kind][i]
			if !slices.Contains(ps, pr) {
				ps = append(ps, pr)
			}
			if !used[pr] {
				used[pr] = true
				p.providers = append(p.providers, pr)
			}
		}
		p.jobs[job] = ps
	}
	slices.SortFunc(p.providers, func(a, b *provider) int { return int(a.number) - int(b.number) })
	return p
}

// apply puts p into force, unless it was made against another generation.
func (m *Manager) apply(p *plan) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.generation != m.generation {
		return false
	}
	m.generation++
	for job, old := range m.jobs {
		now, stays := p.jobs[job]
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
	for job, now := range p.jobs {
		old, known := m.jobs[job]
		if !known {
			m.pending.announce(job)
		}
		for _, pr := range now {
			pr.jobs = append(pr.jobs, job)
			if !slices.Contains(old, pr) {
				for _, g := range pr.groups {
					m.pending.add(job, g)
				}
			}
		}
	}
	m.providers, m.jobs = p.providers, p.jobs
	for job := range m.jobs {
		m.countLocked(job)
	}
	m.metrics.FailedConfigs.Set(float64(p.failed))
	m.dropRefreshMetricsLocked()

	wake(m.changed)
	if len(m.pending) > 0 {
		wake(m.news)
		wake(m.hurry)
	}
	return true
}

// dropRefreshMetricsLocked removes the refresh metrics that no provider in
// force counts under: those of providers that ended, and of ones that were
// made and never committed.
func (m *Manager) dropRefreshMetricsLocked() {
	live := make(map[refreshLabels]bool, len(m.providers))
	for _, pr := range m.providers {
		live[pr.refresh] = true
	}
	for l := range m.refreshes {
		if !live[l] {
			m.mechanisms.RefreshManager.DeleteLabelValues(l.kind, l.job)
		}
	}
	m.refreshes = live
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
		now := slices.Clone(m.providers)
		m.mu.Unlock()
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

package discovery

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	sd "github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes"
)

// discoverer finds groups until ctx is done. It sends those that have changed,
// as far as it knows; one without targets ends its source.
type discoverer interface {
	Run(ctx context.Context, up chan<- []group.Group)
}

// provider is one running discovery and the groups it has found.
type provider struct {
	number     uint64
	kind       string     // "file"
	config     sd.Config  // never written to
	discoverer discoverer // nil: static, all groups are known
	refresh    refreshLabels

	// Guarded by Manager.mu.
	heard   bool                   // it has said something
	jobs    []string               // that have its targets; none once it is out of force
	groups  map[string]group.Group // by the discoverer's source; with Sources of Updates
	targets int                    // in groups
}

// newProvider makes the provider of config, first needed by job.
func (c *Change) newProvider(config sd.Config, job string) (*provider, error) {
	m := c.m
	pr := &provider{
		kind:    config.Name(),
		config:  config,
		refresh: refreshLabels{config.Name(), job},
		groups:  map[string]group.Group{},
	}
	if static, ok := config.(sd.StaticConfig); ok {
		pr.number = m.made.Add(1)
		for _, g := range static {
			if g != nil {
				pr.take(group.Of(g))
			}
		}
		return pr, nil
	}
	m.mu.Lock()
	m.refreshes[pr.refresh], c.refreshes[pr.refresh] = true, true
	m.mu.Unlock()
	log := m.log.With("discovery", pr.kind, "config", job)
	if own, ok := config.(*kubernetes.SDConfig); ok {
		d, err := m.clusters.Discoverer(own, log)
		if err != nil {
			return nil, err
		}
		pr.number = m.made.Add(1)
		pr.discoverer = d
		return pr, nil
	}
	d, err := config.NewDiscoverer(sd.DiscovererOptions{
		Logger:            log,
		Metrics:           m.mechanisms.MechanismMetrics[pr.kind],
		HTTPClientOptions: m.httpClient,
		SetName:           job,
	})
	if err != nil {
		return nil, err
	}
	pr.number = m.made.Add(1)
	pr.discoverer = upstream{d}
	return pr, nil
}

// holding are the kinds whose discoveries hold something from when they are made
// until their Run ends: a place among those that a metric is collected from, or
// connections.
var holding = []string{"file", "nerve", "serverset"}

// release lets go of what a provider holds that is never to run.
func (pr *provider) release() {
	if pr.discoverer == nil || !slices.Contains(holding, pr.kind) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	pr.discoverer.Run(ctx, nil)
}

// serves says whether pr is what c asks for.
func (pr *provider) serves(c sd.Config) bool { return reflect.DeepEqual(pr.config, c) }

// take makes g the held group of its source and returns it as Updates show
// it; false: nothing changed.
func (pr *provider) take(g group.Group) (shown group.Group, changed bool) {
	held, known := pr.groups[g.Source]
	if !known && g.Len() == 0 || known && group.Same(held.Targets, g.Targets) {
		return group.Group{}, false
	}
	pr.targets += g.Len() - held.Len()
	if g.Len() == 0 {
		delete(pr.groups, g.Source)
		return group.Group{Source: held.Source}, true
	}
	shown = group.Group{Source: held.Source, Targets: g.Targets}
	if !known {
		shown.Source = fmt.Sprintf("%s/%d:%s", pr.kind, pr.number, g.Source)
	}
	pr.groups[g.Source] = shown
	return shown, true
}

// upstream is a discovery of Prometheus.
type upstream struct{ sd.Discoverer }

// Run translates what the discovery sends. What still arrives after ctx is done
// is read, though nobody has it, so that a discovery which does not look at ctx
// while it sends can end.
func (u upstream) Run(ctx context.Context, up chan<- []group.Group) {
	found := make(chan []*targetgroup.Group)
	done := make(chan struct{})
	go func() {
		defer close(done)
		u.Discoverer.Run(ctx, found)
	}()
	for in := found; ; {
		select {
		case <-done:
			return
		case made, ok := <-in:
			if !ok { // some close it, though they should not
				in = nil
				continue
			}
			groups := make([]group.Group, 0, len(made))
			for _, g := range made {
				if g != nil {
					groups = append(groups, group.Of(g))
				}
			}
			select {
			case up <- groups:
			case <-ctx.Done():
			}
		}
	}
}

// run runs pr until ctx is done and the discoverer returned. One that returns
// before leaves its targets as they are.
func (m *Manager) run(ctx context.Context, pr *provider) {
	m.log.Debug("Starting provider", "provider", pr.kind, "number", pr.number)
	up := make(chan []group.Group)
	done := make(chan struct{})
	go func() {
		defer close(done)
		pr.discoverer.Run(ctx, up)
	}()
	for {
		select {
		case <-done:
			return
		case groups := <-up:
			m.update(pr, groups)
		}
	}
}

// update takes what a discoverer sent.
func (m *Manager) update(pr *provider, groups []group.Group) {
	m.metrics.ReceivedUpdates.Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	pr.heard = true
	changed := false
	for _, g := range groups {
		shown, news := pr.take(g)
		if !news {
			continue
		}
		changed = true
		for _, job := range pr.jobs {
			m.pending.add(job, shown)
		}
	}
	for _, job := range pr.jobs {
		changed = m.arrivedLocked(job, pr) || changed
		if changed {
			m.countLocked(job)
		} else {
			// Found as it was: up to date, with nothing to send.
			m.metrics.LastUpdated.WithLabelValues(job).SetToCurrentTime()
		}
	}
	if changed {
		wake(m.news)
	}
}

package discovery

import (
	"context"
	"fmt"
	"reflect"

	sd "github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// provider is one running discovery and the groups it has found.
type provider struct {
	number     uint64
	kind       string        // "file"
	config     sd.Config     // never written to
	discoverer sd.Discoverer // nil: static, all groups are known
	refresh    refreshLabels

	// Guarded by Manager.mu.
	jobs    []string                      // that have its targets; none once it is out of force
	groups  map[string]*targetgroup.Group // by the discoverer's source; with Sources of Updates
	targets int                           // in groups
}

// newProvider makes the provider of c, first needed by job.
func (m *Manager) newProvider(c sd.Config, job string) (*provider, error) {
	pr := &provider{
		kind:    c.Name(),
		config:  c,
		refresh: refreshLabels{c.Name(), job},
		groups:  map[string]*targetgroup.Group{},
	}
	if static, ok := c.(sd.StaticConfig); ok {
		pr.number = m.made.Add(1)
		for _, g := range static {
			pr.take(g)
		}
		m.metrics.ReceivedUpdates.Inc()
		return pr, nil
	}
	m.mu.Lock()
	m.refreshes[pr.refresh] = true
	m.mu.Unlock()
	d, err := c.NewDiscoverer(sd.DiscovererOptions{
		Logger:            m.log.With("discovery", pr.kind, "config", job),
		Metrics:           m.mechanisms.MechanismMetrics[pr.kind],
		HTTPClientOptions: m.httpClient,
		SetName:           job,
	})
	if err != nil {
		return nil, err
	}
	pr.number = m.made.Add(1)
	pr.discoverer = d
	return pr, nil
}

// serves says whether pr is what c asks for.
func (pr *provider) serves(c sd.Config) bool { return reflect.DeepEqual(pr.config, c) }

// take makes g the held group of its source and returns it as Updates show
// it; nil when nothing changed. g is not written to: a static group belongs
// to the config.
func (pr *provider) take(g *targetgroup.Group) *targetgroup.Group {
	if g == nil {
		return nil
	}
	held := pr.groups[g.Source]
	switch {
	case held == nil && len(g.Targets) == 0:
		return nil
	case held != nil && equal(held, g):
		return nil
	case held != nil:
		pr.targets -= len(held.Targets)
	}
	if len(g.Targets) == 0 {
		delete(pr.groups, g.Source)
		return emptied(held)
	}
	shown := &targetgroup.Group{
		Targets: g.Targets,
		Labels:  g.Labels,
		Source:  fmt.Sprintf("%s/%d:%s", pr.kind, pr.number, g.Source),
	}
	pr.groups[g.Source] = shown
	pr.targets += len(g.Targets)
	return shown
}

// run runs pr until ctx is done and the discoverer returned. One that returns
// before leaves its targets as they are.
func (m *Manager) run(ctx context.Context, pr *provider) {
	m.log.Debug("Starting provider", "provider", pr.kind, "number", pr.number)
	up := make(chan []*targetgroup.Group)
	done := make(chan struct{})
	go func() {
		defer close(done)
		pr.discoverer.Run(ctx, up)
	}()
	// What still arrives after ctx is done is read, though no job has it, so
	// that a discoverer which does not look at ctx while it sends can end.
	for in := up; ; {
		select {
		case <-done:
			return
		case groups, ok := <-in:
			if !ok { // some close it, though they should not
				in = nil
				continue
			}
			m.update(pr, groups)
		}
	}
}

// update takes what a discoverer sent.
func (m *Manager) update(pr *provider, groups []*targetgroup.Group) {
	m.metrics.ReceivedUpdates.Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for _, g := range groups {
		if g = pr.take(g); g == nil {
			continue
		}
		changed = true
		for _, job := range pr.jobs {
			m.pending.add(job, g)
		}
	}
	for _, job := range pr.jobs {
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

package kubernetes

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
	"promagent/discovery/kubernetes/watch"
)

// Discoverer finds the groups of one config.
type Discoverer struct {
	clusters *Clusters
	cluster  *cluster
	parts    []*part // one per namespace of the config
}

func newDiscoverer(c *Clusters, cl *cluster, cfg *SDConfig, namespaces []string, log *slog.Logger) *Discoverer {
	d := &Discoverer{clusters: c, cluster: cl}
	log = log.With("role", string(cfg.Role))
	c.metrics.queue.begin(string(cfg.Role))
	for _, ns := range namespaces {
		d.parts = append(d.parts, &part{cfg: cfg, namespace: ns, metrics: c.metrics, names: c.names, log: log})
	}
	return d
}

// Run sends the groups that have changed until ctx is done: all of them once
// everything that they are made of has been listed, and later those that a
// change of an object touches.
func (d *Discoverer) Run(ctx context.Context, up chan<- []group.Group) {
	watched, release := d.clusters.use(d.cluster)
	defer release()
	var wg sync.WaitGroup
	for _, p := range d.parts {
		wg.Go(func() { p.run(ctx, watched, up) })
	}
	wg.Wait()
}

// key is an object. Kinds that are in no namespace have "".
type key struct {
	kind            object.Kind
	namespace, name string
}

// own is the key in memory of its own: names are pieces of objects, which a map
// that keeps one would keep with it for as long as it has the key.
func (k key) own() key { return key{k.kind, strings.Clone(k.namespace), strings.Clone(k.name)} }

// part finds the groups of the objects of one kind, in one namespace or all.
//
// What a group is made of is noted while it is built: each object that was
// looked up for it, found or not. When one of these changes, the group is built
// again. So there is one rule for all roles.
type part struct {
	cfg       *SDConfig
	namespace string
	metrics   *metrics
	names     *names // shared by all
	log       *slog.Logger

	main    object.Kind
	build   func(object.Object) (group.Group, bool) // false: the group stays as it is
	objects lookup                                  // of kind main

	users map[key]map[*built]struct{} // groups by what they are made of
	made  map[key]*built
	used  map[key]struct{} // looked up for the group that is being built

	wake  chan struct{} // something is dirty
	mu    sync.Mutex    // guards what follows
	live  bool          // all that is watched has been listed
	dirty map[key]time.Time
}

// built is a group that was built.
type built struct {
	of   key
	uses []key
}

// noted is a store whose users are noted.
type noted struct {
	p     *part
	kind  object.Kind
	store *watch.Store
}

func (n *noted) Get(namespace, name string) object.Object {
	n.p.used[key{n.kind, namespace, name}] = struct{}{}
	return n.store.Get(namespace, name)
}

func (p *part) run(ctx context.Context, watched *watch.Cluster, up chan<- []group.Group) {
	p.users, p.made, p.used = map[key]map[*built]struct{}{}, map[key]*built{}, map[key]struct{}{}
	p.dirty, p.wake = map[key]time.Time{}, make(chan struct{}, 1)
	var ends []func()
	defer func() {
		for i := len(ends) - 1; i >= 0; i-- {
			ends[i]()
		}
	}()
	var stores []*watch.Store
	// use watches objects; changes counts their changes for a role.
	use := func(kind object.Kind, namespace string, s Selector, changes func(event string)) *noted {
		store, done := watched.Use(watch.Query{Kind: kind, Namespace: namespace, Label: s.Label, Field: s.Field})
		ends = append(ends, done)
		stores = append(stores, store)
		ends = append(ends, store.Subscribe(func(old, now object.Object) {
			if changes != nil {
				changes(event(old, now))
			}
			o := now
			if o == nil {
				o = old
			}
			m := o.Base()
			p.touch(key{kind, m.Namespace, m.Name})
		}))
		return &noted{p, kind, store}
	}
	main := p.prepare(use)
	for _, s := range stores {
		select {
		case <-s.Synced():
		case <-ctx.Done():
			return
		}
	}
	// From here on changes are noted; what there was before is looked at whole.
	p.mu.Lock()
	p.live = true
	p.mu.Unlock()
	main.store.Range(func(o object.Object) bool {
		m := o.Base()
		p.touch(key{p.main, m.Namespace, m.Name})
		return true
	})
	for first := true; ; first = false {
		if !first {
			select {
			case <-p.wake:
			case <-ctx.Done():
				return
			}
		}
		groups := p.rebuild()
		if len(groups) == 0 && !first { // at first even nothing is worth telling
			continue
		}
		select {
		case up <- groups:
		case <-ctx.Done():
			return
		}
	}
}

func event(old, now object.Object) string {
	switch {
	case old == nil:
		return "add"
	case now == nil:
		return "delete"
	}
	return "update"
}

// prepare chooses what is watched for the role, and how its groups are built.
func (p *part) prepare(use func(object.Kind, string, Selector, func(string)) *noted) (main *noted) {
	cfg, at := p.cfg, p.cfg.AttachMetadata
	b := &builder{
		attach: attach{node: at.Node, namespace: at.Namespace, deployment: at.Deployment, job: at.Job, cronJob: at.CronJob},
		names:  p.names, log: p.log,
	}
	counted := func(r Role) func(string) {
		return func(event string) { p.metrics.events.WithLabelValues(string(r), event).Inc() }
	}
	watchMain := func(kind object.Kind, r Role) {
		p.main = kind
		main = use(kind, p.namespace, cfg.selector(r), counted(r))
		p.objects = main.store
	}
	if at.Namespace && cfg.Role != RoleNode {
		b.namespaces = use(object.KindNamespace, "", Selector{}, nil)
	}
	// What pods are attached with, and the other roles whose targets are pods.
	if cfg.Role == RolePod || cfg.Role == RoleEndpoints || cfg.Role == RoleEndpointSlice {
		if at.Node {
			b.nodes = use(object.KindNode, "", cfg.selector(RoleNode), nil)
		}
		if at.Deployment {
			b.replicaSets = use(object.KindReplicaSet, p.namespace, Selector{}, nil)
		}
		if at.Job || at.CronJob {
			b.jobs = use(object.KindJob, p.namespace, Selector{}, nil)
		}
	}
	if cfg.Role == RoleEndpoints || cfg.Role == RoleEndpointSlice {
		b.services = use(object.KindService, p.namespace, cfg.selector(RoleService), counted(RoleService))
		b.pods = use(object.KindPod, p.namespace, cfg.selector(RolePod), func(event string) {
			if cfg.Role == RoleEndpoints && event == "update" { // as Prometheus counts them
				counted(RolePod)(event)
			}
		})
	}
	always := func(g group.Group) (group.Group, bool) { return g, true }
	switch cfg.Role {
	case RoleNode:
		p.build = func(o object.Object) (group.Group, bool) { return b.node(o.(*object.Node)) }
		watchMain(object.KindNode, RoleNode)
	case RolePod:
		p.build = func(o object.Object) (group.Group, bool) { return always(b.pod(o.(*object.Pod))) }
		watchMain(object.KindPod, RolePod)
	case RoleService:
		p.build = func(o object.Object) (group.Group, bool) { return always(b.service(o.(*object.Service))) }
		watchMain(object.KindService, RoleService)
	case RoleEndpoints:
		p.build = func(o object.Object) (group.Group, bool) { return always(b.endpoints(o.(*object.Endpoints))) }
		watchMain(object.KindEndpoints, RoleEndpoints)
	case RoleEndpointSlice:
		p.build = func(o object.Object) (group.Group, bool) { return always(b.endpointSlice(o.(*object.EndpointSlice))) }
		watchMain(object.KindEndpointSlice, RoleEndpointSlice)
	case RoleIngress:
		p.build = func(o object.Object) (group.Group, bool) { return always(b.ingress(o.(*object.Ingress))) }
		watchMain(object.KindIngress, RoleIngress)
	}
	return main
}

// touch notes that an object has changed.
func (p *part) touch(k key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live {
		return
	}
	if _, known := p.dirty[k]; !known {
		p.dirty[k] = time.Now()
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// rebuild builds the groups that the changes touch, from what the stores hold now.
func (p *part) rebuild() []group.Group {
	begin := time.Now()
	p.mu.Lock()
	dirty := p.dirty
	p.dirty = map[key]time.Time{}
	p.mu.Unlock()
	role := string(p.cfg.Role)
	q := &p.metrics.queue
	todo := map[key]bool{}
	for k, since := range dirty {
		q.latency.WithLabelValues(role).Observe(begin.Sub(since).Seconds())
		if k.kind == p.main {
			todo[k] = true
		}
		for m := range p.users[k] {
			todo[m.of] = true
		}
	}
	if len(todo) == 0 {
		return nil
	}
	q.items.WithLabelValues(role).Add(float64(len(todo)))
	q.depth.WithLabelValues(role).Set(float64(len(todo)))
	groups := make([]group.Group, 0, len(todo))
	for k := range todo {
		if g, changed := p.one(k); changed {
			groups = append(groups, g)
		}
	}
	q.depth.WithLabelValues(role).Set(0)
	q.work.WithLabelValues(role).Observe(time.Since(begin).Seconds())
	return groups
}

// one builds the group of an object, and notes what it is made of.
func (p *part) one(k key) (g group.Group, changed bool) {
	o := p.objects.Get(k.namespace, k.name)
	clear(p.used)
	if o == nil {
		p.note(k)
		return group.Group{Source: source(k.kind, k.namespace, k.name)}, true
	}
	g, changed = p.build(o)
	p.note(k)
	return g, changed
}

// note makes what was used the group's users.
func (p *part) note(k key) {
	m := p.made[k]
	if m != nil {
		for _, u := range m.uses {
			if _, still := p.used[u]; still {
				continue
			}
			delete(p.users[u], m)
			if len(p.users[u]) == 0 {
				delete(p.users, u)
			}
		}
	}
	if len(p.used) == 0 {
		delete(p.made, k)
		return
	}
	if m == nil {
		k = k.own()
		m = &built{of: k}
		p.made[k] = m
	}
	m.uses = m.uses[:0]
	for u := range p.used {
		by := p.users[u]
		if by == nil {
			by = map[*built]struct{}{}
			p.users[u.own()] = by
		}
		by[m] = struct{}{}
		m.uses = append(m.uses, u)
	}
}

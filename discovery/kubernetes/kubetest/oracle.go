package kubetest

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"go.yaml.in/yaml/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"promagent/discovery/group"
)

// Oracle runs Prometheus's own Kubernetes discovery and keeps what it finds.
//
// Prometheus is late or silent in places: endpoints and slices do not follow
// pods, ReplicaSets and Jobs that come after them, and a node that lost its
// addresses keeps its last group. A test that wants to know what is right for a
// state asks a new oracle, and touches the objects with Server.Touch once all
// is quiet, so that they are looked at with everything there.
//
// Prometheus panics when it learns from a list, not from a watch, that a
// ReplicaSet or Job was deleted: with these attached, an oracle must not live
// through CutWatches or Expire.
type Oracle struct {
	config kubernetes.SDConfig

	mu     sync.Mutex
	groups map[string]*targetgroup.Group
	came   map[string]time.Time // when the newest group of a source came
	newest time.Time            // when the last groups came
}

// NewOracle starts the discovery that a kubernetes_sd_config asks for. It runs
// until the test ends.
func NewOracle(t testing.TB, config string) *Oracle {
	t.Helper()
	var cfg kubernetes.SDConfig
	if err := yaml.UnmarshalStrict([]byte(config), &cfg); err != nil {
		t.Fatalf("read the oracle's config: %v", err)
	}
	reg := prometheus.NewRegistry()
	metrics := cfg.NewDiscovererMetrics(reg, discovery.NewRefreshMetrics(reg))
	if err := metrics.Register(); err != nil {
		t.Fatalf("register the oracle's metrics: %v", err)
	}
	d, err := cfg.NewDiscoverer(discovery.DiscovererOptions{Logger: promslog.NewNopLogger(), Metrics: metrics, SetName: "oracle"})
	if err != nil {
		t.Fatalf("make the oracle: %v", err)
	}
	o := &Oracle{config: cfg, groups: map[string]*targetgroup.Group{}, came: map[string]time.Time{}, newest: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	// It is never closed: the discovery's goroutines outlive its Run and may
	// send even then.
	updates, ended := make(chan []*targetgroup.Group), make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		d.Run(ctx, updates)
		close(ended)
	})
	running.Go(func() {
		for {
			select {
			case groups := <-updates:
				o.keep(groups)
			case <-ended:
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return o
}

func (o *Oracle) keep(groups []*targetgroup.Group) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.newest = time.Now()
	for _, g := range groups {
		o.groups[g.Source], o.came[g.Source] = g, o.newest
	}
}

// Groups are the newest groups that have targets, by source. They must not be
// written to.
func (o *Oracle) Groups() map[string]*targetgroup.Group {
	o.mu.Lock()
	defer o.mu.Unlock()
	groups := map[string]*targetgroup.Group{}
	for source, g := range o.groups {
		if len(g.Targets) > 0 {
			groups[source] = g
		}
	}
	return groups
}

// Targets is Groups as Targets makes them.
func (o *Oracle) Targets() map[string][]string {
	targets := map[string][]string{}
	for source, g := range o.Groups() {
		targets[source] = Targets(group.Of(g))
	}
	return targets
}

// Quiet waits until no group has come for as long as d, counted from the call
// at the earliest.
func (o *Oracle) Quiet(t testing.TB, d time.Duration) {
	t.Helper()
	since := time.Now()
	Eventually(t, fmt.Sprintf("the oracle is quiet for %s", d), func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.newest.After(since) {
			since = o.newest
		}
		return time.Since(since) >= d
	})
}

// Settle waits until the groups are those of what the server holds. It touches
// all objects of the server, so that the oracle looks at them again, waits for
// their groups and then until it is quiet for d, and does so until nothing new
// comes of it.
func (o *Oracle) Settle(t testing.TB, s *Server, d time.Duration) {
	t.Helper()
	for before := map[string][]string(nil); ; {
		touched := time.Now()
		s.Touch()
		sources := o.sources(t, s)
		Eventually(t, "the oracle has seen all objects of its role", func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			return !slices.ContainsFunc(sources, func(source string) bool { return !o.came[source].After(touched) })
		})
		Eventually(t, "all watches have been told all", s.idle)
		o.Quiet(t, d)
		now := o.Targets()
		if before != nil && Diff(before, now) == "" {
			return
		}
		before = now
	}
}

// sources are those of the server's objects that the oracle makes groups of,
// with or without targets.
func (o *Oracle) sources(t testing.TB, s *Server) []string {
	t.Helper()
	role := o.config.Role
	of := map[kubernetes.Role]struct{ resource, prefix string }{
		kubernetes.RoleNode: {"nodes", "node"}, kubernetes.RolePod: {"pods", "pod/"}, kubernetes.RoleService: {"services", "svc/"},
		kubernetes.RoleEndpoint: {"endpoints", "endpoints/"}, kubernetes.RoleEndpointSlice: {"endpointslices", "endpointslice/"},
		kubernetes.RoleIngress: {"ingresses", "ingress/"},
	}[role]
	q := query{label: labels.Everything(), field: fields.Everything()}
	for _, sel := range o.config.Selectors {
		if sel.Role != role {
			continue
		}
		var err error
		if q.label, err = labels.Parse(sel.Label); err != nil {
			t.Fatalf("read selector: %v", err)
		}
		if q.field, err = fields.ParseSelector(sel.Field); err != nil {
			t.Fatalf("read selector: %v", err)
		}
	}
	spaces := o.config.NamespaceDiscovery.Names
	var sources []string
	for _, obj := range s.Objects() {
		q.target.res = s.tables[reflect.TypeOf(obj)].res
		ns := accessor(obj).GetNamespace()
		n, ok := obj.(*corev1.Node)
		silent := ok && len(n.Status.Addresses) == 0 // no group comes of it
		elsewhere := ns != "" && len(spaces) > 0 && !slices.Contains(spaces, ns)
		if q.target.res.name == of.resource && q.matches(obj) && !silent && !elsewhere {
			sources = append(sources, of.prefix+key(accessor(obj)))
		}
	}
	return sources
}

// Wait waits until a condition holds of the groups that have targets.
func (o *Oracle) Wait(t testing.TB, what string, holds func(map[string]*targetgroup.Group) bool) {
	t.Helper()
	Eventually(t, what, func() bool { return holds(o.Groups()) })
}

// Targets are the label sets of a group's targets, sorted: what groups of one
// meaning have in common.
func Targets(g group.Group) []string {
	targets := make([]string, g.Len())
	var set group.Set
	for i := range targets {
		set.Reset()
		g.Targets.Labels(i, &set)
		targets[i] = set.Labels().String()
	}
	slices.Sort(targets)
	return targets
}

// Diff says how what was found differs from what the oracle found, a line for
// each target that is missing ("-") or too much ("+"); "" means not at all.
// Both are by source, made by Targets; a source without targets is no source.
func Diff(want, got map[string][]string) string {
	sources := map[string]bool{}
	for source := range want {
		sources[source] = true
	}
	for source := range got {
		sources[source] = true
	}
	var out strings.Builder
	for _, source := range slices.Sorted(maps.Keys(sources)) {
		rest := slices.Clone(got[source])
		for _, target := range want[source] {
			if i := slices.Index(rest, target); i >= 0 {
				rest = slices.Delete(rest, i, i+1)
			} else {
				fmt.Fprintf(&out, "- %s %s\n", source, target)
			}
		}
		for _, target := range rest {
			fmt.Fprintf(&out, "+ %s %s\n", source, target)
		}
	}
	return out.String()
}

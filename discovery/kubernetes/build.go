package kubernetes

import (
	"fmt"
	"log/slog"
	"sync"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// lookup finds objects of one kind among those that are watched.
type lookup interface {
	// Get is nil, or a nil pointer, when there is no such object. Objects
	// without a namespace have "".
	Get(namespace, name string) object.Object
}

// attach says which labels of other objects targets get.
type attach struct{ node, namespace, deployment, job, cronJob bool }

// builder makes the groups of objects.
//
// A group holds pointers to the objects that its labels come from, as they are
// when it is made, and makes the labels when they are asked for. It looks
// nothing up later: to see a change of an object, build the group again.
type builder struct {
	attach attach
	// Nil where not watched. The last four serve attach.
	pods, services                       lookup
	nodes, namespaces, replicaSets, jobs lookup
	names                                *names // nil: none are remembered
	log                                  *slog.Logger
	warned                               sources
	cut                                  sources // whose targets are too many
}

// source is the source of the group that the object of that kind and name has.
func source(kind object.Kind, namespace, name string) string {
	switch kind {
	case object.KindNode:
		return "node/" + name
	case object.KindPod:
		return "pod/" + namespace + "/" + name
	case object.KindService:
		return "svc/" + namespace + "/" + name
	case object.KindEndpoints:
		return "endpoints/" + namespace + "/" + name
	case object.KindEndpointSlice:
		return "endpointslice/" + namespace + "/" + name
	case object.KindIngress:
		return "ingress/" + namespace + "/" + name
	}
	return ""
}

// maxTargets is how many targets a group made of products can have: addresses
// times ports, pods times their ports. One object of 1.5 MB would otherwise be
// good for a billion.
const maxTargets = 100_000

// count is how many targets a group has.
type count struct {
	n   int  // at most maxTargets
	cut bool // there would be more
}

// add counts a times b targets; false: they are too many to count them all.
func (c *count) add(a, b int) bool {
	if more := int64(a) * int64(b); more > int64(maxTargets-c.n) {
		c.n, c.cut = maxTargets, true
		return false
	}
	c.n += a * b
	return true
}

// warnTooMany says when targets of a source are left out.
func (b *builder) warnTooMany(source string, c count) {
	if !c.cut {
		b.cut.forget(source)
	} else if b.cut.first(source, "cut") {
		b.log.Warn(fmt.Sprintf("Kubernetes object has more than %d targets; those beyond are left out", maxTargets), "source", source)
	}
}

// grouped is the group of an object with these targets, none if there are 0.
func grouped(kind object.Kind, m *object.Meta, t group.Targets) group.Group {
	g := group.Group{Source: source(kind, m.Namespace, m.Name)}
	if t != nil && t.Len() > 0 {
		g.Targets = t
	}
	return g
}

// find is the object of type T with that name, or nil.
func find[T any](l lookup, namespace, name string) *T {
	if l == nil {
		return nil
	}
	o, _ := any(l.Get(namespace, name)).(*T)
	return o
}

// namespace is the namespace of that name if its labels are asked for.
func (b *builder) namespace(name string) *object.Other {
	if !b.attach.namespace {
		return nil
	}
	return find[object.Other](b.namespaces, "", name)
}

// podOwner is the owner of the pod's owner, if the labels ask for it: a
// Deployment's for a pod of a ReplicaSet, a CronJob's for one of a Job.
func (b *builder) podOwner(p *object.Pod) *object.Owner {
	var owner *object.Other
	var kind string
	switch {
	case p.Controller.Kind == "ReplicaSet" && b.attach.deployment:
		owner, kind = find[object.Other](b.replicaSets, p.Namespace, p.Controller.Name), "Deployment"
	case p.Controller.Kind == "Job" && b.attach.cronJob:
		owner, kind = find[object.Other](b.jobs, p.Namespace, p.Controller.Name), "CronJob"
	}
	if owner == nil || owner.Controller.Kind != kind {
		return nil
	}
	return &owner.Controller
}

// maxSources bounds what is remembered of warnings.
const maxSources = 1000

// sources are those that something was said of. Objects change often; what is
// wrong with one is worth a line when it starts.
type sources struct {
	mu   sync.Mutex
	said map[string]string
}

// first says whether this was not the last thing said of the source.
func (s *sources) first(source, what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said[source] == what {
		return false
	}
	if s.said == nil || len(s.said) >= maxSources {
		s.said = make(map[string]string)
	}
	s.said[source] = what
	return true
}

// forget lets the next thing of the source be said again.
func (s *sources) forget(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.said, source)
}

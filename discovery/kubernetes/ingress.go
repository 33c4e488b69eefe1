package kubernetes

import (
	"sort"
	"strings"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// ingress is the group of an ingress: a target for each path of each rule, and
// one for a rule that is not about HTTP.
func (b *builder) ingress(in *object.Ingress) group.Group {
	t := &ingressTargets{b: b, ingress: in, namespace: b.namespace(in.Namespace), ends: make([]int32, len(in.Rules))}
	n := int32(0)
	for i := range in.Rules {
		if in.Rules[i].HTTP {
			n += int32(len(in.Rules[i].Paths))
		} else {
			n++
		}
		t.ends[i] = n
	}
	return grouped(object.KindIngress, &in.Meta, t)
}

// ingressTargets are the targets of an ingress.
type ingressTargets struct {
	b         *builder
	ingress   *object.Ingress
	namespace *object.Other
	ends      []int32 // by rule: the targets of it and of those before
}

func (t *ingressTargets) Len() int {
	if len(t.ends) == 0 {
		return 0
	}
	return int(t.ends[len(t.ends)-1])
}

func (t *ingressTargets) Labels(i int, s *group.Set) {
	in := t.ingress
	at, k := span(t.ends, i)
	rule, path := &in.Rules[at], "/"
	if rule.HTTP && rule.Paths[k] != "" {
		path = rule.Paths[k]
	}
	s.Add(addressLabel, rule.Host)
	if in.Class.Set {
		s.Add(metaPrefix+"ingress_class_name", in.Class.Value)
	}
	s.Add(metaPrefix+"ingress_host", rule.Host)
	t.b.objectLabels(s, ingressFamily, &in.Meta)
	s.Add(metaPrefix+"ingress_name", in.Name)
	s.Add(metaPrefix+"ingress_path", path)
	s.Add(metaPrefix+"ingress_scheme", scheme(in.TLSHosts, rule.Host))
	t.b.namespaceLabels(s, in.Namespace, t.namespace)
}

// scheme is that of a host if those hosts, or patterns of them, have TLS.
func scheme(tls []string, host string) string {
	for _, pattern := range tls {
		if pattern == host || matchesWildcard(pattern, host) {
			return "https"
		}
	}
	return "http"
}

// matchesWildcard says whether pattern starts with an asterisk for one label
// of a host name, and the rest is as in host.
func matchesWildcard(pattern, host string) bool {
	after, ok := strings.CutPrefix(pattern, "*")
	if !ok {
		return false
	}
	dot := strings.IndexByte(host, '.')
	if dot < 0 {
		return after == ""
	}
	return after == host[dot:]
}

// span is the part of a list that element i of all parts is in, and its place
// there. ends has, by part, the number of elements up to the part's end.
func span(ends []int32, i int) (part, at int) {
	part = sort.Search(len(ends), func(k int) bool { return int(ends[k]) > i })
	if part > 0 {
		i -= int(ends[part-1])
	}
	return part, i
}

package kubernetes

import (
	"strconv"
	"strings"
	"sync"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

const (
	metaPrefix    = "__meta_kubernetes_"
	addressLabel  = "__address__"
	instanceLabel = "instance"
	present       = "true"
)

// family is what a group of meta labels with free names starts with.
type family uint8

// The families. That of an object's annotations follows that of its labels.
const (
	nodeFamily family = iota
	nodeAnnotations
	podFamily
	podAnnotations
	serviceFamily
	serviceAnnotations
	endpointsFamily
	endpointsAnnotations
	sliceFamily
	sliceAnnotations
	ingressFamily
	ingressAnnotations
	namespaceFamily
	namespaceAnnotations
	topologyFamily
)

// prefixes says how the two meta labels of a name start: the one with the
// value, and the one that tells that there is one.
func (f family) prefixes() (value, there string) {
	if f == topologyFamily {
		return metaPrefix + "endpointslice_endpoint_topology_", metaPrefix + "endpointslice_endpoint_topology_present_"
	}
	resources := [...]string{"node", "pod", "service", "endpoints", "endpointslice", "ingress", "namespace"}
	what := metaPrefix + resources[f/2]
	if f%2 == 1 {
		return what + "_annotation_", what + "_annotationpresent_"
	}
	return what + "_label_", what + "_labelpresent_"
}

// maxNames bounds the names that are remembered: about 300 bytes each.
const maxNames = 4096

// names remembers the meta labels of names of labels and annotations. A
// cluster has few of those, and each is on thousands of targets. Any number of
// goroutines may use it; a nil one remembers nothing.
type names struct {
	mu   sync.RWMutex
	made map[rawName]metaNames
}

type rawName struct {
	family family
	name   string
}

type metaNames struct{ value, there string }

func newNames() *names { return &names{made: make(map[rawName]metaNames)} }

// add adds the meta labels of pairs. Of names that are one when sanitised the
// last counts.
//
// Labels are added by name ascending as far as that is easy, here and by all
// targets: a set sorts them, and a list that is nearly sorted needs next to no
// time for that.
func (n *names) add(s *group.Set, f family, pairs []object.Pair) {
	var few [32]metaNames
	made := few[:0]
	for i := range pairs {
		m := n.of(f, pairs[i].Name)
		made = append(made, m)
		s.Add(m.value, pairs[i].Value)
	}
	for i := range made {
		s.Add(made[i].there, present)
	}
}

func (n *names) of(f family, name string) metaNames {
	if n == nil {
		return makeNames(f, name)
	}
	n.mu.RLock()
	m, ok := n.made[rawName{f, name}]
	n.mu.RUnlock()
	if ok {
		return m
	}
	m = makeNames(f, name)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.made) >= maxNames { // names without end: those in use come back soon
		clear(n.made)
	}
	// The name is part of an object's memory, which must not stay for it.
	n.made[rawName{f, strings.Clone(name)}] = m
	return m
}

// makeNames makes both names in one piece of memory.
func makeNames(f family, name string) metaNames {
	value, there := f.prefixes()
	var b strings.Builder
	b.Grow(len(value) + len(there) + 2*len(name))
	b.WriteString(value)
	writeSanitised(&b, name)
	end := b.Len()
	b.WriteString(there)
	writeSanitised(&b, name)
	return metaNames{value: b.String()[:end], there: b.String()[end:]}
}

// writeSanitised writes name with an underscore for every character, or byte
// that is part of none, that a label name may not have.
func writeSanitised(b *strings.Builder, name string) {
	for _, r := range name {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			r = '_'
		}
		b.WriteByte(byte(r))
	}
}

func sanitised(name string) string {
	var b strings.Builder
	b.Grow(len(name))
	writeSanitised(&b, name)
	return b.String()
}

// objectLabels adds the annotations and labels of an object whose family is f.
func (b *builder) objectLabels(s *group.Set, f family, m *object.Meta) {
	b.names.add(s, f+1, m.Annotations)
	b.names.add(s, f, m.Labels)
}

// namespaceLabels adds the name of a namespace and what is attached of it, nil
// for nothing.
func (b *builder) namespaceLabels(s *group.Set, name string, attached *object.Other) {
	s.Add(metaPrefix+"namespace", name)
	if attached != nil {
		b.objectLabels(s, namespaceFamily, &attached.Meta)
	}
}

// nodeMetaLabels adds the labels that other roles attach of a node, nil for
// none.
func (b *builder) nodeMetaLabels(s *group.Set, n *object.Node) {
	if n != nil {
		b.objectLabels(s, nodeFamily, &n.Meta)
		s.Add(metaPrefix+"node_name", n.Name)
	}
}

// serviceMetaLabels adds those of a service that its endpoints have too, nil
// for none.
func (b *builder) serviceMetaLabels(s *group.Set, svc *object.Service) {
	if svc != nil {
		b.objectLabels(s, serviceFamily, &svc.Meta)
		s.Add(metaPrefix+"service_name", svc.Name)
	}
}

// hostPort is host:port, with brackets around a host that is an IPv6 address,
// and the port as it is written there. A port below zero, which no server
// lets through, is written as Prometheus does it: as unsigned 64 bits for a
// container or an endpoint.
func hostPort(host string, port uint64) (address, number string) {
	b := make([]byte, 0, 128)
	b = appendHost(b, host)
	at := len(b)
	b = strconv.AppendUint(b, port, 10)
	address = string(b)
	return address, address[at:]
}

// signedHostPort is hostPort for services and nodes.
func signedHostPort(host string, port int32) (address, number string) {
	b := make([]byte, 0, 128)
	b = appendHost(b, host)
	at := len(b)
	b = strconv.AppendInt(b, int64(port), 10)
	address = string(b)
	return address, address[at:]
}

func appendHost(b []byte, host string) []byte {
	if strings.IndexByte(host, ':') < 0 {
		b = append(b, host...)
		return append(b, ':')
	}
	b = append(b, '[')
	b = append(b, host...)
	return append(b, "]:"...)
}

package kubernetes

import (
	"strings"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// node is the group of a node: its kubelet. A node without an address has no
// group, which is not the same as an empty one: what was known stays.
func (b *builder) node(n *object.Node) (group.Group, bool) {
	address := nodeAddress(n)
	g := group.Group{Source: source(object.KindNode, "", n.Name)}
	if address < 0 {
		if b.warned.first(g.Source, "address") {
			b.log.Warn("node has no address; an earlier target of it is kept", "node", n.Name)
		}
		return group.Group{}, false
	}
	b.warned.forget(g.Source)
	g.Targets = &nodeTargets{b: b, node: n, address: address}
	return g, true
}

// nodeAddress is the index of the address to reach a node at, -1 if it has
// none of a known type: of the types in this order the first address.
func nodeAddress(n *object.Node) int {
	for _, want := range [...]string{"InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"} {
		for i := range n.Addresses {
			if n.Addresses[i].Type == want {
				return i
			}
		}
	}
	return -1
}

// nodeTargets are the one target of a node.
type nodeTargets struct {
	b       *builder
	node    *object.Node
	address int
}

func (t *nodeTargets) Len() int { return 1 }

func (t *nodeTargets) Labels(_ int, s *group.Set) {
	n := t.node
	address, _ := signedHostPort(n.Addresses[t.address].Address, n.KubeletPort)
	s.Add(addressLabel, address)
	for i := len(n.Addresses) - 1; i >= 0; i-- { // the first of a type is to be the last added
		a := &n.Addresses[i]
		s.Add(metaPrefix+"node_address_"+sanitised(a.Type), a.Address)
	}
	for i := range n.Conditions {
		c := &n.Conditions[i]
		s.Add(metaPrefix+"node_condition_"+sanitised(strings.ToLower(c.Type)), lower(c.Status))
	}
	t.b.nodeMetaLabels(s, n)
	s.Add(metaPrefix+"node_provider_id", n.ProviderID)
	s.Add(instanceLabel, n.Name)
}

package kubernetes

import (
	"bytes"
	"strings"
	"testing"

	"promagent/discovery/kubernetes/object"
)

func TestNodeIsReachedAtItsFirstAddressOfTheBestType(t *testing.T) {
	a := func(typesAndAddresses ...string) (all []object.Address) {
		for i := 0; i < len(typesAndAddresses); i += 2 {
			all = append(all, object.Address{Type: typesAndAddresses[i], Address: typesAndAddresses[i+1]})
		}
		return all
	}
	for _, c := range []struct {
		addresses []object.Address
		port      int32
		want      set
	}{
		{a("Hostname", "w1", "LegacyHostIP", "1.1.1.1", "ExternalDNS", "w1.example", "ExternalIP", "2.2.2.2", "InternalDNS", "w1.in", "InternalIP", "10.0.0.1", "InternalIP", "fd00::1"), 10250, set{
			"__address__": "10.0.0.1:10250", "node_address_InternalIP": "10.0.0.1", "node_address_InternalDNS": "w1.in",
			"node_address_ExternalIP": "2.2.2.2", "node_address_ExternalDNS": "w1.example", "node_address_LegacyHostIP": "1.1.1.1", "node_address_Hostname": "w1",
		}},
		{a("Hostname", "w1", "InternalDNS", "w1.in", "ExternalIP", "2.2.2.2"), 10250, set{
			"__address__": "w1.in:10250", "node_address_InternalDNS": "w1.in", "node_address_ExternalIP": "2.2.2.2", "node_address_Hostname": "w1"}},
		{a("ExternalDNS", "w1.example", "ExternalIP", "2.2.2.2"), 1, set{
			"__address__": "2.2.2.2:1", "node_address_ExternalIP": "2.2.2.2", "node_address_ExternalDNS": "w1.example"}},
		{a("LegacyHostIP", "1.1.1.1", "ExternalDNS", "w1.example"), 1, set{
			"__address__": "w1.example:1", "node_address_LegacyHostIP": "1.1.1.1", "node_address_ExternalDNS": "w1.example"}},
		{a("Hostname", "w1", "LegacyHostIP", "1.1.1.1"), 1, set{
			"__address__": "1.1.1.1:1", "node_address_LegacyHostIP": "1.1.1.1", "node_address_Hostname": "w1"}},
		{a("Odd/Type", "9.9.9.9", "Hostname", "w1"), 0, set{"__address__": "w1:0", "node_address_Hostname": "w1", "node_address_Odd_Type": "9.9.9.9"}},
		{a("InternalIP", "fd00::1"), 10250, set{"__address__": "[fd00::1]:10250", "node_address_InternalIP": "fd00::1"}},
		{a("InternalIP", "", "Hostname", "w1"), 1, set{"__address__": ":1", "node_address_Hostname": "w1"}},
		{a("Hostname", "w1"), -1, set{"__address__": "w1:-1", "node_address_Hostname": "w1"}},
	} {
		n := &object.Node{Meta: object.Meta{Name: "w1"}, Addresses: c.addresses, KubeletPort: c.port}
		g, ok := (&builder{log: silent()}).node(n)
		if !ok {
			t.Errorf("%v: no group", c.addresses)
		}
		check(t, g, "node/w1", c.want.plus(set{"instance": "w1", "node_name": "w1"}))
	}
}

func TestNodeTellsItsProviderConditionsAndMetadata(t *testing.T) {
	n := worker()
	n.ProviderID = "cloud://1"
	n.Conditions = []object.Condition{{Type: "Ready", Status: "True"}, {Type: "DiskPressure", Status: "False"}, {Type: "net.work/OK", Status: "Unknown"}, {Type: "Odd", Status: "MAYBE"}}
	n.Addresses = []object.Address{{Type: "InternalIP", Address: "10.0.0.1"}}
	g, ok := (&builder{log: silent(), names: newNames()}).node(n)
	if !ok {
		t.Fatal("no group")
	}
	check(t, g, "node/w1", workerLabels.plus(set{
		"__address__": "10.0.0.1:0", "instance": "w1", "node_provider_id": "cloud://1", "node_address_InternalIP": "10.0.0.1",
		"node_condition_ready": "true", "node_condition_diskpressure": "false", "node_condition_net_work_ok": "unknown", "node_condition_odd": "maybe",
	}))
}

func TestNodeWithoutAnAddressHasNoGroupAndOneWarning(t *testing.T) {
	var log bytes.Buffer
	b := &builder{log: lines(&log)}
	for _, addresses := range [][]object.Address{nil, nil, {{Type: "Odd", Address: "1.1.1.1"}}} {
		if g, ok := b.node(&object.Node{Meta: object.Meta{Name: "w1"}, Addresses: addresses}); ok {
			t.Errorf("a node with the addresses %v has the group %v", addresses, g)
		}
	}
	if got := strings.Count(log.String(), "level=WARN"); got != 1 || !strings.Contains(log.String(), "node=w1") {
		t.Errorf("%d warnings, want 1 that names the node:\n%s", got, log.String())
	}
	if _, ok := b.node(&object.Node{Meta: object.Meta{Name: "w1"}, Addresses: []object.Address{{Type: "Hostname", Address: "w1"}}}); !ok {
		t.Error("a node with an address has no group")
	}
	b.node(&object.Node{Meta: object.Meta{Name: "w1"}})
	b.node(&object.Node{Meta: object.Meta{Name: "w2"}})
	if got := strings.Count(log.String(), "level=WARN"); got != 3 {
		t.Errorf("%d warnings, want 3: one more when it starts again, and one of another node:\n%s", got, log.String())
	}
}

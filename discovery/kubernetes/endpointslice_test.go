package kubernetes

import (
	"testing"

	"promagent/discovery/kubernetes/object"
)

// sliceOf is a slice of the service front.
func sliceOf(ports []object.SlicePort, endpoints ...object.SliceEndpoint) *object.EndpointSlice {
	return &object.EndpointSlice{
		Meta:        object.Meta{Namespace: "shop", Name: "web-x", Labels: pairs(serviceNameLabel, "web"), Annotations: pairs("a", "2")},
		AddressType: "IPv4", Ports: ports, Endpoints: endpoints,
	}
}

var sliceLabels = set{
	"namespace": "shop", "endpointslice_name": "web-x", "endpointslice_address_type": "IPv4",
	"endpointslice_label_kubernetes_io_service_name": "web", "endpointslice_labelpresent_kubernetes_io_service_name": "true",
	"endpointslice_annotation_a": "2", "endpointslice_annotationpresent_a": "true",
}

// port is a port of a slice with a number and nothing else.
func port(number int32) object.SlicePort { return object.SlicePort{Port: number, HasPort: true} }

func TestSliceHasATargetForEachPortOfEachAddress(t *testing.T) {
	e := sliceOf([]object.SlicePort{
		{Name: given("http"), Protocol: given("TCP"), AppProtocol: given("h2c"), Port: 80, HasPort: true},
		{Name: given(""), Port: 7},
	},
		object.SliceEndpoint{Addresses: []string{"1.1.1.1", "fd00::1"}, Ready: object.True, Serving: object.False, Terminating: object.True,
			Hostname: given("h"), NodeName: given("w9"), Zone: given("z"), Topology: pairs("a/b", "t", "c", "")},
		object.SliceEndpoint{Ready: object.True}, // without addresses: nothing
		object.SliceEndpoint{Addresses: []string{"2.2.2.2"}, Ready: object.False, Target: &object.Ref{Kind: "Other", Name: "o"}},
		object.SliceEndpoint{Addresses: []string{"3.3.3.3"}, Target: toPod("unknown")},
	)
	http := set{"endpointslice_port": "80", "endpointslice_port_name": "http", "endpointslice_port_protocol": "TCP", "endpointslice_port_app_protocol": "h2c"}
	first := set{
		"endpointslice_endpoint_conditions_ready": "true", "endpointslice_endpoint_conditions_serving": "false", "endpointslice_endpoint_conditions_terminating": "true",
		"endpointslice_endpoint_hostname": "h", "endpointslice_endpoint_node_name": "w9", "endpointslice_endpoint_zone": "z",
		"endpointslice_endpoint_topology_a_b": "t", "endpointslice_endpoint_topology_present_a_b": "true", "endpointslice_endpoint_topology_present_c": "true",
	}
	second := set{"endpointslice_endpoint_conditions_ready": "false", "endpointslice_address_target_kind": "Other", "endpointslice_address_target_name": "o"}
	third := set{"endpointslice_address_target_kind": "Pod", "endpointslice_address_target_name": "unknown"}
	want := func(more ...set) (all []set) {
		for _, w := range []set{
			first.plus(http, set{"__address__": "1.1.1.1:80"}), first.plus(http, set{"__address__": "[fd00::1]:80"}),
			first.plus(set{"__address__": "1.1.1.1"}), first.plus(set{"__address__": "fd00::1"}),
			second.plus(http, set{"__address__": "2.2.2.2:80"}), second.plus(set{"__address__": "2.2.2.2"}),
			third.plus(http, set{"__address__": "3.3.3.3:80"}), third.plus(set{"__address__": "3.3.3.3"}),
		} {
			all = append(all, w.plus(sliceLabels).plus(more...))
		}
		return all
	}
	check(t, (&builder{log: silent()}).endpointSlice(e), "endpointslice/shop/web-x", want()...)

	b := &builder{services: holding(front()), pods: holding(), log: silent(), names: newNames()}
	check(t, b.endpointSlice(e), "endpointslice/shop/web-x", want(frontLabels)...)

	b.attach, b.namespaces = attach{namespace: true}, holding(shop())
	check(t, b.endpointSlice(e), "endpointslice/shop/web-x", want(frontLabels, shopLabels)...)

	e.Ports = nil
	check(t, b.endpointSlice(e), "endpointslice/shop/web-x")
}

func TestSliceOfNoServiceHasNoLabelsOfOne(t *testing.T) {
	b := &builder{services: holding(front(), &object.Service{Meta: object.Meta{Namespace: "shop"}}), log: silent()}
	e := sliceOf([]object.SlicePort{port(80)}, object.SliceEndpoint{Addresses: []string{"1.1.1.1"}})
	for _, l := range [][]object.Pair{nil, pairs(serviceNameLabel, "gone"), pairs("web", serviceNameLabel)} {
		e.Labels = l
		for _, got := range made(b.endpointSlice(e)) {
			if got.Has(metaPrefix + "service_name") {
				t.Errorf("labels %v: the target has the labels of a service: %v", l, got)
			}
		}
	}
}

func TestSecondFamilyOfADualStackServiceHasNoTargets(t *testing.T) {
	for _, c := range []struct {
		policy   string
		families []string
		address  string
		targets  int
	}{
		{"PreferDualStack", []string{"IPv4", "IPv6"}, "IPv4", 1},
		{"PreferDualStack", []string{"IPv4", "IPv6"}, "IPv6", 0},
		{"RequireDualStack", []string{"IPv6", "IPv4"}, "IPv6", 1},
		{"RequireDualStack", []string{"IPv6", "IPv4"}, "IPv4", 0},
		{"PreferDualStack", []string{"IPv4"}, "FQDN", 0},
		{"PreferDualStack", nil, "IPv6", 1},
		{"SingleStack", []string{"IPv4"}, "IPv6", 1},
		{"", []string{"IPv4", "IPv6"}, "IPv6", 1},
	} {
		svc := front()
		svc.IPFamilyPolicy, svc.IPFamilies = c.policy, c.families
		b := &builder{services: holding(svc), log: silent()}
		e := sliceOf([]object.SlicePort{port(80)}, object.SliceEndpoint{Addresses: []string{"1.1.1.1"}})
		e.AddressType = c.address
		g := b.endpointSlice(e)
		if g.Len() != c.targets || g.Source != "endpointslice/shop/web-x" {
			t.Errorf("%s %v, slice of %s: %d targets in %q, want %d", c.policy, c.families, c.address, g.Len(), g.Source, c.targets)
		}
		if c.targets == 0 && g.Targets != nil {
			t.Errorf("%s %v, slice of %s: an empty group has Targets", c.policy, c.families, c.address)
		}
	}
}

func TestEndpointOfASliceHasThePodsLabelsAndThoseOfTheContainerWithThePort(t *testing.T) {
	p := web()
	p.Containers[2].Ports = append(p.Containers[2].Ports, object.ContainerPort{Name: "again", Port: 8080, Protocol: "SCTP"}, object.ContainerPort{Name: "third", Port: 8080})
	b := &builder{pods: holding(p), log: silent()}
	ref := set{"endpointslice_address_target_kind": "Pod", "endpointslice_address_target_name": "web-1"}
	// A port without a number covers none, though it looks like 6060.
	g := b.endpointSlice(sliceOf([]object.SlicePort{{Protocol: given("UDP"), Port: 8080, HasPort: true}, port(1234), {Name: given("any"), Port: 6060}},
		object.SliceEndpoint{Addresses: []string{"7.7.7.7"}, Target: toPod("web-1")}, object.SliceEndpoint{Target: toPod("web-1")}))
	all := sliceLabels.plus(webLabels)
	check(t, g, "endpointslice/shop/web-x",
		all.plus(ref, portLabels("setup", "setup:3", "true", "again", "8080", "SCTP"), set{"__address__": "7.7.7.7:8080", "endpointslice_port": "8080", "endpointslice_port_protocol": "UDP"}),
		all.plus(ref, set{"__address__": "7.7.7.7:1234", "endpointslice_port": "1234"}),
		all.plus(ref, set{"__address__": "7.7.7.7", "endpointslice_port_name": "any"}),
		all.plus(portLabels("app", "app:1", "false", "", "9090", "TCP"), set{"__address__": "10.1.1.1:9090"}),
		all.plus(portLabels("setup", "setup:3", "true", "dbg", "6060", "UDP"), set{"__address__": "10.1.1.1:6060"}),
	)

	p.IP = ""
	if g := b.endpointSlice(sliceOf([]object.SlicePort{port(1)}, object.SliceEndpoint{Addresses: []string{"7.7.7.7"}, Target: toPod("web-1")})); g.Len() != 1 {
		t.Errorf("a pod without an IP has %d targets, want that of its endpoint", g.Len())
	}
}

func TestPodOfAnEndpointWithoutAddressesIsNotSeen(t *testing.T) {
	b := &builder{pods: holding(web()), log: silent()}
	g := b.endpointSlice(sliceOf([]object.SlicePort{port(1)},
		object.SliceEndpoint{Target: toPod("web-1")}, object.SliceEndpoint{Addresses: []string{"7.7.7.7"}}))
	check(t, g, "endpointslice/shop/web-x", sliceLabels.plus(set{"__address__": "7.7.7.7:1", "endpointslice_port": "1"}))
}

func TestSliceGetsWhatIsAttached(t *testing.T) {
	p := web()
	p.Containers = nil
	job := web()
	job.Name, job.Controller, job.Containers = "dump-1-x", object.Owner{Kind: "Job", Name: "dump-1"}, nil
	b := &builder{
		attach: attach{true, true, true, true, true},
		pods:   holding(p, job), nodes: holding(worker()), namespaces: holding(shop()),
		replicaSets: holding(owned("web-rs", "Deployment", "web")), jobs: holding(owned("dump-1", "CronJob", "dump")),
		log: silent(), names: newNames(),
	}
	g := b.endpointSlice(sliceOf([]object.SlicePort{port(80)},
		object.SliceEndpoint{Addresses: []string{"1.0.0.1"}, NodeName: given("w1"), Target: toPod("web-1")},
		object.SliceEndpoint{Addresses: []string{"1.0.0.2"}, NodeName: given("w1"), Target: &object.Ref{Kind: "Node", Name: "gone"}}, // the target counts
		object.SliceEndpoint{Addresses: []string{"1.0.0.3"}, NodeName: given("gone"), Target: &object.Ref{Kind: "Node", Name: "w1"}},
		object.SliceEndpoint{Addresses: []string{"1.0.0.4"}, Target: toPod("dump-1-x")},
		object.SliceEndpoint{Addresses: []string{"1.0.0.5"}, NodeName: given("w1")},
	))
	target := func(address, kind, name string, more ...set) set {
		return sliceLabels.plus(shopLabels, set{"__address__": address, "endpointslice_port": "80", "endpointslice_address_target_kind": kind, "endpointslice_address_target_name": name}).plus(more...)
	}
	on := func(name string) set { return set{"endpointslice_endpoint_node_name": name} }
	check(t, g, "endpointslice/shop/web-x",
		target("1.0.0.1:80", "Pod", "web-1", workerLabels, webLabels, on("w1"), set{"pod_deployment_name": "web"}),
		target("1.0.0.2:80", "Node", "gone", on("w1")),
		target("1.0.0.3:80", "Node", "w1", workerLabels, on("gone")),
		target("1.0.0.4:80", "Pod", "dump-1-x", webLabels, set{"pod_name": "dump-1-x", "pod_controller_kind": "Job", "pod_controller_name": "dump-1",
			"pod_job_name": "dump-1", "pod_cronjob_name": "dump"}),
		target("1.0.0.5:80", "", "", workerLabels, on("w1")),
	)
}

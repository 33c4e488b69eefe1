package kubernetes

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// toPod is a reference to a pod of the namespace shop.
func toPod(name string) *object.Ref {
	return &object.Ref{Kind: "Pod", Namespace: "shop", Name: name}
}

// endpointsOf are Endpoints of the service front.
func endpointsOf(subsets ...object.Subset) *object.Endpoints {
	return &object.Endpoints{Meta: object.Meta{Namespace: "shop", Name: "web", Labels: pairs("l", "1"), Annotations: pairs("a", "2")}, Subsets: subsets}
}

var endpointsLabels = set{
	"namespace": "shop", "endpoints_name": "web",
	"endpoints_label_l": "1", "endpoints_labelpresent_l": "true", "endpoints_annotation_a": "2", "endpoints_annotationpresent_a": "true",
}

func TestEndpointsHaveATargetForEachPortOfEachAddress(t *testing.T) {
	e := endpointsOf(
		object.Subset{Ready: []object.EndpointAddress{{IP: "9.9.9.9"}}}, // without ports: nothing
		object.Subset{
			Ready:    []object.EndpointAddress{{IP: "1.1.1.1", Hostname: "h", NodeName: given("w9")}, {IP: "fd00::1", Target: &object.Ref{Kind: "Other", Name: "o"}}},
			NotReady: []object.EndpointAddress{{IP: "2.2.2.2", NodeName: given("")}},
			Ports:    []object.EndpointPort{{Name: "http", Port: 80, Protocol: "TCP"}, {Port: -1}},
		},
		object.Subset{Ports: []object.EndpointPort{{Port: 1}}}, // without addresses: nothing
		object.Subset{NotReady: []object.EndpointAddress{{IP: "3.3.3.3", Target: toPod("unknown")}}, Ports: []object.EndpointPort{{Port: 81, Protocol: "UDP"}}},
	)
	target := func(address, ready string, more ...set) set {
		return endpointsLabels.plus(set{"__address__": address, "endpoint_ready": ready}).plus(more...)
	}
	http := set{"endpoint_port_name": "http", "endpoint_port_protocol": "TCP"}
	host := set{"endpoint_hostname": "h", "endpoint_node_name": "w9"}
	other := set{"endpoint_address_target_kind": "Other", "endpoint_address_target_name": "o"}
	want := func(more ...set) (all []set) {
		for _, w := range []set{
			target("1.1.1.1:80", "true", http, host), target("[fd00::1]:80", "true", http, other), target("2.2.2.2:80", "false", http),
			target("1.1.1.1:18446744073709551615", "true", host), target("[fd00::1]:18446744073709551615", "true", other), target("2.2.2.2:18446744073709551615", "false"),
			target("3.3.3.3:81", "false", set{"endpoint_port_protocol": "UDP", "endpoint_address_target_kind": "Pod", "endpoint_address_target_name": "unknown"}),
		} {
			all = append(all, w.plus(more...))
		}
		return all
	}
	check(t, (&builder{log: silent()}).endpoints(e), "endpoints/shop/web", want()...)

	b := &builder{services: holding(front()), pods: holding(), log: silent(), names: newNames()}
	check(t, b.endpoints(e), "endpoints/shop/web", want(frontLabels)...)

	b.attach, b.namespaces = attach{namespace: true}, holding(shop())
	check(t, b.endpoints(e), "endpoints/shop/web", want(frontLabels, shopLabels)...)
}

func TestEndpointOfAPodHasThePodsLabelsAndThoseOfTheContainerWithThePort(t *testing.T) {
	p := web()
	// The same port again: the last container's counts, and its first name.
	p.Containers[2].Ports = append(p.Containers[2].Ports, object.ContainerPort{Name: "again", Port: 8080, Protocol: "SCTP"}, object.ContainerPort{Name: "third", Port: 8080})
	b := &builder{pods: holding(p), log: silent()}
	ref := set{"endpoint_address_target_kind": "Pod", "endpoint_address_target_name": "web-1"}
	g := b.endpoints(endpointsOf(
		object.Subset{
			Ready: []object.EndpointAddress{{IP: "7.7.7.7", Target: toPod("web-1")}},
			Ports: []object.EndpointPort{{Name: "ep", Port: 8080, Protocol: "UDP"}, {Port: 1234}},
		},
		object.Subset{
			NotReady: []object.EndpointAddress{{IP: "7.7.7.7", Target: toPod("web-1")}},
			Ports:    []object.EndpointPort{{Port: 9090}},
		},
	))
	check(t, g, "endpoints/shop/web",
		endpointsLabels.plus(webLabels, ref, portLabels("setup", "setup:3", "true", "again", "8080", "UDP"), set{
			"__address__": "7.7.7.7:8080", "endpoint_ready": "true", "endpoint_port_name": "ep", "endpoint_port_protocol": "UDP"}),
		endpointsLabels.plus(webLabels, ref, set{"__address__": "7.7.7.7:1234", "endpoint_ready": "true"}),
		endpointsLabels.plus(webLabels, ref, portLabels("app", "app:1", "false", "", "9090", ""), set{"__address__": "7.7.7.7:9090", "endpoint_ready": "false"}),
		// What the pod declares and no endpoint has, at the pod's own address.
		endpointsLabels.plus(webLabels, portLabels("setup", "setup:3", "true", "dbg", "6060", "UDP"), set{"__address__": "10.1.1.1:6060"}),
	)
}

func TestPortsOfAPodWithoutAnIPAreNoTargetsOfTheirOwn(t *testing.T) {
	p := web()
	p.IP = ""
	b := &builder{pods: holding(p), log: silent()}
	g := b.endpoints(endpointsOf(object.Subset{
		Ready: []object.EndpointAddress{{IP: "7.7.7.7", Target: toPod("web-1")}},
		Ports: []object.EndpointPort{{Port: 1234}},
	}))
	check(t, g, "endpoints/shop/web", endpointsLabels.plus(webLabels, set{
		"pod_ip": "", "__address__": "7.7.7.7:1234", "endpoint_ready": "true", "endpoint_address_target_kind": "Pod", "endpoint_address_target_name": "web-1"}))
}

func TestEndpointsOfManyPodsListEachPodsOtherPortsOnce(t *testing.T) {
	one, two := web(), web()
	two.Name, two.IP = "web-2", "10.1.1.2"
	b := &builder{pods: holding(one, two), log: silent()}
	g := b.endpoints(endpointsOf(object.Subset{
		Ready: []object.EndpointAddress{
			{IP: "10.1.1.1", Target: toPod("web-1")}, {IP: "10.1.1.1", Target: toPod("web-1")},
			{IP: "10.1.1.3", Target: toPod("gone")}, {IP: "10.1.1.3", Target: toPod("gone")},
			{IP: "10.1.1.2", Target: toPod("web-2")}, {IP: "10.1.1.4", Target: &object.Ref{Kind: "Pod", Namespace: "other", Name: "web-1"}},
		},
		Ports: []object.EndpointPort{{Port: 8080}},
	}))
	var got []string
	for _, l := range made(g) {
		got = append(got, l.Get("__address__")+" "+l.Get(metaPrefix+"pod_name")+" "+l.Get(metaPrefix+"pod_container_port_number"))
	}
	want := []string{
		"10.1.1.1:8080 web-1 8080", "10.1.1.1:8080 web-1 8080", "10.1.1.3:8080  ", "10.1.1.3:8080  ", "10.1.1.2:8080 web-2 8080", "10.1.1.4:8080  ",
		"10.1.1.1:9090 web-1 9090", "10.1.1.1:6060 web-1 6060", "10.1.1.2:9090 web-2 9090", "10.1.1.2:6060 web-2 6060",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEndpointsGetWhatIsAttached(t *testing.T) {
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
	g := b.endpoints(endpointsOf(object.Subset{
		Ready: []object.EndpointAddress{
			{IP: "1.0.0.1", NodeName: given("w1"), Target: toPod("web-1")},
			{IP: "1.0.0.2", NodeName: given("gone"), Target: &object.Ref{Kind: "Node", Name: "w1"}}, // the name counts
			{IP: "1.0.0.3", Target: &object.Ref{Kind: "Node", Name: "w1"}},
			{IP: "1.0.0.4", Target: toPod("dump-1-x")},
			{IP: "1.0.0.5", Target: &object.Ref{Kind: "Node", Name: "gone"}},
		},
		Ports: []object.EndpointPort{{Port: 80}},
	}))
	target := func(address, kind, name string, more ...set) set {
		return endpointsLabels.plus(shopLabels, set{"__address__": address, "endpoint_ready": "true", "endpoint_address_target_kind": kind, "endpoint_address_target_name": name}).plus(more...)
	}
	check(t, g, "endpoints/shop/web",
		target("1.0.0.1:80", "Pod", "web-1", workerLabels, webLabels, set{"endpoint_node_name": "w1", "pod_deployment_name": "web"}),
		target("1.0.0.2:80", "Node", "w1", set{"endpoint_node_name": "gone"}),
		target("1.0.0.3:80", "Node", "w1", workerLabels),
		target("1.0.0.4:80", "Pod", "dump-1-x", webLabels, set{"pod_name": "dump-1-x", "pod_controller_kind": "Job", "pod_controller_name": "dump-1",
			"pod_job_name": "dump-1", "pod_cronjob_name": "dump"}),
		target("1.0.0.5:80", "Node", "gone"),
	)
}

func TestEndpointsOfSubsetsAreEachOfTheirOwnPod(t *testing.T) {
	one, two := web(), web()
	two.Name, two.Controller = "web-2", object.Owner{Kind: "ReplicaSet", Name: "web-2-rs"}
	one.Containers, two.Containers = nil, nil
	b := &builder{
		attach: attach{node: true, deployment: true}, nodes: holding(worker()), pods: holding(one, two), log: silent(),
		replicaSets: holding(owned("web-rs", "Deployment", "web"), owned("web-2-rs", "Deployment", "web-2")),
	}
	subset := func(ref *object.Ref, node object.Optional, port int32) object.Subset {
		return object.Subset{Ready: []object.EndpointAddress{{IP: "1.0.0.1", Target: ref, NodeName: node}}, Ports: []object.EndpointPort{{Port: port}}}
	}
	g := b.endpoints(endpointsOf(
		object.Subset{Ready: []object.EndpointAddress{{IP: "9.9.9.9", Target: toPod("web-1")}}},
		subset(toPod("web-1"), given("w1"), 1), subset(toPod("web-2"), object.Optional{}, 2), subset(toPod("web-1"), object.Optional{}, 3)))
	var got []string
	for _, l := range made(g) {
		got = append(got, l.Get("__address__")+" "+l.Get(metaPrefix+"pod_name")+" "+l.Get(metaPrefix+"pod_deployment_name")+" "+l.Get(metaPrefix+"node_name"))
	}
	if want := []string{"1.0.0.1:1 web-1 web w1", "1.0.0.1:2 web-2 web-2 ", "1.0.0.1:3 web-1 web "}; !slices.Equal(got, want) {
		t.Errorf("targets %q, want %q", got, want)
	}
}

func TestTargetsOfOtherKindsAreNeitherPodsNorNodes(t *testing.T) {
	other := &object.Ref{Kind: "External", Namespace: "shop", Name: "web-1"}
	like := worker()
	like.Name = "web-1"
	b := &builder{attach: attach{node: true}, nodes: holding(like), pods: holding(web()), log: silent()}
	groups := map[string]group.Group{
		"endpoints": b.endpoints(endpointsOf(object.Subset{Ready: []object.EndpointAddress{{IP: "1.0.0.1", Target: other}}, Ports: []object.EndpointPort{{Port: 8080}}})),
		"slice":     b.endpointSlice(sliceOf([]object.SlicePort{port(8080)}, object.SliceEndpoint{Addresses: []string{"1.0.0.1"}, Target: other})),
	}
	for role, g := range groups {
		if g.Len() != 1 {
			t.Fatalf("%s: %d targets, want 1", role, g.Len())
		}
		l := made(g)[0]
		if l.Has(metaPrefix+"pod_name") || l.Has(metaPrefix+"node_name") || l.Has(metaPrefix+"pod_container_name") {
			t.Errorf("%s: a target that is no pod has labels of one: %v", role, l)
		}
	}
}

func TestNodesThatAreWatchedForOthersAreNotAttached(t *testing.T) {
	b := &builder{nodes: holding(worker()), namespaces: holding(shop()), replicaSets: holding(owned("web-rs", "Deployment", "web")), pods: holding(web()), log: silent()}
	for role, g := range map[string]group.Group{
		"pod":       b.pod(web()),
		"endpoints": b.endpoints(endpointsOf(object.Subset{Ready: []object.EndpointAddress{{IP: "1.0.0.1", NodeName: given("w1"), Target: toPod("web-1")}}, Ports: []object.EndpointPort{{Port: 1}}})),
		"slice":     b.endpointSlice(sliceOf([]object.SlicePort{port(1)}, object.SliceEndpoint{Addresses: []string{"1.0.0.1"}, NodeName: given("w1"), Target: toPod("web-1")})),
	} {
		for _, l := range made(g) {
			if l.Has(metaPrefix+"node_name") || l.Has(metaPrefix+"namespace_label_team_x") || l.Has(metaPrefix+"pod_deployment_name") {
				t.Errorf("%s: labels that were not asked for: %v", role, l)
			}
		}
		if g.Len() == 0 {
			t.Errorf("%s: no targets", role)
		}
	}
}

func TestOtherPortsOfAPodHaveNoLabelsOfANode(t *testing.T) {
	b := &builder{attach: attach{node: true}, pods: holding(web()), nodes: holding(worker()), log: silent()}
	g := b.endpoints(endpointsOf(object.Subset{
		Ready: []object.EndpointAddress{{IP: "10.1.1.1", NodeName: given("w1"), Target: toPod("web-1")}},
		Ports: []object.EndpointPort{{Port: 8080}},
	}))
	for i, l := range made(g) {
		if got, want := l.Get(metaPrefix+"node_name") != "", i == 0; got != want {
			t.Errorf("target %s: labels of the node: %v, want %v", l.Get("__address__"), got, want)
		}
	}
}

func TestPodThatChangesDuringTheBuildIsOneVersion(t *testing.T) {
	b := &builder{pods: &changing{}, log: silent()}
	g := b.endpoints(endpointsOf(object.Subset{
		Ready: []object.EndpointAddress{{IP: "1.0.0.1", Target: toPod("p")}, {IP: "1.0.0.2", Target: toPod("p")}},
		Ports: []object.EndpointPort{{Port: 80}},
	}))
	for _, l := range made(g) {
		if got := l.Get(metaPrefix + "pod_uid"); got != "x" {
			t.Errorf("target %s is of version %q, want x", l.Get("__address__"), got)
		}
	}
}

// changing is a lookup in which a pod is another one each time.
type changing struct{ uid string }

func (c *changing) Get(namespace, name string) object.Object {
	c.uid += "x"
	return &object.Pod{Meta: object.Meta{Namespace: namespace, Name: name, UID: c.uid}}
}

func TestEndpointsOverCapacityAreToldOnce(t *testing.T) {
	var log bytes.Buffer
	b := &builder{log: lines(&log)}
	e := endpointsOf()
	tell := func(labels, annotations []object.Pair, warnings int, contains string) {
		t.Helper()
		log.Reset()
		e.Labels, e.Annotations = labels, annotations
		b.endpoints(e)
		b.endpoints(e)
		if got := strings.Count(log.String(), "level=WARN"); got != warnings || !strings.Contains(log.String(), contains) {
			t.Errorf("%d warnings, want %d with %q:\n%s", got, warnings, contains, log.String())
		}
	}
	tell(nil, nil, 0, "")
	tell(pairs(overCapacity, "warning"), nil, 1, "endpoints=web")
	tell(nil, pairs(overCapacity, "truncated"), 1, "truncated")
	tell(nil, pairs(overCapacity, "odd"), 0, "")
	tell(pairs(overCapacity, "truncated"), nil, 1, "namespace=shop")
}

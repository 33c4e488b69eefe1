package kubernetes

import (
	"testing"

	"promagent/discovery/kubernetes/object"
)

// web is a pod with two containers, three ports and an init container.
func web() *object.Pod {
	return &object.Pod{
		Meta: object.Meta{
			Namespace: "shop", Name: "web-1", UID: "u-1",
			Labels:      pairs("app", "web"),
			Annotations: pairs("prometheus.io/scrape", "true"),
			Controller:  object.Owner{Kind: "ReplicaSet", Name: "web-rs"},
		},
		NodeName: "w1", HostIP: "192.0.2.1", IP: "10.1.1.1", Phase: "Running", Ready: "True",
		Containers: []object.Container{
			{Name: "app", Image: "app:1", ID: "c://1", Ports: []object.ContainerPort{{Name: "http", Port: 8080, Protocol: "TCP"}, {Port: 9090, Protocol: "TCP"}}},
			{Name: "side", Image: "side:2"},
			{Name: "setup", Image: "setup:3", ID: "c://3", Init: true, Ports: []object.ContainerPort{{Name: "dbg", Port: 6060, Protocol: "UDP"}}},
		},
	}
}

// webLabels are those that all targets of the pod have.
var webLabels = set{
	"pod_name": "web-1", "pod_uid": "u-1", "pod_ip": "10.1.1.1", "pod_host_ip": "192.0.2.1", "pod_node_name": "w1",
	"pod_phase": "Running", "pod_ready": "true",
	"pod_label_app": "web", "pod_labelpresent_app": "true",
	"pod_annotation_prometheus_io_scrape": "true", "pod_annotationpresent_prometheus_io_scrape": "true",
	"pod_controller_kind": "ReplicaSet", "pod_controller_name": "web-rs",
}

// portLabels are those of a port of a container of the pod.
func portLabels(container, image, init, name, number, protocol string) set {
	return set{
		"pod_container_name": container, "pod_container_image": image, "pod_container_init": init,
		"pod_container_port_name": name, "pod_container_port_number": number, "pod_container_port_protocol": protocol,
	}
}

// webTargets are the pod's targets in role pod.
func webTargets(more ...set) []set {
	all := []set{
		portLabels("app", "app:1", "false", "http", "8080", "TCP").plus(set{"__address__": "10.1.1.1:8080", "pod_container_id": "c://1"}),
		portLabels("app", "app:1", "false", "", "9090", "TCP").plus(set{"__address__": "10.1.1.1:9090", "pod_container_id": "c://1"}),
		{"__address__": "10.1.1.1", "pod_container_name": "side", "pod_container_image": "side:2", "pod_container_init": "false"},
		portLabels("setup", "setup:3", "true", "dbg", "6060", "UDP").plus(set{"__address__": "10.1.1.1:6060", "pod_container_id": "c://3"}),
	}
	for i := range all {
		all[i] = all[i].plus(webLabels, set{"namespace": "shop"}).plus(more...)
	}
	return all
}

func TestPodHasATargetForEachDeclaredPort(t *testing.T) {
	check(t, (&builder{log: silent()}).pod(web()), "pod/shop/web-1", webTargets()...)
}

func TestPodOfAnyPhaseWithAnIPHasTargets(t *testing.T) {
	for _, phase := range []string{"Succeeded", "Failed", "Pending", ""} {
		p := web()
		p.Phase = phase
		check(t, (&builder{log: silent()}).pod(p), "pod/shop/web-1", webTargets(set{"pod_phase": phase})...)
	}
	p := web()
	p.IP = ""
	check(t, (&builder{log: silent()}).pod(p), "pod/shop/web-1")
}

func TestPodReadinessIsThatOfItsCondition(t *testing.T) {
	for status, want := range map[string]string{"True": "true", "False": "false", "Unknown": "unknown", "": "unknown", "ODD": "odd"} {
		p := web()
		p.Ready = status
		check(t, (&builder{log: silent()}).pod(p), "pod/shop/web-1", webTargets(set{"pod_ready": want})...)
	}
}

func TestPodWithIPv6HasBracketsWithAPortOnly(t *testing.T) {
	p := web()
	p.IP = "fd00::1"
	want := webTargets(set{"pod_ip": "fd00::1"})
	want[0]["__address__"], want[1]["__address__"] = "[fd00::1]:8080", "[fd00::1]:9090"
	want[2]["__address__"], want[3]["__address__"] = "fd00::1", "[fd00::1]:6060"
	check(t, (&builder{log: silent()}).pod(p), "pod/shop/web-1", want...)
}

func TestPodWithNothingButAnIP(t *testing.T) {
	p := &object.Pod{Meta: object.Meta{Namespace: "a", Name: "p"}, IP: "10.0.0.1", Containers: []object.Container{{Name: "c"}}}
	check(t, (&builder{log: silent()}).pod(p), "pod/a/p", set{
		"__address__": "10.0.0.1", "namespace": "a", "pod_name": "p", "pod_ip": "10.0.0.1", "pod_ready": "unknown",
		"pod_container_name": "c", "pod_container_init": "false",
	})
	p.Containers = nil
	check(t, (&builder{log: silent()}).pod(p), "pod/a/p")
}

func TestPodGetsWhatIsAttached(t *testing.T) {
	rs := holding(owned("web-rs", "Deployment", "web"), owned("odd-rs", "Rollout", "web"), &object.Other{Meta: object.Meta{Namespace: "shop", Name: "free-rs"}})
	jobs := holding(owned("dump-1", "CronJob", "dump"), owned("odd", "Other", "dump"), &object.Other{Meta: object.Meta{Namespace: "shop", Name: "free"}})
	deployment := set{"pod_deployment_name": "web"}
	for name, c := range map[string]struct {
		attach     attach
		controller object.Owner
		want       []set // more labels; nil: no targets
		nodes      lookup
	}{
		"nothing":                           {attach{}, object.Owner{Kind: "ReplicaSet", Name: "web-rs"}, []set{{}}, nil},
		"node":                              {attach{node: true}, object.Owner{Kind: "ReplicaSet", Name: "web-rs"}, []set{workerLabels}, holding(worker())},
		"unknown node":                      {attach{node: true}, object.Owner{Kind: "ReplicaSet", Name: "web-rs"}, nil, holding()},
		"no nodes":                          {attach{node: true}, object.Owner{Kind: "ReplicaSet", Name: "web-rs"}, nil, nilPointers[object.Node, *object.Node]{}},
		"namespace":                         {attach{namespace: true}, object.Owner{Kind: "ReplicaSet", Name: "web-rs"}, []set{shopLabels}, nil},
		"deployment":                        {attach{deployment: true}, object.Owner{Kind: "ReplicaSet", Name: "web-rs"}, []set{deployment}, nil},
		"owner of another kind":             {attach{deployment: true}, object.Owner{Kind: "ReplicaSet", Name: "odd-rs"}, []set{{}}, nil},
		"ReplicaSet of nobody":              {attach{deployment: true}, object.Owner{Kind: "ReplicaSet", Name: "free-rs"}, []set{{}}, nil},
		"ReplicaSet gone":                   {attach{deployment: true}, object.Owner{Kind: "ReplicaSet", Name: "gone"}, []set{{}}, nil},
		"deployment, of a Job":              {attach{deployment: true}, object.Owner{Kind: "Job", Name: "dump-1"}, []set{{}}, nil},
		"job":                               {attach{job: true}, object.Owner{Kind: "Job", Name: "dump-1"}, []set{{"pod_job_name": "dump-1"}}, nil},
		"job gone":                          {attach{job: true}, object.Owner{Kind: "Job", Name: "gone"}, []set{{"pod_job_name": "gone"}}, nil},
		"job, of a ReplicaSet":              {attach{job: true}, object.Owner{Kind: "ReplicaSet", Name: "web-rs"}, []set{{}}, nil},
		"cronjob":                           {attach{cronJob: true}, object.Owner{Kind: "Job", Name: "dump-1"}, []set{{"pod_cronjob_name": "dump"}}, nil},
		"cronjob of another kind":           {attach{cronJob: true}, object.Owner{Kind: "Job", Name: "odd"}, []set{{}}, nil},
		"job of nobody":                     {attach{job: true, cronJob: true}, object.Owner{Kind: "Job", Name: "free"}, []set{{"pod_job_name": "free"}}, nil},
		"owner without a kind":              {attach{}, object.Owner{Name: "x"}, []set{{}}, nil},
		"owner without a name":              {attach{job: true}, object.Owner{Kind: "Job"}, []set{{}}, nil},
		"everything":                        {attach{true, true, true, true, true}, object.Owner{Kind: "Job", Name: "dump-1"}, []set{workerLabels, shopLabels, {"pod_job_name": "dump-1", "pod_cronjob_name": "dump"}}, holding(worker())},
		"everything, of a ReplicaSet":       {attach{true, true, true, true, true}, object.Owner{Kind: "ReplicaSet", Name: "web-rs"}, []set{workerLabels, shopLabels, deployment}, holding(worker())},
		"a StatefulSet has no other labels": {attach{deployment: true, job: true, cronJob: true}, object.Owner{Kind: "StatefulSet", Name: "web-rs"}, []set{{}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := &builder{attach: c.attach, namespaces: holding(shop()), replicaSets: rs, jobs: jobs, nodes: c.nodes, log: silent(), names: newNames()}
			p := web()
			p.Controller = c.controller
			var want []set
			if c.want != nil {
				want = webTargets(append(c.want, set{"pod_controller_kind": c.controller.Kind, "pod_controller_name": c.controller.Name})...)
			}
			check(t, b.pod(p), "pod/shop/web-1", want...)
		})
	}
}

func TestGroupKeepsWhatItWasMadeOf(t *testing.T) {
	nodes := holding(worker())
	b := &builder{attach: attach{node: true, deployment: true}, nodes: nodes, replicaSets: holding(owned("web-rs", "Deployment", "web")), log: silent()}
	g := b.pod(web())
	clear(nodes)
	check(t, g, "pod/shop/web-1", webTargets(workerLabels, set{"pod_deployment_name": "web"})...)
	check(t, b.pod(web()), "pod/shop/web-1")
}

func TestPodPortsOutOfRangeAreWrittenAsTheyCome(t *testing.T) {
	p := &object.Pod{IP: "10.0.0.1", Containers: []object.Container{{Name: "c", Ports: []object.ContainerPort{{Port: -1}, {Port: 0}, {Port: 70000}}}}}
	var got []string
	for _, l := range made((&builder{log: silent()}).pod(p)) {
		got = append(got, l.Get("__address__"))
	}
	want := []string{"10.0.0.1:18446744073709551615", "10.0.0.1:0", "10.0.0.1:70000"}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("addresses %q, want %q", got, want)
	}
}

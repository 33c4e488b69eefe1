package kubernetes

import (
	"testing"

	"promagent/discovery/kubernetes/object"
)

// front is a service with two ports, and frontLabels what targets of it and of
// its endpoints have.
func front() *object.Service {
	return &object.Service{
		Meta: object.Meta{Namespace: "shop", Name: "web", Labels: pairs("tier", "front"), Annotations: pairs("a.b/c", "d")},
		Type: "ClusterIP", ClusterIP: "10.9.0.1",
		Ports: []object.ServicePort{{Name: "http", Port: 80, Protocol: "TCP"}, {Port: 53, Protocol: "UDP"}},
	}
}

var frontLabels = set{
	"service_name": "web", "service_label_tier": "front", "service_labelpresent_tier": "true",
	"service_annotation_a_b_c": "d", "service_annotationpresent_a_b_c": "true",
}

func TestServiceHasATargetForEachPort(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*object.Service)
		want   set
	}{
		"ClusterIP": {func(*object.Service) {}, set{"service_cluster_ip": "10.9.0.1", "service_type": "ClusterIP"}},
		"headless":  {func(s *object.Service) { s.ClusterIP = "None" }, set{"service_cluster_ip": "None", "service_type": "ClusterIP"}},
		"NodePort": {func(s *object.Service) { s.Type, s.LoadBalancerIP = "NodePort", "1.1.1.1" },
			set{"service_cluster_ip": "10.9.0.1", "service_type": "NodePort"}},
		"ExternalName": {func(s *object.Service) { s.Type, s.ExternalName = "ExternalName", "web.example" },
			set{"service_external_name": "web.example", "service_type": "ExternalName"}},
		"not ExternalName": {func(s *object.Service) { s.ExternalName = "web.example" }, set{"service_cluster_ip": "10.9.0.1", "service_type": "ClusterIP"}},
		"LoadBalancer": {func(s *object.Service) {
			s.Type, s.LoadBalancerIP, s.IngressIPs = "LoadBalancer", "1.1.1.1", []string{"2.2.2.2", "fd00::2"}
		}, set{"service_cluster_ip": "10.9.0.1", "service_type": "LoadBalancer", "service_loadbalancer_ip": "2.2.2.2,fd00::2"}},
		"LoadBalancer to be": {func(s *object.Service) { s.Type, s.LoadBalancerIP = "LoadBalancer", "1.1.1.1" },
			set{"service_cluster_ip": "10.9.0.1", "service_type": "LoadBalancer", "service_loadbalancer_ip": "1.1.1.1"}},
		"LoadBalancer without an IP": {func(s *object.Service) { s.Type = "LoadBalancer" }, set{"service_cluster_ip": "10.9.0.1", "service_type": "LoadBalancer"}},
		"no type":                    {func(s *object.Service) { s.Type, s.ClusterIP = "", "" }, set{}},
	} {
		t.Run(name, func(t *testing.T) {
			svc := front()
			c.change(svc)
			check(t, (&builder{log: silent()}).service(svc), "svc/shop/web",
				frontLabels.plus(c.want, set{"namespace": "shop", "__address__": "web.shop.svc:80", "service_port_name": "http", "service_port_number": "80", "service_port_protocol": "TCP"}),
				frontLabels.plus(c.want, set{"namespace": "shop", "__address__": "web.shop.svc:53", "service_port_number": "53", "service_port_protocol": "UDP"}))
		})
	}
}

func TestServiceGetsItsNamespaceAttached(t *testing.T) {
	svc := front()
	svc.Ports = []object.ServicePort{{Port: -1}}
	want := frontLabels.plus(set{"namespace": "shop", "__address__": "web.shop.svc:-1", "service_port_number": "-1", "service_type": "ClusterIP", "service_cluster_ip": "10.9.0.1"})
	b := &builder{attach: attach{namespace: true}, namespaces: holding(shop()), log: silent()}
	check(t, b.service(svc), "svc/shop/web", want.plus(shopLabels))
	b.namespaces = nilPointers[object.Other, *object.Other]{}
	check(t, b.service(svc), "svc/shop/web", want)
}

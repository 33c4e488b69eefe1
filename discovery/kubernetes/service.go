package kubernetes

import (
	"strings"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// service is the group of a service: a target for each port, at its name in
// the cluster's DNS.
func (b *builder) service(svc *object.Service) group.Group {
	return grouped(object.KindService, &svc.Meta, &serviceTargets{b, svc, b.namespace(svc.Namespace)})
}

// serviceTargets are the targets of a service.
type serviceTargets struct {
	b         *builder
	service   *object.Service
	namespace *object.Other
}

func (t *serviceTargets) Len() int { return len(t.service.Ports) }

func (t *serviceTargets) Labels(i int, s *group.Set) {
	svc, port := t.service, &t.service.Ports[i]
	address, number := signedHostPort(svc.Name+"."+svc.Namespace+".svc", port.Port)
	s.Add(addressLabel, address)
	t.b.namespaceLabels(s, svc.Namespace, t.namespace)
	if svc.Type == "ExternalName" {
		s.Add(metaPrefix+"service_external_name", svc.ExternalName)
	} else {
		s.Add(metaPrefix+"service_cluster_ip", svc.ClusterIP)
	}
	if svc.Type == "LoadBalancer" {
		ip := svc.LoadBalancerIP
		if len(svc.IngressIPs) > 0 {
			ip = strings.Join(svc.IngressIPs, ",")
		}
		s.Add(metaPrefix+"service_loadbalancer_ip", ip)
	}
	t.b.serviceMetaLabels(s, svc)
	s.Add(metaPrefix+"service_port_name", port.Name)
	s.Add(metaPrefix+"service_port_number", number)
	s.Add(metaPrefix+"service_port_protocol", port.Protocol)
	s.Add(metaPrefix+"service_type", svc.Type)
}

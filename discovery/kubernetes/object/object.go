// Package object holds Kubernetes objects as far as targets and their labels
// need them, and decodes them from protobuf or JSON without the rest.
//
// The path: an encoded object -> Decode -> a pointer to one of the types here.
// JSON goes through FromJSON first, which makes the encoded object of it.
// Objects never change once they are decoded; their strings share memory with
// nothing else.
package object

import "strconv"

// Kind is a kind of object.
type Kind uint8

// The kinds.
const (
	KindNode Kind = iota + 1
	KindPod
	KindService
	KindEndpoints
	KindEndpointSlice
	KindIngress
	KindNamespace
	KindReplicaSet
	KindJob
)

// String is the kind's name in errors.
func (k Kind) String() string {
	switch k {
	case KindNode:
		return "node"
	case KindPod:
		return "pod"
	case KindService:
		return "service"
	case KindEndpoints:
		return "endpoints"
	case KindEndpointSlice:
		return "endpointslice"
	case KindIngress:
		return "ingress"
	case KindNamespace:
		return "namespace"
	case KindReplicaSet:
		return "replicaset"
	case KindJob:
		return "job"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Object is a pointer to one of the types of this package.
type Object interface {
	// Base is what every object has.
	Base() *Meta
	// Equal says whether nothing that this package keeps is different. The
	// other is of the same type.
	Equal(Object) bool
}

// Pair is a label or an annotation.
type Pair struct{ Name, Value string }

// Owner is the owner that controls an object; zero when there is none.
type Owner struct{ Kind, Name string }

// Meta is an object's metadata.
type Meta struct {
	Namespace, Name, UID string
	Labels, Annotations  []Pair // by Name ascending, each once
	Controller           Owner
}

// Base makes every type that embeds a Meta an Object, as far as that goes.
func (m *Meta) Base() *Meta { return m }

// Ref is a reference to an object.
type Ref struct{ Kind, Namespace, Name string }

// Optional is a string that may be absent, which is not the same as empty.
type Optional struct {
	Value string
	Set   bool
}

// Bool is a truth value that may be absent.
type Bool uint8

// The values of a Bool.
const (
	Unset Bool = iota
	False
	True
)

// Condition is a condition of a node.
type Condition struct{ Type, Status string }

// Address is an address of a node.
type Address struct{ Type, Address string }

// Node is v1 Node.
type Node struct {
	Meta
	ProviderID  string
	Conditions  []Condition
	Addresses   []Address
	KubeletPort int32
}

// ContainerPort is a port that a container declares.
type ContainerPort struct {
	Name     string
	Port     int32
	Protocol string
}

// Container is a container of a pod with the ID that its status tells, "" if
// there is none (yet).
type Container struct {
	Name, Image, ID string
	Ports           []ContainerPort
	Init            bool
}

// Pod is v1 Pod.
type Pod struct {
	Meta
	NodeName, HostIP, IP, Phase string
	Ready                       string      // status of the condition Ready: "True", "False", "Unknown"; "" without one
	Containers                  []Container // init containers after the others
}

// ServicePort is a port of a service.
type ServicePort struct {
	Name     string
	Port     int32
	Protocol string
}

// Service is v1 Service.
type Service struct {
	Meta
	Type, ClusterIP, ExternalName, LoadBalancerIP string
	IngressIPs                                    []string // of the load balancer's status, those with an IP
	IPFamilyPolicy                                string   // "" when absent
	IPFamilies                                    []string
	Ports                                         []ServicePort
}

// EndpointPort is a port of a subset of v1 Endpoints.
type EndpointPort struct {
	Name     string
	Port     int32
	Protocol string
}

// EndpointAddress is an address of a subset of v1 Endpoints.
type EndpointAddress struct {
	IP, Hostname string
	NodeName     Optional
	Target       *Ref // nil: none
}

// Subset is a subset of v1 Endpoints.
type Subset struct {
	Ready, NotReady []EndpointAddress
	Ports           []EndpointPort
}

// Endpoints is v1 Endpoints.
type Endpoints struct {
	Meta
	Subsets []Subset
}

// SlicePort is a port of an EndpointSlice.
type SlicePort struct {
	Name, Protocol, AppProtocol Optional
	Port                        int32
	HasPort                     bool
}

// SliceEndpoint is an endpoint of an EndpointSlice.
type SliceEndpoint struct {
	Addresses                   []string
	Ready, Serving, Terminating Bool
	Hostname, NodeName, Zone    Optional
	Target                      *Ref   // nil: none
	Topology                    []Pair // deprecatedTopology, by Name ascending
}

// EndpointSlice is discovery.k8s.io/v1 EndpointSlice.
type EndpointSlice struct {
	Meta
	AddressType string
	Endpoints   []SliceEndpoint
	Ports       []SlicePort
}

// IngressRule is a rule of an Ingress.
type IngressRule struct {
	Host  string
	HTTP  bool     // there is an HTTP rule
	Paths []string // of the HTTP rule, "" included
}

// Ingress is networking.k8s.io/v1 Ingress.
type Ingress struct {
	Meta
	Class    Optional
	Rules    []IngressRule
	TLSHosts []string
}

// Other is an object of which the metadata is enough: a Namespace, a
// ReplicaSet, a Job.
type Other struct{ Meta }

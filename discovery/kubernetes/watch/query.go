// Package watch keeps the objects of a Kubernetes API server that somebody
// asked for, as they are now.
//
// The path: a Query -> Cluster.Use -> the Store that all users of this Query
// share. A store lists once, item by item from one streamed response, and then
// follows one watch; what it holds stays until the server says otherwise. The
// server may answer in protobuf or in JSON.
package watch

import (
	"fmt"
	"net/url"

	"promagent/discovery/kubernetes/object"
)

// Query says which objects. Equal queries share a Store.
type Query struct {
	Kind      object.Kind
	Namespace string // "": all; nodes and namespaces have none
	Label     string // label selector; "": all
	Field     string // field selector; "": all
}

// resource is how the API server calls a kind.
type resource struct {
	group, version, name string
	everywhere           bool // not in a namespace
	metadata             bool // the metadata is all that is wanted
}

// resource is that of the query's kind; false: there is none.
func (q Query) resource() (resource, bool) {
	switch q.Kind {
	case object.KindNode:
		return resource{version: "v1", name: "nodes", everywhere: true}, true
	case object.KindPod:
		return resource{version: "v1", name: "pods"}, true
	case object.KindService:
		return resource{version: "v1", name: "services"}, true
	case object.KindEndpoints:
		return resource{version: "v1", name: "endpoints"}, true
	case object.KindEndpointSlice:
		return resource{group: "discovery.k8s.io", version: "v1", name: "endpointslices"}, true
	case object.KindIngress:
		return resource{group: "networking.k8s.io", version: "v1", name: "ingresses"}, true
	case object.KindNamespace:
		return resource{version: "v1", name: "namespaces", everywhere: true, metadata: true}, true
	case object.KindReplicaSet:
		return resource{group: "apps", version: "v1", name: "replicasets", metadata: true}, true
	case object.KindJob:
		return resource{group: "batch", version: "v1", name: "jobs", metadata: true}, true
	}
	return resource{}, false
}

// path is where the API server has the objects, with a leading slash.
func (q Query) path() string {
	r, _ := q.resource()
	p := "/api/" + r.version
	if r.group != "" {
		p = "/apis/" + r.group + "/" + r.version
	}
	if q.Namespace != "" && !r.everywhere {
		p += "/namespaces/" + url.PathEscape(q.Namespace)
	}
	return p + "/" + r.name
}

// values are the parameters that choose objects.
func (q Query) values() url.Values {
	v := url.Values{}
	if q.Label != "" {
		v.Set("labelSelector", q.Label)
	}
	if q.Field != "" {
		v.Set("fieldSelector", q.Field)
	}
	return v
}

// String is the query for a reader of the log.
func (q Query) String() string {
	r, _ := q.resource()
	s := r.name
	if q.Namespace != "" && !r.everywhere {
		s += fmt.Sprintf(" in namespace %q", q.Namespace)
	}
	if q.Label != "" {
		s += fmt.Sprintf(" with label selector %q", q.Label)
	}
	if q.Field != "" {
		s += fmt.Sprintf(" with field selector %q", q.Field)
	}
	return s
}

// rights says what a service account needs for the query.
func (q Query) rights() string {
	r, _ := q.resource()
	where, in := "ClusterRole", ""
	if q.Namespace != "" && !r.everywhere {
		where, in = "Role or ClusterRole", fmt.Sprintf(" in namespace %q", q.Namespace)
	}
	return fmt.Sprintf("the service account needs the verbs list and watch on %s (API group %q)%s; add them to its %s", r.name, r.group, in, where)
}

package kubetest

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// resource is a kind of object as the API serves it.
type resource struct {
	gv         schema.GroupVersion
	name, kind string // "pods", "Pod"
	namespaced bool
	list       func(items []runtime.Object) runtime.Object
	fields     func(runtime.Object) fields.Set // nil: none but those of the metadata
	noNames    bool                            // metadata.namespace cannot be selected by
}

func (r *resource) gr() schema.GroupResource { return r.gv.WithResource(r.name).GroupResource() }

// prefix is the path under which the group and version are served.
func (r *resource) prefix() string {
	if r.gv.Group == "" {
		return "/api/" + r.gv.Version
	}
	return "/apis/" + r.gv.String()
}

// newResource makes a resource of which the objects are *T and lists have items of T.
func newResource[T any, P interface {
	*T
	runtime.Object
}](gv schema.GroupVersion, name, kind string, list func([]T) runtime.Object) *resource {
	return &resource{gv: gv, name: name, kind: kind, namespaced: true, list: func(objs []runtime.Object) runtime.Object {
		items := make([]T, len(objs))
		for i, o := range objs {
			items[i] = *o.(P)
			// The items of a list have no kind of their own.
			P(&items[i]).GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		}
		return list(items)
	}}
}

// resources makes the table of all that is served.
func resources() []*resource {
	nodes := newResource(corev1.SchemeGroupVersion, "nodes", "Node", func(i []corev1.Node) runtime.Object { return &corev1.NodeList{Items: i} })
	nodes.namespaced, nodes.noNames = false, true
	nodes.fields = func(o runtime.Object) fields.Set {
		return fields.Set{"spec.unschedulable": strconv.FormatBool(o.(*corev1.Node).Spec.Unschedulable)}
	}
	namespaces := newResource(corev1.SchemeGroupVersion, "namespaces", "Namespace", func(i []corev1.Namespace) runtime.Object { return &corev1.NamespaceList{Items: i} })
	namespaces.namespaced, namespaces.noNames = false, true
	namespaces.fields = func(o runtime.Object) fields.Set {
		n := o.(*corev1.Namespace)
		return fields.Set{"status.phase": string(n.Status.Phase), "name": n.Name}
	}
	pods := newResource(corev1.SchemeGroupVersion, "pods", "Pod", func(i []corev1.Pod) runtime.Object { return &corev1.PodList{Items: i} })
	pods.fields = func(o runtime.Object) fields.Set {
		p := o.(*corev1.Pod)
		return fields.Set{
			"spec.nodeName":           p.Spec.NodeName,
			"spec.restartPolicy":      string(p.Spec.RestartPolicy),
			"spec.schedulerName":      p.Spec.SchedulerName,
			"spec.serviceAccountName": p.Spec.ServiceAccountName,
			"spec.hostNetwork":        strconv.FormatBool(p.Spec.HostNetwork),
			"status.phase":            string(p.Status.Phase),
			"status.podIP":            p.Status.PodIP,
		}
	}
	services := newResource(corev1.SchemeGroupVersion, "services", "Service", func(i []corev1.Service) runtime.Object { return &corev1.ServiceList{Items: i} })
	services.fields = func(o runtime.Object) fields.Set {
		s := o.(*corev1.Service)
		return fields.Set{"spec.type": string(s.Spec.Type), "spec.clusterIP": s.Spec.ClusterIP}
	}
	replicaSets := newResource(appsv1.SchemeGroupVersion, "replicasets", "ReplicaSet", func(i []appsv1.ReplicaSet) runtime.Object { return &appsv1.ReplicaSetList{Items: i} })
	replicaSets.fields = func(o runtime.Object) fields.Set {
		return fields.Set{"status.replicas": strconv.Itoa(int(o.(*appsv1.ReplicaSet).Status.Replicas))}
	}
	jobs := newResource(batchv1.SchemeGroupVersion, "jobs", "Job", func(i []batchv1.Job) runtime.Object { return &batchv1.JobList{Items: i} })
	jobs.fields = func(o runtime.Object) fields.Set {
		return fields.Set{"status.successful": strconv.Itoa(int(o.(*batchv1.Job).Status.Succeeded))}
	}
	return []*resource{
		nodes, namespaces, pods, services, replicaSets, jobs,
		newResource(corev1.SchemeGroupVersion, "endpoints", "Endpoints", func(i []corev1.Endpoints) runtime.Object { return &corev1.EndpointsList{Items: i} }),
		newResource(discoveryv1.SchemeGroupVersion, "endpointslices", "EndpointSlice", func(i []discoveryv1.EndpointSlice) runtime.Object { return &discoveryv1.EndpointSliceList{Items: i} }),
		newResource(networkingv1.SchemeGroupVersion, "ingresses", "Ingress", func(i []networkingv1.Ingress) runtime.Object { return &networkingv1.IngressList{Items: i} }),
	}
}

// selectable are the fields of an object that a field selector may name.
func (r *resource) selectable(obj runtime.Object) fields.Set {
	set := fields.Set{}
	if r.fields != nil {
		set = r.fields(obj)
	}
	m := accessor(obj)
	set["metadata.name"] = m.GetName()
	if !r.noNames {
		set["metadata.namespace"] = m.GetNamespace()
	}
	return set
}

// known says with an error which field of a selector the kind does not know.
func (r *resource) known(sel fields.Selector, empty runtime.Object) error {
	set := r.selectable(empty)
	for _, req := range sel.Requirements() {
		if _, ok := set[req.Field]; !ok {
			return fmt.Errorf("field label not supported: %s", req.Field)
		}
	}
	return nil
}

// codecs are what objects are written and read with. It is made for each
// server: a scheme is not for sharing with others who may add to it.
type codecs struct {
	scheme *runtime.Scheme
	serializer.CodecFactory
}

func newCodecs() codecs {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, metav1.AddMetaToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return codecs{scheme: scheme, CodecFactory: serializer.NewCodecFactory(scheme)}
}

// accessor is the metadata of an object; every object here has one.
func accessor(obj runtime.Object) metav1.Object {
	m, err := meta.Accessor(obj)
	if err != nil {
		panic(fmt.Sprintf("read metadata of %T: %v", obj, err))
	}
	return m
}

// target is what a request asks for.
type target struct {
	res             *resource
	namespace, name string // "": all
}

// route finds what a path names: /PREFIX/RESOURCE[/NAME] or
// /PREFIX/namespaces/NAMESPACE/RESOURCE[/NAME].
func route(all []*resource, path string) (target, bool) {
	for _, r := range all {
		rest, ok := strings.CutPrefix(path, r.prefix()+"/")
		if !ok {
			continue
		}
		words := strings.Split(rest, "/")
		t := target{res: r}
		if r.namespaced && len(words) > 2 && words[0] == "namespaces" {
			t.namespace, words = words[1], words[2:]
		}
		if words[0] != r.name || len(words) > 2 {
			continue
		}
		if len(words) == 2 {
			if t.name = words[1]; r.namespaced && t.namespace == "" {
				continue
			}
		}
		return t, true
	}
	return target{}, false
}

package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	kjson "sigs.k8s.io/json"
)

// mostValues is how many values an object in JSON can have, those in its texts
// counted. One that takes two bytes and a comma in JSON can take a hundred in
// memory; the server takes objects of 1.5 MiB.
const mostValues = 1_000_000

// FromJSON makes the message that Decode decodes from an object in JSON: the
// fields that Decode keeps, and no others. So there is one decoder, and both
// encodings of an object become the same one.
//
// It reads JSON as Kubernetes does: names are told apart by case, and null is a
// value that is not there. Fields that nobody asks for may be anything. An error
// says which kind it was and which field ("decode pod: status.podIP: ...").
func FromJSON(kind Kind, raw []byte) ([]byte, error) {
	v, m := kind.inJSON()
	if m == nil {
		return nil, fmt.Errorf("decode %s: no such kind", kind)
	}
	if n := bytes.Count(raw, []byte(",")); n > mostValues {
		return nil, fmt.Errorf("decode %s: an object of %d values, more than %d", kind, n, mostValues)
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, v); err != nil {
		return nil, fmt.Errorf("decode %s: %w", kind, plain(err))
	}
	return m.append(nil, reflect.ValueOf(v).Elem()), nil
}

// inJSON is where an object of the kind is put to, and how it becomes a
// message; nil: there is no such kind.
func (k Kind) inJSON() (any, layout) {
	switch k {
	case KindNode:
		return &jsonNode{}, nodeLayout
	case KindPod:
		return &jsonPod{}, podLayout
	case KindService:
		return &jsonService{}, serviceLayout
	case KindEndpoints:
		return &jsonEndpoints{}, endpointsLayout
	case KindEndpointSlice:
		return &jsonSlice{}, sliceLayout
	case KindIngress:
		return &jsonIngress{}, ingressLayout
	case KindNamespace, KindReplicaSet, KindJob:
		return &jsonOther{}, otherLayout
	}
	return nil, nil
}

// Below are the objects in JSON as far as they are kept, and the numbers that
// the decoders know their fields by. A pointer is a field that may be absent,
// which is not the same as empty.

var (
	nodeLayout      = layoutOf(reflect.TypeFor[jsonNode]())
	podLayout       = layoutOf(reflect.TypeFor[jsonPod]())
	serviceLayout   = layoutOf(reflect.TypeFor[jsonService]())
	endpointsLayout = layoutOf(reflect.TypeFor[jsonEndpoints]())
	sliceLayout     = layoutOf(reflect.TypeFor[jsonSlice]())
	ingressLayout   = layoutOf(reflect.TypeFor[jsonIngress]())
	otherLayout     = layoutOf(reflect.TypeFor[jsonOther]())
)

type jsonMeta struct {
	Name            string            `json:"name" field:"1"`
	Namespace       string            `json:"namespace" field:"3"`
	UID             string            `json:"uid" field:"5"`
	ResourceVersion string            `json:"resourceVersion" field:"6"`
	Labels          map[string]string `json:"labels" field:"11"`
	Annotations     map[string]string `json:"annotations" field:"12"`
	OwnerReferences []struct {
		Kind       string `json:"kind" field:"1"`
		Name       string `json:"name" field:"3"`
		Controller *bool  `json:"controller" field:"6"`
	} `json:"ownerReferences" field:"13"`
}

type jsonOther struct {
	Metadata jsonMeta `json:"metadata" field:"1"`
}

type jsonRef struct {
	Kind      string `json:"kind" field:"1"`
	Namespace string `json:"namespace" field:"2"`
	Name      string `json:"name" field:"3"`
}

type jsonCondition struct {
	Type   string `json:"type" field:"1"`
	Status string `json:"status" field:"2"`
}

type jsonNode struct {
	Metadata jsonMeta `json:"metadata" field:"1"`
	Spec     struct {
		ProviderID string `json:"providerID" field:"3"`
	} `json:"spec" field:"2"`
	Status struct {
		Conditions []jsonCondition `json:"conditions" field:"4"`
		Addresses  []struct {
			Type    string `json:"type" field:"1"`
			Address string `json:"address" field:"2"`
		} `json:"addresses" field:"5"`
		DaemonEndpoints struct {
			KubeletEndpoint struct {
				Port int32 `json:"Port" field:"1"`
			} `json:"kubeletEndpoint" field:"1"`
		} `json:"daemonEndpoints" field:"6"`
	} `json:"status" field:"3"`
}

type jsonContainer struct {
	Name  string `json:"name" field:"1"`
	Image string `json:"image" field:"2"`
	Ports []struct {
		Name          string `json:"name" field:"1"`
		ContainerPort int32  `json:"containerPort" field:"3"`
		Protocol      string `json:"protocol" field:"4"`
	} `json:"ports" field:"6"`
}

type jsonContainerStatus struct {
	Name        string `json:"name" field:"1"`
	ContainerID string `json:"containerID" field:"8"`
}

type jsonPod struct {
	Metadata jsonMeta `json:"metadata" field:"1"`
	Spec     struct {
		Containers     []jsonContainer `json:"containers" field:"2"`
		NodeName       string          `json:"nodeName" field:"10"`
		InitContainers []jsonContainer `json:"initContainers" field:"20"`
	} `json:"spec" field:"2"`
	Status struct {
		Phase                 string                `json:"phase" field:"1"`
		Conditions            []jsonCondition       `json:"conditions" field:"2"`
		HostIP                string                `json:"hostIP" field:"5"`
		PodIP                 string                `json:"podIP" field:"6"`
		ContainerStatuses     []jsonContainerStatus `json:"containerStatuses" field:"8"`
		InitContainerStatuses []jsonContainerStatus `json:"initContainerStatuses" field:"10"`
	} `json:"status" field:"3"`
}

type jsonService struct {
	Metadata jsonMeta `json:"metadata" field:"1"`
	Spec     struct {
		Ports []struct {
			Name     string `json:"name" field:"1"`
			Protocol string `json:"protocol" field:"2"`
			Port     int32  `json:"port" field:"3"`
		} `json:"ports" field:"1"`
		ClusterIP      string   `json:"clusterIP" field:"3"`
		Type           string   `json:"type" field:"4"`
		LoadBalancerIP string   `json:"loadBalancerIP" field:"8"`
		ExternalName   string   `json:"externalName" field:"10"`
		IPFamilyPolicy string   `json:"ipFamilyPolicy" field:"17"`
		IPFamilies     []string `json:"ipFamilies" field:"19"`
	} `json:"spec" field:"2"`
	Status struct {
		LoadBalancer struct {
			Ingress []struct {
				IP string `json:"ip" field:"1"`
			} `json:"ingress" field:"1"`
		} `json:"loadBalancer" field:"1"`
	} `json:"status" field:"3"`
}

type jsonAddress struct {
	IP        string   `json:"ip" field:"1"`
	TargetRef *jsonRef `json:"targetRef" field:"2"`
	Hostname  string   `json:"hostname" field:"3"`
	NodeName  *string  `json:"nodeName" field:"4"`
}

type jsonEndpoints struct {
	Metadata jsonMeta `json:"metadata" field:"1"`
	Subsets  []struct {
		Addresses         []jsonAddress `json:"addresses" field:"1"`
		NotReadyAddresses []jsonAddress `json:"notReadyAddresses" field:"2"`
		Ports             []struct {
			Name     string `json:"name" field:"1"`
			Port     int32  `json:"port" field:"2"`
			Protocol string `json:"protocol" field:"3"`
		} `json:"ports" field:"3"`
	} `json:"subsets" field:"2"`
}

type jsonSlice struct {
	Metadata  jsonMeta `json:"metadata" field:"1"`
	Endpoints []struct {
		Addresses  []string `json:"addresses" field:"1"`
		Conditions struct {
			Ready       *bool `json:"ready" field:"1"`
			Serving     *bool `json:"serving" field:"2"`
			Terminating *bool `json:"terminating" field:"3"`
		} `json:"conditions" field:"2"`
		Hostname           *string           `json:"hostname" field:"3"`
		TargetRef          *jsonRef          `json:"targetRef" field:"4"`
		DeprecatedTopology map[string]string `json:"deprecatedTopology" field:"5"`
		NodeName           *string           `json:"nodeName" field:"6"`
		Zone               *string           `json:"zone" field:"7"`
	} `json:"endpoints" field:"2"`
	Ports []struct {
		Name        *string `json:"name" field:"1"`
		Protocol    *string `json:"protocol" field:"2"`
		Port        *int32  `json:"port" field:"3"`
		AppProtocol *string `json:"appProtocol" field:"4"`
	} `json:"ports" field:"3"`
	AddressType string `json:"addressType" field:"4"`
}

// ingressRuleValue is a message of its own; in JSON its field is one of the rule.
type ingressRuleValue struct {
	HTTP *struct {
		Paths []struct {
			Path string `json:"path" field:"1"`
		} `json:"paths" field:"1"`
	} `json:"http" field:"1"`
}

type jsonIngress struct {
	Metadata jsonMeta `json:"metadata" field:"1"`
	Spec     struct {
		TLS []struct {
			Hosts []string `json:"hosts" field:"1"`
		} `json:"tls" field:"2"`
		Rules []struct {
			Host             string `json:"host" field:"1"`
			ingressRuleValue `field:"2"`
		} `json:"rules" field:"3"`
		IngressClassName *string `json:"ingressClassName" field:"4"`
	} `json:"spec" field:"2"`
}

// layout is how a struct becomes a message.
type layout []struct {
	num protowire.Number
	of  layout // of the struct that the field is, points to or is a list of
}

// layoutOf reads the numbers of a struct's fields.
func layoutOf(t reflect.Type) layout {
	m := make(layout, t.NumField())
	for i := range m {
		f := t.Field(i)
		num, err := strconv.Atoi(f.Tag.Get("field"))
		if err != nil {
			panic(fmt.Sprintf("object: number of %s.%s: %v", t, f.Name, err))
		}
		m[i].num = protowire.Number(num)
		of := f.Type
		if of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() == reflect.Struct {
			m[i].of = layoutOf(of)
		}
	}
	return m
}

// append appends the fields of a struct to a message.
func (m layout) append(b []byte, v reflect.Value) []byte {
	for i := range m {
		num, of, f := m[i].num, m[i].of, v.Field(i)
		switch f.Kind() {
		case reflect.Slice:
			for j := range f.Len() {
				b = appendValue(b, num, of, f.Index(j))
			}
		case reflect.Map:
			for name, value := range f.Interface().(map[string]string) {
				b = protowire.AppendTag(b, num, protowire.BytesType)
				start := len(b)
				b = appendText(appendText(b, 1, name), 2, value)
				b = appendLength(b, start)
			}
		case reflect.Pointer:
			if !f.IsNil() {
				b = appendValue(b, num, of, f.Elem())
			}
		default:
			if !f.IsZero() {
				b = appendValue(b, num, of, f)
			}
		}
	}
	return b
}

// appendValue appends a field.
func appendValue(b []byte, num protowire.Number, of layout, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.String:
		return appendText(b, num, v.String())
	case reflect.Int32:
		return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v.Int()))
	case reflect.Bool:
		return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), protowire.EncodeBool(v.Bool()))
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	start := len(b)
	return appendLength(of.append(b, v), start)
}

func appendText(b []byte, num protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

// appendLength puts the length of what begins at start before it.
func appendLength(b []byte, start int) []byte {
	size := uint64(len(b) - start)
	n := protowire.SizeVarint(size)
	b = append(b, make([]byte, n)...)
	copy(b[start+n:], b[start:])
	protowire.AppendVarint(b[:start], size)
	return b
}

// plain is an error of the JSON in few words. They may not be those of the
// server, who could make them as long as it likes.
func plain(err error) error {
	var e *json.UnmarshalTypeError
	if !errors.As(err, &e) {
		return err
	}
	value, _, _ := strings.Cut(e.Value, " ") // of "number 1.5"
	want := e.Type.Kind().String()
	switch e.Type.Kind() {
	case reflect.Struct, reflect.Map:
		want = "object"
	case reflect.Slice:
		want = "array"
	}
	if e.Field == "" {
		return fmt.Errorf("%s instead of %s", value, want)
	}
	return fmt.Errorf("%s: %s instead of %s", e.Field, value, want)
}

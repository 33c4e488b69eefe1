package kubernetes

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	upstream "github.com/prometheus/prometheus/discovery/kubernetes"
	"go.yaml.in/yaml/v2"
)

// typeNames makes one of the names that YAML's errors give to Go's types.
var typeNames = strings.NewReplacer("kubernetes.Namespaces", "T", "kubernetes.plain", "T", "kubernetes.NamespaceDiscovery", "T",
	"kubernetes.AttachMetadataConfig", "T", "kubernetes.AttachMetadata", "T", "kubernetes.SelectorConfig", "T", "kubernetes.Selector", "T")

// What Prometheus takes is taken and printed alike; what it refuses is refused
// with its words.
func TestConfigIsReadAsPrometheusReadsIt(t *testing.T) {
	for _, text := range []string{
		"role: pod", "role: node", "role: service", "role: endpoints", "role: endpointslice", "role: ingress",
		"", "role: ''", "role: pods", "role: 3", "role: [pod]", "roles: pod", "role: pod\nfoo: 1",
		"role: pod\nkubeconfig_file: a/b",
		"role: pod\napi_server: https://h:6443",
		"role: pod\napi_server: ':'",
		"role: pod\napi_server: https://h:6443\nbearer_token_file: /t\ntls_config: {ca_file: /ca, insecure_skip_verify: true}",
		"role: pod\napi_server: https://h:6443\nbasic_auth: {username: u, password: p}",
		"role: pod\napi_server: https://h:6443\nbasic_auth: {username: u, password: p}\nbearer_token: t",
		"role: pod\napi_server: https://h:6443\nauthorization: {credentials: x}\nproxy_url: http://p\nfollow_redirects: false\nenable_http2: false",
		"role: pod\napi_server: https://h:6443\noauth2: {client_id: a, token_url: http://t}",
		"role: pod\napi_server: https://h:6443\nkubeconfig_file: k",
		"role: pod\nkubeconfig_file: k\nbearer_token: t",
		"role: pod\nkubeconfig_file: k\nfollow_redirects: false",
		"role: pod\nbearer_token: t",
		"role: pod\nenable_http2: false",
		"role: pod\napi_server: https://h\nnamespaces: {own_namespace: true}",
		"role: pod\nkubeconfig_file: k\nnamespaces: {own_namespace: true}",
		"role: pod\nnamespaces: {own_namespace: true, names: [a, b]}",
		"role: pod\nnamespaces: {names: a}", "role: pod\nnamespaces: {name: [a]}", "role: pod\nnamespaces:",
		"role: pod\nattach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}",
		"role: pod\nattach_metadata: {nodes: true}", "role: pod\nattach_metadata: {node: yes please}",
		"role: pod\nselectors: [{role: pod, label: 'a=b,c!=d,e in (f)', field: 'spec.nodeName=x,status.phase!=Failed'}, {role: node, label: z}]",
		"role: pod\nselectors: [{role: pod}, {role: pod}]",
		"role: pod\nselectors: [{role: service}]", "role: node\nselectors: [{role: pod}]", "role: service\nselectors: [{role: endpoints}]",
		"role: endpoints\nselectors: [{role: endpoints}, {role: pod}, {role: service}]", "role: endpoints\nselectors: [{role: endpointslice}]",
		"role: endpointslice\nselectors: [{role: endpointslice}, {role: pod}, {role: service}]", "role: endpointslice\nselectors: [{role: node}]",
		"role: ingress\nselectors: [{role: ingress}]", "role: ingress\nselectors: [{role: pod}]",
		"role: pod\nselectors: [{role: pod, label: 'a in'}]", "role: pod\nselectors: [{role: pod, label: '-'}]",
		"role: pod\nselectors: [{role: pod, field: 'a'}]", "role: pod\nselectors: [{role: pod, field: 'a=='}]",
		"role: pod\nselectors: [{label: a}]", "role: pod\nselectors: [{role: nope}]", "role: pod\nselectors: {role: pod}",
	} {
		var ours SDConfig
		var theirs upstream.SDConfig
		got, want := yaml.UnmarshalStrict([]byte(text), &ours), yaml.UnmarshalStrict([]byte(text), &theirs)
		if text == "" { // nothing is read, and nothing checked
			got, want = nil, nil
		}
		switch {
		case (got == nil) != (want == nil):
			t.Errorf("%q: error %v, Prometheus says %v", text, got, want)
			continue
		case got != nil:
			if typeNames.Replace(got.Error()) != typeNames.Replace(want.Error()) {
				t.Errorf("%q: error %q, Prometheus says %q", text, got, want)
			}
			continue
		}
		ours.SetDirectory("/dir")
		theirs.SetDirectory("/dir")
		a, err := yaml.Marshal(ours)
		if err != nil {
			t.Fatal(err)
		}
		b, err := yaml.Marshal(theirs)
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("%q is printed as\n%s\nby Prometheus as\n%s", text, a, b)
		}
	}
}

// The table of settings is held against our type; it has the keys of that of Prometheus.
func TestConfigHasTheKeysOfPrometheus(t *testing.T) {
	ours, theirs := keys(reflect.TypeFor[SDConfig](), ""), keys(reflect.TypeFor[upstream.SDConfig](), "")
	slices.Sort(ours)
	slices.Sort(theirs)
	if !slices.Equal(ours, theirs) || len(ours) < 50 {
		t.Errorf("got %q, Prometheus has %q", ours, theirs)
	}
}

// keys are the paths of the keys of a type.
func keys(typ reflect.Type, path string) (all []string) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return []string{path}
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, tagged := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "" && !tagged || name == "-":
		case strings.Contains(options, "inline"):
			all = append(all, keys(f.Type, path)...)
		default:
			all = append(all, keys(f.Type, path+"."+name)...)
		}
	}
	if len(all) == 0 {
		return []string{path}
	}
	return all
}

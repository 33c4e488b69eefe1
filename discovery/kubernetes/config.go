package kubernetes

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	sd "github.com/prometheus/prometheus/discovery"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// Role is the kind of object that targets are made of.
type Role string

// The roles.
const (
	RoleNode          Role = "node"
	RolePod           Role = "pod"
	RoleService       Role = "service"
	RoleEndpoints     Role = "endpoints"
	RoleEndpointSlice Role = "endpointslice"
	RoleIngress       Role = "ingress"
)

// selectable are the roles that selectors of a role may be for; every role is a key.
var selectable = map[Role][]Role{
	RoleNode:          {RoleNode},
	RolePod:           {RolePod, RoleNode},
	RoleService:       {RoleService},
	RoleEndpoints:     {RolePod, RoleService, RoleEndpoints},
	RoleEndpointSlice: {RolePod, RoleService, RoleEndpointSlice},
	RoleIngress:       {RoleIngress},
}

// UnmarshalYAML refuses roles that there are not.
func (r *Role) UnmarshalYAML(unmarshal func(any) error) error {
	if err := unmarshal((*string)(r)); err != nil {
		return err
	}
	if selectable[*r] == nil {
		return fmt.Errorf("unknown Kubernetes SD role %q", *r)
	}
	return nil
}

// SDConfig is a kubernetes_sd_configs entry. Its YAML, defaults and errors are
// those of Prometheus; the type is our own because Prometheus's brings in a
// client for every Kubernetes API, which costs 24 MB of binary and 20 MiB of
// memory.
type SDConfig struct {
	APIServer        commonconfig.URL              `yaml:"api_server,omitempty"`
	Role             Role                          `yaml:"role"`
	KubeConfig       string                        `yaml:"kubeconfig_file"`
	HTTPClientConfig commonconfig.HTTPClientConfig `yaml:",inline"`
	Namespaces       Namespaces                    `yaml:"namespaces,omitempty"`
	Selectors        []Selector                    `yaml:"selectors,omitempty"`
	AttachMetadata   AttachMetadata                `yaml:"attach_metadata,omitempty"`
}

// Namespaces are those that objects are looked for in; all when it is zero.
type Namespaces struct {
	Own   bool     `yaml:"own_namespace"` // the agent's
	Names []string `yaml:"names"`
}

// UnmarshalYAML begins with none.
func (n *Namespaces) UnmarshalYAML(unmarshal func(any) error) error {
	*n = Namespaces{}
	type plain Namespaces
	return unmarshal((*plain)(n))
}

// Selector narrows the objects of a role that the server is asked for.
type Selector struct {
	Role  Role   `yaml:"role,omitempty"`
	Label string `yaml:"label,omitempty"`
	Field string `yaml:"field,omitempty"`
}

// AttachMetadata says of which other objects targets get labels.
type AttachMetadata struct {
	Node       bool `yaml:"node"`
	Namespace  bool `yaml:"namespace"`
	Deployment bool `yaml:"deployment"`
	Job        bool `yaml:"job"`
	CronJob    bool `yaml:"cronjob"`
}

// UnmarshalYAML checks what it reads.
func (c *SDConfig) UnmarshalYAML(unmarshal func(any) error) error {
	*c = SDConfig{HTTPClientConfig: commonconfig.DefaultHTTPClientConfig}
	type plain SDConfig
	if err := unmarshal((*plain)(c)); err != nil {
		return err
	}
	if c.Role == "" {
		return errors.New("role missing (one of: pod, service, endpoints, endpointslice, node, ingress)")
	}
	if err := c.HTTPClientConfig.Validate(); err != nil {
		return err
	}
	custom := !reflect.DeepEqual(c.HTTPClientConfig, commonconfig.DefaultHTTPClientConfig)
	switch {
	case c.APIServer.URL != nil && c.KubeConfig != "":
		return errors.New("cannot use 'kubeconfig_file' and 'api_server' simultaneously")
	case c.KubeConfig != "" && custom:
		return errors.New("cannot use a custom HTTP client configuration together with 'kubeconfig_file'")
	case c.APIServer.URL == nil && custom:
		return errors.New("to use custom HTTP client configuration please provide the 'api_server' URL explicitly")
	case c.APIServer.URL != nil && c.Namespaces.Own:
		return errors.New("cannot use 'api_server' and 'namespaces.own_namespace' simultaneously")
	case c.KubeConfig != "" && c.Namespaces.Own:
		return errors.New("cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously")
	}
	return c.checkSelectors()
}

func (c *SDConfig) checkSelectors() error {
	may := selectable[c.Role]
	seen := map[Role]bool{}
	for _, s := range c.Selectors {
		if seen[s.Role] {
			return fmt.Errorf("duplicated selector role: %s", s.Role)
		}
		seen[s.Role] = true
		if !slices.Contains(may, s.Role) {
			names := make([]string, len(may))
			for i, r := range may {
				names[i] = string(r)
			}
			return fmt.Errorf("%s role supports only %s selectors", c.Role, strings.Join(names, ", "))
		}
		if _, err := fields.ParseSelector(s.Field); err != nil {
			return err
		}
		if _, err := labels.Parse(s.Label); err != nil {
			return err
		}
	}
	return nil
}

// selector is the one for the objects of a role; zero when there is none.
func (c *SDConfig) selector(r Role) Selector {
	for _, s := range c.Selectors {
		if s.Role == r {
			return s
		}
	}
	return Selector{}
}

// Name is the kind of discovery.
func (*SDConfig) Name() string { return "kubernetes" }

// SetDirectory makes relative paths those under dir.
func (c *SDConfig) SetDirectory(dir string) {
	c.HTTPClientConfig.SetDirectory(dir)
	c.KubeConfig = commonconfig.JoinDir(dir, c.KubeConfig)
}

// NewDiscoverer is not how discoverers are made here: they share what they
// watch, which is why Clusters makes them.
func (*SDConfig) NewDiscoverer(sd.DiscovererOptions) (sd.Discoverer, error) {
	return nil, errors.New("discoverers of Kubernetes are made by their Clusters")
}

// NewDiscovererMetrics returns the metrics of all discoverers of Kubernetes.
func (*SDConfig) NewDiscovererMetrics(r prometheus.Registerer, _ sd.RefreshMetricsInstantiator) sd.DiscovererMetrics {
	return newMetrics(r)
}

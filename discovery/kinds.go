package discovery

import (
	"slices"

	sd "github.com/prometheus/prometheus/discovery"
	// Importing a discovery of Prometheus makes its `<kind>_sd_configs` known
	// to the config parser and to this package.
	_ "github.com/prometheus/prometheus/discovery/dns"
	_ "github.com/prometheus/prometheus/discovery/file"
	_ "github.com/prometheus/prometheus/discovery/http"

	"promagent/discovery/kubernetes"
)

// As the discoveries above do it. There is no other time: the config parser
// makes its types of what is registered when it is first used.
func init() { sd.RegisterConfig(&kubernetes.SDConfig{}) }

// Kinds returns the kinds of discovery that are compiled in, sorted.
func Kinds() []string { return sd.RegisteredConfigNames() }

// tagged are the kinds of Prometheus that come in with the build tag all_sd.
var tagged = []string{
	"aws", "azure", "consul", "digitalocean", "docker", "dockerswarm", "ec2", "ecs", "elasticache", "eureka",
	"gce", "hetzner", "ionos", "kuma", "lightsail", "linode", "marathon", "msk", "nerve", "nomad",
	"oci", "openstack", "outscale", "ovhcloud", "puppetdb", "rds", "scaleway", "serverset", "stackit", "triton",
	"uyuni", "vultr",
}

// Missing says whether kind is one that a build with the tag all_sd has, and
// this one has not.
func Missing(kind string) bool {
	return slices.Contains(tagged, kind) && !slices.Contains(Kinds(), kind)
}

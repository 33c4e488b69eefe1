package discovery

// Importing a discovery of Prometheus makes its `<kind>_sd_configs` known to
// the config parser and to this package.
import (
	_ "github.com/prometheus/prometheus/discovery/dns"
	_ "github.com/prometheus/prometheus/discovery/file"
	_ "github.com/prometheus/prometheus/discovery/http"
)

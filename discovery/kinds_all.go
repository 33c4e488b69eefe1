//go:build all_sd

package discovery

import _ "github.com/prometheus/prometheus/discovery/install" // every other discovery of Prometheus

package config

import (
	"net/url"
	"slices"

	promconfig "github.com/prometheus/prometheus/config"
	sd "github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/http"
)

// render returns prom as YAML without secrets. Prometheus's types hide theirs
// by themselves, but for the password in the URL of an http_sd_config, which
// is a mere string to them.
func render(prom *promconfig.Config) string {
	shown := *prom
	shown.ScrapeConfigs = slices.Clone(prom.ScrapeConfigs)
	for i, job := range shown.ScrapeConfigs {
		if configs, masked := maskURLs(job.ServiceDiscoveryConfigs); masked {
			copied := *job
			copied.ServiceDiscoveryConfigs = configs
			shown.ScrapeConfigs[i] = &copied
		}
	}
	return shown.String()
}

// maskURLs returns configs with masked URLs, and whether any was.
func maskURLs(configs sd.Configs) (sd.Configs, bool) {
	masked := false
	for i, c := range configs {
		h, ok := c.(*http.SDConfig)
		if !ok {
			continue
		}
		u, err := url.Parse(h.URL)
		if err != nil {
			continue // refused when it was parsed
		}
		if _, has := u.User.Password(); !has {
			continue
		}
		if !masked {
			masked, configs = true, slices.Clone(configs)
		}
		copied := *h
		copied.URL = u.Redacted()
		configs[i] = &copied
	}
	return configs, masked
}

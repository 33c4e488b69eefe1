package config

import (
	"log/slog"
	"slices"
	"strings"
)

// warnOfProtobuf says what of the jobs does nothing as long as the protobuf
// exposition is not read.
func (c *Config) warnOfProtobuf(logger *slog.Logger) {
	var histograms, protocols []string
	for i := range c.Scrape.Jobs {
		j := &c.Scrape.Jobs[i]
		if j.ScrapeNativeHistograms {
			histograms = append(histograms, j.Job)
		}
		if len(j.Protocols) > 0 && !slices.ContainsFunc(j.Protocols, func(p string) bool { return p != "PrometheusProto" }) {
			protocols = append(protocols, j.Job)
		}
	}
	if len(histograms) > 0 {
		logger.Warn("scrape_native_histograms does nothing yet: protobuf, in which targets expose them, is not read", "jobs", strings.Join(histograms, ","))
	}
	if len(protocols) > 0 {
		logger.Warn("scrape_protocols has PrometheusProto alone, which is not read yet: targets are asked for any text format", "jobs", strings.Join(protocols, ","))
	}
}

package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	sd "github.com/prometheus/prometheus/discovery"
)

// summarize writes what Summary returns. Nothing secret is part of it: of
// URLs only what they print, passwords masked.
func (c *Config) summarize(path string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is a valid config\n", path)
	fmt.Fprintf(&b, "scrape jobs: %d\n", len(c.Jobs))
	for _, job := range c.Jobs {
		fmt.Fprintf(&b, "  %s: every %s, timeout %s; targets from %s\n",
			job.JobName, job.ScrapeInterval, job.ScrapeTimeout, kindsOf(job.ServiceDiscoveryConfigs))
	}
	fmt.Fprintf(&b, "remote writes: %d\n", len(c.Remotes))
	for _, r := range c.Remotes {
		fmt.Fprintf(&b, "  %s: %s to %s\n", r.Name, r.Config.ProtobufMessage, r.Config.URL.Redacted())
	}
	if len(c.Remotes) == 0 {
		b.WriteString("  samples stay in the log until a remote write is configured\n")
	}
	return b.String()
}

// kindsOf says "static (2 targets), file" for the configs of one job.
func kindsOf(configs sd.Configs) string {
	count := map[string]int{}
	targets := 0
	for _, c := range configs {
		count[c.Name()]++
		if static, ok := c.(sd.StaticConfig); ok {
			for _, g := range static {
				targets += len(g.Targets)
			}
		}
	}
	if len(count) == 0 {
		return "nowhere"
	}
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		switch {
		case kind == "static":
			all = append(all, fmt.Sprintf("static (%d targets)", targets))
		case count[kind] > 1:
			all = append(all, fmt.Sprintf("%s (%d configs)", kind, count[kind]))
		default:
			all = append(all, kind)
		}
	}
	return strings.Join(all, ", ")
}

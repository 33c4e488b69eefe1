package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/alecthomas/units"
	"github.com/prometheus/common/model"
	sd "github.com/prometheus/prometheus/discovery"
)

// summarize writes what Summary returns. Nothing secret is part of it: of
// URLs the password is masked.
func (c *Config) summarize() string {
	var b strings.Builder
	fmt.Fprintf(&b, "scrape jobs: %d\n", len(c.Scrape.Jobs))
	for _, job := range c.Scrape.Jobs {
		fmt.Fprintf(&b, "  %s: every %s, timeout %s; targets from %s\n",
			job.Job, model.Duration(job.Interval), model.Duration(job.Timeout), kindsOf(c.Discovery[job.Job]))
	}
	fmt.Fprintf(&b, "remote writes: %d\n", len(c.RemoteWrite))
	for _, r := range c.RemoteWrite {
		fmt.Fprintf(&b, "  %s: %s to %s", r.RemoteName, r.ProtobufMessage, r.URL.Redacted())
		if r.MaxBytesPerSecond > 0 {
			fmt.Fprintf(&b, ", at most %s/s", units.Base2Bytes(r.MaxBytesPerSecond))
		}
		if r.FromOldest {
			b.WriteString(", from the oldest record on")
		}
		if r.NewestFirst {
			b.WriteString(", the newest first")
		}
		b.WriteByte('\n')
	}
	if len(c.RemoteWrite) == 0 {
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

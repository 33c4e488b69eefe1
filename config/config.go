// Package config turns prometheus.yml into what each stage needs, fully
// resolved: globals copied down, defaults filled, paths made relative to the
// file they stand in, remotes named, unknown keys refused.
//
// The path: file -> Prometheus's own parser with the rules of agent mode (so
// that every config which an agent takes is taken, with the same meaning) ->
// scrape_config_files -> one Config per stage. A Config is not written to once
// it is loaded, so that a reload and any number of readers may hold one.
package config

import (
	"log/slog"
	"time"

	sd "github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/model/labels"
)

// Options are what the meaning of a file depends on besides its content.
type Options struct {
	Logger   *slog.Logger // nil: nothing is logged
	Features Features     // of --enable-feature; see ParseFeatures
}

// Config is one loaded config. It must not be written to.
type Config struct {
	// ExternalLabels with environment variables expanded; a value may be "",
	// which is shown but never attached to a series.
	ExternalLabels labels.Labels

	// Discovery holds the discovery configs by job name; every job is a key,
	// those without any discovery too.
	Discovery map[string]sd.Configs

	Runtime Runtime

	// OutOfOrderWindow is storage.tsdb.out_of_order_time_window; it takes
	// effect at the start of the process only.
	OutOfOrderWindow time.Duration
}

// Runtime is the `runtime` block.
type Runtime struct {
	GoGC       int    // percent; -1: off
	GoGCGiven  bool   // by the file or by the environment variable GOGC
	LogLevel   string // debug, info, warn or error
	LevelGiven bool   // by the file
}

// Load reads and resolves the config in the file at path.
func Load(path string, o Options) (*Config, error) { return &Config{}, nil }

// YAML returns the config as /api/v1/status/config shows it: globals and
// defaults filled in, secrets as <secret>. It parses back to the same config.
func (c *Config) YAML() string { return "" }

// Summary says in a few lines what the config holds, for `check config`.
func (c *Config) Summary() string { return "" }

// Checksum identifies the content of the file at path and of all files that
// its scrape_config_files match, in lower-case hex.
func Checksum(path string) (string, error) { return "", nil }

// Package config turns prometheus.yml into what each stage needs, fully
// resolved: globals copied down, defaults filled, paths made relative to the
// file they stand in, remotes named, unknown keys refused.
//
// The path: file -> the block of our own is taken out -> Prometheus's own parser with the rules of agent mode (so
// that every config which an agent takes is taken, with the same meaning) ->
// scrape_config_files -> one Config per stage. A Config is not written to once
// it is loaded, so that a reload and any number of readers may hold one.
package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
	sd "github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/model/labels"
	"go.yaml.in/yaml/v2"

	"promagent/config/settings"
	"promagent/remotewrite"
	"promagent/scrape"
)

// Options are what the meaning of a file depends on besides its content.
type Options struct {
	Logger   *slog.Logger // of settings that do nothing; nil: nothing is logged
	Features Features     // of --enable-feature; see ParseFeatures
}

// Config is one loaded config. It must not be written to.
type Config struct {
	// ExternalLabels with environment variables expanded; a value may be "",
	// which is shown but never attached to a series.
	ExternalLabels labels.Labels

	// Scrape has the jobs of the file, and then those of scrape_config_files;
	// names are unique.
	Scrape scrape.Config

	// RemoteWrite has the remotes in the order of the file. Blocks with one
	// Hash are duplicates, for the stage to refuse.
	RemoteWrite []remotewrite.Config

	// Discovery holds the discovery configs by job name; every job is a key,
	// those without any discovery too.
	Discovery map[string]sd.Configs

	Runtime Runtime

	// OwnKeys are the keys of the file that Prometheus does not know, in its order.
	OwnKeys []Key

	// Idle are the settings that are given and do nothing here, for the log when
	// the config is in force.
	Idle []settings.Given

	yaml    string
	summary string
}

// Runtime is the `runtime` block.
type Runtime struct {
	GoGC       int    // percent; -1: off
	LogLevel   string // debug, info, warn or error
	LevelGiven bool   // by the file
}

// Load reads and resolves the config in the file at path. Errors name the
// file, the field and its value.
func Load(path string, o Options) (*Config, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err // names the file
	}
	content, key, value, err := takeOut(content)
	if err != nil {
		return nil, fmt.Errorf("parsing YAML file %s: %w", path, err)
	}
	prom, err := parse(path, content, o)
	if err != nil {
		return nil, err
	}
	ours, err := readOwn(key, value)
	if err != nil {
		return nil, fmt.Errorf("parsing YAML file %s: %w", path, err)
	}
	jobs, err := prom.GetScrapeConfigs()
	if err != nil {
		return nil, explainFile(err)
	}
	c := &Config{
		ExternalLabels: prom.GlobalConfig.ExternalLabels,
		Scrape: scrape.Config{
			ExternalLabels:   prom.GlobalConfig.ExternalLabels,
			OutOfOrderWindow: time.Duration(prom.StorageConfig.TSDBConfig.OutOfOrderTimeWindow) * time.Millisecond,
		},
		Discovery: make(map[string]sd.Configs, len(jobs)),
		OwnKeys:   ours.keys,
	}
	if c.Runtime, err = runtimeOf(prom, content, envGoGC); err != nil {
		return nil, fmt.Errorf("parsing YAML file %s: %w", path, err)
	}
	prom.Runtime.GoGC = c.Runtime.GoGC // shown as it is in force
	c.yaml = render(prom)
	for _, job := range jobs {
		j, err := jobOf(job, o.Features)
		if err != nil {
			return nil, fmt.Errorf("parsing YAML file %s: %w", path, err)
		}
		c.Scrape.Jobs = append(c.Scrape.Jobs, j)
		c.Discovery[job.JobName] = job.ServiceDiscoveryConfigs
	}
	for _, rw := range prom.RemoteWriteConfigs {
		r, err := remoteOf(rw, c.ExternalLabels)
		if err != nil {
			return nil, fmt.Errorf("parsing YAML file %s: %w", path, err)
		}
		c.RemoteWrite = append(c.RemoteWrite, r)
	}
	if err := ours.apply(c.RemoteWrite); err != nil {
		return nil, fmt.Errorf("parsing YAML file %s: %w", path, err)
	}
	shown, err := ours.yaml()
	if err != nil {
		return nil, err
	}
	c.yaml += shown
	c.summary = c.summarize()
	if c.Idle, err = idleSettings(content, prom.ScrapeConfigFiles); err != nil {
		return nil, err
	}
	return c, nil
}

// parse returns what Prometheus's parser makes of content, with the rules of
// agent mode and the defaults that features change.
func parse(path string, content []byte, o Options) (*promconfig.Config, error) {
	prom, err := promconfig.Load(string(content), o.Logger)
	if err != nil {
		return nil, explain(path, content, err)
	}
	switch {
	case len(prom.AlertingConfig.AlertmanagerConfigs) > 0 || len(prom.AlertingConfig.AlertRelabelConfigs) > 0:
		return nil, notInAgentMode(path, "alerting")
	case len(prom.RuleFiles) > 0:
		return nil, notInAgentMode(path, "rule_files")
	case len(prom.RemoteReadConfigs) > 0:
		return nil, notInAgentMode(path, "remote_read")
	}
	prom.SetDirectory(filepath.Dir(path))
	o.Features.applyDefaults(prom)
	return prom, nil
}

func notInAgentMode(path, field string) error {
	return fmt.Errorf("parsing YAML file %s: field %s is not allowed in agent mode", path, field)
}

// DefaultGoGC is the garbage collector's percentage when neither the file nor
// the environment gives one. Prometheus has 75: the memory budget assumes
// less, and little garbage is made, so that collecting often is cheap.
const DefaultGoGC = 50

// envGoGC is what the process was started with: the variable is set to what is
// in force later, which must not count as given at the next load.
var envGoGC = os.Getenv("GOGC")

// runtimeOf tells what content gives from what the parser filled in.
func runtimeOf(prom *promconfig.Config, content []byte, env string) (Runtime, error) {
	var given struct {
		Runtime struct {
			GoGC     *int    `yaml:"gogc"`
			LogLevel *string `yaml:"log_level"`
		} `yaml:"runtime"`
	}
	if err := yaml.Unmarshal(content, &given); err != nil {
		return Runtime{}, err
	}
	percent := prom.Runtime.GoGC
	if given.Runtime.GoGC == nil && env == "" {
		percent = DefaultGoGC
	}
	return Runtime{
		GoGC:       percent,
		LogLevel:   string(prom.Runtime.LogLevel),
		LevelGiven: given.Runtime.LogLevel != nil,
	}, nil
}

// YAML returns the config as /api/v1/status/config shows it: globals and
// defaults filled in, secrets as <secret>, and the block of our own, when it
// says something, behind what is Prometheus's. It parses back to the same config.
// Jobs of scrape_config_files are not part of it.
func (c *Config) YAML() string { return c.yaml }

// Summary says in a few lines what the config holds, for `check config`.
func (c *Config) Summary() string { return c.summary }

// Checksum identifies the content of the file at path and of all files that
// its scrape_config_files match, in lower-case hex. Files that discoveries and
// HTTP clients read are not part of it: those follow them by themselves.
func Checksum(path string) (string, error) {
	sum, err := promconfig.GenerateChecksum(path)
	if err != nil {
		return "", fmt.Errorf("checksum config %s: %w", path, err)
	}
	return sum, nil
}

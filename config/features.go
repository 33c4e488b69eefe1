package config

import (
	"errors"
	"log/slog"
	"strings"

	promconfig "github.com/prometheus/prometheus/config"

	"promagent/config/settings"
)

// Features are the feature flags that change what an agent does. The zero
// value is the default of every one.
type Features struct {
	ExtraScrapeMetrics    bool // extra-scrape-metrics: extra_scrape_metrics is on by default
	AutoReload            bool // auto-reload-config: --config.auto-reload
	StartTimestampZeros   bool // created-timestamp-zero-ingestion: a zero sample at each start timestamp
	StartTimestamps       bool // st-storage: start timestamps are kept and sent
	StartTimestampsMade   bool // st-synthesis: derived for series that expose none
	TypeAndUnitLabels     bool // type-and-unit-labels
	OpenMetrics2          bool // openmetrics2
	ZstdScrape            bool // zstd-scrape
	OldUI                 bool // old-ui
	OTLPDeltaToCumulative bool // otlp-deltatocumulative
	OTLPNativeDelta       bool // otlp-native-delta-ingestion
	MetadataWALRecords    bool // metadata-wal-records: only listed by the features API
}

// ParsesStartTimestamps says whether scrapes read start timestamps.
func (f Features) ParsesStartTimestamps() bool { return f.StartTimestampZeros || f.StartTimestamps }

// ParseFeatures reads the values of --enable-feature, each a comma separated
// list. It logs what is switched on and what is unknown or deprecated, which is
// never an error; settings.OfFeatures has those that do nothing.
func ParseFeatures(values []string, logger *slog.Logger) Features {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	var f Features
	fields := map[string]*bool{
		"extra-scrape-metrics":             &f.ExtraScrapeMetrics,
		"auto-reload-config":               &f.AutoReload,
		"created-timestamp-zero-ingestion": &f.StartTimestampZeros,
		"st-storage":                       &f.StartTimestamps,
		"st-synthesis":                     &f.StartTimestampsMade,
		"type-and-unit-labels":             &f.TypeAndUnitLabels,
		"openmetrics2":                     &f.OpenMetrics2,
		"zstd-scrape":                      &f.ZstdScrape,
		"old-ui":                           &f.OldUI,
		"otlp-deltatocumulative":           &f.OTLPDeltaToCumulative,
		"otlp-native-delta-ingestion":      &f.OTLPNativeDelta,
		"metadata-wal-records":             &f.MetadataWALRecords,
	}
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			if on := fields[name]; on != nil {
				*on = true
			}
			s, known := settings.Of(settings.Feature, name)
			switch {
			case !known:
				logger.Warn("Unknown option for --enable-feature", "option", name)
			case s.Status != settings.Works:
			case s.Says != "":
				logger.Info("This feature flag changes nothing: "+s.Says, "option", name)
			default:
				logger.Info("Feature enabled", "option", name)
			}
			switch name {
			case "extra-scrape-metrics":
				logger.Warn("This feature flag is being phased out: set extra_scrape_metrics in the config instead", "option", name)
			case "auto-reload-config":
				logger.Warn("This feature flag is deprecated: use --config.auto-reload instead", "option", name)
			}
		}
	}
	return f
}

// Check refuses features that exclude each other.
func (f Features) Check() error {
	if f.OTLPDeltaToCumulative && f.OTLPNativeDelta {
		return errors.New("cannot enable otlp-deltatocumulative and otlp-native-delta-ingestion features at the same time")
	}
	return nil
}

// applyDefaults changes, in a config that nobody else holds yet, the defaults
// that f moves. The parser copies its defaults by reference, so what still
// refers to them was not given; its scrape_config_files come after, and take
// what global has then.
func (f Features) applyDefaults(prom *promconfig.Config) {
	if f.ExtraScrapeMetrics {
		on, unset := true, promconfig.DefaultGlobalConfig.ExtraScrapeMetrics
		for _, job := range prom.ScrapeConfigs {
			if job.ExtraScrapeMetrics == unset {
				job.ExtraScrapeMetrics = &on
			}
		}
		if prom.GlobalConfig.ExtraScrapeMetrics == unset {
			prom.GlobalConfig.ExtraScrapeMetrics = &on
		}
	}
	if f.ParsesStartTimestamps() && prom.GlobalConfig.ScrapeProtocols == nil {
		unset := promconfig.DefaultScrapeProtocols
		for _, job := range prom.ScrapeConfigs {
			if &job.ScrapeProtocols[0] == &unset[0] {
				job.ScrapeProtocols = promconfig.DefaultProtoFirstScrapeProtocols
			}
		}
		prom.GlobalConfig.ScrapeProtocols = promconfig.DefaultProtoFirstScrapeProtocols
	}
}

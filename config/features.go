package config

import "log/slog"

// Features are the feature flags that change what an agent does. The zero
// value is the default of every one.
type Features struct {
	ExtraScrapeMetrics    bool // extra_scrape_metrics is on by default
	AutoReload            bool // deprecated alias of --config.auto-reload
	StartTimestampZeros   bool // created-timestamp-zero-ingestion
	StartTimestamps       bool // st-storage: start timestamps are kept and sent
	StartTimestampsMade   bool // st-synthesis
	TypeAndUnitLabels     bool
	OpenMetrics2          bool
	ZstdScrape            bool
	OldUI                 bool
	OTLPDeltaToCumulative bool
	OTLPNativeDelta       bool
	MetadataWALRecords    bool // listed by the features API, without effect
}

// ParseFeatures reads the values of --enable-feature, each a comma separated
// list. What is unknown or has no effect in an agent is warned about, as
// Prometheus does, and never an error.
func ParseFeatures(values []string, logger *slog.Logger) Features { return Features{} }

// ParsesStartTimestamps says whether scrapes read start timestamps.
func (f Features) ParsesStartTimestamps() bool { return f.StartTimestampZeros || f.StartTimestamps }

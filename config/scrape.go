package config

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
	sd "github.com/prometheus/prometheus/discovery"
	"go.yaml.in/yaml/v2"

	"promagent/scrape"
)

// jobOf gives the scrape stage what it needs of a job that the parser filled
// in with the globals.
func jobOf(job *promconfig.ScrapeConfig, f Features) (scrape.JobConfig, error) {
	fingerprint, err := fingerprint(job.ServiceDiscoveryConfigs)
	if err != nil {
		return scrape.JobConfig{}, fmt.Errorf("render discovery of job %q: %w", job.JobName, err)
	}
	protocols := make([]string, len(job.ScrapeProtocols))
	for i, p := range job.ScrapeProtocols {
		protocols[i] = string(p)
	}
	return scrape.JobConfig{
		Job:                      job.JobName,
		HonorLabels:              job.HonorLabels,
		HonorTimestamps:          job.HonorTimestamps,
		TrackTimestampsStaleness: job.TrackTimestampsStaleness,
		Params:                   job.Params,
		Interval:                 time.Duration(job.ScrapeInterval),
		Timeout:                  time.Duration(job.ScrapeTimeout),
		Protocols:                protocols,
		FallbackProtocol:         string(job.ScrapeFallbackProtocol),
		MetricsPath:              job.MetricsPath,
		Scheme:                   job.Scheme,
		EnableCompression:        job.EnableCompression,

		BodySizeLimit:         int64(job.BodySizeLimit),
		SampleLimit:           limit(job.SampleLimit),
		TargetLimit:           limit(job.TargetLimit),
		LabelLimit:            limit(job.LabelLimit),
		LabelNameLengthLimit:  limit(job.LabelNameLengthLimit),
		LabelValueLengthLimit: limit(job.LabelValueLengthLimit),
		KeepDroppedTargets:    limit(job.KeepDroppedTargets),

		ValidationScheme: job.MetricNameValidationScheme,
		EscapingScheme:   job.MetricNameEscapingScheme,

		ScrapeNativeHistograms: job.ScrapeNativeHistogramsEnabled(),
		ConvertClassicToNHCB:   job.ConvertClassicHistogramsToNHCBEnabled(),
		AlwaysScrapeClassic:    job.AlwaysScrapeClassicHistogramsEnabled(),
		ExtraMetrics:           job.ExtraScrapeMetricsEnabled(),
		FailureLogFile:         job.ScrapeFailureLogFile,
		HTTP:                   job.HTTPClientConfig,
		Relabel:                job.RelabelConfigs,
		MetricRelabel:          job.MetricRelabelConfigs,
		TypeAndUnitLabels:      f.TypeAndUnitLabels,
		DiscoveryFingerprint:   fingerprint,
	}, nil
}

// limit turns a limit of the file into an int; one that no int holds is none
// that anything could reach.
func limit(n uint) int { return int(min(n, math.MaxInt)) }

// fingerprint identifies the discovery section of a job.
func fingerprint(configs sd.Configs) (string, error) {
	y, err := yaml.Marshal(configs)
	if err != nil {
		return "", err
	}
	sum := md5.Sum(y)
	return hex.EncodeToString(sum[:]), nil
}

package scrape

import (
	"net/url"
	"reflect"
	"slices"
	"time"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
)

// Config is what the scrape stage runs with.
type Config struct {
	ExternalLabels   labels.Labels // part of the seed that spreads scrapes over the interval
	OutOfOrderWindow time.Duration // samples that are late by less than this are taken; stale markers are not
	Jobs             []JobConfig
}

// JobConfig is one scrape_config, resolved: no field is unset, limits of 0 are none.
type JobConfig struct {
	Job                      string
	HonorLabels              bool
	HonorTimestamps          bool
	TrackTimestampsStaleness bool
	Params                   url.Values
	Interval                 time.Duration
	Timeout                  time.Duration
	Protocols                []string // as configuration names them, in order of preference
	FallbackProtocol         string   // likewise, or ""
	MetricsPath              string
	Scheme                   string
	EnableCompression        bool

	BodySizeLimit         int64
	SampleLimit           int
	TargetLimit           int
	LabelLimit            int
	LabelNameLengthLimit  int
	LabelValueLengthLimit int
	KeepDroppedTargets    int

	ValidationScheme model.ValidationScheme
	EscapingScheme   string

	ScrapeNativeHistograms bool
	ConvertClassicToNHCB   bool
	AlwaysScrapeClassic    bool
	ExtraMetrics           bool
	FailureLogFile         string // "": none
	HTTP                   commonconfig.HTTPClientConfig
	Relabel                []*promrelabel.Config
	MetricRelabel          []*promrelabel.Config
	TypeAndUnitLabels      bool // of --enable-feature
	DiscoveryFingerprint   string
}

// equal says whether two configs are the same in every respect.
func (c *JobConfig) equal(o *JobConfig) bool {
	a, b := *c, *o
	same := sameRelabel(a.Relabel, b.Relabel) && sameRelabel(a.MetricRelabel, b.MetricRelabel)
	a.Relabel, b.Relabel, a.MetricRelabel, b.MetricRelabel = nil, nil, nil, nil
	return same && reflect.DeepEqual(a, b)
}

// keepsCache says whether what is known of a target's series stays true under
// o: only how often, how long and with which client it is scraped differs.
func (c *JobConfig) keepsCache(o *JobConfig) bool {
	a, b := *c, *o
	b.Interval, b.Timeout, b.SampleLimit, b.HTTP = a.Interval, a.Timeout, a.SampleLimit, a.HTTP
	return a.equal(&b)
}

// sameRelabel compares rules by what they say.
func sameRelabel(a, b []*promrelabel.Config) bool {
	return slices.EqualFunc(a, b, func(a, b *promrelabel.Config) bool {
		return a.Action == b.Action && a.Separator == b.Separator && a.Modulus == b.Modulus && a.TargetLabel == b.TargetLabel &&
			a.Replacement == b.Replacement && a.Regex.String() == b.Regex.String() && slices.Equal(a.SourceLabels, b.SourceLabels) &&
			a.NameValidationScheme == b.NameValidationScheme
	})
}

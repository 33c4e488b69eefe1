package remotewrite

import (
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/storage/remote/azuread"
	"github.com/prometheus/prometheus/storage/remote/googleiam"
	"github.com/prometheus/sigv4"
)

// The messages of the remote-write protocol, as the configuration names them.
const (
	MessageV1 = "prometheus.WriteRequest"
	MessageV2 = "io.prometheus.write.v2.Request"
)

// Config is one remote_write block, resolved: no field is unset.
type Config struct {
	Name       string // as configured, may be empty
	RemoteName string // the metrics' label remote_name: the name, or a short hash of the block
	Hash       string // of the whole block; blocks with equal ones are duplicates
	URL        *url.URL

	ProtobufMessage      string // MessageV1 or MessageV2
	RemoteTimeout        time.Duration
	Headers              map[string]string
	WriteRelabel         []*promrelabel.Config
	ExternalLabels       labels.Labels
	SendExemplars        bool
	SendNativeHistograms bool
	RoundRobinDNS        bool
	FailedRequestLogging bool

	HTTP      commonconfig.HTTPClientConfig
	SigV4     *sigv4.SigV4Config
	AzureAD   *azuread.AzureADConfig
	GoogleIAM *googleiam.Config

	Queue    QueueConfig
	Metadata MetadataConfig

	// Of the prom_agent block:

	MaxBytesPerSecond int64 // of requests' bodies; 0: no limit
	FromOldest        bool  // without a position it begins at the log's oldest record, not at its end
	NewestFirst       bool  // after an outage the newest data goes first, and what was missed beside it
}

// QueueConfig is queue_config.
type QueueConfig struct {
	Capacity          int // shown in the metrics only: what waits longer than for its turn waits in the log
	MaxShards         int
	MinShards         int
	MaxSamplesPerSend int
	BatchSendDeadline time.Duration
	MinBackoff        time.Duration
	MaxBackoff        time.Duration
	RetryOnRateLimit  bool
	SampleAgeLimit    time.Duration // 0: none
}

// MetadataConfig is metadata_config; it concerns 1.x only.
type MetadataConfig struct {
	Send              bool
	SendInterval      time.Duration
	MaxSamplesPerSend int
}

// V2 says whether the remote is sent 2.0.
func (c *Config) V2() bool { return c.ProtobufMessage == MessageV2 }

// oldest is the time, ms, before which samples are too old to be sent now.
func (c *Config) oldest(now time.Time) int64 {
	if c.Queue.SampleAgeLimit <= 0 {
		return -1 << 62
	}
	return now.Add(-c.Queue.SampleAgeLimit).UnixMilli()
}

// tenantHeaders name the tenant at the receivers that have some: the same URL
// with another tenant is another remote.
var tenantHeaders = []string{"x-scope-orgid", "thanos-tenant", "accountid", "projectid"}

// Identity is what the position in the log belongs to: the name, else the URL
// (without password) and the tenant's headers. Whatever else is edited, the
// position is kept.
func (c *Config) Identity() string {
	if c.Name != "" {
		return "name:" + c.Name
	}
	u := *c.URL
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	id := "url:" + u.String()
	for _, k := range slices.Sorted(maps.Keys(c.Headers)) {
		if slices.Contains(tenantHeaders, strings.ToLower(k)) {
			id += "|" + strings.ToLower(k) + "=" + c.Headers[k]
		}
	}
	return id
}

// Equal says whether two blocks are the same in every respect, secrets included.
func (c *Config) Equal(o *Config) bool {
	a, b := *c, *o
	sameLabels := labels.Equal(a.ExternalLabels, b.ExternalLabels)
	a.ExternalLabels, b.ExternalLabels = labels.EmptyLabels(), labels.EmptyLabels()
	sameRules := sameRelabel(a.WriteRelabel, b.WriteRelabel)
	a.WriteRelabel, b.WriteRelabel = nil, nil
	return sameLabels && sameRules && reflect.DeepEqual(a, b)
}

// SameDelivery says whether what arrives at the receiver is the same under
// both: then a change concerns the client and the queue only.
func (c *Config) SameDelivery(o *Config) bool {
	return labels.Equal(c.ExternalLabels, o.ExternalLabels) && sameRelabel(c.WriteRelabel, o.WriteRelabel) &&
		c.ProtobufMessage == o.ProtobufMessage && c.SendExemplars == o.SendExemplars
}

// sameRelabel compares rules by what they say: compiled expressions differ in
// memory though they are the same text.
func sameRelabel(a, b []*promrelabel.Config) bool {
	return slices.EqualFunc(a, b, func(a, b *promrelabel.Config) bool {
		return a.Action == b.Action && a.Separator == b.Separator && a.Modulus == b.Modulus && a.TargetLabel == b.TargetLabel &&
			a.Replacement == b.Replacement && a.Regex.String() == b.Regex.String() && slices.Equal(a.SourceLabels, b.SourceLabels) &&
			a.NameValidationScheme == b.NameValidationScheme
	})
}

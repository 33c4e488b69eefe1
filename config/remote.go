package config

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"time"

	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"go.yaml.in/yaml/v2"

	"promagent/remotewrite"
)

// remoteOf gives the remote-write stage one block. Its Hash is the MD5 of the
// block's YAML with defaults filled in and secrets masked: that of Prometheus,
// whose dashboards have seen the first six digits as remote_name.
func remoteOf(rw *promconfig.RemoteWriteConfig, external labels.Labels) (remotewrite.Config, error) {
	y, err := yaml.Marshal(rw)
	if err != nil {
		return remotewrite.Config{}, fmt.Errorf("render remote_write %s: %w", rw.URL.Redacted(), err)
	}
	sum := md5.Sum(y)
	c := remotewrite.Config{
		Name:       rw.Name,
		RemoteName: rw.Name,
		Hash:       hex.EncodeToString(sum[:]),
		URL:        rw.URL.URL,

		ProtobufMessage:      string(rw.ProtobufMessage),
		RemoteTimeout:        time.Duration(rw.RemoteTimeout),
		Headers:              rw.Headers,
		WriteRelabel:         rw.WriteRelabelConfigs,
		ExternalLabels:       external.WithoutEmpty(), // an empty value is never attached
		SendExemplars:        rw.SendExemplars,
		SendNativeHistograms: rw.SendNativeHistograms,
		RoundRobinDNS:        rw.RoundRobinDNS,
		FailedRequestLogging: rw.FailedRequestLogging,

		HTTP:      rw.HTTPClientConfig,
		SigV4:     rw.SigV4Config,
		AzureAD:   rw.AzureADConfig,
		GoogleIAM: rw.GoogleIAMConfig,

		Queue: remotewrite.QueueConfig{
			Capacity:          rw.QueueConfig.Capacity,
			MaxShards:         rw.QueueConfig.MaxShards,
			MinShards:         rw.QueueConfig.MinShards,
			MaxSamplesPerSend: rw.QueueConfig.MaxSamplesPerSend,
			BatchSendDeadline: time.Duration(rw.QueueConfig.BatchSendDeadline),
			MinBackoff:        time.Duration(rw.QueueConfig.MinBackoff),
			MaxBackoff:        time.Duration(rw.QueueConfig.MaxBackoff),
			RetryOnRateLimit:  rw.QueueConfig.RetryOnRateLimit,
			SampleAgeLimit:    time.Duration(rw.QueueConfig.SampleAgeLimit),
		},
		Metadata: remotewrite.MetadataConfig{
			Send:              rw.MetadataConfig.Send,
			SendInterval:      time.Duration(rw.MetadataConfig.SendInterval),
			MaxSamplesPerSend: rw.MetadataConfig.MaxSamplesPerSend,
		},
	}
	if c.RemoteName == "" {
		c.RemoteName = c.Hash[:6]
	}
	return c, nil
}

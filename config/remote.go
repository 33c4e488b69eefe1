package config

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"

	promconfig "github.com/prometheus/prometheus/config"
	"go.yaml.in/yaml/v2"
)

// remoteHash identifies a remote_write block: MD5 of its YAML with defaults
// filled in and secrets masked, in lower-case hex. Prometheus computes the
// same, and dashboards have seen its first digits as remote_name.
func remoteHash(rw *promconfig.RemoteWriteConfig) (string, error) {
	y, err := yaml.Marshal(rw)
	if err != nil {
		return "", fmt.Errorf("render remote_write %s: %w", rw.URL, err)
	}
	sum := md5.Sum(y)
	return hex.EncodeToString(sum[:]), nil
}

// remoteName returns the name given in rw, else the first six digits of hash.
func remoteName(rw *promconfig.RemoteWriteConfig, hash string) string {
	if rw.Name != "" {
		return rw.Name
	}
	return hash[:6]
}

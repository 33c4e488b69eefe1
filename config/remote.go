package config

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"

	promconfig "github.com/prometheus/prometheus/config"
	"go.yaml.in/yaml/v2"
)

// Remote is one remote_write block.
type Remote struct {
	// Name is the given name, or the first six digits of Hash. It labels
	// metrics (remote_name), and the position in the log is kept under it.
	Name string

	// Hash is the MD5, in lower-case hex, of the block's YAML with defaults
	// filled in and secrets masked: that of Prometheus, whose dashboards have
	// seen it. Blocks with one Hash are duplicates, refused when applied.
	Hash string

	Config *promconfig.RemoteWriteConfig
}

func newRemote(rw *promconfig.RemoteWriteConfig) (Remote, error) {
	y, err := yaml.Marshal(rw)
	if err != nil {
		return Remote{}, fmt.Errorf("render remote_write %s: %w", rw.URL.Redacted(), err)
	}
	sum := md5.Sum(y)
	r := Remote{Name: rw.Name, Hash: hex.EncodeToString(sum[:]), Config: rw}
	if r.Name == "" {
		r.Name = r.Hash[:6]
	}
	return r, nil
}

// Package discovery keeps the target groups of every job current and tells
// which of them changed.
//
// The path: a job's discovery configs -> providers (jobs with equal configs
// share one) -> groups by provider and source -> what differs from what the
// reader was told -> Updates. It knows nothing of relabelling or scraping.
package discovery

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	sd "github.com/prometheus/prometheus/discovery"

	"promagent/discovery/group"
)

// Configs are the discovery configs of one job.
type Configs = sd.Configs

// Update says what changed about one job since the Update before. Applied in
// order they give the full state: the first Update of a job announces that the
// job exists, with or without groups, and Gone that it does no longer.
type Update struct {
	Job string

	// Groups are the groups that changed, by Source ascending. A Source is
	// unique within the job ("file/3:/etc/targets.yml:0"); a group without
	// targets means that the source has none any more, known before or not.
	Groups []group.Group

	// Gone: the job and all its groups ended. Groups is nil. A reader that
	// learns its jobs from the config may ignore it.
	Gone bool
}

// Options are what a Manager needs from outside. Zero values are usable: no
// metrics are registered, nothing is logged.
type Options struct {
	Registerer prometheus.Registerer
	Logger     *slog.Logger
	UserAgent  string // of requests; "": each discovery's own
}

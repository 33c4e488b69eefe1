package web

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/scrape"
)

// familyMetadata is what a family says of itself, as /metadata shows it.
type familyMetadata struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

// targetMetadata is the same of one target.
type targetMetadata struct {
	Target labels.Labels `json:"target"`
	Metric string        `json:"metric,omitempty"` // left out where the request names it
	familyMetadata
}

// formLimit reads a limit of the request; -1: none is given.
func formLimit(r *http.Request, name string) (int, *apiError) {
	s := r.FormValue(name)
	if s == "" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, badData(name + " must be a number")
	}
	return n, nil
}

func badData(message string) *apiError { return &apiError{http.StatusBadRequest, "bad_data", message} }

// eachFamily calls f with the metadata of the active targets, in a stable
// order, until f returns false. metric "" stands for every family.
func (s *Server) eachFamily(metric string, f func(*scrape.TargetStatus, scrape.Metadata) bool) {
	for _, p := range s.sortedPools() {
		for i := range p.Targets {
			t := &p.Targets[i]
			if t.Metadata == nil {
				continue
			}
			all := t.Metadata()
			slices.SortFunc(all, func(a, b scrape.Metadata) int { return cmp.Compare(a.Family, b.Family) })
			for _, md := range all {
				if metric != "" && md.Family != metric {
					continue
				}
				if !f(t, md) {
					return
				}
			}
		}
	}
}

// targetsMetadata answers /targets/metadata?match_target=SELECTOR&metric=FAMILY&limit=N.
// As in Prometheus the limit ends the list between two targets.
func (s *Server) targetsMetadata(r *http.Request) (any, *apiError) {
	limit, bad := formLimit(r, "limit")
	if bad != nil {
		return nil, bad
	}
	var matchers []*labels.Matcher
	if text := r.FormValue("match_target"); text != "" {
		var err error
		if matchers, err = parseSelector(text); err != nil {
			return nil, badData(fmt.Sprintf("invalid parameter %q: %v", "match_target", err))
		}
	}
	metric := r.FormValue("metric")
	out := []targetMetadata{}
	var last *scrape.TargetStatus
	s.eachFamily(metric, func(t *scrape.TargetStatus, md scrape.Metadata) bool {
		if t != last && limit >= 0 && len(out) >= limit {
			return false
		}
		last = t
		for _, m := range matchers {
			if !m.Matches(t.Labels.Get(m.Name)) {
				return true
			}
		}
		entry := targetMetadata{Target: t.Labels, familyMetadata: familyMetadata{md.Type, md.Help, md.Unit}}
		if metric == "" {
			entry.Metric = md.Family
		}
		out = append(out, entry)
		return true
	})
	return out, nil
}

// metadata answers /metadata?metric=FAMILY&limit=N&limit_per_metric=N.
func (s *Server) metadata(r *http.Request) (any, *apiError) {
	limit, bad := formLimit(r, "limit")
	if bad != nil {
		return nil, bad
	}
	perMetric, bad := formLimit(r, "limit_per_metric")
	if bad != nil {
		return nil, bad
	}
	out := map[string][]familyMetadata{}
	s.eachFamily(r.FormValue("metric"), func(_ *scrape.TargetStatus, md scrape.Metadata) bool {
		known, ok := out[md.Family]
		entry := familyMetadata{md.Type, md.Help, md.Unit}
		switch {
		case !ok && limit >= 0 && len(out) >= limit:
		case perMetric > 0 && len(known) >= perMetric:
		case !slices.Contains(known, entry):
			out[md.Family] = append(known, entry)
		}
		return true
	})
	return out, nil
}

package web

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/scrape"
)

// activeTarget and droppedTarget are the API's forms of a target.
type activeTarget struct {
	DiscoveredLabels   labels.Labels `json:"discoveredLabels"`
	Labels             labels.Labels `json:"labels"`
	ScrapePool         string        `json:"scrapePool"`
	ScrapeURL          string        `json:"scrapeUrl"`
	GlobalURL          string        `json:"globalUrl"`
	LastError          string        `json:"lastError"`
	LastScrape         time.Time     `json:"lastScrape"`
	LastScrapeDuration float64       `json:"lastScrapeDuration"`
	Health             string        `json:"health"`
	ScrapeInterval     string        `json:"scrapeInterval"`
	ScrapeTimeout      string        `json:"scrapeTimeout"`
}

type droppedTarget struct {
	DiscoveredLabels labels.Labels `json:"discoveredLabels"`
	ScrapePool       string        `json:"scrapePool"`
}

type targetList struct {
	Active        []activeTarget  `json:"activeTargets"`
	Dropped       []droppedTarget `json:"droppedTargets"`
	DroppedCounts map[string]int  `json:"droppedTargetCounts"`
}

// targets answers /targets?state=any|active|dropped&scrapePool=NAME.
func (s *Server) targets(r *http.Request) (any, *apiError) {
	query := r.URL.Query()
	state, only := strings.ToLower(query.Get("state")), query.Get("scrapePool")
	all := state == "" || state == "any"
	active, dropped := all || state == "active", all || state == "dropped"
	out := targetList{Active: []activeTarget{}, Dropped: []droppedTarget{}}
	if dropped {
		out.DroppedCounts = map[string]int{}
	}
	for _, p := range s.sortedPools() {
		if dropped { // of every pool: that is what Prometheus does, and its page leans on it
			out.DroppedCounts[p.Job] = p.DroppedCount
		}
		if only != "" && p.Job != only {
			continue
		}
		if active {
			for _, t := range p.Targets {
				out.Active = append(out.Active, activeTarget{
					DiscoveredLabels: t.Discovered(), Labels: t.Labels, ScrapePool: p.Job, ScrapeURL: t.URL, GlobalURL: s.globalURL(t.URL),
					LastError: t.LastError, LastScrape: t.LastScrape, LastScrapeDuration: t.LastDuration.Seconds(), Health: string(t.Health),
					ScrapeInterval: model.Duration(t.Interval).String(), ScrapeTimeout: model.Duration(t.Timeout).String(),
				})
			}
		}
		if dropped {
			for _, d := range p.Dropped() {
				out.Dropped = append(out.Dropped, droppedTarget{d, p.Job})
			}
		}
	}
	return out, nil
}

// scrapePools answers /scrape_pools.
func (s *Server) scrapePools(*http.Request) (any, *apiError) {
	names := []string{}
	for _, p := range s.sortedPools() {
		names = append(names, p.Job)
	}
	return map[string][]string{"scrapePools": names}, nil
}

// sortedPools is what Pools gives, by job.
func (s *Server) sortedPools() []scrape.PoolStatus {
	pools := slices.Clone(s.o.Pools())
	slices.SortFunc(pools, func(a, b scrape.PoolStatus) int { return strings.Compare(a.Job, b.Job) })
	return pools
}

package web

import (
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
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
	state, only := r.FormValue("state"), r.FormValue("scrapePool")
	out := targetList{Active: []activeTarget{}, Dropped: []droppedTarget{}}
	if state != "active" {
		out.DroppedCounts = map[string]int{}
	}
	for _, p := range s.o.Pools() {
		if only != "" && p.Job != only {
			continue
		}
		if state != "dropped" {
			for _, t := range p.Targets {
				out.Active = append(out.Active, activeTarget{
					DiscoveredLabels: t.Discovered, Labels: t.Labels, ScrapePool: p.Job, ScrapeURL: t.URL, GlobalURL: s.globalURL(t.URL),
					LastError: t.LastError, LastScrape: t.LastScrape, LastScrapeDuration: t.LastDuration.Seconds(), Health: string(t.Health),
					ScrapeInterval: model.Duration(t.Interval).String(), ScrapeTimeout: model.Duration(t.Timeout).String(),
				})
			}
		}
		if state != "active" {
			for _, d := range p.Dropped {
				out.Dropped = append(out.Dropped, droppedTarget{d, p.Job})
			}
			out.DroppedCounts[p.Job] = p.DroppedCount
		}
	}
	return out, nil
}

// scrapePools answers /scrape_pools.
func (s *Server) scrapePools(*http.Request) (any, *apiError) {
	names := []string{}
	for _, p := range s.o.Pools() {
		names = append(names, p.Job)
	}
	slices.Sort(names)
	return map[string][]string{"scrapePools": names}, nil
}

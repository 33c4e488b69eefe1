package web

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

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

// targetList is the answer. A cluster has tens of thousands of dropped targets:
// they are made and written one by one.
type targetList struct {
	active        []activeTarget
	dropped       []scrape.PoolStatus // the pools whose dropped targets are wanted
	droppedCounts map[string]int
}

// stream writes {"activeTargets":[], "droppedTargets":[], "droppedTargetCounts":{}}.
func (l *targetList) stream(w *bufio.Writer) error {
	separator := ""
	put := func(before string, v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode %T: %w", v, err)
		}
		_, _ = w.WriteString(before) // a failure shows in the next write
		_, err = w.Write(b)
		return err
	}
	if err := put(`{"activeTargets":`, l.active); err != nil {
		return err
	}
	_, _ = w.WriteString(`,"droppedTargets":[`)
	for _, p := range l.dropped {
		for d := range p.Dropped {
			if err := put(separator, droppedTarget{d, p.Job}); err != nil {
				return err
			}
			separator = ","
		}
	}
	if err := put(`],"droppedTargetCounts":`, l.droppedCounts); err != nil {
		return err
	}
	return w.WriteByte('}')
}

// targets answers /targets?state=any|active|dropped&scrapePool=NAME.
func (s *Server) targets(r *http.Request) (any, *apiError) {
	query := r.URL.Query()
	state, only := strings.ToLower(query.Get("state")), query.Get("scrapePool")
	all := state == "" || state == "any"
	active, dropped := all || state == "active", all || state == "dropped"
	out := &targetList{active: []activeTarget{}}
	if dropped {
		out.droppedCounts = map[string]int{}
	}
	for _, p := range s.sortedPools() {
		if dropped { // of every pool: that is what Prometheus does, and its page leans on it
			out.droppedCounts[p.Job] = p.DroppedCount
		}
		if only != "" && p.Job != only {
			continue
		}
		if active {
			for _, t := range p.Targets {
				out.active = append(out.active, activeTarget{
					DiscoveredLabels: t.Discovered(), Labels: t.Labels, ScrapePool: p.Job, ScrapeURL: t.URL, GlobalURL: s.globalURL(t.URL),
					LastError: t.LastError, LastScrape: t.LastScrape, LastScrapeDuration: t.LastDuration.Seconds(), Health: string(t.Health),
					ScrapeInterval: t.Interval, ScrapeTimeout: t.Timeout,
				})
			}
		}
		if dropped {
			out.dropped = append(out.dropped, p)
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

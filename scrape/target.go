package scrape

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/discovery/group"
	"promagent/relabel"
)

// The labels by which relabelling steers a scrape, beside those that
// prometheus/common/model names.
const (
	labelNHCB       = "__convert_classic_histograms_to_nhcb__"
	labelClassic    = "__always_scrape_classic_histograms__"
	labelNative     = "__scrape_native_histograms__"
	labelUnixSocket = "__unix_socket__"
)

// discovered is a target as discovery gave it: one of a group.
type discovered struct {
	group  group.Targets
	number int
}

// target is one thing to scrape: what discovery and relabelling made of it,
// and how its last scrape went.
type target struct {
	labels   labels.Labels // after relabelling, with those that begin with __
	public   labels.Labels // what its series carry
	url      *url.URL
	socket   string // path of the unix socket to dial; "": none
	interval time.Duration
	timeout  time.Duration
	hash     uint64 // of labels and URL: its identity within the job
	kin      uint64 // likewise, but however often it is scraped

	found discovered // as it was when this was made

	complaints *complaints // shared with the target's next self after a reload

	mu           sync.Mutex // guards what follows
	from         discovered // as of the newest update
	lastError    error
	lastScrape   time.Time
	lastDuration time.Duration
	health       Health
}

// Health says how a target's last scrape went.
type Health string

// The healths.
const (
	HealthUnknown Health = "unknown"
	HealthUp      Health = "up"
	HealthDown    Health = "down"
)

// labelBuilder makes label sets of targets, one after the other, in memory that
// they share: most of the targets of a cluster are dropped again.
type labelBuilder struct {
	labels.Builder
	set      group.Set
	base     labels.Labels  // of the target; overwritten by the next one
	cfg      *JobConfig     // that the defaults are of
	defaults []labels.Label // that a target has unless it has its own
}

// defaultLabels are what every target of the job begins with.
func (c *JobConfig) defaultLabels() []labels.Label {
	all := []labels.Label{
		{Name: model.JobLabel, Value: c.Job},
		{Name: model.ScrapeIntervalLabel, Value: model.Duration(c.Interval).String()},
		{Name: model.ScrapeTimeoutLabel, Value: model.Duration(c.Timeout).String()},
		{Name: model.MetricsPathLabel, Value: c.MetricsPath},
		{Name: model.SchemeLabel, Value: c.Scheme},
		{Name: labelNHCB, Value: strconv.FormatBool(c.ConvertClassicToNHCB)},
		{Name: labelClassic, Value: strconv.FormatBool(c.AlwaysScrapeClassic)},
		{Name: labelNative, Value: strconv.FormatBool(c.ScrapeNativeHistograms)},
	}
	for k, v := range c.Params {
		if len(v) > 0 {
			all = append(all, labels.Label{Name: model.ParamLabelPrefix + k, Value: v[0]})
		}
	}
	return all
}

// reset begins with what relabelling begins with. What is read of the builder
// is good until the next call; copy what is kept.
func (lb *labelBuilder) reset(c *JobConfig, d discovered) {
	if lb.cfg != c {
		lb.cfg, lb.defaults = c, c.defaultLabels()
	}
	lb.set.Reset()
	d.group.Labels(d.number, &lb.set)
	lb.set.Overwrite(&lb.base)
	lb.Reset(lb.base)
	for _, l := range lb.defaults {
		if lb.base.Get(l.Name) == "" {
			lb.Set(l.Name, l.Value)
		}
	}
}

// discovered returns what relabelling begins with.
func (lb *labelBuilder) discovered(c *JobConfig, d discovered) labels.Labels {
	lb.reset(c, d)
	return lb.Labels().Copy()
}

// newTarget relabels a discovered target. It returns nil when relabelling
// drops it, and an error when what comes out cannot be scraped.
func newTarget(lb *labelBuilder, c *JobConfig, rules relabel.Rules, d discovered) (*target, error) {
	lb.reset(c, d)
	if !rules.Apply(&lb.Builder) {
		return nil, nil
	}
	addr := lb.Get(model.AddressLabel)
	if addr == "" {
		return nil, errors.New("no address")
	}
	if strings.Contains(addr, "/") {
		return nil, fmt.Errorf("%q is not a valid hostname", addr)
	}
	t := &target{found: d, from: d, health: HealthUnknown, complaints: &complaints{}}
	var err error
	intervalText, timeoutText := lb.Get(model.ScrapeIntervalLabel), lb.Get(model.ScrapeTimeoutLabel)
	if t.interval, err = duration("interval", intervalText); err != nil {
		return nil, err
	}
	if t.timeout, err = duration("timeout", timeoutText); err != nil {
		return nil, err
	}
	if t.timeout > t.interval {
		return nil, fmt.Errorf("scrape timeout cannot be greater than scrape interval (%q > %q)", timeoutText, intervalText)
	}
	for _, l := range [...]struct{ name, what string }{
		{labelNHCB, "convert classic histograms to nhcb"}, {labelClassic, "always scrape classic histograms"}, {labelNative, "scrape native histograms"},
	} {
		if v := lb.Get(l.name); v != "" {
			if _, err := strconv.ParseBool(v); err != nil {
				return nil, fmt.Errorf("error parsing %s: %w", l.what, err)
			}
		}
	}
	var meta []string
	lb.Range(func(l labels.Label) {
		if strings.HasPrefix(l.Name, model.MetaLabelPrefix) {
			meta = append(meta, l.Name)
		}
	})
	lb.Del(meta...)
	if lb.Get(model.InstanceLabel) == "" {
		lb.Set(model.InstanceLabel, addr)
	}
	t.labels = lb.Labels().Copy()
	if err := t.labels.Validate(func(l labels.Label) error {
		if !model.LabelValue(l.Value).IsValid() {
			return fmt.Errorf("invalid label value for %q: %q", l.Name, l.Value)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var sb labels.ScratchBuilder
	t.labels.Range(func(l labels.Label) {
		if !strings.HasPrefix(l.Name, model.ReservedLabelPrefix) {
			sb.Add(l.Name, l.Value)
		}
	})
	t.public = sb.Labels()
	if t.public.IsEmpty() {
		return nil, nil
	}
	t.socket = t.labels.Get(labelUnixSocket)
	t.url = t.makeURL(c.Params)
	h := fnv.New64a()
	fmt.Fprintf(h, "%016d", t.labels.Hash())
	h.Write([]byte(t.url.String()))
	t.hash = h.Sum64()
	h.Reset()
	fmt.Fprintf(h, "%016d", labels.NewBuilder(t.labels).Del(model.ScrapeIntervalLabel, model.ScrapeTimeoutLabel).Labels().Hash())
	h.Write([]byte(t.url.String()))
	t.kin = h.Sum64()
	return t, nil
}

func duration(what, text string) (time.Duration, error) {
	d, err := model.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("error parsing scrape %s: %w", what, err)
	}
	if d == 0 {
		return 0, fmt.Errorf("scrape %s cannot be 0", what)
	}
	return time.Duration(d), nil
}

// makeURL puts the address together: a __param_x label replaces the first
// value of the parameter x.
func (t *target) makeURL(params url.Values) *url.URL {
	query := url.Values{}
	for k, v := range params {
		query[k] = append([]string(nil), v...)
	}
	t.labels.Range(func(l labels.Label) {
		if k, ok := strings.CutPrefix(l.Name, model.ParamLabelPrefix); ok {
			if len(query[k]) > 0 {
				query[k][0] = l.Value
			} else {
				query[k] = []string{l.Value}
			}
		}
	})
	return &url.URL{
		Scheme: t.labels.Get(model.SchemeLabel), Host: t.labels.Get(model.AddressLabel),
		Path: t.labels.Get(model.MetricsPathLabel), RawQuery: query.Encode(),
	}
}

// offset is the time from now to the target's next turn: turns are pinned to
// the clock, and spread over the interval by identity and seed, so that they
// stay where they are across restarts.
func (t *target) offset(now time.Time, seed uint64) time.Duration {
	n := now.UnixNano()
	interval := int64(t.interval)
	next := interval - n%interval + int64((t.hash^seed)%uint64(interval))
	if next > interval {
		next -= interval
	}
	return time.Duration(next)
}

// report notes how a scrape went.
func (t *target) report(start time.Time, d time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastScrape, t.lastDuration, t.lastError = start, d, err
	t.health = HealthUp
	if err != nil {
		t.health = HealthDown
	}
}

// seen replaces what discovery says of the target, and keeps the rest.
func (t *target) seen(d discovered) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.from = d
}

// isFrom says whether that is what discovery says of the target.
func (t *target) isFrom(d discovered) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.from == d
}

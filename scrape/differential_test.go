package scrape

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	promscrape "github.com/prometheus/prometheus/scrape"

	"promagent/discovery"
	"promagent/discovery/group"
	"promagent/template"
)

// logged is what came of a run: per series its samples in the order of their
// being appended, times in ms from the first scrape.
type logged struct {
	mu       sync.Mutex
	scrapes  int
	limit    int           // scrapes after these do not count
	done     chan struct{} // closed when limit is reached
	start    int64
	samples  map[string][]point
	exemplar map[string][]string
	counters map[string]float64 // of what was refused
}

// agentOutOfOrder counts what the storage refuses. Prometheus's own counts stale markers too, which
// lose nothing, and samples that it has logged behind newer ones of their scrape.
const agentOutOfOrder = "prometheus_agent_out_of_order_samples_total"

// refusedCounters count what is not logged.
var refusedCounters = []string{
	agentOutOfOrder, "prometheus_target_scrapes_sample_out_of_order_total", "prometheus_target_scrapes_sample_out_of_bounds_total",
	"prometheus_target_scrapes_sample_duplicate_timestamp_total", "prometheus_target_scrapes_exemplar_out_of_order_total",
	"prometheus_target_scrapes_exceeded_sample_limit_total", "prometheus_target_scrape_pool_exceeded_label_limits_total",
	"prometheus_target_scrapes_exceeded_body_size_limit_total",
}

// count reads the counters.
func (l *logged) count(t *testing.T, r prometheus.Gatherer) {
	t.Helper()
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	l.counters = map[string]float64{}
	for _, f := range all {
		if slices.Contains(refusedCounters, f.GetName()) {
			l.counters[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	if len(l.counters) != len(refusedCounters) {
		t.Fatalf("only %v", l.counters)
	}
}

func (p point) String() string {
	if p.bits == value.StaleNaN {
		return fmt.Sprintf("stale@%d", p.time)
	}
	return fmt.Sprintf("%v@%d", math.Float64frombits(p.bits), p.time)
}

func newLogged(limit int) *logged {
	return &logged{limit: limit, done: make(chan struct{}), samples: map[string][]point{}, exemplar: map[string][]string{}}
}

// scraped counts a scrape at the time, ms; it is false for one too many.
func (l *logged) scraped(t int64) bool {
	if l.scrapes == 0 {
		l.start = t
	}
	if l.scrapes++; l.scrapes > l.limit {
		return false
	}
	if l.scrapes == l.limit {
		defer close(l.done)
	}
	return true
}

func (l *logged) add(series string, t int64, v float64) {
	l.samples[series] = append(l.samples[series], point{t - l.start, math.Float64bits(v)})
}

func (l *logged) addExemplar(series string, x labels.Labels, t int64, v float64) {
	if t > 100_000 { // else exposed with it
		t -= l.start
	}
	l.exemplar[series] = append(l.exemplar[series], fmt.Sprintf("%s %v@%d", x, v, t))
}

// Append is our Sink.
func (l *logged) Append(b *template.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.scraped(b.Time) {
		return nil
	}
	var sb labels.ScratchBuilder
	for _, p := range b.Parts {
		extra := p.Extra
		for it := p.Block.Slots(); it.Next(); {
			series := it.Series(&sb).String()
			t := b.Time
			if p.Times != nil && p.Times[it.Slot] != template.NoTime {
				t = p.Times[it.Slot]
			}
			switch p.State(it.Slot) {
			case template.Value:
				l.add(series, t, p.Values[it.Slot])
			case template.Stale:
				l.add(series, b.Time, math.Float64frombits(value.StaleNaN))
			}
			for ; len(extra) > 0 && extra[0].Slot == it.Slot; extra = extra[1:] {
				if x := extra[0]; x.Kind == template.Sample {
					l.add(series, x.Time, x.Value)
				} else {
					l.addExemplar(series, labels.FromStrings(x.Labels...), x.Time, x.Value)
				}
			}
		}
	}
	return nil
}

// answer is what the target says to one request.
type answer struct {
	status      int
	contentType string
	noType      bool
	lines       []exposed
}

// exposed is a line; at is added to the clock, ms, when it is timed.
type exposed struct {
	text  string // up to the value, or a whole comment
	value string
	timed bool
	at    int64
	tail  string
}

func (a *answer) body(now int64, openMetrics bool) string {
	var b strings.Builder
	for _, l := range a.lines {
		b.WriteString(l.text)
		if l.value != "" {
			b.WriteString(" " + l.value)
		}
		if l.timed && openMetrics {
			fmt.Fprintf(&b, " %d.%03d", (now+l.at)/1000, (now+l.at)%1000)
		} else if l.timed {
			fmt.Fprintf(&b, " %d", now+l.at)
		}
		b.WriteString(l.tail + "\n")
	}
	return b.String()
}

// play serves the answers in turn, the last one for ever.
func play(answers []answer) http.Handler {
	var mu sync.Mutex // guards what follows
	i := 0
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock() // one target, one request at a time
		a := &answers[min(i, len(answers)-1)]
		i++
		w.Header()["Content-Type"] = nil
		if !a.noType {
			w.Header().Set("Content-Type", a.contentType)
		}
		body := a.body(time.Now().UnixMilli(), strings.Contains(a.contentType, "openmetrics"))
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(a.status)
			packed.Reset()
			z.Reset(&packed)
			io.WriteString(z, body)
			z.Close()
			w.Write(packed.Bytes())
			return
		}
		w.WriteHeader(a.status)
		io.WriteString(w, body)
	})
}

const differentialInterval = 15 * time.Second

// runPrometheus plays the answers to Prometheus's own scrape manager.
func runPrometheus(t *testing.T, yaml string, window time.Duration, answers []answer) *logged {
	var out *logged
	synctest.Test(t, func(t *testing.T) {
		out = newLogged(len(answers)) // in here, for its channel to go by the fake clock
		n := newPipeNet(play(answers))
		defer n.shut()
		cfg, err := promconfig.Load(yaml, nil)
		if err != nil {
			t.Fatal(err)
		}
		o := &promscrape.Options{DiscoveryReloadOnStartup: true, HTTPClientOptions: []commonconfig.HTTPClientOption{commonconfig.WithDialContextFunc(n.dial)}}
		// Its own switch for tests: the look-up of the host's name does not work with a fake clock.
		f := reflect.ValueOf(o).Elem().FieldByName("skipJitterOffsetting")
		*(*bool)(unsafe.Pointer(f.UnsafeAddr())) = true
		r := prometheus.NewRegistry()
		store := newOracle(t, out, window, r)
		m, err := promscrape.NewManager(o, nil, nil, nil, store, r)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.ApplyConfig(cfg); err != nil {
			t.Fatal(err)
		}
		sets := make(chan map[string][]*targetgroup.Group)
		go m.Run(sets)
		sets <- map[string][]*targetgroup.Group{"job": {{Source: "s", Targets: []model.LabelSet{{"__address__": "target:1"}}, Labels: model.LabelSet{"zone": "z"}}}}
		<-out.done
		m.Stop()
		out.count(t, r)
		out.counters[agentOutOfOrder] = float64(store.refused)
		store.close(t)
	})
	return out
}

// runOurs plays them to this package's.
func runOurs(t *testing.T, cfg JobConfig, window time.Duration, answers []answer) *logged {
	var out *logged
	synctest.Test(t, func(t *testing.T) {
		out = newLogged(len(answers)) // in here, for its channel to go by the fake clock
		n := newPipeNet(play(answers))
		defer n.shut()
		r := prometheus.NewRegistry()
		m, err := New(Options{Sink: out, Registerer: r, Dial: n.dial, Hostname: testHost})
		if err != nil {
			t.Fatal(err)
		}
		change, err := m.Prepare(Config{Jobs: []JobConfig{cfg}, OutOfOrderWindow: window})
		if err != nil {
			t.Fatal(err)
		}
		change.Commit()
		updates := make(chan []discovery.Update, 1)
		updates <- []discovery.Update{{Job: "job", Groups: []group.Group{group.Of(&targetgroup.Group{Source: "s", Targets: []model.LabelSet{{"__address__": "target:1"}}, Labels: model.LabelSet{"zone": "z"}})}}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- m.Run(ctx, updates) }()
		<-out.done
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		out.count(t, r)
	})
	return out
}

// resolved is the JobConfig of a Prometheus configuration's only job.
func resolved(t *testing.T, yaml string) JobConfig {
	t.Helper()
	cfg, err := promconfig.Load(yaml, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, yaml)
	}
	all, err := cfg.GetScrapeConfigs()
	if err != nil {
		t.Fatal(err)
	}
	return resolvedJob(all[0])
}

func resolvedJob(c *promconfig.ScrapeConfig) JobConfig {
	j := JobConfig{
		Job: c.JobName, HonorLabels: c.HonorLabels, HonorTimestamps: c.HonorTimestamps, TrackTimestampsStaleness: c.TrackTimestampsStaleness,
		Params: c.Params, Interval: time.Duration(c.ScrapeInterval), Timeout: time.Duration(c.ScrapeTimeout),
		FallbackProtocol: string(c.ScrapeFallbackProtocol), MetricsPath: c.MetricsPath, Scheme: c.Scheme, EnableCompression: c.EnableCompression,
		BodySizeLimit: int64(c.BodySizeLimit), SampleLimit: int(c.SampleLimit), TargetLimit: int(c.TargetLimit),
		LabelLimit: int(c.LabelLimit), LabelNameLengthLimit: int(c.LabelNameLengthLimit), LabelValueLengthLimit: int(c.LabelValueLengthLimit),
		ValidationScheme: c.MetricNameValidationScheme, EscapingScheme: c.MetricNameEscapingScheme,
		ExtraMetrics: *c.ExtraScrapeMetrics, HTTP: c.HTTPClientConfig, Relabel: c.RelabelConfigs, MetricRelabel: c.MetricRelabelConfigs,
	}
	for _, p := range c.ScrapeProtocols {
		j.Protocols = append(j.Protocols, string(p))
	}
	return j
}

// diff describes the first differences.
func diff(got, want *logged, exact bool) string {
	var b strings.Builder
	all := map[string]bool{}
	for s := range got.samples {
		all[s] = true
	}
	for s := range want.samples {
		all[s] = true
	}
	names := make([]string, 0, len(all))
	for s := range all {
		names = append(names, s)
	}
	slices.Sort(names)
	for _, s := range names {
		if !exact && strings.HasPrefix(s, `{__name__="scrape_series_added"`) {
			continue // counts wordings there, series here
		}
		if !slices.Equal(got.samples[s], want.samples[s]) {
			fmt.Fprintf(&b, "%s\n   got %v\n  want %v\n", s, got.samples[s], want.samples[s])
		}
		// Those of one scrape come by time here, as exposed there.
		slices.Sort(got.exemplar[s])
		slices.Sort(want.exemplar[s])
		if g, w := got.exemplar[s], want.exemplar[s]; !slices.Equal(g, w) {
			fmt.Fprintf(&b, "%s exemplars\n   got %v\n  want %v\n", s, g, w)
		}
	}
	if exact {
		for _, name := range refusedCounters {
			if g, w := got.counters[name], want.counters[name]; g != w {
				fmt.Fprintf(&b, "%s\n   got %v\n  want %v\n", name, g, w)
			}
		}
	}
	return b.String()
}

// transcript is what was played.
func transcript(answers []answer) string {
	var b strings.Builder
	for i := range answers {
		a := &answers[i]
		fmt.Fprintf(&b, "--- %d at %d: %d %q\n%s", i, i*int(differentialInterval/time.Millisecond), a.status, a.contentType, a.body(0, false))
	}
	return b.String()
}

// compare plays answers to both; exact says that every series has one wording.
func compare(t *testing.T, yaml string, window time.Duration, answers []answer, exact bool) {
	t.Helper()
	want := runPrometheus(t, yaml, window, answers)
	got := runOurs(t, resolved(t, yaml), window, answers)
	if d := diff(got, want, exact); d != "" {
		t.Fatalf("logged differently:\n%s\nconfiguration:\n%s\nplayed:\n%s", d, yaml, transcript(answers))
	}
	if len(want.samples) < 5 {
		t.Fatalf("only %d series", len(want.samples))
	}
}

// randomYAML is a job with some of the settings that change what is logged.
func randomYAML(r *rand.Rand, timestamps bool) string {
	var b strings.Builder
	b.WriteString("scrape_configs:\n- job_name: job\n  scrape_interval: 15s\n  scrape_timeout: 10s\n")
	maybe := func(n int, format string, a ...any) {
		if r.IntN(n) == 0 {
			fmt.Fprintf(&b, "  "+format+"\n", a...)
		}
	}
	maybe(2, "honor_labels: true")
	maybe(4, "honor_timestamps: false")
	maybe(3, "track_timestamps_staleness: true")
	maybe(4, "sample_limit: %d", 2+r.IntN(14))
	maybe(8, "label_limit: %d", 5+r.IntN(3))
	maybe(8, "label_name_length_limit: %d", 8+r.IntN(8))
	maybe(8, "label_value_length_limit: %d", 8+r.IntN(8))
	maybe(6, "body_size_limit: %dB", 100+r.IntN(500))
	maybe(2, "fallback_scrape_protocol: PrometheusText0.0.4")
	maybe(3, "enable_compression: false")
	maybe(2, "extra_scrape_metrics: true")
	maybe(4, "metric_name_validation_scheme: legacy")
	plain := timestamps || strings.Contains(b.String(), "sample_limit")
	if r.IntN(2) == 0 {
		b.WriteString("  metric_relabel_configs:\n")
		for _, rule := range []string{
			"  - {source_labels: [__name__], regex: m3, action: drop}\n",
			"  - {regex: x, action: labeldrop}\n",
			"  - {source_labels: [y], regex: (.+), target_label: instance}\n",
			"  - {source_labels: [x], regex: '2', target_label: __name__, replacement: renamed}\n",
			"  - {source_labels: [x], regex: '3', target_label: zone, replacement: ''}\n",
			"  - {regex: exported_(.+), action: labelmap}\n",
		} {
			if r.IntN(3) == 0 && (!plain || strings.Contains(rule, "m3")) {
				b.WriteString(rule)
			}
		}
		b.WriteString("  - {source_labels: [never], regex: never, action: drop}\n")
	}
	return b.String()
}

// randomExemplar is what stands behind a value, mostly a good exemplar.
func randomExemplar(r *rand.Rand) string {
	labels := fmt.Sprintf(`trace_id="%d"`, r.IntN(3))
	value := fmt.Sprintf("%d.5", r.IntN(2))
	time := ""
	switch r.IntN(20) {
	case 0, 1, 2, 3, 4, 5:
		return ""
	case 6:
		labels = `a="1",a="2"`
	case 7:
		labels = `a="",b=""`
	case 8:
		labels = `b="2",a=""`
	case 9:
		labels = `a="` + strings.Repeat("é", 126+r.IntN(4)) + `"`
	case 10:
		labels = `b="a quoted \"word\" and \\n, a\nline",a="\x"`
	case 11:
		value = []string{"NaN", "0", "-0", "+Inf"}[r.IntN(4)]
	case 12, 13, 14:
		time = fmt.Sprintf(" %d.25", r.IntN(3))
	}
	return fmt.Sprintf(" # {%s} %s%s", labels, value, time)
}

// randomAnswers are expositions of one target over time.
func randomAnswers(r *rand.Rand, n int, timestamps, limited bool) []answer {
	const text, openMetrics = "text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0; charset=utf-8"
	typ := text
	if r.IntN(3) == 0 {
		typ = openMetrics
	}
	// Two lines of one body may be the same series in other words, or become it
	// by relabelling, but not with timestamps or a sample limit: there Prometheus
	// goes by words, logs a series twice and counts it twice.
	plain := timestamps || limited
	names := []string{"x", "y", "job", "instance", "a_longer_name", "v"}
	if !plain {
		names = append(names, "exported_job", "zone")
	}
	var pool [][]string // the ways to write a series
	have := map[string]bool{}
	for range 4 + r.IntN(30) {
		name := fmt.Sprintf("m%d", r.IntN(5))
		var ls []string
		for _, l := range names {
			if r.IntN(4) > 0 {
				continue
			}
			switch v := r.IntN(5); {
			case l == "v":
				ls = append(ls, fmt.Sprintf("v=\"a value of some length %d\"", v))
			case l == "zone" && v < 2:
				ls = append(ls, `zone=""`)
			default:
				ls = append(ls, fmt.Sprintf("%s=\"%d\"", l, v))
			}
		}
		text := name
		if len(ls) > 0 {
			text = name + "{" + strings.Join(ls, ",") + "}"
		}
		if plain && have[text] {
			continue
		}
		have[text] = true
		pool = append(pool, []string{text})
		if len(ls) > 1 && r.IntN(3) == 0 && !plain {
			again := name + "{" + strings.Join(ls[1:], ",") + "," + ls[0] + "}"
			if k := len(pool) - 1; r.IntN(2) == 0 {
				pool[k] = append(pool[k], again)
			} else {
				pool = append(pool, []string{again})
			}
		}
	}
	timedShare, failShare := 0.0, 0.1*r.Float64()
	if timestamps {
		timedShare = r.Float64()
	}
	hostile := r.IntN(4) == 0
	alive := map[int]bool{}
	timed := map[int]bool{}
	tails := map[int]string{} // exemplars stay for some scrapes
	order := r.Perm(len(pool))
	answers := make([]answer, n)
	for i := range answers {
		a := &answers[i]
		a.status, a.contentType = 200, typ
		if r.Float64() < failShare {
			switch r.IntN(5) {
			case 0:
				a.status = 503
			case 1:
				continue // an empty body
			case 2:
				a.noType = true
			case 3:
				a.contentType = "text/html"
			case 4:
				defer func() { // cut off
					a.lines = a.lines[:len(a.lines)/2]
					a.lines = append(a.lines, exposed{text: "m1{"})
				}()
			}
		}
		if r.IntN(4) == 0 {
			r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		for _, k := range order {
			if r.IntN(8) == 0 {
				alive[k] = !alive[k]
			}
			if i == 0 {
				alive[k] = r.IntN(3) > 0
				timed[k] = r.Float64() < timedShare || timedShare > 0 && k == 0
			}
			if timedShare > 0 && r.IntN(12) == 0 {
				timed[k] = r.Float64() < timedShare
			}
			if !alive[k] {
				continue
			}
			l := exposed{text: pool[k][r.IntN(len(pool[k]))], value: fmt.Sprint(r.IntN(100)), timed: timed[k]}
			if r.IntN(20) == 0 {
				l.value = []string{"NaN", "+Inf", "-Inf", "-0", "1e308", "0.1"}[r.IntN(6)]
			}
			if l.timed {
				l.at = int64(r.IntN(40_000)) - 35_000
				switch r.IntN(20) {
				case 0:
					l.at = 601_000 // too far ahead
				case 1:
					l.at = -l.at
				case 2:
					l.at = 0
				case 3:
					l.at = 599_999
				}
			}
			if typ == openMetrics {
				if r.IntN(4) == 0 {
					tails[k] = randomExemplar(r)
				}
				l.tail = tails[k]
			}
			a.lines = append(a.lines, l)
			if r.IntN(25) == 0 { // once more
				l.value = fmt.Sprint(r.IntN(100))
				if l.timed || r.IntN(3) == 0 && timedShare > 0 {
					l.timed, l.at = true, l.at+int64(r.IntN(3000)-1500)
				}
				a.lines = append(a.lines, l)
			}
		}
		if hostile && r.IntN(10) == 0 {
			bad := []string{"m1{x=\"\xff\"} 1", `{"a.b",x="1"} 1`, `m1 one`, `{x="1"} 1`}
			bad = append(bad, `m1{x="1",x="2"} 1`)
			if typ != openMetrics {
				bad = append(bad, `m1{x="1",x="2"} 1 32503680000000`) // too far ahead
			}
			at := r.IntN(len(a.lines) + 1)
			a.lines = slices.Insert(a.lines, at, exposed{text: bad[r.IntN(len(bad))]})
		}
		if typ == openMetrics {
			a.lines = append(a.lines, exposed{text: "# EOF"})
		}
	}
	if timestamps {
		// A series with a timestamp from the beginning: until a target has one, the
		// times of its single series are not kept, and the first one to change over
		// may lose samples older than the last scrape.
		first := answer{status: 200, contentType: typ, lines: []exposed{{text: "first", value: "1", timed: true, at: -1}}}
		if typ == openMetrics {
			first.lines = append(first.lines, exposed{text: "# EOF"})
		}
		answers = slices.Insert(answers, 0, first)
	}
	return answers
}

func TestWhatIsLoggedIsWhatPrometheusLogs(t *testing.T) {
	for first, name := range []string{"plain", "timestamps", "window"} {
		timestamps := first > 0
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failed := 0
			for seed := uint64(first); seed < 450; seed += 3 {
				r := rand.New(rand.NewPCG(seed, 77))
				yaml := randomYAML(r, timestamps)
				answers := randomAnswers(r, 8+r.IntN(25), timestamps, strings.Contains(yaml, "sample_limit"))
				window := time.Duration(0)
				if name == "window" {
					window = time.Duration(1+r.IntN(60_000)) * time.Millisecond
				}
				if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { compare(t, yaml, window, answers, timestamps) }) {
					if failed++; failed == 3 {
						return // enough to look at
					}
				}
			}
		})
	}
}

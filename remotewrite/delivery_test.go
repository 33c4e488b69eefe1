package remotewrite

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	commonmodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"

	"promagent/template"
)

// dropSeries and setLabel are write_relabel_configs.
func dropSeries(name string) *promrelabel.Config {
	return &promrelabel.Config{
		SourceLabels: commonmodel.LabelNames{"__name__"}, Separator: ";", Regex: promrelabel.MustNewRegexp(name), Action: promrelabel.Drop,
		Replacement: "$1", NameValidationScheme: commonmodel.UTF8Validation,
	}
}

func setLabel(name, value string) *promrelabel.Config {
	return &promrelabel.Config{
		Separator: ";", Regex: promrelabel.MustNewRegexp("(.*)"), TargetLabel: name, Replacement: value, Action: promrelabel.Replace,
		NameValidationScheme: commonmodel.UTF8Validation,
	}
}

// mapped renames the series that are expected; "" drops one.
func mapped(want map[string][]point, f func(string) string) map[string][]point {
	out := map[string][]point{}
	for s, ps := range want {
		if n := f(s); n != "" {
			out[n] = append(out[n], ps...)
		}
	}
	return out
}

var bothMessages = []string{MessageV1, MessageV2}

func TestEverythingArrivesOnceAndInOrder(t *testing.T) {
	for _, message := range bothMessages {
		for _, shards := range []int{1, 5} {
			t.Run(fmt.Sprint(message, shards), func(t *testing.T) {
				l := openLog(t, t.TempDir())
				r := newReceiver(t, nil)
				cfg := remoteConfig(t, r.srv.URL)
				cfg.ProtobufMessage = message
				cfg.Queue.MinShards, cfg.Queue.MaxShards = shards, shards
				cfg.ExternalLabels = labels.FromStrings("cluster", "c1", "job", "not taken", "empty", "")
				cfg.WriteRelabel = []*promrelabel.Config{dropSeries("m3_total"), setLabel("site", "s1")}
				m := startManager(l, patience, cfg)
				a, b := testTarget("a", 90), testTarget("b", 40)
				for range 150 {
					l.scrape(a, b)
				}
				want := mapped(l.want, func(s string) string {
					if strings.Contains(s, `__name__="m3_total"`) {
						return ""
					}
					s = strings.Replace(s, `", instance=`, `", cluster="c1", instance=`, 1)
					return strings.TrimSuffix(s, "}") + `, site="s1"}`
				})
				kept := 0
				for _, ps := range want {
					kept += len(ps)
				}
				r.waitFor(kept)
				m.delivered()
				r.mustHave(want)
				if got := m.remoteMetric("samples_dropped_total", "reason=dropped_series"); got != l.count-kept {
					t.Errorf("%d samples are counted as dropped, want %d", got, l.count-kept)
				}
				if got := m.remoteMetric("samples_total"); got != kept {
					t.Errorf("%d samples are counted as sent, want %d", got, kept)
				}
				r.mu.Lock()
				defer r.mu.Unlock()
				if got := slices.Collect(maps.Keys(r.agents)); !slices.Equal(got, []string{"Prometheus/3.14.0"}) {
					t.Errorf("got user agents %q", got)
				}
			})
		}
	}
}

// answers answers the requests by their number, and all after them with 204.
func answers(statuses ...int) func(http.ResponseWriter, *request) int {
	return func(_ http.ResponseWriter, r *request) int {
		if r.number < len(statuses) {
			return statuses[r.number]
		}
		return http.StatusNoContent
	}
}

func TestWhatTheReceiverAnswersDecidesWhatIsDelivered(t *testing.T) {
	bad := func(r *request) bool {
		return slices.ContainsFunc(r.order, func(s string) bool { return strings.Contains(s, `n="5"`) })
	}
	type counts struct{ failed, retried int }
	for _, tc := range []struct {
		name   string
		set    func(*Config)
		answer func(http.ResponseWriter, *request) int
		lost   func(series string) bool // what must not arrive
		failed bool
		retry  bool
	}{
		{"trouble that passes", nil, answers(503, 500, 502, 599), nil, false, true},
		{"wait", nil, func(w http.ResponseWriter, r *request) int {
			w.Header().Set("Retry-After", "0")
			return answers(503)(w, r)
		}, nil, false, true},
		{"too many, to be tried again", func(c *Config) { c.Queue.RetryOnRateLimit = true }, answers(429, 429), nil, false, true},
		{"one series is refused", nil, func(_ http.ResponseWriter, r *request) int {
			if bad(r) {
				return 400
			}
			return 204
		}, func(s string) bool { return strings.Contains(s, `n="5"`) }, true, false},
		{"too large", nil, func(_ http.ResponseWriter, r *request) int {
			if r.samples > 7 {
				return 413
			}
			return 204
		}, nil, false, false},
		{"all is refused", nil, func(http.ResponseWriter, *request) int { return 400 }, func(string) bool { return true }, true, false},
		{"too many", nil, func(http.ResponseWriter, *request) int { return 429 }, func(string) bool { return true }, true, false},
		{"not allowed", nil, func(http.ResponseWriter, *request) int { return 403 }, func(string) bool { return true }, true, false},
	} {
		for _, message := range bothMessages {
			t.Run(tc.name+" "+message, func(t *testing.T) {
				l := openLog(t, t.TempDir())
				r := newReceiver(t, tc.answer)
				cfg := remoteConfig(t, r.srv.URL)
				cfg.ProtobufMessage = message
				if tc.set != nil {
					tc.set(&cfg)
				}
				m := startManager(l, patience, cfg)
				a := testTarget("a", 20)
				for range 30 {
					l.scrape(a)
				}
				m.delivered()
				want := mapped(l.want, func(s string) string {
					if tc.lost != nil && tc.lost(s) {
						return ""
					}
					return s
				})
				if tc.name == "one series is refused" { // a batch may cost 64 requests: what is left goes with its neighbours
					r.mu.Lock()
					for s := range want {
						want[s] = r.series[s]
						if n := len(want[s]); n < 15 {
							t.Errorf("%s: %d samples arrived", s, n)
						}
					}
					r.mu.Unlock()
				}
				r.mustHave(want)
				_, written := r.counts()
				missing := l.count - written
				got := counts{m.remoteMetric("samples_failed_total"), m.remoteMetric("samples_retried_total")}
				if got.failed != missing || (got.failed > 0) != tc.failed || (got.retried > 0) != tc.retry {
					t.Errorf("counted %+v, missing are %d", got, missing)
				}
			})
		}
	}
}

func TestOnlyWhatA2ReceiverConfirmsCountsAsDelivered(t *testing.T) {
	for _, tc := range []struct {
		name    string
		message string
		headers map[string]string
		status  int
		failed  int
	}{
		{"all", MessageV2, map[string]string{"Samples": "20"}, 200, 0},
		{"a part", MessageV2, map[string]string{"Samples": "15"}, 200, 5},
		{"a part, and a refusal", MessageV2, map[string]string{"Samples": "15"}, 400, 5},
		{"nothing, and a refusal", MessageV2, map[string]string{"Samples": "0"}, 400, 20},
		{"zero", MessageV2, map[string]string{"Samples": "0", "Histograms": "0", "Exemplars": "0"}, 204, 20},
		{"nothing is said", MessageV2, nil, 204, 20},
		{"nothing is said with 1.x", MessageV1, nil, 204, 0},
		{"a part with 1.x", MessageV1, map[string]string{"Samples": "15"}, 200, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			r := newReceiver(t, func(w http.ResponseWriter, req *request) int {
				for k, v := range tc.headers {
					w.Header().Set("X-Prometheus-Remote-Write-"+k+"-Written", v)
				}
				return tc.status
			})
			r.silent = tc.headers == nil
			cfg := remoteConfig(t, r.srv.URL)
			cfg.ProtobufMessage = tc.message
			m := startManager(l, patience, cfg)
			l.scrape(testTarget("a", 20))
			m.delivered()
			if got := m.remoteMetric("samples_failed_total"); got != tc.failed {
				t.Errorf("%d samples are counted as failed, want %d", got, tc.failed)
			}
			if n, _ := r.counts(); n != 1 {
				t.Errorf("%d requests, want 1: an answer is final", n)
			}
		})
	}
}

func TestLostAnswersRepeatRequestsAndLoseNothing(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, func(_ http.ResponseWriter, r *request) int {
		if r.number%3 == 1 {
			return 0
		}
		return 204
	})
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.MinShards, cfg.Queue.MaxShards = 3, 3
	m := startManager(l, patience, cfg)
	a := testTarget("a", 50)
	for range 50 {
		l.scrape(a)
	}
	m.delivered()
	r.mustHaveOnceRepeated(l.want)
}

func TestStaleMarkersFurtherSamplesAndExemplarsArrive(t *testing.T) {
	for _, message := range bothMessages {
		for _, exemplars := range []bool{true, false} {
			t.Run(fmt.Sprint(message, exemplars), func(t *testing.T) {
				l := openLog(t, t.TempDir())
				r := newReceiver(t, nil)
				cfg := remoteConfig(t, r.srv.URL)
				cfg.ProtobufMessage, cfg.SendExemplars = message, exemplars
				m := startManager(l, patience, cfg)
				b := testTarget("a", 4)
				s := names(b)
				at := l.clock
				start := at - 5000
				err := l.store.Append(&template.Batch{Time: at, Parts: []template.Part{{
					Block: b, States: []template.State{template.Value, template.Stale, template.Absent, template.Value}, Values: []float64{1.5, 0, 0, math.Inf(-1)},
					Times: []int64{at - 7, template.NoTime, template.NoTime, template.NoTime}, Starts: []int64{start, 0, 0, 0},
					Extra: []template.Extra{
						{Slot: 0, Kind: template.Exemplar, Time: at - 8, Value: 3, Labels: []string{"trace_id", "abc", "x", "y"}},
						{Slot: 0, Kind: template.Sample, Time: at - 6, Value: 2.5},
					},
				}}})
				if err != nil {
					t.Fatal(err)
				}
				m.delivered()
				v2start := int64(0)
				if message == MessageV2 {
					v2start = start
				}
				r.mustHave(map[string][]point{
					s[0]: {{at - 7, v2start, math.Float64bits(1.5)}, {at - 6, 0, math.Float64bits(2.5)}},
					s[1]: {{at, 0, template.StaleNaN}},
					s[3]: {{at, 0, math.Float64bits(math.Inf(-1))}},
				})
				want := map[string][]string{s[0]: {fmt.Sprintf("{{trace_id=\"abc\", x=\"y\"} 3 %d true}", at-8)}}
				if !exemplars {
					want = map[string][]string{}
				}
				r.mu.Lock()
				defer r.mu.Unlock()
				if fmt.Sprint(r.extras) != fmt.Sprint(want) {
					t.Errorf("got exemplars %v, want %v", r.extras, want)
				}
				if got := m.remoteMetric("exemplars_total"); got != len(want) {
					t.Errorf("%d exemplars are counted, want %d", got, len(want))
				}
				if message == MessageV2 {
					if got := r.about[s[0]]; got != "METRIC_TYPE_COUNTER Some. bytes" {
						t.Errorf("got metadata %q", got)
					}
				}
			})
		}
	}
}

func TestMetadataIsSentWith1xAlone(t *testing.T) {
	for _, message := range bothMessages {
		t.Run(message, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			b := testTarget("a", 21)
			l.metadata = func(yield func(Metadata) bool) {
				for i := range 14 { // two targets say the same
					if !yield(Metadata{Family: fmt.Sprintf("m%d", i%7), Type: "counter", Help: "Some.", Unit: "bytes"}) {
						return
					}
				}
				_ = yield(Metadata{Family: "m0", Type: "unknown", Help: "Another."}) && yield(Metadata{Family: "without_series", Type: "gauge"})
			}
			var failed atomic.Bool
			r := newReceiver(t, func(_ http.ResponseWriter, r *request) int {
				if len(r.metadata) > 0 && r.samples > 0 {
					t.Error("metadata came with samples")
				}
				if len(r.metadata) > 2 {
					t.Errorf("%d entries in a request", len(r.metadata))
				}
				if len(r.metadata) > 0 && failed.CompareAndSwap(false, true) {
					return 503
				}
				return 204
			})
			cfg := remoteConfig(t, r.srv.URL)
			cfg.ProtobufMessage = message
			cfg.Metadata = MetadataConfig{Send: true, SendInterval: 5 * time.Millisecond, MaxSamplesPerSend: 2}
			m := startManager(l, patience, cfg)
			l.scrape(b)
			m.delivered()
			if message == MessageV2 {
				m.stop()
				r.mu.Lock()
				defer r.mu.Unlock()
				if len(r.metadata) > 0 {
					t.Errorf("got metadata %q", r.metadata)
				}
				return
			}
			for i := range 7 {
				entry := fmt.Sprintf("m%d COUNTER Some. bytes", i)
				r.wait(entry, func() bool { return slices.Contains(r.metadata, entry) })
			}
			for _, entry := range []string{"m0 UNKNOWN Another. ", "without_series GAUGE  "} {
				r.wait(entry, func() bool { return slices.Contains(r.metadata, entry) })
			}
			m.stop()
			if len(b.Schemas) == 0 || !failed.Load() {
				t.Error("no metadata request failed")
			}
		})
	}
}

func TestSamplesAreDroppedOnceWhenTheyAreTooOld(t *testing.T) {
	l := openLog(t, t.TempDir())
	var down atomic.Bool
	down.Store(true)
	r := newReceiver(t, func(http.ResponseWriter, *request) int {
		if down.Load() {
			return 503
		}
		return 204
	})
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.SampleAgeLimit = 300 * time.Millisecond
	m := startManager(l, patience, cfg)
	b := testTarget("a", 30)
	l.clock = time.Now().Add(-time.Hour).UnixMilli()
	l.scrape(b) // too old from the start
	l.clock = time.Now().UnixMilli()
	l.scrape(b) // becomes too old while the remote is down
	r.wait("retries", func() bool { return r.requests > 2 })
	m.delivered()
	down.Store(false)
	fresh := testTarget("b", 30)
	l.clock = time.Now().Add(time.Hour).UnixMilli()
	l.scrape(fresh)
	r.waitFor(30)
	m.delivered()
	if got := m.remoteMetric("samples_dropped_total", "reason=too_old"); got != 60 {
		t.Errorf("%d samples are counted as too old, want 60", got)
	}
	if _, n := r.counts(); n != 30 {
		t.Errorf("%d samples arrived, want 30", n)
	}
}

func TestOneOversizedSeriesDoesNotShrinkRequestsForGood(t *testing.T) {
	l := openLog(t, t.TempDir())
	var largest atomic.Int64
	r := newReceiver(t, func(_ http.ResponseWriter, q *request) int {
		for s := range q.series {
			if strings.Contains(s, `instance="bad"`) && strings.Contains(s, `n="5"`) {
				return 413
			}
		}
		raise(&largest, int64(q.samples))
		return 204
	})
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience, cfg)
	bad, good := testTarget("bad", 20), testTarget("good", 100)
	for range 10 {
		l.scrape(bad)
	}
	m.delivered()
	if got := m.remoteMetric("samples_failed_total"); got != 10 {
		t.Errorf("%d samples failed, want those 10 that are too large alone", got)
	}
	largest.Store(0)
	for range 100 {
		l.scrape(good)
	}
	m.delivered()
	if got := largest.Load(); got != int64(cfg.Queue.MaxSamplesPerSend) {
		t.Errorf("the largest request had %d samples, want %d", got, cfg.Queue.MaxSamplesPerSend)
	}
	r.mustHave(mapped(l.want, func(s string) string {
		if strings.Contains(s, `instance="bad"`) && strings.Contains(s, `n="5"`) {
			return ""
		}
		return s
	}))
}

func TestRequestsGoOutFullOrAtTheBatchSendDeadline(t *testing.T) {
	const full, deadline = 40, 300 * time.Millisecond
	l := openLog(t, t.TempDir())
	type arrival struct {
		samples int
		at      time.Time
	}
	arrivals := make(chan arrival, 10)
	r := newReceiver(t, func(_ http.ResponseWriter, r *request) int {
		arrivals <- arrival{r.samples, time.Now()}
		return http.StatusNoContent
	})
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.MaxSamplesPerSend, cfg.Queue.BatchSendDeadline = full, deadline
	m := startManager(l, patience, cfg)
	begin := time.Now()
	l.scrape(testTarget("a", 2*full+7))
	m.delivered()
	var sizes []int
	last := arrival{}
	for range 3 {
		last = <-arrivals
		sizes = append(sizes, last.samples)
	}
	if !slices.Equal(sizes, []int{full, full, 7}) {
		t.Errorf("requests of %v samples", sizes)
	}
	if waited := last.at.Sub(begin); waited < deadline {
		t.Errorf("the rest went out after %v, the deadline is %v", waited, deadline)
	}
}

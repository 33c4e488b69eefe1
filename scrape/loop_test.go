package scrape

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"

	"promagent/discovery"
	"promagent/discovery/group"
	"promagent/template"
)

// world is a Manager and its targets, under a fake clock.
type world struct {
	t       *testing.T
	m       *Manager
	net     *pipeNet
	updates chan []discovery.Update
	cancel  context.CancelFunc
	ended   chan error

	mu       sync.Mutex // guards what follows
	serve    func(w http.ResponseWriter, r *http.Request)
	requests []request
	batches  []time.Time // when one was appended
	points   map[string][]point
	order    map[string]int64
	late     bool // samples may go back in time
}

// point is a logged sample: ms, and the bits of the value.
type point struct {
	time int64
	bits uint64
}

type request struct {
	at     time.Time
	host   string
	header http.Header
}

// testHost is in place of the look-up of the machine's name, which does not
// work with a fake clock.
func testHost() (string, error) { return "agent.example", nil }

// newWorld runs a Manager with the jobs. It must be in a bubble, and left with end.
func newWorld(t *testing.T, jobs ...JobConfig) *world {
	t.Helper()
	return newWorldWith(t, Options{}, jobs...)
}

// newWorldWith is newWorld with options for the Manager beside those of a world.
func newWorldWith(t *testing.T, o Options, jobs ...JobConfig) *world {
	t.Helper()
	w := &world{t: t, updates: make(chan []discovery.Update), ended: make(chan error), points: map[string][]point{}, order: map[string]int64{}}
	w.serve = func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "a 1\n") }
	w.net = newPipeNet(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, request{time.Now(), r.Host, r.Header})
		serve := w.serve
		w.mu.Unlock()
		rw.Header().Set("Content-Type", textType)
		serve(rw, r)
	}))
	o.Sink, o.Dial, o.UserAgent, o.Hostname = sinkFunc(w.append), w.net.dial, "prom-agent/test", testHost
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.m = m
	w.apply(jobs...)
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	go func() { w.ended <- m.Run(ctx, w.updates) }()
	return w
}

// append also checks that no series goes back in time.
func (w *world) append(b *template.Batch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches = append(w.batches, time.Now())
	var sb labels.ScratchBuilder
	for _, p := range b.Parts {
		for it := p.Block.Slots(); it.Next(); {
			v := math.Float64frombits(template.StaleNaN)
			switch p.State(it.Slot) {
			case template.Absent:
				continue
			case template.Value:
				v = p.Values[it.Slot]
			}
			t := b.Time
			if p.Times != nil && p.Times[it.Slot] != template.NoTime {
				t = p.Times[it.Slot]
			}
			l := it.Series(&sb)
			name := l.String()
			if last, ok := w.order[name]; ok && t <= last && !w.late {
				w.t.Errorf("%s: %d follows %d", name, t, last)
			}
			w.order[name] = t
			w.points[name] = append(w.points[name], point{t, math.Float64bits(v)})
		}
	}
	return nil
}

func (w *world) apply(jobs ...JobConfig) {
	w.t.Helper()
	change, err := w.m.Prepare(Config{Jobs: jobs})
	if err != nil {
		w.t.Fatal(err)
	}
	change.Commit()
}

// discover gives a job its targets, addresses with labels, and waits until they
// are taken over.
func (w *world) discover(job string, targets ...model.LabelSet) {
	w.updates <- []discovery.Update{{Job: job, Groups: []group.Group{group.Of(&targetgroup.Group{Source: "s", Targets: targets})}}}
	time.Sleep(5*time.Second + time.Nanosecond)
	synctest.Wait()
}

func (w *world) end() {
	w.cancel()
	if err := <-w.ended; err != nil {
		w.t.Error(err)
	}
	w.net.shut()
}

// of returns a series' samples: "value" or "stale", with the time from the
// first of them, in seconds.
func (w *world) of(series string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, p := range w.points[series] {
		at := time.Duration(p.time-w.points[series][0].time) * time.Millisecond
		if p.bits == template.StaleNaN {
			out = append(out, fmt.Sprintf("stale@%v", at.Seconds()))
		} else {
			out = append(out, fmt.Sprintf("%v@%v", math.Float64frombits(p.bits), at.Seconds()))
		}
	}
	return out
}

func (w *world) answer(f func(rw http.ResponseWriter, r *http.Request)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serve = f
}

func at(address string) model.LabelSet {
	return model.LabelSet{"__address__": model.LabelValue(address)}
}

func job(name string, change func(*JobConfig)) JobConfig {
	c := *testJob(func(c *JobConfig) {
		c.Job, c.Interval, c.Timeout, c.ExtraMetrics = name, 15*time.Second, 10*time.Second, false
	})
	if change != nil {
		change(&c)
	}
	return c
}

func TestScrapesAreSpreadAndStayWhereTheyAre(t *testing.T) {
	const n = 200
	var first map[string]time.Duration
	for round := range 2 { // the second with a later start
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Duration(round) * 7123 * time.Millisecond)
			w := newWorld(t, job("job", nil))
			defer w.end()
			var targets []model.LabelSet
			for i := range n {
				targets = append(targets, at(fmt.Sprintf("t%d:1", i)))
			}
			w.discover("job", targets...)
			w.mu.Lock()
			w.requests = nil
			w.mu.Unlock()
			time.Sleep(60 * time.Second)
			turns := map[string]time.Duration{}
			counts := make([]int, 15)
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, r := range w.requests {
				turn := time.Duration(r.at.UnixNano() % int64(15*time.Second))
				if have, ok := turns[r.host]; ok && have != turn {
					t.Fatalf("%s is scraped at %v and %v of the interval", r.host, have, turn)
				} else if !ok {
					counts[int(turn.Seconds())]++
				}
				turns[r.host] = turn
			}
			if len(turns) != n || len(w.requests) != 4*n {
				t.Fatalf("%d targets scraped %d times in all, want %d and %d", len(turns), len(w.requests), n, 4*n)
			}
			for s, c := range counts { // 13 on average
				if c < 2 || c > 35 {
					t.Errorf("%d of %d targets in second %d of the interval", c, n, s)
				}
			}
			if first == nil {
				first = turns
			} else if !maps.Equal(first, turns) {
				t.Error("after a restart targets are scraped at other times")
			}
		})
	}
}

func TestFirstTargetsAreTakenOverAtOnceAndManyChangesNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("a", nil), job("b", nil))
		defer w.end()
		running := func() (n int) {
			synctest.Wait()
			for _, p := range w.m.Pools() {
				n += len(p.Targets)
			}
			return n
		}
		one := func(job string, targets ...model.LabelSet) {
			w.updates <- []discovery.Update{{Job: job, Groups: []group.Group{group.Of(&targetgroup.Group{Source: "s", Targets: targets})}}}
		}
		one("a", at("a1:1"))
		time.Sleep(50 * time.Millisecond)
		one("b", at("b1:1"))
		time.Sleep(51 * time.Millisecond)
		if n := running(); n != 2 {
			t.Fatalf("%d targets after 100 ms, want 2", n)
		}
		one("a", at("a1:1"), at("a2:1"))
		time.Sleep(4800 * time.Millisecond)
		if n := running(); n != 2 {
			t.Errorf("%d targets before the next turn, want 2", n)
		}
		time.Sleep(200 * time.Millisecond)
		if n := running(); n != 3 {
			t.Errorf("%d targets after 5 s, want 3", n)
		}
		time.Sleep(time.Minute) // quiet
		w.apply(job("a", nil), job("b", nil), job("c", nil))
		one("c", at("c1:1"))
		time.Sleep(101 * time.Millisecond)
		if n := running(); n != 4 {
			t.Errorf("%d targets 100 ms after a quiet minute, want 4", n)
		}
	})
}

func TestTargetThatDoesNotAnswerIsDownAfterItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", func(c *JobConfig) { c.ExtraMetrics = true; c.SampleLimit = 7 }))
		defer w.end()
		w.answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		w.discover("job", at("t:1"))
		time.Sleep(29 * time.Second)
		for name, want := range map[string]string{
			"up": "0", "scrape_duration_seconds": "10", "scrape_samples_scraped": "0", "scrape_samples_post_metric_relabeling": "0",
			"scrape_series_added": "0", "scrape_timeout_seconds": "10", "scrape_sample_limit": "7", "scrape_body_size_bytes": "0",
		} {
			got := w.of(fmt.Sprintf(`{__name__="%s", instance="t:1", job="job"}`, name))
			if len(got) == 0 || got[0] != want+"@0" {
				t.Errorf("%s: got %q, want %s", name, got, want)
			}
		}
		if s := w.m.Pools()[0].Targets[0]; s.Health != HealthDown || !strings.Contains(s.LastError, "context deadline exceeded") {
			t.Errorf("health %s with error %q", s.Health, s.LastError)
		}
	})
}

func TestRequestSaysWhatPrometheusSays(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*JobConfig)
		want   map[string]string
	}{
		{"default", nil, map[string]string{
			"Accept":          "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
			"Accept-Encoding": "zstd,gzip;q=0.9", "User-Agent": "prom-agent/test", "X-Prometheus-Scrape-Timeout-Seconds": "10",
		}},
		{"no compression, one protocol, part of a second", func(c *JobConfig) {
			c.EnableCompression, c.Protocols, c.Timeout = false, []string{"PrometheusText0.0.4"}, 1500*time.Millisecond
		}, map[string]string{
			"Accept": "text/plain;version=0.0.4;q=0.7,*/*;q=0.6", "Accept-Encoding": "identity", "X-Prometheus-Scrape-Timeout-Seconds": "1.5",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, job("job", tc.change))
				defer w.end()
				w.discover("job", at("t:1"))
				time.Sleep(15 * time.Second)
				w.mu.Lock()
				defer w.mu.Unlock()
				for name, want := range tc.want {
					if got := w.requests[0].header[name]; len(got) != 1 || got[0] != want {
						t.Errorf("%s: got %q, want %q", name, got, want)
					}
				}
			})
		})
	}
}

const (
	seriesA  = `{__name__="a", instance="t:1", job="job"}`
	seriesUp = `{__name__="up", instance="t:1", job="job"}`
)

func TestTargetThatGoesGetsStaleMarkersLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", nil))
		defer w.end()
		w.discover("job", at("t:1"), at("u:1"))
		time.Sleep(25 * time.Second)
		n := len(w.of(seriesA))
		if n < 1 {
			t.Fatal("no scrape within 30 s")
		}
		w.discover("job", at("u:1"))
		time.Sleep(time.Minute)
		got := w.of(seriesA)
		last := fmt.Sprintf("stale@%d", 15*(len(got)-1)) // where the next scrape would have been
		for _, series := range []string{seriesA, seriesUp, `{__name__="scrape_series_added", instance="t:1", job="job"}`} {
			if got := w.of(series); got[len(got)-1] != last || slices.ContainsFunc(got[:len(got)-1], func(s string) bool { return strings.HasPrefix(s, "stale") }) {
				t.Errorf("%s: got %q, want one marker, %s, at the end", series, got, last)
			}
		}
		if other := w.of(`{__name__="a", instance="u:1", job="job"}`); len(other) < 5 || strings.Contains(fmt.Sprint(other), "stale") {
			t.Errorf("the target that stays has %q", other)
		}
	})
}

func TestTargetThatReturnsInTimeGetsNoMarkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", nil))
		defer w.end()
		w.discover("job", at("t:1"))
		time.Sleep(25 * time.Second)
		again := at("t:1")
		again["__tmp_other"] = "identity"
		w.discover("job", again)
		time.Sleep(2 * time.Minute)
		for _, series := range []string{seriesA, seriesUp} {
			if got := w.of(series); len(got) < 8 || strings.Contains(fmt.Sprint(got), "stale") {
				t.Errorf("%s: got %q, want no marker", series, got)
			}
		}
	})
}

func TestEndOfJobAndProcessMarksNothing(t *testing.T) {
	for _, how := range []string{"job", "process", "process while a marker waits"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, job("job", nil))
				w.discover("job", at("t:1"))
				time.Sleep(20 * time.Second)
				switch how {
				case "job":
					w.apply()
					time.Sleep(time.Minute)
				case "process while a marker waits":
					w.discover("job")
					time.Sleep(10 * time.Second)
				}
				w.end()
				time.Sleep(time.Minute)
				for _, series := range []string{seriesA, seriesUp} {
					if got := w.of(series); len(got) == 0 || strings.Contains(fmt.Sprint(got), "stale") {
						t.Errorf("%s: got %q, want no marker", series, got)
					}
				}
			})
		})
	}
}

func TestReloadKeepsWhatStaysTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", nil))
		defer w.end()
		w.discover("job", at("t:1"))
		time.Sleep(20 * time.Second)
		w.apply(job("job", func(c *JobConfig) { c.Interval, c.Timeout, c.SampleLimit = 30*time.Second, 20*time.Second, 5 }))
		w.discover("job", at("t:1"))
		time.Sleep(2 * time.Minute)
		added := w.of(`{__name__="scrape_series_added", instance="t:1", job="job"}`)
		for i, v := range added {
			if want := map[bool]string{true: "1@", false: "0@"}[i == 0]; !strings.HasPrefix(v, want) {
				t.Errorf("series added %q, want one in the first scrape only", added)
				break
			}
		}
		if got := w.of(seriesA); len(got) < 4 || strings.Contains(fmt.Sprint(got), "stale") {
			t.Errorf("got %q, want no marker", got)
		}
	})
}

func TestTargetThatGoesRightAfterAReloadGetsStaleMarkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", nil))
		defer w.end()
		w.discover("job", at("t:1"))
		time.Sleep(20 * time.Second)
		w.apply(job("job", func(c *JobConfig) { c.Interval, c.Timeout = time.Hour, time.Minute }))
		w.discover("job") // before the first scrape under the new configuration
		time.Sleep(3 * time.Hour)
		for _, series := range []string{seriesA, seriesUp} {
			if got := w.of(series); len(got) < 2 || !strings.HasPrefix(got[len(got)-1], "stale@") {
				t.Errorf("%s: got %q, want a marker at the end", series, got)
			}
		}
	})
}

func TestReloadThatChangesSeriesEndsTheOldOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", nil))
		defer w.end()
		w.answer(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "a 1\nb{job=\"own\"} 2\n") })
		w.discover("job", at("t:1"))
		time.Sleep(20 * time.Second)
		w.apply(job("job", func(c *JobConfig) { c.HonorLabels = true }))
		time.Sleep(90 * time.Second)
		if got := w.of(seriesA); len(got) < 5 || strings.Contains(fmt.Sprint(got), "stale") {
			t.Errorf("a: got %q, want no marker: it is still exposed", got)
		}
		if got := w.of(`{__name__="b", exported_job="own", instance="t:1", job="job"}`); len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "stale@") {
			t.Errorf("b as it was: got %q, want a marker at the end", got)
		}
		if got := w.of(`{__name__="b", instance="t:1", job="own"}`); len(got) < 4 || strings.Contains(fmt.Sprint(got), "stale") {
			t.Errorf("b as it is: got %q", got)
		}
	})
}

func TestReloadDoesNotInterruptAScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", nil))
		defer w.end()
		slow := func(rw http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(9 * time.Second):
				io.WriteString(rw, "a 1\n")
			case <-r.Context().Done():
			}
		}
		w.answer(slow)
		w.discover("job", at("t:1"))
		for i := range 6 {
			w.apply(job("job", func(c *JobConfig) { c.SampleLimit = 10 + i }))
			time.Sleep(11 * time.Second)
		}
		if got := w.of(seriesUp); len(got) < 3 || slices.ContainsFunc(got, func(s string) bool { return !strings.HasPrefix(s, "1@") }) {
			t.Errorf("up is %q, want 1 throughout", got)
		}
	})
}

// The scrape under way ends after the first ones of the new, quicker loop:
// world.append checks that it does not bring old samples behind theirs.
func TestScrapeUnderWayDoesNotGoBehindTheNextLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", func(c *JobConfig) { c.Interval, c.Timeout = time.Minute, 50*time.Second }))
		defer w.end()
		asked := make(chan struct{})
		w.answer(func(rw http.ResponseWriter, _ *http.Request) {
			select {
			case asked <- struct{}{}:
				time.Sleep(40 * time.Second) // the first one
			default:
			}
			io.WriteString(rw, "a 1\n")
		})
		go w.discover("job", at("t:1"))
		<-asked
		w.apply(job("job", func(c *JobConfig) { c.Interval, c.Timeout, c.HonorLabels = 5*time.Second, 5*time.Second, true }))
		time.Sleep(3 * time.Minute)
		for _, series := range []string{seriesA, seriesUp} {
			if got := w.of(series); len(got) < 30 || strings.Contains(fmt.Sprint(got), "stale") {
				t.Errorf("%s: got %q, want values all the time", series, got)
			}
		}
	})
}

func TestFailureLogHasWhatWasNotFetched(t *testing.T) {
	for _, tc := range []struct {
		name  string
		serve http.HandlerFunc
		want  string // "" for nothing
	}{
		{"status", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(503) }, "server returned HTTP status 503 Service Unavailable"},
		{"broken gzip", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Encoding", "gzip")
			io.WriteString(rw, "this is not what it says it is")
		}, "gzip: invalid header"},
		{"large body", func(rw http.ResponseWriter, _ *http.Request) { bomb(rw, "# nothing\n", 1) }, "body size limit exceeded"},
		{"no exposition", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "a{") }, ""},
		{"good", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "a 1\n") }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "failures")
				w := newWorld(t, job("job", func(c *JobConfig) { c.FailureLogFile, c.BodySizeLimit = file, 1000 }))
				w.answer(tc.serve)
				w.discover("job", at("t:1"))
				time.Sleep(10 * time.Second)
				w.end()
				got, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if tc.want == "" && len(got) > 0 || tc.want != "" && (!bytes.Contains(got, []byte(`"msg":"`+tc.want)) || !bytes.Contains(got, []byte(`"job_name":"job","target":"http://t:1/metrics"`))) {
					t.Errorf("got %s, want %q", got, tc.want)
				}
			})
		})
	}
}

func TestTargetLimitFailsAllTargetsWithoutARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", func(c *JobConfig) { c.TargetLimit = 1 }))
		defer w.end()
		w.discover("job", at("t:1"), at("t:1")) // the same twice is one
		time.Sleep(15*time.Second - 5*time.Second)
		w.mu.Lock()
		before := len(w.requests)
		w.mu.Unlock()
		w.discover("job", at("t:1"), at("u:1"))
		w.mu.Lock()
		asked := len(w.requests)
		w.mu.Unlock()
		time.Sleep(40 * time.Second)
		w.mu.Lock()
		if before == 0 || len(w.requests) != asked {
			t.Errorf("%d requests while there were too many targets, %d before", len(w.requests)-asked, before)
		}
		w.mu.Unlock()
		for _, s := range w.m.Pools()[0].Targets {
			if want := "target_limit exceeded (number of targets: 2, limit: 1)"; s.LastError != want || s.Health != HealthDown {
				t.Errorf("%s is %s with error %q, want %q", s.URL, s.Health, s.LastError, want)
			}
		}
		w.discover("job", at("t:1"))
		time.Sleep(20 * time.Second)
		got := strings.Join(w.of(seriesA), " ")
		if strings.Count(got, "stale") != 1 || !strings.Contains(got[strings.Index(got, "stale"):], " 1@") {
			t.Errorf("a: got %q, want one marker, and values again", got)
		}
		up := strings.Join(w.of(seriesUp), " ")
		if !strings.HasPrefix(up, "1@0 ") || strings.Count(up, "0@") < 3 || !strings.Contains(up[strings.LastIndex(up, " "):], " 1@") {
			t.Errorf("up is %q, want 1, then 0 while there are too many, then 1", up)
		}
	})
}

func TestDroppedTargetsAreKeptAsManyAsAskedFor(t *testing.T) {
	drop := promrelabel.DefaultRelabelConfig
	drop.SourceLabels, drop.Regex, drop.Action, drop.NameValidationScheme = model.LabelNames{"__address__"}, promrelabel.MustNewRegexp("d.*"), promrelabel.Drop, model.UTF8Validation
	for keep, want := range map[int]int{0: 5, 2: 2, 9: 5} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, job("job", func(c *JobConfig) { c.Relabel, c.KeepDroppedTargets = []*promrelabel.Config{&drop}, keep }))
			defer w.end()
			w.discover("job", at("d1:1"), at("d2:1"), at("d3:1"), at("d4:1"), at("d5:1"), at("t:1"))
			s := w.m.Pools()[0]
			if kept := len(slices.Collect(s.Dropped)); kept != want || s.DroppedCount != 5 || len(s.Targets) != 1 {
				t.Errorf("keep %d: %d dropped targets kept of %d, %d active; want %d of 5, 1", keep, kept, s.DroppedCount, len(s.Targets), want)
			}
		})
	}
}

// Two jobs that expose the same series: each sample is newer than the one
// before it, as world.append checks, and the series has samples of both.
func TestJobsThatShareSeriesKeepTheirOrder(t *testing.T) {
	same := promrelabel.DefaultRelabelConfig
	same.TargetLabel, same.Replacement, same.Action, same.NameValidationScheme = "job", "job", promrelabel.Replace, model.UTF8Validation
	synctest.Test(t, func(t *testing.T) {
		share := func(c *JobConfig) { c.Relabel = []*promrelabel.Config{&same} }
		w := newWorld(t, job("job", nil), job("other", share))
		defer w.end()
		w.answer(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Duration(time.Now().Unix()*7919%9000) * time.Millisecond) // answers overtake one another
			fmt.Fprintf(rw, "a 1\nb 2 %d\n", time.Now().UnixMilli()-3000)
		})
		w.discover("job", at("t:1"))
		another := at("t:1")
		another["__tmp_turn"] = "another"
		w.discover("other", another)
		time.Sleep(10 * time.Minute)
		if n := len(w.of(seriesA)); n < 45 {
			t.Errorf("%d samples of a series that two targets have in 40 scrapes each", n)
		}
		w.discover("other")
		time.Sleep(2 * time.Minute)
		if got := w.of(seriesUp); strings.HasPrefix(got[len(got)-1], "stale") {
			t.Errorf("up has ended, though a target still reports it")
		}
	})
}

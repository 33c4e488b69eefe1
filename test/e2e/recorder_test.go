package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// answer is what a recorder says to a request in place of "taken".
type answer struct {
	Status int
	Header map[string]string
	Body   string
}

// recorder is a receiver of remote write 1.x and 2.0 that keeps what it takes.
// Its answers by path, for always and for the time of a fault, can be scripted.
type recorder struct {
	*httptest.Server
	t      testing.TB
	always map[string]answer
	fault  map[string]answer

	mu      sync.Mutex
	faulty  bool
	met     map[string]int                  // requests that an answer of the fault was given to, by path
	taken   map[string]map[string]*arrivals // by path and series
	headers []http.Header                   // of all requests
}

// arrivals are what has come of a series.
type arrivals struct {
	points    []point  // samples and histograms, as they came
	exemplars []string // as they came
}

// point is a sample's or histogram's time, ms, and how it is written.
type point struct {
	at   int64
	text string
}

// newRecorder serves until the test ends. script is a file with answers; "": it takes everything.
func newRecorder(t testing.TB, script string) *recorder {
	t.Helper()
	r := &recorder{t: t, met: map[string]int{}, taken: map[string]map[string]*arrivals{}}
	if script != "" {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		answers := struct{ Always, Fault map[string]answer }{}
		if err := json.Unmarshal(text, &answers); err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		r.always, r.fault = answers.Always, answers.Fault
	}
	r.Server = httptest.NewUnstartedServer(r)
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.Start()
	t.Cleanup(r.Close)
	return r
}

// addr is where it listens.
func (r *recorder) addr() string { return r.Listener.Addr().String() }

// setFault begins or ends the time in which the answers of a fault are given.
func (r *recorder) setFault(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faulty = on
}

// metFault says to how many requests of a path an answer of the fault was given.
func (r *recorder) metFault(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.met[path]
}

// sawHeader says whether any request had a header.
func (r *recorder) sawHeader(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.headers, func(h http.Header) bool { return h.Get(name) != "" })
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the agent has gone
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = append(r.headers, req.Header)
	path := req.URL.Path
	a, scripted := r.fault[path]
	if !r.faulty || !scripted {
		a, scripted = r.always[path]
	} else {
		r.met[path]++
	}
	if scripted {
		for k, v := range a.Header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(a.Status)
		fmt.Fprint(w, a.Body)
		return
	}
	switch {
	case req.Method != http.MethodPost:
		w.WriteHeader(http.StatusOK) // a page that is none of a receiver's
		return
	case strings.Contains(req.Header.Get("Content-Type"), "write.v2"):
		err = r.takeV2(w, path, body)
	default:
		err = r.takeV1(path, body)
	}
	if err != nil {
		r.t.Errorf("%s: a request cannot be read: %v", path, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// of are the arrivals of a series. r.mu is held.
func (r *recorder) of(path string, ls labels.Labels) *arrivals {
	if r.taken[path] == nil {
		r.taken[path] = map[string]*arrivals{}
	}
	name := ls.String()
	if r.taken[path][name] == nil {
		r.taken[path][name] = &arrivals{}
	}
	return r.taken[path][name]
}

func (r *recorder) takeV1(path string, body []byte) error {
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return err
	}
	var m prompb.WriteRequest
	if err := m.Unmarshal(raw); err != nil {
		return err
	}
	b := labels.NewScratchBuilder(0)
	for _, ts := range m.Timeseries {
		rec := r.of(path, ts.ToLabels(&b, nil))
		for _, s := range ts.Samples {
			rec.points = append(rec.points, point{s.Timestamp, written(s.Value, s.Timestamp, 0)})
		}
		for _, h := range ts.Histograms {
			at := h.Timestamp
			h.Timestamp = 0
			rec.points = append(rec.points, point{at, h.String()})
		}
		for _, e := range ts.Exemplars {
			rec.exemplars = append(rec.exemplars, fmt.Sprintf("%s %v%s", e.ToExemplar(&b, nil).Labels, e.Value, long(" at ", e.Timestamp)))
		}
	}
	return nil
}

func (r *recorder) takeV2(w http.ResponseWriter, path string, body []byte) error {
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return err
	}
	var m writev2.Request
	if err := m.Unmarshal(raw); err != nil {
		return err
	}
	b := labels.NewScratchBuilder(0)
	samples, histograms, exemplars := 0, 0, 0
	for _, ts := range m.Timeseries {
		ls, err := ts.ToLabels(&b, m.Symbols)
		if err != nil {
			return err
		}
		rec := r.of(path, ls)
		for _, s := range ts.Samples {
			rec.points = append(rec.points, point{s.Timestamp, written(s.Value, s.Timestamp, s.StartTimestamp)})
		}
		for _, h := range ts.Histograms {
			at := h.Timestamp
			h.Timestamp = 0
			rec.points = append(rec.points, point{at, h.String()})
		}
		for _, e := range ts.Exemplars {
			x, err := e.ToExemplar(&b, m.Symbols)
			if err != nil {
				return err
			}
			rec.exemplars = append(rec.exemplars, fmt.Sprintf("%s %v%s", x.Labels, e.Value, long(" at ", e.Timestamp)))
		}
		samples, histograms, exemplars = samples+len(ts.Samples), histograms+len(ts.Histograms), exemplars+len(ts.Exemplars)
	}
	for name, n := range map[string]int{"Samples": samples, "Histograms": histograms, "Exemplars": exemplars} {
		w.Header().Set("X-Prometheus-Remote-Write-"+name+"-Written", strconv.Itoa(n))
	}
	return nil
}

// written writes a sample without what differs from run to run: a value or
// time of the last hour is "recent", and a sample of now has no time.
func written(v float64, at, start int64) string {
	text := strconv.FormatFloat(v, 'g', -1, 64)
	switch {
	case value.IsStaleNaN(v):
		text = "stale"
	case v > 1e9 && time.Since(time.UnixMilli(int64(v*1000))) < time.Hour:
		text = "recent"
	}
	text += long("@", at)
	switch {
	case start == 0:
		return text
	case long("", start) == "":
		return text + " since recent"
	}
	return text + long(" since ", start)
}

// long is a time that is more than an hour ago, behind a word; "" for a newer one.
func long(word string, ms int64) string {
	if time.Since(time.UnixMilli(ms)) < time.Hour {
		return ""
	}
	return word + strconv.FormatInt(ms, 10)
}

// lines writes what has come on a path as a line for each series: its first n
// samples, and all exemplars. It is an error when a series has fewer samples.
func (r *recorder) lines(path string, n int) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(r.taken[path])) {
		rec := r.taken[path][name]
		if len(rec.points) < n {
			return nil, fmt.Errorf("%s has %d samples, want %d", name, len(rec.points), n)
		}
		line := name
		for i, p := range rec.points[:n] {
			if strings.Contains(name, "scrape_duration_seconds") {
				p.text = "?"
			}
			line += " " + p.text
			if i > 0 && p.at <= rec.points[i-1].at {
				line += " (not newer)"
			}
		}
		times := map[string]int{}
		for _, e := range rec.exemplars {
			times[e]++
		}
		for _, e := range slices.Sorted(maps.Keys(times)) {
			line += fmt.Sprintf(" # %s (%d times)", e, times[e])
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("nothing has come on %s", path)
	}
	return lines, nil
}

// values are the values that have come of a metric's series on a path, by
// series, each once, without stale markers.
func (r *recorder) values(path, metric string) map[string]map[int]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[string]map[int]bool{}
	for name, rec := range r.taken[path] {
		if !strings.Contains(name, fmt.Sprintf("__name__=%q", metric)) {
			continue
		}
		all[name] = map[int]bool{}
		for _, p := range rec.points {
			if v, err := strconv.Atoi(p.text); err == nil {
				all[name][v] = true
			}
		}
	}
	return all
}

// count is how many of the values 1 to n have come of a metric's series.
func (r *recorder) count(path, metric string, n int) int {
	sum := 0
	for _, values := range r.values(path, metric) {
		for v := range values {
			if 1 <= v && v <= n {
				sum++
			}
		}
	}
	return sum
}

// missing are those of 1 to n that have not come on a path of a metric with one series.
func (r *recorder) missing(path, metric string, n int) (missing []int) {
	come := map[int]bool{}
	for _, values := range r.values(path, metric) {
		maps.Copy(come, values)
	}
	for v := 1; v <= n; v++ {
		if !come[v] {
			missing = append(missing, v)
		}
	}
	return missing
}

// failed is how many scrapes of a target before a time are said to have failed
// in what has come on the paths.
func (r *recorder) failed(instance string, before time.Time, paths ...string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, path := range paths {
		for name, a := range r.taken[path] {
			if strings.Contains(name, `__name__="up"`) && strings.Contains(name, fmt.Sprintf("instance=%q", instance)) {
				for _, p := range a.points {
					if p.text == "0" && p.at < before.UnixMilli() {
						n++
					}
				}
			}
		}
	}
	return n
}

// newest is when the newest sample of up that has come on a path was scraped.
func (r *recorder) newest(path string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	var at int64
	for name, a := range r.taken[path] {
		if strings.Contains(name, `__name__="up"`) {
			for _, p := range a.points {
				at = max(at, p.at)
			}
		}
	}
	return time.UnixMilli(at)
}

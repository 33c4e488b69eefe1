package scrape

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// logBook is a log that is written to from many sides.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// take returns the lines since the last call, without their times.
func (l *logBook) take(t *testing.T) []map[string]any {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []map[string]any
	for d := json.NewDecoder(&l.b); d.More(); {
		var line map[string]any
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		delete(line, "time")
		out = append(out, line)
	}
	return out
}

func TestRefusedSamplesAreLoggedForTheirTarget(t *testing.T) {
	const outOfOrder, duplicates, outOfBounds = "Error on ingesting out-of-order samples", "Error on ingesting samples with different value but same timestamp",
		"Error on ingesting samples that are too old or are too far into the future"
	for _, tc := range []struct {
		name, text string
		body       func() string // with two samples to refuse, after the first scrape
		total      func(scrapes uint64) Refused
	}{
		{"duplicates", duplicates, func() string { return "a 1\na 2\na 3\nb 1\n" }, func(n uint64) Refused { return Refused{Duplicates: 2 * n} }},
		{"out of order", outOfOrder, func() string { return "a 1 5000\nb 1 5000\nc 1\n" }, func(n uint64) Refused { return Refused{OutOfOrder: 2 * (n - 1)} }},
		{"out of bounds", outOfBounds, func() string {
			soon := time.Now().Add(11 * time.Minute).UnixMilli()
			return fmt.Sprintf("a 1 %d\nb 1 %d\nc 1\n", soon, soon)
		}, func(n uint64) Refused { return Refused{OutOfBounds: 2 * n} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var book logBook
				w := newWorldWith(t, Options{Logger: book.logger()}, job("job", func(c *JobConfig) { c.Interval = 10 * time.Second }))
				defer w.end()
				w.answer(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, tc.body()) })
				w.discover("job", at("t:1"))
				time.Sleep(30 * time.Second)
				synctest.Wait()
				first := book.take(t)
				if len(first) != 1 {
					t.Fatalf("got %v, want one line at first", first)
				}
				want := map[string]any{"level": "WARN", "msg": tc.text, "scrape_pool": "job", "target": "http://t:1/metrics", "num_dropped": 2.0}
				if !maps.Equal(first[0], want) {
					t.Errorf("got %v, want %v", first[0], want)
				}
				time.Sleep(60 * time.Second)
				synctest.Wait()
				// A minute after the first: the six scrapes since then.
				want["num_dropped"] = 12.0
				if got := book.take(t); len(got) != 1 || !maps.Equal(got[0], want) {
					t.Errorf("got %v, want %v", got, want)
				}
				w.apply(job("job", func(c *JobConfig) { c.Interval, c.SampleLimit = 10*time.Second, 100 })) // no new beginning
				time.Sleep(20 * time.Second)
				synctest.Wait()
				if got := book.take(t); len(got) != 0 {
					t.Errorf("got %v within the minute, want nothing", got)
				}
				scrapes := uint64(len(w.of(seriesUp)))
				if got, want := w.m.Pools()[0].Targets[0].Refused, tc.total(scrapes); got != want {
					t.Errorf("%d scrapes refused %+v in all, want %+v", scrapes, got, want)
				}

				// What is held back is said though nothing is refused any more.
				w.answer(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "c 1\n") })
				time.Sleep(3 * time.Minute)
				synctest.Wait()
				if got := book.take(t); len(got) != 1 || got[0]["msg"] != tc.text {
					t.Errorf("got %v, want one line with the rest", got)
				}

				// Another target is not held back by this one.
				w.answer(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, tc.body()) })
				w.discover("job", at("t:1"), at("u:1"))
				time.Sleep(20 * time.Second)
				synctest.Wait()
				seen := map[any]int{}
				for _, line := range book.take(t) {
					seen[line["target"]]++
				}
				if seen["http://t:1/metrics"] != 1 || seen["http://u:1/metrics"] != 1 {
					t.Errorf("lines by target are %v, want one for each", seen)
				}
			})
		})
	}
}

func TestRefusedExemplarsAreCountedByReasonAndLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		r := prometheus.NewRegistry()
		w := newWorldWith(t, Options{Logger: book.logger(), Registerer: r}, job("job", func(c *JobConfig) { c.Interval = 10 * time.Second }))
		defer w.end()
		w.answer(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", openMetricsType)
			io.WriteString(rw, "# TYPE a counter\na_total 1 # {x=\"1\",x=\"2\"} 1\na_total{y=\"1\"} 1 # {x=\""+strings.Repeat("x", 200)+"\"} 1\na_total{y=\"2\"} 1 # {x=\"1\"} 1\n# EOF\n")
		})
		w.discover("job", at("t:1"))
		time.Sleep(15 * time.Second) // two scrapes
		synctest.Wait()
		got := book.take(t)
		if len(got) != 1 || !strings.HasPrefix(got[0]["msg"].(string), "Exemplars were dropped") || got[0]["num_dropped"] != 2.0 {
			t.Errorf("got %v, want one line on two exemplars", got)
		}
		want := `# HELP prom_agent_scrape_exemplars_refused_total Exemplars that were not logged, by reason.
# TYPE prom_agent_scrape_exemplars_refused_total counter
prom_agent_scrape_exemplars_refused_total{reason="duplicate_label"} 2
prom_agent_scrape_exemplars_refused_total{reason="label_length"} 2
`
		if err := testutil.GatherAndCompare(r, strings.NewReader(want), "prom_agent_scrape_exemplars_refused_total"); err != nil {
			t.Error(err)
		}
	})
}

func TestUnknownContentTypeIsLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		w := newWorldWith(t, Options{Logger: book.logger()}, job("job", func(c *JobConfig) { c.Interval = 10 * time.Second }))
		defer w.end()
		w.answer(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/html")
			io.WriteString(rw, "<html>")
		})
		w.discover("job", at("t:1"))
		time.Sleep(30 * time.Second)
		synctest.Wait()
		want := map[string]any{
			"level": "ERROR", "msg": "Failed to determine correct type of scrape target.", "scrape_pool": "job", "target": "http://t:1/metrics",
			"content_type": "text/html", "fallback_media_type": "", "num_scrapes": 1.0,
			"err": `received unsupported Content-Type "text/html" and no fallback_scrape_protocol specified for target`,
		}
		if got := book.take(t); len(got) != 1 || !maps.Equal(got[0], want) {
			t.Errorf("got %v, want %v", got, want)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		want["num_scrapes"] = 6.0
		if got := book.take(t); len(got) != 1 || !maps.Equal(got[0], want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got := w.m.Pools()[0].Targets[0].LastError; !strings.Contains(got, "unsupported Content-Type") {
			t.Errorf("last error %q", got)
		}
	})
}

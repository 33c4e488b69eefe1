package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"text/template"
	"time"
)

// exposed is a target that exposes a file. The file is a template of
// text/template over an exposure.
type exposed struct {
	*httptest.Server
	contentType string
	text        *template.Template

	mu      sync.Mutex
	times   []time.Time // of the scrapes
	silent  time.Time   // from then on it answers 503; zero: it does not
	headers []http.Header
}

// exposure is what the template of a scrape is made with.
type exposure struct {
	N     int // of the scrape, from 1
	times []time.Time
}

// Now is the time of the scrape, seconds.
func (e exposure) Now() string { return seconds(e.times[len(e.times)-1]) }

// Before is a time shortly before the newest of the numbered scrapes that have
// come, and after the one before it; seconds.
func (e exposure) Before(numbers ...int) string {
	newest := 1
	for _, n := range numbers {
		if n <= e.N {
			newest = max(newest, n)
		}
	}
	return seconds(e.times[newest-1].Add(-50 * time.Millisecond))
}

// Series are the numbers 0 to n-1.
func (exposure) Series(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func seconds(t time.Time) string { return fmt.Sprintf("%.3f", float64(t.UnixMilli())/1000) }

// newExposed serves the file, as text or, by its name, as OpenMetrics, until the test ends.
func newExposed(t testing.TB, file string) *exposed {
	t.Helper()
	text, err := template.ParseFiles(file)
	if err != nil {
		t.Fatal(err)
	}
	e := &exposed{text: text, contentType: "text/plain; version=0.0.4"}
	if filepath.Ext(file) == ".openmetrics" {
		e.contentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
	}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *exposed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.silent.IsZero() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	e.times = append(e.times, time.Now())
	e.headers = append(e.headers, r.Header)
	var b bytes.Buffer
	if err := e.text.Execute(&b, exposure{len(e.times), e.times}); err != nil {
		w.WriteHeader(http.StatusInternalServerError) // a test misses what it waits for
		return
	}
	w.Header().Set("Content-Type", e.contentType)
	w.Write(b.Bytes())
}

func (e *exposed) addr() string { return e.Listener.Addr().String() }

// scrapes is how many scrapes have been answered.
func (e *exposed) scrapes() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.times)
}

// silence ends what it exposes, and returns the number of the last scrape.
func (e *exposed) silence() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.silent = time.Now()
	return len(e.times)
}

// scraped waits for so many more scrapes, and returns the number of the last one.
func (e *exposed) scraped(t testing.TB, more int) int {
	t.Helper()
	want := e.scrapes() + more
	eventually(t, 20*time.Second, fmt.Sprintf("%d scrapes", want), func() error {
		if n := e.scrapes(); n < want {
			return fmt.Errorf("%d so far", n)
		}
		return nil
	})
	return want
}

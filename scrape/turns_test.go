package scrape

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestTurnsKeepTheirScheduleAndHaveAMillisecondEach(t *testing.T) {
	start := time.UnixMilli(1_000_000)
	ms := func(ms float64) time.Time { return start.Add(time.Duration(ms * float64(time.Millisecond))) }
	type turn struct{ now, at float64 } // ms after the start; at less than 0 is none
	for name, tc := range map[string]struct {
		tolerance time.Duration
		turns     []turn
	}{
		"a little late":             {2 * time.Millisecond, []turn{{0, 0}, {200.9, 200}, {401.9, 400}}},
		"later than is tolerated":   {2 * time.Millisecond, []turn{{0, 0}, {202.1, 202.1}, {400.3, 400}}},
		"not to be aligned":         {-1, []turn{{0, 0}, {200.9, 200.9}, {400.3, 400.3}}},
		"stopped for two intervals": {2 * time.Millisecond, []turn{{0, 0}, {405.1, 405.1}, {405.8, -1}, {600.2, 600}}},
		"both are at the scheduled": {2 * time.Millisecond, []turn{{0, 0}, {400.1, 400}, {401.2, -1}, {600, 600}}},
		"in the next millisecond":   {2 * time.Millisecond, []turn{{0, 0}, {405.1, 405.1}, {406.0, 406}, {600, 600}}},
		"the clock is set back":     {2 * time.Millisecond, []turn{{0, 0}, {200, 200}, {-5000, 200}, {-4800, 200}}}, // as with Prometheus
	} {
		turns := turns{interval: 200 * time.Millisecond, tolerance: tc.tolerance, aligned: start}
		for i, want := range tc.turns {
			at, ok := turns.next(ms(want.now))
			if ok != (want.at >= 0) || ok && !at.Equal(ms(want.at)) {
				t.Errorf("%s, turn %d: got %v %v, want %v", name, i, at.Sub(start), ok, want.at)
			}
		}
	}
}

// A device without a clock of its own boots in 1970 and gets the time from the
// network. Walking the turns between would not end.
func TestALeapFrom1970CostsATurnNoTime(t *testing.T) {
	start := time.Unix(5, 0)
	turns := turns{interval: time.Microsecond, tolerance: 0, aligned: start}
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for i, want := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond} {
		if at, ok := turns.next(now.Add(want)); !ok || !at.Equal(now.Add(want)) {
			t.Errorf("turn %d: got %v %v, want the scheduled %v", i, at, ok, now.Add(want))
		}
	}
}

// As with Prometheus, whose agent counts both where they are to be logged, and
// the target's alone where they are scraped.
func TestWhatAClockThatWasSetBackKeepsOutOfTheLogIsCounted(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textType)
		io.WriteString(w, "a 1\nb 1\n")
	}))
	defer srv.Close()
	for _, tc := range []struct {
		name    string
		extra   bool
		reports float64
	}{{"plain", false, 5}, {"with extra metrics", true, 8}} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSingle(t, address(t, srv), func(c *JobConfig) { c.ExtraMetrics = tc.extra })
			now := time.Now()
			s.scrape(now)
			for i := range 3 {
				s.scrape(now.Add(time.Duration(i)*time.Minute - time.Hour))
				if s.samples != 0 {
					t.Errorf("%d samples are logged", s.samples)
				}
			}
			s.scrape(now.Add(time.Minute))
			if s.samples != 2+int(tc.reports) {
				t.Errorf("%d samples are logged when the clock is right again", s.samples)
			}
			if n := testutil.ToFloat64(s.env.metrics.outOfOrder); n != 3*2 {
				t.Errorf("%v samples of the target are counted, want 6", n)
			}
			if n, want := testutil.ToFloat64(s.env.metrics.agentOutOfOrder), 3*(2+tc.reports); n != want {
				t.Errorf("%v samples are counted as not logged, want %v", n, want)
			}
		})
	}
}

package scrape

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestSampleMayBeLateByLessThanTheWindow(t *testing.T) {
	for _, tc := range []struct {
		t, last, window int64
		late            bool
	}{
		{100, 99, 0, false},
		{100, 100, 0, true},
		{100, 101, 0, true},
		{100, 101, 1, true},
		{100, 101, 2, false},
		{100, 100, 50, true}, // it is there already
		{100, math.MinInt64, 50, false},
		{math.MinInt64 + 1, math.MaxInt64, math.MaxInt64, true},
		{math.MinInt64 + 1, math.MinInt64 + 2, math.MaxInt64, false},
	} {
		if got := tooLate(tc.t, tc.last, tc.window); got != tc.late {
			t.Errorf("a sample at %d behind one at %d with a window of %d is too late: %v", tc.t, tc.last, tc.window, got)
		}
	}
}

func TestLateSamplesAreTakenWithinTheWindow(t *testing.T) {
	s := newScraper(t, nil)
	s.late = 1000
	s.expect(10_000, "a 1 9000\n", `{__name__="a"} 1@9000`)
	c := s.expect(11_000, "a 2 8001\n", `{__name__="a"} 2@8001`)
	if c.outOfOrder != 0 {
		t.Errorf("%d out of order", c.outOfOrder)
	}
	for at, body := range map[int64]string{12_000: "a 3 8000\n", 13_000: "a 4 9000\n"} { // too old, and there already
		if c := s.expect(at, body); c.outOfOrder != 1 {
			t.Errorf("at %d: %d out of order", at, c.outOfOrder)
		}
	}
	// The window follows the newest sample, wherever it stood in the exposition.
	s.expect(14_000, "a 5 13500\na 6 8500\na 7 12000\n", `{__name__="a"} 5@13500`, `{__name__="a"} 6@8500`, `{__name__="a"} 7@12000`)
	if c := s.expect(15_000, "a 8 12500\na 9 12501\n", `{__name__="a"} 9@12501`); c.outOfOrder != 1 {
		t.Errorf("%d out of order", c.outOfOrder)
	}
	s.late = 0
	if c := s.expect(16_000, "a 10 13499\na 11 13501\n", `{__name__="a"} 11@13501`); c.outOfOrder != 1 {
		t.Errorf("%d out of order without a window", c.outOfOrder)
	}
}

func TestStaleMarkersAreNeverLate(t *testing.T) {
	s := newScraper(t, func(c *JobConfig) { c.TrackTimestampsStaleness = true })
	s.late = 10_000
	s.expect(1000, "a 1 5000\nb 1\nc 1 9000\n", `{__name__="a"} 1@5000`, `{__name__="b"} 1@1000`, `{__name__="c"} 1@9000`)
	s.expect(2000, "", `{__name__="b"} stale@2000`)
	s.expect(3000, "a 2 2500\nc 2\n", `{__name__="a"} 2@2500`, `{__name__="c"} 2@3000`)
	s.expect(4000, "")

	u := newScraper(t, nil)
	u.late = 10_000
	u.expect(1000, "a 1 5000\n", `{__name__="a"} 1@5000`)
	u.expect(2000, "a 2\n", `{__name__="a"} 2@2000`)
	u.expect(3000, "a 3 2500\n", `{__name__="a"} 3@2500`) // it brings timestamps again, and has one of 5000
}

func TestClockThatIsSetBackWithinTheWindowCostsNothing(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textType)
		io.WriteString(w, "a 1\nb 1\n")
	}))
	defer srv.Close()
	s := newSingle(t, address(t, srv), nil)
	s.env.late.Store(time.Minute.Milliseconds())
	now := time.Now()
	for i, tc := range []struct {
		at      time.Duration
		samples int
	}{{0, 10}, {-59 * time.Second, 10}, {-44 * time.Second, 10}, {-60 * time.Second, 0}, {0, 0}, {time.Second, 10}} {
		s.scrape(now.Add(tc.at))
		if s.samples != tc.samples {
			t.Errorf("scrape %d, at %v: %d samples are logged, want %d", i, tc.at, s.samples, tc.samples)
		}
		s.samples = 0
	}
	if n := testutil.ToFloat64(s.env.metrics.agentOutOfOrder); n != 20 {
		t.Errorf("%v samples are counted, want 20", n)
	}
}

func TestLateSamplesOfSeriesThatTargetsShare(t *testing.T) {
	g := &guards{}
	first := g.guard(pair{"j", "i"})
	if !first.after(1, 1000, 0) {
		t.Fatal("the first sample is refused")
	}
	for _, tc := range []struct {
		t, window int64
		taken     bool
	}{{900, 0, false}, {900, 100, false}, {900, 101, true}, {1000, 101, false}, {1001, 101, true}, {901, 101, true}} {
		if got := g.guard(pair{"j", "i"}).after(1, tc.t, tc.window); got != tc.taken {
			t.Errorf("a sample at %d with a window of %d is taken: %v", tc.t, tc.window, got)
		}
	}
	timed := g.guard(pair{"j", "i"})
	for _, tc := range []struct {
		t     int64
		taken bool
	}{{900, false}, {901, true}, {1500, true}, {1400, true}, {902, true}} { // those of a scrape come in any order
		if got := timed.afterTimed(1, tc.t, 101); got != tc.taken {
			t.Errorf("a sample with the timestamp %d is taken: %v", tc.t, got)
		}
	}
	timed.undo()
	if !g.guard(pair{"j", "i"}).after(1, 1002, 0) {
		t.Error("a scrape that failed has left its times")
	}
}

func TestReloadChangesTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := job("job", func(c *JobConfig) { c.Interval, c.HonorTimestamps = 10*time.Second, true })
		w := newWorld(t, j)
		defer w.end()
		w.late = true
		start := time.Now()
		n := 0
		w.answer(func(rw http.ResponseWriter, _ *http.Request) { // a second older each time
			n++
			fmt.Fprintf(rw, "a 1 %d\n", start.Add(-time.Duration(n)*time.Second).UnixMilli())
		})
		w.discover("job", at("t:1"))
		time.Sleep(10 * time.Second) // the first scrape is not late
		for _, step := range []struct {
			window time.Duration
			more   int // samples
		}{{0, 0}, {time.Minute, 6}, {0, 0}, {time.Hour, 6}} {
			change, err := w.m.Prepare(Config{Jobs: []JobConfig{j}, OutOfOrderWindow: step.window})
			if err != nil {
				t.Fatal(err)
			}
			change.Commit()
			time.Sleep(time.Second) // no scrape is under way
			before := len(w.of(seriesA))
			time.Sleep(time.Minute)
			synctest.Wait()
			if more := len(w.of(seriesA)) - before; more != step.more {
				t.Errorf("with a window of %v, %d late samples are logged in six scrapes, want %d", step.window, more, step.more)
			}
		}
	})
}

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// numbered is a target whose series, numbered_value{series="0"} and so on, all
// have the number of the scrape as value. A scrape that could not be answered
// whole does not count.
type numbered struct {
	*httptest.Server
	name   string // of the metric
	series int

	mu     sync.Mutex // held while a scrape is answered: numbers are given out one at a time
	number int        // of the last scrape
}

// newNumbered serves a target of so many series until the test ends.
func newNumbered(t testing.TB, series int) *numbered {
	n := &numbered{name: "numbered_value", series: series}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if r.Context().Err() != nil {
			return // the agent has given up
		}
		var b bytes.Buffer
		for i := range n.series {
			fmt.Fprintf(&b, "%s{series=\"%d\"} %d\n", n.name, i, n.number+1)
		}
		w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
		if _, err := w.Write(b.Bytes()); err == nil && http.NewResponseController(w).Flush() == nil {
			n.number++
		}
	}))
	t.Cleanup(n.Close)
	return n
}

// instance is the target's address, as in its label.
func (n *numbered) instance() string { return n.Listener.Addr().String() }

// scrapes is how many scrapes have been answered.
func (n *numbered) scrapes() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.number
}

// late is how much later than its scrape an answer may be numbered, seconds.
const late = 1

// tally is what a receiver has of a target.
type tally struct {
	last    int      // the newest number of which anything came
	samples int      // of its numbered series
	missing []int    // numbers below last of which nothing came, though no scrape is said to have failed then
	torn    []int    // numbers that came in part
	lost    int      // samples that missing and torn are short of
	wrong   []string // what came out of order
	around  string   // when the scrapes beside those that are missing were, and those that failed
}

// tally asks a Prometheus for what it has of the target in the last ten
// minutes. The matchers, such as `job="a"`, come on top of the instance's.
// A number is excused when up is 0 between its neighbours, or little before:
// then the agent had given up the scrape before it had read the answer, which
// may have been late enough to have a higher number than the next scrape's.
func (n *numbered) tally(central *process, matchers string) (tally, error) {
	selector := fmt.Sprintf(`{instance=%q,%s}[10m]`, n.instance(), matchers)
	values, err := central.query(n.name + selector)
	if err != nil {
		return tally{}, err
	}
	up, err := central.query("up" + selector)
	if err != nil {
		return tally{}, err
	}
	var failed []float64 // times of scrapes that failed
	for _, s := range up {
		for _, v := range s.Values {
			if v[1] == "0" {
				failed = append(failed, v[0].(float64))
			}
		}
	}

	var r tally
	came := map[int]int{}     // series that have the number
	when := map[int]float64{} // the number's time
	for _, s := range values {
		before := 0
		for _, v := range s.Values {
			number, err := strconv.Atoi(v[1].(string))
			if err != nil {
				return tally{}, err
			}
			at := v[0].(float64)
			if number <= before {
				r.wrong = append(r.wrong, fmt.Sprintf("series %s: %d at %.3f comes after %d", s.Metric["series"], number, at, before))
			}
			if other, ok := when[number]; ok && other != at {
				r.wrong = append(r.wrong, fmt.Sprintf("series %s: %d is at %.3f, in another series at %.3f", s.Metric["series"], number, at, other))
			}
			before, when[number] = number, at
			came[number]++
			r.samples++
			r.last = max(r.last, number)
		}
	}
	var gap []int
	previous := 0.0
	for v := 1; v <= r.last; v++ {
		if came[v] == 0 {
			gap = append(gap, v)
			continue
		}
		if came[v] != n.series {
			r.torn = append(r.torn, v)
			r.lost += n.series - came[v]
		}
		for len(gap) > 0 { // each failure excuses one number
			i := slices.IndexFunc(failed, func(at float64) bool { return previous-late < at && at < when[v] })
			if i < 0 {
				break
			}
			failed, gap = slices.Delete(failed, i, i+1), gap[1:]
		}
		if len(gap) > 0 {
			r.around += fmt.Sprintf(" %v between %.3f and %.3f;", gap, previous, when[v])
		}
		r.missing = append(r.missing, gap...)
		r.lost += n.series * len(gap)
		gap, previous = gap[:0], when[v]
	}
	if r.around != "" {
		r.around += fmt.Sprintf(" others failed at %.3f", failed)
	}
	slices.Sort(r.wrong)
	return r, nil
}

// tallies waits until the receiver has something newer than all that the
// targets have been asked for until now.
func tallies(t testing.TB, central *process, matchers string, limit time.Duration, targets ...*numbered) []tally {
	t.Helper()
	all, want := make([]tally, len(targets)), make([]int, len(targets))
	for i, n := range targets {
		want[i] = n.scrapes() + 1 // the last one may have failed; the next will come
	}
	for i, n := range targets {
		eventually(t, limit, fmt.Sprintf("scrape %d of %s is in the receiver", want[i], n.instance()), func() error {
			r, err := n.tally(central, matchers)
			all[i] = r
			switch {
			case err != nil:
				return err
			case r.last < want[i]:
				return fmt.Errorf("the newest is %d; missing %v", r.last, r.missing)
			case slices.Contains(r.torn, r.last):
				return fmt.Errorf("the newest came in part so far") // requests go out by shard
			}
			return nil
		})
	}
	return all
}

// allArrived waits until the receiver has all that the targets have been asked
// for until now, and complains about what is lost, torn or out of order.
func allArrived(t testing.TB, central *process, matchers string, limit time.Duration, targets ...*numbered) {
	t.Helper()
	for i, r := range tallies(t, central, matchers, limit, targets...) {
		if len(r.missing)+len(r.torn) > 0 {
			t.Errorf("%s: of %d scrapes, %d are lost: %v, and %d came in part: %v;%s",
				targets[i].instance(), r.last, len(r.missing), r.missing, len(r.torn), r.torn, r.around)
		}
		for _, w := range r.wrong[:min(len(r.wrong), 10)] {
			t.Errorf("%s: %s", targets[i].instance(), w)
		}
	}
}

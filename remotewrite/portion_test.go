package remotewrite

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
	"promagent/wal"
)

// oneMetric is a target with n series of one metric.
func oneMetric(n int) *template.Block {
	b := template.NewBuilder(labels.FromStrings("instance", "a", "job", "j"))
	for i := range n {
		b.Add(template.Intern(template.Schema{Name: "m", Labels: []string{"n"}}), []string{strconv.Itoa(i)})
	}
	return b.Block()
}

func windowLedger(lanes, batch int) (*ledger, func(step uint32, slot uint16, sample uint32) At) {
	span := Span{Window, wal.Pos{Segment: 1, Offset: 48}, wal.Pos{Segment: 1, Offset: 1000}, 0}
	s := State{Spans: []Span{span}}
	for range lanes {
		s.Ats = append(s.Ats, span.begin())
	}
	return newLedger(s, limits{batch: batch, deadline: time.Hour}, time.Now()), func(step uint32, slot uint16, sample uint32) At {
		return At{Segment: 1, Span: 48, Step: step, Slot: slot, Nth: sample}
	}
}

// give deals a sample to a portion, and fails without room.
func give(t *testing.T, l *ledger, a At, metric uint64, first bool, n int) *batch {
	t.Helper()
	b := l.portion(a, metric, first, n)
	if b == nil {
		t.Fatalf("no room at %v", a)
	}
	b.slots = append(b.slots, a.Slot)
	return b
}

func TestPortionsOfDifferentMetricsAreSentAtTheSameTime(t *testing.T) {
	l, at := windowLedger(8, 1)
	for step := range uint32(3) {
		give(t, l, at(step, 0, 0), uint64(step), true, 1)
	}
	l.due = true
	if n := l.takeable(); n != 3 {
		t.Errorf("%d of 3 portions can be sent", n)
	}
}

func TestAPortionComesAfterThoseOfEarlierStepsWithItsMetric(t *testing.T) {
	now := time.Now()
	l, at := windowLedger(40, 1)
	give(t, l, at(0, 0, 0), 7, true, 1)
	give(t, l, at(0, 1, 0), 7, true, 1)
	give(t, l, at(1, 0, 0), 7, true, 1)
	give(t, l, at(2, 0, 0), 7, true, 1)
	l.due = true
	for i := range 2 {
		if b, _ := l.take(i, now); b == nil || b.first.Step != 0 {
			t.Fatalf("shard %d got %v, not a portion of the first step", i, b)
		}
	}
	l.finished(0, now)
	if n := l.takeable(); n != 0 {
		t.Fatalf("%d portions do not wait for the other one of the first step", n)
	}
	l.finished(1, now)
	for step := uint32(1); step < 3; step++ {
		b, _ := l.take(0, now)
		if b == nil || b.first.Step != step || l.takeable() != 0 {
			t.Fatalf("got %v and %d more, want that of step %d alone", b, l.takeable(), step)
		}
		l.finished(0, now)
	}
	if len(l.unfinished) > 0 || len(l.portions.metrics) > 0 {
		t.Errorf("%d portions and %d metrics are left in the books", len(l.unfinished), len(l.portions.metrics))
	}
}

func TestASlotThatIsCutGoesOnInTheNextPortionAlone(t *testing.T) {
	now := time.Now()
	l, at := windowLedger(8, 2)
	for i := range uint32(3) {
		give(t, l, at(0, 0, i), 7, i == 0, 3)
	}
	give(t, l, at(0, 1, 0), 7, true, 2) // which the rest of the first has no room for
	give(t, l, at(0, 1, 1), 7, false, 2)
	var sizes []int
	for _, b := range l.unfinished {
		sizes = append(sizes, b.samples())
	}
	if fmt.Sprint(sizes) != "[2 1 2]" {
		t.Errorf("portions of %v samples, want 2, 1 and 2", sizes)
	}
	if n := l.takeable(); n != 2 {
		t.Errorf("%d portions can be sent, want the first and the third", n)
	}
	l.take(0, now)
	l.finished(0, now)
	if n := l.takeable(); n != 2 {
		t.Errorf("%d portions can be sent, want the second and the third", n)
	}
}

func TestFewPortionsWaitForAShard(t *testing.T) {
	l, at := windowLedger(8, 1)
	n := uint32(0)
	for l.portion(at(0, uint16(n), 0), 7, true, 1) != nil {
		l.unfinished[n].slots = []uint16{uint16(n)}
		n++
	}
	if want := 8/4 + 2; int(n) != want {
		t.Errorf("%d portions wait, want %d", n, want)
	}
	l.take(0, time.Now())
	if l.portion(at(0, uint16(n), 0), 7, true, 1) == nil {
		t.Error("there is no room for the one that was taken")
	}
}

// The place of a window in a state: what was final is not dealt again, and
// what was in work goes out alone.
func TestPortionsOfAnEarlierLife(t *testing.T) {
	l, at := windowLedger(40, 100)
	s := l.state()
	s.Reader = at(0, 9, 0)
	s.Open = []Interval{{at(0, 1, 0), at(0, 3, 0), true}, {at(0, 3, 0), at(0, 4, 0), false}, {at(0, 6, 0), at(0, 8, 0), true}}
	for i := range s.Ats {
		s.Ats[i] = at(0, 1, 0)
	}
	l = newLedger(s, l.limits, time.Now())
	for slot := uint16(1); slot < 12; slot++ {
		if a := at(0, slot, 0); !l.final(a) {
			give(t, l, a, 7, true, 1)
		}
		if st := l.state(); slot < 6 && (len(st.Open) < 3 || st.Reader != s.Reader) {
			t.Fatalf("slot %d: %+v has forgotten what it has not dealt yet", slot, st)
		}
	}
	var got []string
	for _, b := range l.unfinished {
		got = append(got, fmt.Sprint(b.slots, b.sent))
	}
	if want := "[[1 2] true [3] false [6 7] true [9 10 11] false]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAllShardsWorkOnTheBacklogOfOneMetric(t *testing.T) {
	const shards = 8
	l := openLog(t, t.TempDir())
	var mu sync.Mutex // guards what follows
	together, most := 0, 0
	all := make(chan struct{})
	r := newReceiver(t, func(_ http.ResponseWriter, q *request) int {
		mu.Lock()
		if together++; together == shards && most < shards {
			close(all)
		}
		most = max(most, together)
		mu.Unlock()
		select {
		case <-all:
		case <-time.After(patience):
		}
		mu.Lock()
		together--
		mu.Unlock()
		return http.StatusNoContent
	})
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.MinShards, cfg.Queue.MaxShards, cfg.Queue.MaxSamplesPerSend, cfg.FromOldest = shards, shards, 20, true
	l.clock -= time.Hour.Milliseconds()
	target := oneMetric(100)
	for range 20 {
		l.scrape(target)
	}
	l.clock += time.Hour.Milliseconds()
	l.scrape(target)
	m := startManager(l, patience, cfg)
	m.delivered()
	r.mustHave(l.want)
	mu.Lock()
	defer mu.Unlock()
	if most < shards {
		t.Errorf("at most %d of %d shards were at work", most, shards)
	}
}

// The reader may be busy with the disk when a portion becomes final that others wait for.
func TestIdleShardsTakeWhatIsReleasedWithoutTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := testEndpoint(t, remoteConfig(t, "http://receiver.invalid"), 4)
		e.led.spans[0].Kind = Window
		plan := e.plans.Block(testTarget("a", 3))
		deal := func(step uint32, slot uint16, metric uint64) {
			a := e.led.spans[0].begin()
			a.Step, a.Slot = step, slot
			b := e.led.portion(a, metric, true, 1)
			if b == nil { // the one before is full
				if full, _ := e.led.toPress(); full != nil {
					e.press(full)
				}
				b = e.led.portion(a, metric, true, 1)
			}
			b.add(plan, int(slot), int64(step)+1, 1, 0)
		}
		e.led.limits.batch = 2
		deal(0, 0, 1) // a portion of two metrics
		deal(0, 1, 2)
		deal(1, 0, 1) // one after it
		deal(1, 0, 1)
		deal(1, 1, 2) // and another one
		e.led.flush()
		release := make(chan struct{})
		var sent atomic.Int32
		e.client.Load().http.Transport = answering(func(q *http.Request) (*http.Response, error) {
			sent.Add(1)
			<-release
			return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: q}, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		c := e.startShards(ctx)
		synctest.Wait()
		if n := sent.Load(); n != 1 {
			t.Errorf("%d requests, want that of the first portion", n)
		}
		release <- struct{}{}
		synctest.Wait()
		if n := sent.Load(); n != 3 {
			t.Errorf("%d requests, want those of all three portions", n)
		}
		close(release)
		synctest.Wait()
		cancel()
		c.end()
	})
}

// answering is a transport that does what the function does.
type answering func(*http.Request) (*http.Response, error)

func (f answering) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

package scrape

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"promagent/template"
)

// lateSink holds up a loop, so that its next scrape begins late.
type lateSink struct {
	interval time.Duration
	late     []time.Duration // how late scrapes after the first begin; further ones do not

	times []int64     // of the batches, ms
	begun []time.Time // when the scrapes began; they take no time
}

func (s *lateSink) Append(b *template.Batch) error {
	s.times, s.begun = append(s.times, b.Time), append(s.begun, time.Now())
	if n := len(s.times) - 1; n < len(s.late) && s.late[n] > 0 {
		next := s.interval - time.Since(s.begun[0])%s.interval // to the tick, which waits for the loop
		time.Sleep(next + s.late[n])
	}
	return nil
}

func TestTimestampsAreAlignedWithTheScheduleWithinTheTolerance(t *testing.T) {
	const us, ms = time.Microsecond, time.Millisecond
	for _, tc := range []struct {
		name      string
		align     bool
		tolerance time.Duration
		interval  time.Duration
		late      []time.Duration
		aligned   []bool
	}{
		{"within", true, 2 * ms, 15 * time.Second, []time.Duration{1 * ms, 2 * ms, 1500 * us, 0}, []bool{true, true, true, true}},
		{"beyond", true, 2 * ms, 15 * time.Second, []time.Duration{3 * ms, 1 * ms, 2*ms + us, 900 * ms}, []bool{false, true, false, false}},
		{"beyond a turn that was left out", true, 2 * ms, 15 * time.Second, []time.Duration{15*time.Second + 2*ms, 0, 3 * ms}, []bool{true, true, false}},
		{"a hundredth of a short interval", true, 2 * ms, 100 * ms, []time.Duration{1 * ms, 2 * ms, 1 * ms}, []bool{true, false, true}},
		{"a wider tolerance", true, 100 * ms, 15 * time.Second, []time.Duration{100 * ms, 101 * ms, 150 * ms}, []bool{true, false, false}},
		{"a wider tolerance is a hundredth at most", true, time.Second, 15 * time.Second, []time.Duration{150 * ms, 151 * ms}, []bool{true, false}},
		{"switched off", false, 2 * ms, 15 * time.Second, []time.Duration{1 * ms, 2 * ms}, []bool{false, false}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := &lateSink{interval: tc.interval, late: tc.late}
				s := newSingle(t, "t:1", func(c *JobConfig) { c.Interval, c.Timeout = tc.interval, tc.interval })
				s.env.sink, s.env.align, s.env.tolerance = sink, tc.align, tc.tolerance
				unasked := errors.New("the target need not be asked")
				s.forced.Store(&unasked)
				go s.run()
				time.Sleep(time.Duration(2*len(tc.late)+3) * tc.interval)
				s.end(quiet)
				<-s.done
				if len(sink.begun) <= len(tc.late) {
					t.Fatalf("%d scrapes, want more than %d", len(sink.begun), len(tc.late))
				}
				schedule := sink.begun[0]
				if sink.times[0] != schedule.UnixMilli() {
					t.Errorf("the first scrape has the time %d, want %d", sink.times[0], schedule.UnixMilli())
				}
				for i, want := range tc.aligned {
					late := sink.begun[i+1].Sub(schedule) % tc.interval
					if late != tc.late[i]%tc.interval {
						t.Fatalf("scrape %d is %v late, want %v", i+1, late, tc.late[i])
					}
					at := sink.begun[i+1]
					if want {
						at = at.Add(-late)
					}
					if sink.times[i+1] != at.UnixMilli() {
						t.Errorf("scrape %d, %v late, has the time %d, want %d", i+1, late, sink.times[i+1], at.UnixMilli())
					}
				}
			})
		})
	}
}

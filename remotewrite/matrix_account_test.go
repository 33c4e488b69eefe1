package remotewrite

import "testing"

// account is what the metrics say became of the samples that were committed
// to the log since the start, for one remote.
type account struct {
	in                            int // committed
	delivered, failed             int
	dropped, lost, behind, resent int
}

// accountOf reads the metrics when they say what is: the gauges follow within
// a moment. What was delivered is what was sent for the first time and not
// refused; batches that were sent in parts, or wait for another attempt, have
// been sent more often, so then it is what the receiver has.
func (m *testManager) accountOf(remote string, r *receiver, divided bool) account {
	m.t.Helper()
	name := "remote_name=" + remote
	own := func(metricName string) int {
		return int(metric(m.t, m.registry, "prom_agent_remote_"+metricName, name))
	}
	eventually(m.t, "the gauges say how far "+remote+" is behind", func() bool {
		for _, s := range m.Status() {
			if s.Name == remote {
				return int(s.BehindSamples) == own("behind_samples")
			}
		}
		return false
	})
	a := account{
		in: m.remoteMetric("samples_in_total"), failed: m.remoteMetric("samples_failed_total", name), dropped: m.remoteMetric("samples_dropped_total", name),
		resent: m.remoteMetric("samples_retried_total", name), lost: own("lost_samples_total"), behind: own("behind_samples"),
	}
	a.delivered = m.remoteMetric("samples_total", name) - a.resent - a.failed
	if divided || a.behind > 0 {
		a.delivered = r.distinct()
	}
	return a
}

// addsUp fails unless everything committed was delivered, refused, dropped or
// lost, or waits. Samples whose answer did not come have been taken and wait:
// unanswered says that there may be some.
func (a account) addsUp(t testing.TB, unanswered bool) {
	t.Helper()
	sum := a.delivered + a.failed + a.dropped + a.lost + a.behind
	if sum < a.in || sum > a.in && !(unanswered && a.behind > 0) {
		t.Errorf("%+v make %d, want %d", a, sum, a.in)
	}
}

// distinct is the number of samples that the receiver has, repetitions left out.
func (r *receiver) distinct() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ps := range withoutRepeats(r.t, r.series) {
		n += len(ps)
	}
	return n
}

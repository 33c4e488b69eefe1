package remotewrite

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestABatchOfCulpritsDoesNotCondemnTheNext: series that are refused often come
// alone, when their target is scraped between others. That does not say that
// the remote refuses everything: the next batch is halved, too.
func TestABatchOfCulpritsDoesNotCondemnTheNext(t *testing.T) {
	bad := func(s string) bool { return strings.Contains(s, `instance="bad"`) }
	for _, series := range []int{1, 4} {
		l := openLog(t, t.TempDir())
		r := newReceiver(t, func(_ http.ResponseWriter, q *request) int {
			if slices.ContainsFunc(q.order, bad) {
				return 400
			}
			return 204
		})
		m := startManager(l, patience, remoteConfig(t, r.srv.URL))
		culprits, innocents := testTarget("bad", series), testTarget("good", 40)
		for range 10 {
			l.scrape(culprits)
			m.delivered()
			l.scrape(innocents, culprits)
			m.delivered()
		}
		r.mustHave(mapped(l.want, func(s string) string {
			if bad(s) {
				return ""
			}
			return s
		}))
		if got, want := m.remoteMetric("samples_failed_total"), 20*series; got != want {
			t.Errorf("%d samples failed, want %d", got, want)
		}
	}
}

// TestAReceiverThatRefusesEverythingIsAskedWithinTheBound: the first batch
// may cost as many requests as any, the next ones fewer.
func TestAReceiverThatRefusesEverythingIsAskedWithinTheBound(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, func(http.ResponseWriter, *request) int { return 400 })
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.BatchSendDeadline = time.Hour // full batches
	m := startManager(l, patience, cfg)
	a := testTarget("a", 100)
	for range 10 {
		l.scrape(a)
	}
	m.delivered()
	if n, _ := r.counts(); n > maxRequests+32+16+8+6*minRequests {
		t.Errorf("%d requests for 10 batches", n)
	}
	if got := m.remoteMetric("samples_failed_total"); got != l.count {
		t.Errorf("%d samples failed, want %d", got, l.count)
	}
}

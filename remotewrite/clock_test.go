package remotewrite

import (
	"testing"
	"time"
)

// TestAClockThatWasAheadDoesNotMakeLiveDataABacklog: live data waits for a
// full batch or the deadline, whatever the clock said once; a backlog would go
// out step by step.
func TestAClockThatWasAheadDoesNotMakeLiveDataABacklog(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.MaxSamplesPerSend, cfg.Queue.Capacity = 500, 5000
	cfg.Queue.BatchSendDeadline = 10 * time.Second
	m := startManager(l, patience, cfg)
	a := testTarget("a", 50)
	l.clock = time.Now().Add(time.Hour).UnixMilli()
	for range 10 { // a full batch
		l.scrape(a)
	}
	m.delivered()
	before, _ := r.counts()
	l.clock = time.Now().UnixMilli()
	for i := range 10 {
		l.scrape(a)
		if i < 9 {
			eventually(t, "it is dealt", func() bool { return m.Status()[0].Pending == (i+1)*50 })
		}
	}
	m.delivered()
	if after, _ := r.counts(); after != before+1 {
		t.Errorf("%d requests for a full batch of live data, want 1", after-before)
	}
}

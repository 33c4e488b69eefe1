package remotewrite

import (
	"strings"
	"testing"
	"time"
)

func TestStatusTellsWhatTheRemoteSaid(t *testing.T) {
	for _, tc := range []struct {
		status   int
		refused  uint64
		refusing bool
		text     string
	}{
		{204, 0, false, ""},
		{403, 10, true, "403"},
		{503, 0, false, "503"},
	} {
		l := openLog(t, t.TempDir())
		r := newReceiver(t, answers(tc.status))
		m := startManager(l, patience, remoteConfig(t, r.srv.URL))
		before := time.Now()
		l.scrape(testTarget("a", 10))
		m.delivered()
		s := m.Status()[0]
		if s.RefusedSamples != tc.refused || s.Refusing != tc.refusing || !strings.Contains(s.LastError, tc.text) || (s.LastError == "") != (tc.text == "") {
			t.Errorf("%d: got %+v", tc.status, s)
		}
		if (tc.text != "") != s.LastErrorTime.After(before) {
			t.Errorf("%d: the last error is of %v", tc.status, s.LastErrorTime)
		}
	}
}

func TestRemoteStopsRefusingAMinuteAfterItsLastRefusal(t *testing.T) {
	var r replies
	r.note(errPartWritten, true, 3)
	var s RemoteStatus
	r.read(&s, time.Now().Add(59*time.Second))
	later := s
	r.read(&later, time.Now().Add(61*time.Second))
	if !s.Refusing || later.Refusing || later.RefusedSamples != 3 || later.LastError == "" {
		t.Errorf("got %+v, then %+v", s, later)
	}
}

package remotewrite

import (
	"net/http"
	"slices"
	"testing"
)

// With an out-of-order window at the scrape the log has samples that are older than their
// series' newest one. They are delivered as they were logged; within an entry of a request
// times ascend all the same, as the protocol wants it.
func TestLateSamplesAreDeliveredInTheOrderOfTheLog(t *testing.T) {
	for _, v2 := range []bool{false, true} {
		for _, backlog := range []bool{false, true} {
			name := map[bool]string{false: "1.x", true: "2.0"}[v2] + map[bool]string{false: " live", true: " backlog"}[backlog]
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				l := openLog(t, t.TempDir())
				g := newGate(http.StatusNoContent)
				r := newReceiver(t, func(w http.ResponseWriter, req *request) int {
					for _, times := range req.entries {
						for i := range times {
							if i > 0 && times[i] <= times[i-1] {
								t.Errorf("an entry of a request has the times %v", times)
							}
						}
					}
					return g.answer(w, req)
				})
				cfg := remoteConfig(t, r.srv.URL)
				if v2 {
					cfg.ProtobufMessage = MessageV2
				}
				a := testTarget("a", 20)
				start := l.clock
				if backlog { // which goes out series by series
					g.set(http.StatusServiceUnavailable)
					start -= 600_000
				}
				m := startManager(l, patience, cfg)
				for i := range 60 {
					l.clock = start + int64(i)*1000
					if i%7 == 3 {
						l.clock -= 9500
					}
					l.scrape(a)
				}
				if backlog {
					l.clock = start + 600_000
					l.scrape(a)
					g.set(http.StatusNoContent)
				}
				m.delivered()
				r.mu.Lock()
				defer r.mu.Unlock()
				for s, want := range l.want {
					if got := r.series[s]; !slices.Equal(got, want) {
						t.Fatalf("%s: got %v, want %v", s, got, want)
					}
				}
			})
		}
	}
}

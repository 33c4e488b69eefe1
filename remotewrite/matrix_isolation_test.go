package remotewrite

import (
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestADeadRemoteAmongFour: whatever one remote does, the other three get
// everything meanwhile, and neither appending nor a reload nor the end waits
// for it. TestADeadRemoteDoesNotDisturbAnother has one other, and
// TestAHangingDiskHoldsUpNothingButTheReload the disk instead of a remote.
func TestADeadRemoteAmongFour(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		fault   func(*front)
		repeats bool // what is taken is not known before the end
	}{
		{"it refuses connections", nil, false},
		{"it hangs", func(f *front) {
			f.serves = func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
				readAll(r.Body)
				f.hang(r)
			}
		}, false},
		{"it answers 503", fails(503), false},
		{"it is slow", func(f *front) { f.pace = 1 }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			const bound = 5 * time.Second
			dir := t.TempDir()
			l := openLog(t, dir)
			dead := newFront(t, tc.fault)
			dead.spoil()
			cfgs := []Config{dead.remote()}
			address := cfgs[0].URL
			if tc.fault == nil {
				cfgs[0].URL = remoteConfig(t, "http://"+deadPort(t)).URL
			}
			cfgs[0].Name, cfgs[0].RemoteName, cfgs[0].RemoteTimeout = "dead", "dead", time.Hour
			var good []*receiver
			for i, name := range []string{"a", "b", "c"} {
				r := newReceiver(t, nil)
				cfg := remoteConfig(t, r.srv.URL)
				cfg.Name, cfg.RemoteName, cfg.ProtobufMessage = name, name, bothMessages[i%2]
				good, cfgs = append(good, r), append(cfgs, cfg)
			}
			m := startManager(l, 100*time.Millisecond, cfgs...)
			a := testTarget("a", 100)
			round := func(what string) {
				t.Helper()
				soon(t, "appending "+what, bound, func() {
					for range 20 { // more than the dead one's queue holds
						l.scrape(a)
					}
				})
				soon(t, "delivery to the others "+what, bound, func() {
					for _, r := range good {
						r.waitFor(l.count)
					}
				})
				if s := m.Status()[0]; s.BehindSamples < 1500 { // also while it waits for its predecessor
					t.Errorf("%s, the dead one is behind by %d samples only", what, s.BehindSamples)
				}
			}
			round("at first")
			for _, change := range []struct {
				name string
				make func()
			}{
				{"another's header is changed", func() { cfgs[1].Headers = map[string]string{"X-A": "b"} }},
				{"another is started anew", func() { cfgs[2].RemoteName = "b2" }},
				{"the dead one's queue is changed", func() { cfgs[0].Queue.Capacity = 500 }},
				{"the dead one is started anew", func() { cfgs[0].RemoteName = "dead2" }},
				{"the order is changed", func() { slices.Reverse(cfgs[1:]) }},
			} {
				change.make()
				soon(t, "a reload when "+change.name, bound, func() { m.apply(cfgs...) })
				round("after a reload when " + change.name)
			}
			eventually(t, "the others' answers have arrived", func() bool {
				return !slices.ContainsFunc(m.Status()[1:], func(s RemoteStatus) bool { return s.BehindSamples > 0 })
			})
			for i, cfg := range cfgs[1:] {
				got := m.accountOf(cfg.RemoteName, good[len(good)-1-i], false)
				if got.behind != 0 || got.failed != 0 || got.lost != 0 {
					t.Errorf("%s: counted %+v", cfg.RemoteName, got)
				}
			}
			eventually(t, "the dead one is at work again", func() bool { s := m.Status()[0]; return s.Shards > 0 && s.Pending > 0 })
			if tc.fault != nil && dead.met.Load() == 0 {
				t.Error("the fault has not been felt")
			}
			soon(t, "the end", bound, m.stop)

			cfgs[0] = dead.next(cfgs[0])
			cfgs[0].URL = address
			dead.heal()
			l = l.reopened(dir)
			m = startManager(l, patience, cfgs...)
			m.delivered()
			if tc.repeats {
				dead.mustHaveOnceRepeated(l.want)
			} else {
				dead.mustHave(l.want)
			}
			for _, r := range good {
				r.mustHave(l.want)
			}
		})
	}
}

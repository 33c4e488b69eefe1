package remotewrite

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

// A process that is killed while a request is under way leaves a position that
// says where that request ends.
func TestWhatIsInWorkIsOnDiskBeforeItsRequestArrives(t *testing.T) {
	for name, age := range map[string]time.Duration{"live": 0, "a backlog": time.Hour} {
		t.Run(name, func(t *testing.T) {
			disk := waltest.New()
			l := openLogOn(t, disk, 0)
			var mu sync.Mutex // guards what follows
			ends := map[At]bool{}
			requests := 0
			r := newReceiver(t, func(http.ResponseWriter, *request) int {
				mu.Lock()
				defer mu.Unlock()
				requests++
				for _, s := range progressOnDisk(t, disk) {
					for _, end := range slices.Concat(s.Sent...) {
						ends[end] = true
					}
					for _, in := range s.Open {
						if in.Sent {
							ends[in.End] = true
						}
					}
				}
				return http.StatusNoContent
			})
			cfg := remoteConfig(t, r.srv.URL)
			cfg.Queue.MaxSamplesPerSend, cfg.FromOldest = 10, true
			l.clock -= age.Milliseconds()
			l.scrape(testTarget("a", 400))
			l.clock += age.Milliseconds()
			l.scrape(testTarget("b", 1))
			m := startManager(l, patience, cfg)
			m.delivered()
			r.mustHave(l.want)
			mu.Lock()
			defer mu.Unlock()
			if requests < 40 || len(ends) < requests/2 { // one or another may go out without, where the machine is slow
				t.Errorf("the ends of %d of %d requests were on disk in time", len(ends), requests)
			}
		})
	}
}

// progressOnDisk is what a new process would find.
func progressOnDisk(t *testing.T, disk *waltest.FS) (p Progress) {
	copied := waltest.New()
	for _, n := range disk.Names() {
		if strings.HasSuffix(n, ".cur") {
			b, err := disk.ReadFile(n)
			if err != nil {
				t.Error(err)
			}
			copied.WriteFile(n, b)
		}
	}
	log, err := wal.Open("/data", wal.Options{FS: copied, NoLock: true, SyncInterval: time.Minute})
	if err != nil {
		t.Error(err)
		return nil
	}
	defer log.Close()
	for _, n := range log.Cursors() {
		c := log.Cursor(n)
		if _, b, ok := c.Load(); ok {
			if err := p.Decode(b); err != nil {
				t.Error(err)
			}
		}
	}
	return p
}

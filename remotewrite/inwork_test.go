package remotewrite

import (
	"net/http"
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
	disk := waltest.New()
	l := openLogOn(t, disk, 0)
	var mu sync.Mutex // guards what follows
	ends := map[At]bool{}
	requests := 0
	r := newReceiver(t, func(http.ResponseWriter, *request) int {
		mu.Lock()
		defer mu.Unlock()
		requests++
		if p := progressOnDisk(t, disk); len(p) > 0 && len(p[0].Sent) > 0 {
			for _, end := range p[0].Sent[0] {
				ends[end] = true
			}
		}
		return http.StatusNoContent
	})
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.MaxSamplesPerSend = 10
	m := startManager(l, patience, cfg)
	l.scrape(testTarget("a", 400))
	m.delivered()
	r.mustHave(l.want)
	mu.Lock()
	defer mu.Unlock()
	if requests < 40 || len(ends) < requests/2 { // one or another may go out without, where the machine is slow
		t.Errorf("the ends of %d of %d requests were on disk in time", len(ends), requests)
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
		c, err := log.Cursor(n)
		if err != nil {
			t.Error(err)
			return nil
		}
		if _, b, ok := c.Load(); ok {
			if err := p.Decode(b); err != nil {
				t.Error(err)
			}
		}
	}
	return p
}

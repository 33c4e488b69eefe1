package wal_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"promagent/wal"
	"promagent/wal/waltest"
)

// The log of a remote that is gone fills up; that of one that keeps up does
// not, though the size of both grows until a segment ends.
func TestForecastOfALog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, perGroup = 1 << 20, 2*28 + 2*1005
		r := start(t, waltest.New(), wal.Options{SyncInterval: time.Second, MaxBytes: limit})
		defer r.mustStop()
		c := cursorOf(t, r.log, "remote")
		n := 0
		during := func(d time.Duration, each func()) {
			t.Helper()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Second) {
				n++
				r.mustAppend(n, 1000)
				each()
			}
		}
		full := func(least, most float64) {
			t.Helper()
			time.Sleep(time.Second)
			st := r.log.Stats()
			if got := st.FullSeconds; got < least || got > most {
				t.Errorf("after group %d: full in %v s, want %v to %v; %d of %d bytes", n, got, least, most, st.Bytes, st.LimitBytes)
			}
		}
		inf := math.Inf(1)
		keepsUp := func() { c.Set(r.log.End(), nil) }
		keepsUp()
		during(6*time.Minute, keepsUp)
		full(inf, inf)
		during(6*time.Minute, func() {})
		left := float64(limit-r.log.Stats().Bytes) / perGroup * 5
		full(left*0.8, left*1.2)
		during(2*time.Hour, func() {}) // the oldest is deleted all the time
		if st := r.log.Stats(); st.Truncations == 0 {
			t.Fatalf("nothing is deleted: %+v", st)
		}
		full(0, float64(limit)/4/perGroup*5*1.2)
		if got := r.log.BytesFrom(wal.Pos{}); got < limit/2 || got > limit {
			t.Errorf("%d bytes are said to be behind the oldest position", got)
		}
		keepsUp()
		if got := r.log.BytesFrom(r.log.End()); got != 0 {
			t.Errorf("%d bytes are said to be behind the end", got)
		}
		during(6*time.Minute, keepsUp)
		full(inf, inf)
	})
}

package kubetest

import (
	"testing"
	"time"
)

// patience is how long anything is waited for.
const patience = 30 * time.Second

// Eventually waits until a condition holds and fails the test when it does not
// within half a minute. It looks every few milliseconds.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

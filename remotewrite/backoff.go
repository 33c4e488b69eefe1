package remotewrite

import (
	"context"
	"time"
)

// leastWait is the least time between two attempts, however small min is
// configured: without any, a failing remote would be asked without pause.
const leastWait = time.Millisecond

// backoff is the wait between the attempts of one request: from min, doubled
// each time up to max, or what the receiver asked for; never below leastWait.
type backoff struct {
	min, max time.Duration
	current  time.Duration
}

// next is the wait before the next attempt. What the receiver asked for is
// not capped; after it the doubling goes on from there.
func (b *backoff) next(retryAfter time.Duration) time.Duration {
	if b.current == 0 {
		b.current = b.min
	}
	d := b.current
	if retryAfter > 0 {
		d = retryAfter
	}
	d = max(d, leastWait)
	b.current = min(2*d, max(b.max, leastWait))
	return d
}

// sleep waits for d, or until enough is closed, or until ctx ends, which it says.
func sleep(ctx context.Context, d time.Duration, enough <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-enough:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

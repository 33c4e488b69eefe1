package remotewrite

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	bucketTime  = time.Second // that a full bucket is worth
	waitCounted = time.Second // longest wait that is not counted yet
)

// errEnding says that a request would have had to wait for the limit when
// there is no time to wait any more.
var errEnding = errors.New("the limit leaves no room before the end")

// limiter bounds the bytes per second that a remote is sent: a bucket fills at
// the rate, and holds a second's worth. A request that is larger than that
// needs a full bucket and leaves a debt, so that the rate holds on average
// whatever the requests' sizes are. The bucket is empty at first: restarts
// must not add up to bursts. Requests go out in the order in which they came, but
// those of backlogs after the others.
type limiter struct {
	count func(time.Duration) // is told of the time that requests wait

	mu     sync.Mutex // guards what follows
	rate   int64      // bytes per second; 0: no limit
	empty  time.Time  // when the bucket was empty, or will be when its debt is paid
	queue  []*waiter
	news   chan struct{} // closed and replaced when those who wait are to look again
	ending bool          // nobody waits any more
}

// waiter is a request in the queue.
type waiter struct {
	size   int
	yields bool // to those that do not
}

// newLimiter returns a limiter; count is told of the time that requests wait,
// as it goes on, by several goroutines.
func newLimiter(rate int64, count func(time.Duration)) *limiter {
	return &limiter{count: count, rate: rate, empty: time.Now(), news: make(chan struct{})}
}

// set changes the rate, bytes per second, 0 for none; it holds at once, for
// those who wait, too. A debt is paid off in as much time as the higher of the
// two rates takes for it.
func (l *limiter) set(rate int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rate == l.rate {
		return
	}
	now := time.Now()
	debt := l.empty.Sub(now)
	switch {
	case rate == 0 || l.rate == 0:
		l.empty = now
	case debt > 0 && rate > l.rate:
		l.empty = now.Add(time.Duration(float64(debt) * (float64(l.rate) / float64(rate))))
	}
	l.rate = rate
	l.tell()
}

// end has those who wait, and who would have to, give up.
func (l *limiter) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ending = true
	l.tell()
}

// tell wakes those who wait. l.mu is held.
func (l *limiter) tell() {
	close(l.news)
	l.news = make(chan struct{})
}

// take waits until a request of n bytes may go out, and says whether it had to
// wait. The error is that of ctx, or errEnding.
func (l *limiter) take(ctx context.Context, n int) (waited bool, err error) {
	return l.wait(ctx, &waiter{size: n})
}

// takeLast is take for a request that lets all others go first.
func (l *limiter) takeLast(ctx context.Context, n int) (waited bool, err error) {
	return l.wait(ctx, &waiter{size: n, yields: true})
}

func (l *limiter) wait(ctx context.Context, w *waiter) (waited bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := w.size
	for {
		wait := l.due(n, time.Now())
		first := l.place(w) == 0
		switch {
		case wait <= 0 && (first || l.rate == 0 || l.ending):
			l.charge(n, time.Now())
			l.leave(w)
			return waited, nil
		case l.ending:
			l.leave(w)
			return waited, errEnding
		case !waited:
			l.queue = slices.Insert(l.queue, l.place(w), w)
			waited = true
		}
		if !first {
			wait = waitCounted // somebody before it will tell
		}
		news := l.news
		l.mu.Unlock()
		begin := time.Now()
		err := sleep(ctx, min(wait, waitCounted), news)
		l.count(time.Since(begin))
		l.mu.Lock()
		if err != nil {
			l.leave(w)
			return waited, err
		}
	}
}

// place is where a request stands in the queue, or would stand. l.mu is held.
func (l *limiter) place(w *waiter) int {
	for i, other := range l.queue {
		if other == w || other.yields && !w.yields {
			return i
		}
	}
	return len(l.queue)
}

// leave takes a request out of the queue, if it is there. l.mu is held.
func (l *limiter) leave(w *waiter) {
	if i := slices.Index(l.queue, w); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		l.tell()
	}
}

// cost is the time in which n bytes flow in.
func (l *limiter) cost(n int) time.Duration {
	const most = float64(100 * 365 * 24 * time.Hour)
	return time.Duration(min(float64(n)/float64(l.rate)*float64(time.Second), most))
}

// due is how long it takes until the bucket has enough for n bytes. l.mu is held.
func (l *limiter) due(n int, now time.Time) time.Duration {
	if l.rate == 0 {
		return 0
	}
	return l.level(now).Add(min(l.cost(n), bucketTime)).Sub(now)
}

// charge takes n bytes out of the bucket. l.mu is held.
func (l *limiter) charge(n int, now time.Time) {
	if l.rate == 0 {
		l.empty = now
		return
	}
	l.empty = l.level(now).Add(l.cost(n))
}

// level is empty, with what a full bucket could not hold spilt. l.mu is held.
func (l *limiter) level(now time.Time) time.Time {
	if full := now.Add(-bucketTime); l.empty.Before(full) {
		return full
	}
	return l.empty
}

// giveUp leaves what a shard has before it to the next start. Its goroutine
// ends.
func (e *Endpoint) giveUp(shard int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.givenUp == nil {
		e.givenUp = map[int]bool{}
	}
	e.givenUp[shard] = true
	e.wakeReader()
}

// toFlush is how many samples and exemplars can still be sent: those that shards
// which are at work have before them, and portions that do not come after one that
// was given up. e.mu is held.
func (e *Endpoint) toFlush() (n int) {
	working := false
	given := map[*batch]bool{}
	for i := range e.led.lanes {
		ln := &e.led.lanes[i]
		if e.givenUp[i] {
			given[ln.sending] = true
			continue
		}
		working = true
		ln.each(func(b *batch) { n += b.len() })
	}
	for _, b := range e.led.unfinished { // ascending, and each comes after earlier ones
		if b.taken {
			continue
		}
		given[b] = slices.ContainsFunc(b.after, func(o *batch) bool { return given[o] })
		if working && !given[b] {
			n += b.len()
		}
	}
	return n
}

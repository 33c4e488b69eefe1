package remotewrite

import (
	"time"
)

// ledger keeps the books of one endpoint: which spans are open, where the
// reader is, and per shard what has been dealt and is not final yet. It has no
// clock, no lock and no goroutine; an Endpoint calls it under its mutex, and
// the model test in any order that goroutines could.
//
// The rules that all of delivery rests on:
//   - samples are dealt in ascending order of At, each to the lane of its shard;
//   - a lane is first in, first out, and one batch of it is in work at a time;
//   - a lane's At is that of the first sample of its oldest unfinished batch,
//     or the reader's when there is none.
type ledger struct {
	spans []Span // open, ascending; the last is the one being read; never empty
	lanes []lane

	reader At     // everything before it has been dealt; rises
	passed uint64 // samples in the log before the reader's step, as segments count them

	limits  limits
	waiting int // samples in the lanes' queues
	pool    []*batch
}

// limits are the sizes that a ledger respects. They may change at any time.
type limits struct {
	batch    int // samples of a full batch
	queue    int // full batches that may wait per shard, at least 1
	waiting  int // samples that may wait in all queues together, beyond one batch per shard
	deadline time.Duration
}

// lane is what one shard has before it.
type lane struct {
	skip    At     // final in an earlier life: samples before it are not dealt again
	sending *batch // in work
	queue   []*batch
	filling *batch // nil: nothing
	due     bool   // the filling batch goes out without being full
	dueAt   time.Time
	idle    time.Time // since when the deadline counts: the last send's end
	armed   bool      // its shard knows of the filling batch's deadline
}

// newLedger goes on from a state.
func newLedger(s State, lim limits, now time.Time) *ledger {
	l := &ledger{spans: append([]Span(nil), s.Spans...), limits: lim, passed: s.Passed}
	l.lanes = make([]lane, len(s.Ats))
	l.reader = s.Ats[0]
	for i, a := range s.Ats {
		l.lanes[i] = lane{skip: a, idle: now}
		if a.Before(l.reader) {
			l.reader = a
		}
	}
	l.trim()
	return l
}

// at is the place before which everything of the lane is final.
func (l *ledger) at(i int) At {
	ln := &l.lanes[i]
	switch {
	case ln.sending != nil:
		return ln.sending.first
	case len(ln.queue) > 0:
		return ln.queue[0].first
	case ln.filling != nil:
		return ln.filling.first
	case l.reader.Before(ln.skip):
		return ln.skip
	}
	return l.reader
}

// unpassed is the count of samples that the lane's place stands for.
func (l *ledger) unpassed(i int) uint64 {
	ln := &l.lanes[i]
	switch {
	case ln.sending != nil:
		return ln.sending.passed
	case len(ln.queue) > 0:
		return ln.queue[0].passed
	case ln.filling != nil:
		return ln.filling.passed
	}
	return l.passed
}

// state is what a restart would have to know now.
func (l *ledger) state() State {
	l.trim()
	s := State{Spans: append([]Span(nil), l.spans...), Ats: make([]At, len(l.lanes)), Passed: l.passed}
	for i := range l.lanes {
		s.Ats[i] = l.at(i)
		s.Passed = min(s.Passed, l.unpassed(i))
	}
	return s
}

// trim forgets the spans that all lanes have passed.
func (l *ledger) trim() {
	for len(l.spans) > 1 {
		next := l.spans[1].begin()
		for i := range l.lanes {
			if l.at(i).Before(next) {
				return
			}
		}
		l.spans = l.spans[1:]
	}
}

// open adds a span behind the last one; the reader is at its beginning.
func (l *ledger) open(s Span) {
	l.spans = append(l.spans, s)
	l.moveTo(s.begin())
	l.trim()
}

// last is the span that is being read.
func (l *ledger) last() *Span { return &l.spans[len(l.spans)-1] }

// mayOpen says whether another span may be opened: at most the last one is
// unfinished. That keeps the shards within two spans of each other; what
// hinders it is made due.
func (l *ledger) mayOpen() bool {
	begin := l.last().begin()
	may := true
	for i := range l.lanes {
		if !l.at(i).Before(begin) {
			continue
		}
		may = false
		l.lanes[i].due = true
	}
	return may
}

// moveTo moves the reader forward. Everything before a must have been dealt.
func (l *ledger) moveTo(a At) {
	if l.reader.Before(a) {
		l.reader = a
	}
}

// batchFor returns the batch that takes the shard's sample at a, or nil when
// the lane has no room. The caller adds the sample at once.
func (l *ledger) batchFor(shard int, a At, now time.Time) *batch {
	ln := &l.lanes[shard]
	if ln.filling != nil && ln.filling.len() >= l.limits.batch && !l.enqueue(ln) {
		return nil
	}
	if ln.filling == nil {
		b := l.newBatch()
		b.first, b.passed = a, l.passed
		ln.filling, ln.due, ln.armed = b, false, false
		ln.dueAt = now
		if d := l.limits.deadline; d > 0 { // the deadline's ticks count from the last send, whether or not there was something to send
			ln.dueAt = ln.idle.Add(now.Sub(ln.idle)/d*d + d)
		}
	}
	l.moveTo(a.after())
	return ln.filling
}

// enqueue moves the filling batch to the queue when there is room.
func (l *ledger) enqueue(ln *lane) bool {
	n := ln.filling.len()
	if len(ln.queue) > 0 && (len(ln.queue) >= l.limits.queue || l.waiting+n > l.limits.waiting) {
		return false
	}
	ln.queue = append(ln.queue, ln.filling)
	ln.filling, ln.due = nil, false
	l.waiting += n
	return true
}

// ready says whether take would return a batch.
func (l *ledger) ready(shard int, now time.Time) bool {
	ln := &l.lanes[shard]
	if ln.sending != nil {
		return false
	}
	return len(ln.queue) > 0 ||
		ln.filling != nil && (ln.due || ln.filling.len() >= l.limits.batch || !now.Before(ln.dueAt))
}

// take returns the lane's oldest batch when it is to be sent now: full, due,
// or at its deadline. With nil it says in how long to ask again, 0 for never
// (until something changes).
func (l *ledger) take(shard int, now time.Time) (*batch, time.Duration) {
	ln := &l.lanes[shard]
	if !l.ready(shard, now) {
		if ln.sending == nil && ln.filling != nil {
			return nil, ln.dueAt.Sub(now)
		}
		return nil, 0
	}
	if len(ln.queue) > 0 {
		ln.sending = ln.queue[0]
		copy(ln.queue, ln.queue[1:])
		ln.queue[len(ln.queue)-1] = nil
		ln.queue = ln.queue[:len(ln.queue)-1]
		l.waiting -= ln.sending.len()
	} else {
		ln.sending, ln.filling, ln.due = ln.filling, nil, false
	}
	return ln.sending, 0
}

// oldest is the lane's oldest batch, nil when it has none.
func (ln *lane) oldest() (b *batch) {
	ln.each(func(c *batch) {
		if b == nil {
			b = c
		}
	})
	return b
}

// each calls f with the lane's batches, oldest first.
func (ln *lane) each(f func(*batch)) {
	if ln.sending != nil {
		f(ln.sending)
	}
	for _, b := range ln.queue {
		f(b)
	}
	if ln.filling != nil {
		f(ln.filling)
	}
}

// finished says that every sample of the lane's batch in work is final. The
// batch must not be used any more.
func (l *ledger) finished(shard int, now time.Time) {
	ln := &l.lanes[shard]
	l.recycle(ln.sending)
	ln.sending, ln.idle = nil, now
}

// flush makes everything that has been dealt due.
func (l *ledger) flush() {
	for i := range l.lanes {
		l.lanes[i].due = l.lanes[i].filling != nil
	}
}

// outstanding is the number of samples and exemplars dealt and not final.
func (l *ledger) outstanding() (n int) {
	for i := range l.lanes {
		ln := &l.lanes[i]
		if ln.sending != nil {
			n += ln.sending.len()
		}
		for _, b := range ln.queue {
			n += b.len()
		}
		if ln.filling != nil {
			n += ln.filling.len()
		}
	}
	return n
}

// mayReshard says whether the number of shards may change now: nothing is
// outstanding and no lane is ahead of the reader from an earlier life.
func (l *ledger) mayReshard() bool { return l.caughtUp() && l.outstanding() == 0 }

// caughtUp says whether the reader has passed everything that was final in an
// earlier life.
func (l *ledger) caughtUp() bool {
	for i := range l.lanes {
		if l.reader.Before(l.lanes[i].skip) {
			return false
		}
	}
	return true
}

// reshard changes the number of shards. mayReshard must be true.
func (l *ledger) reshard(n int, now time.Time) {
	l.lanes = make([]lane, n)
	for i := range l.lanes {
		l.lanes[i] = lane{skip: l.reader, idle: now}
	}
	l.trim()
}

// maxPooled bounds the batches that a ledger keeps for reuse.
const maxPooled = 64

func (l *ledger) newBatch() *batch {
	if n := len(l.pool); n > 0 {
		b := l.pool[n-1]
		l.pool = l.pool[:n-1]
		return b
	}
	return &batch{}
}

func (l *ledger) recycle(b *batch) {
	if len(l.pool) < maxPooled {
		b.reset()
		l.pool = append(l.pool, b)
	}
}

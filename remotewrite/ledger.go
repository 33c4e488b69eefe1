package remotewrite

import (
	"slices"
	"time"
)

// ledger keeps the books of one endpoint: which spans are open, where the
// reader is, and per shard what has been dealt and is not final yet. It has no
// clock, no lock and no goroutine; an Endpoint calls it under its mutex, and
// the model test in any order that goroutines could.
//
// The rules that all of delivery rests on:
//   - samples are dealt in ascending order of At: those of a run each to the lane
//     of its shard, those of a window to portions, for which see there;
//   - a lane is first in, first out, and one batch of it is in work at a time;
//   - a lane's At is that of the first sample of its oldest unfinished batch,
//     or the reader's when there is none;
//   - what an earlier life had in work is a batch of its own again. The remote
//     may have it all or nothing of it, and some remotes refuse a request whole
//     for one sample that they have: it must not be mixed with others.
type ledger struct {
	spans []Span // open, ascending, all of one kind; the last is the one being read; never empty
	lanes []lane
	portions

	reader At     // everything before it has been dealt; rises
	passed uint64 // samples in the log before the reader's step, as segments count them

	limits   limits
	pool     []*batch
	columns  []columns
	requests [][]byte
}

// limits are the sizes that a ledger respects. They may change at any time.
type limits struct {
	batch    int // samples of a full batch
	deadline time.Duration
	ahead    bool // the reader makes the requests of portions
	starts   bool // requests have start times
}

// lane is what one shard has before it.
type lane struct {
	skip    At     // final in an earlier life: samples before it are not dealt again
	sent    []At   // ends of the batches that were in work in earlier lives, ascending
	sending *batch // in work
	waiting *batch // full, or up to a border. One is enough: what would wait longer waits in the log
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
	l.frontier, l.stored = s.Reader, slices.Clone(s.Open)
	l.reader = s.Ats[0]
	for i, a := range s.Ats {
		l.lanes[i] = lane{skip: a, sent: slices.Clone(s.sentBy(i)), idle: now}
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
	case len(l.unfinished) > 0:
		return l.unfinished[0].first
	case ln.sending != nil:
		return ln.sending.first
	case ln.waiting != nil:
		return ln.waiting.first
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
	case len(l.unfinished) > 0:
		return l.unfinished[0].passed
	case ln.sending != nil:
		return ln.sending.passed
	case ln.waiting != nil:
		return ln.waiting.passed
	case ln.filling != nil:
		return ln.filling.passed
	}
	return l.passed
}

// state is what a restart would have to know now.
func (l *ledger) state() (s State) {
	l.stateTo(&s)
	return s
}

// stateTo makes s the state, in the memory that s has: shards say where they are
// twice per request.
func (l *ledger) stateTo(s *State) {
	l.trim()
	*s = State{Spans: append(s.Spans[:0], l.spans...), Ats: s.Ats[:0], Sent: s.Sent[:0], Passed: l.passed, Open: s.Open[:0]}
	window := l.last().Kind == Window
	if window {
		s.Reader, s.Open = l.reader, l.appendIntervals(s.Open)
		if l.reader.Before(l.frontier) {
			s.Reader = l.frontier
		}
	}
	sent := false
	for i := range l.lanes {
		s.Ats = append(s.Ats, l.at(i))
		s.Passed = min(s.Passed, l.unpassed(i))
		sent = sent || l.hasSent(i)
	}
	if window || !sent {
		return
	}
	s.Sent = slices.Grow(s.Sent, len(l.lanes))[:len(l.lanes)]
	for i := range l.lanes {
		s.Sent[i] = l.appendSent(s.Sent[i][:0], i)
	}
}

// hasSent says whether anything of the lane's that is not final has been in work.
func (l *ledger) hasSent(i int) bool {
	ln := &l.lanes[i]
	return ln.sending != nil || slices.ContainsFunc(ln.sent, l.at(i).Before)
}

// appendSent appends the ends, behind the lane's place, of the batches that have been in
// work, in this life or an earlier one.
func (l *ledger) appendSent(ends []At, i int) []At {
	ln := &l.lanes[i]
	place := l.at(i)
	if ln.sending != nil {
		ends = append(ends, ln.sending.end)
	}
	for _, end := range ln.sent {
		if place.Before(end) && !slices.Contains(ends, end) {
			ends = append(ends, end)
		}
	}
	slices.SortFunc(ends, At.Compare)
	return ends
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

// end moves the end of the open span that begins where s does to that of s.
func (l *ledger) end(s Span) {
	for i := range l.spans {
		if l.spans[i].Start == s.Start {
			l.spans[i].End = s.End
		}
	}
}

// last is the span that is being read.
func (l *ledger) last() *Span { return &l.spans[len(l.spans)-1] }

// mayOpen says whether another span may be opened: at most the last one is
// unfinished. That keeps the shards within two spans of each other; what
// hinders it is made due.
func (l *ledger) mayOpen() bool {
	begin := l.last().begin()
	may := true
	if len(l.unfinished) > 0 && l.unfinished[0].first.Before(begin) {
		l.flush()
		return false
	}
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
	if !l.reader.Before(a) {
		return
	}
	l.reader = a
	for len(l.stored) > 0 && !a.Before(l.stored[0].End) {
		l.stored = l.stored[1:]
	}
}

// wants says whether something at or before the place, of what is at or after
// the reader, may have to be dealt.
func (l *ledger) wants(end At) bool {
	if l.last().Kind == Window {
		return !end.Before(l.frontier) || len(l.stored) > 0 && !end.Before(l.stored[0].First)
	}
	return slices.ContainsFunc(l.lanes, func(ln lane) bool { return !end.Before(ln.skip) })
}

// batchFor returns the batch that takes the shard's sample at a, or nil when
// the lane has no room. The caller adds the sample at once.
func (l *ledger) batchFor(shard int, a At, now time.Time) *batch {
	ln := &l.lanes[shard]
	if b := ln.filling; b != nil && (b.len() >= l.limits.batch || ln.border(b.first, a)) && !l.enqueue(ln) {
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
	ln.filling.end = a.after()
	l.moveTo(ln.filling.end)
	return ln.filling
}

// border says whether a batch that was in work in an earlier life ended between
// the places of two samples.
func (ln *lane) border(a, b At) bool {
	return slices.ContainsFunc(ln.sent, func(end At) bool { return a.Before(end) && !b.Before(end) })
}

// enqueue lets the filling batch wait, when there is room.
func (l *ledger) enqueue(ln *lane) bool {
	if ln.waiting != nil {
		return false
	}
	ln.waiting, ln.filling, ln.due = ln.filling, nil, false
	return true
}

// ready says whether take would return a batch of the lane's own.
func (l *ledger) ready(shard int, now time.Time) bool {
	ln := &l.lanes[shard]
	if ln.sending != nil {
		return false
	}
	return ln.waiting != nil ||
		ln.filling != nil && (ln.due || ln.filling.len() >= l.limits.batch || !now.Before(ln.dueAt))
}

// take returns the lane's oldest batch when it is to be sent now: full, due,
// or at its deadline; or a portion. With nil it says in how long to ask again, 0 for never
// (until something changes).
func (l *ledger) take(shard int, now time.Time) (*batch, time.Duration) {
	ln := &l.lanes[shard]
	if len(l.unfinished) > 0 && ln.sending == nil {
		ln.sending = l.takePortion()
		return ln.sending, 0
	}
	if !l.ready(shard, now) {
		if ln.sending == nil && ln.filling != nil {
			return nil, ln.dueAt.Sub(now)
		}
		return nil, 0
	}
	if ln.waiting != nil {
		ln.sending, ln.waiting = ln.waiting, nil
	} else {
		ln.sending, ln.filling, ln.due = ln.filling, nil, false
	}
	return ln.sending, 0
}

// each calls f with everything that has been dealt and is not final.
func (l *ledger) each(f func(*batch)) {
	for i := range l.lanes {
		l.lanes[i].each(f)
	}
	for _, b := range l.unfinished {
		if !b.taken {
			f(b)
		}
	}
}

// each calls f with the lane's batches, oldest first.
func (ln *lane) each(f func(*batch)) {
	if ln.sending != nil {
		f(ln.sending)
	}
	if ln.waiting != nil {
		f(ln.waiting)
	}
	if ln.filling != nil {
		f(ln.filling)
	}
}

// finished says that every sample of the lane's batch in work is final. The
// batch must not be used any more.
func (l *ledger) finished(shard int, now time.Time) {
	ln := &l.lanes[shard]
	l.close(ln.sending)
	l.recycle(ln.sending)
	ln.sending, ln.idle = nil, now
	if len(ln.sent) > 0 {
		place := l.at(shard)
		ln.sent = slices.DeleteFunc(ln.sent, func(end At) bool { return !place.Before(end) })
	}
}

// flush makes everything that has been dealt due.
func (l *ledger) flush() {
	l.due = true
	for i := range l.lanes {
		l.lanes[i].due = l.lanes[i].filling != nil
	}
}

// outstanding is the number of samples and exemplars dealt and not final.
func (l *ledger) outstanding() (n int) {
	l.each(func(b *batch) { n += b.len() })
	return n
}

// mayReshard says whether the number of shards may change now: nothing is
// outstanding and no lane is ahead of the reader from an earlier life.
func (l *ledger) mayReshard() bool { return l.caughtUp() && l.outstanding() == 0 }

// caughtUp says whether the reader has passed everything that was final or in
// work in an earlier life.
func (l *ledger) caughtUp() bool {
	if l.reader.Before(l.frontier) {
		return false
	}
	for i := range l.lanes {
		ln := &l.lanes[i]
		if n := len(ln.sent); l.reader.Before(ln.skip) || n > 0 && l.reader.Before(ln.sent[n-1]) {
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
	if len(l.pool) > n {
		l.pool = slices.Clone(l.pool[:n])
	}
	if len(l.columns) > n {
		l.columns = slices.Clone(l.columns[:n])
	}
	if len(l.requests) > n {
		l.requests = slices.Clone(l.requests[:n])
	}
	l.trim()
}

func (l *ledger) newBatch() *batch {
	var b *batch
	if n := len(l.pool); n > 0 {
		b = l.pool[n-1]
		l.pool = l.pool[:n-1]
	} else {
		b = &batch{}
	}
	b.columns = l.newColumns()
	return b
}

func (l *ledger) recycle(b *batch) {
	l.keep(b.columns)
	if cap(b.packed) > 0 && len(l.requests) < len(l.lanes) {
		l.requests = append(l.requests, b.packed[:0])
	}
	if len(l.pool) < len(l.lanes) {
		b.reset()
		l.pool = append(l.pool, b)
	}
}

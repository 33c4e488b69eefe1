package remotewrite

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
)

// source is the log as batches, as far as a reader needs it. record.Store is one.
type source interface {
	// Entries appends to dst the entries of whole appends at from and after it, at
	// least one append's when there is one and all of one segment, and says where
	// to go on. From may be the position of any entry. When there is nothing
	// more in from's segment, or there is no such segment (any more), the
	// entries are those of the next segment that has some.
	Entries(dst []record.Entry, from wal.Pos, max int) ([]record.Entry, wal.Pos, error)
	// LoadEach calls f with each entry's part. Entries are of one block,
	// ascending. Those that can never be read are left out and told to lost,
	// with wal.ErrCorrupt or wal.ErrGone. An error means to try again.
	LoadEach(e []record.Entry, f func(i int, p *template.Part, t int64) error, lost func(i int, err error)) error
	// Before is the number of samples in the log before the segment.
	Before(segment uint64) (uint64, bool)
}

// walk is an endpoint's way through the log: it opens spans and yields their
// steps in order of delivery. After a restart it first walks the open spans of
// the stored state again, as they are stored.
type walk struct {
	src source
	led *ledger
	mu  sync.Locker // guards led

	span  Span // the one that the steps are of
	rest  []Span
	steps []step // of span, not yielded yet
	read  int    // entries of span so far

	memory []record.Entry // of ahead, and of the steps that are yielded now
	ahead  []record.Entry // read, and not in a span yet
	next   wal.Pos        // after ahead

	planned     int // entries ahead that make the next window; 0: not known yet
	plannedKind Kind

	known   map[record.BlockID]traits // of the segment
	segment uint64

	lastTime int64 // of the last entry yielded

	bound  Bound          // of a backlog
	behind []record.Entry // the first entry behind the bound, when it has been seen
}

// lost says what a reader did not find.
type lost struct {
	samples  uint64
	from, to int64 // times, ms; 0: not known
	reason   lossReason
}

// add takes a later loss in.
func (l *lost) add(more lost) {
	if more.samples == 0 {
		return
	}
	if l.samples == 0 {
		*l = more
		return
	}
	l.samples += more.samples
	l.to = max(l.to, more.to)
}

type lossReason uint8

const (
	lossRetention lossReason = iota // the segment was deleted, or what it held was cut off
	lossCorrupt                     // an entry could not be read
)

// verdict says what came of walk.advance.
type verdict uint8

const (
	stepped verdict = iota // there is a step
	atEnd                  // everything in the log has been yielded
	blocked                // shards are to finish first
	ended                  // everything before the bound has been yielded or counted as lost
)

// entriesAtOnce bounds the entries that are read ahead of the reader.
const entriesAtOnce = 1024

func newWalk(src source, led *ledger, mu sync.Locker) *walk {
	w := &walk{src: src, led: led, mu: mu}
	w.rest = append(w.rest, led.spans...)
	return w
}

// advance yields the next step. Data older than since, ms, is a backlog, to
// be grouped. The loss, when there is one, precedes the step. Without a step
// what has been dealt of a window is made due.
func (w *walk) advance(since int64) (st step, v verdict, gone lost, err error) {
	defer func() {
		if v != stepped {
			w.mu.Lock()
			w.led.due = true
			w.mu.Unlock()
		}
	}()
	for {
		for len(w.steps) > 0 {
			st, w.steps = w.steps[0], w.steps[1:]
			if w.enter(st) {
				w.lastTime = st.entries[len(st.entries)-1].Time
				return st, stepped, gone, nil
			}
		}
		if len(w.rest) > 0 {
			if !w.mayChange(w.rest[0].Kind) {
				return step{}, blocked, gone, nil
			}
			l, err := w.again()
			gone.add(l)
			if err != nil {
				return step{}, blocked, gone, err
			}
			continue
		}
		v, l, err := w.open(since)
		gone.add(l)
		if err != nil || v != stepped {
			return step{}, v, gone, err
		}
	}
}

// enter moves the reader to the step, and past it when all shards are.
func (w *walk) enter(st step) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := At{w.span.Start.Segment, w.span.Start.Offset, st.number, math.MaxUint16, math.MaxUint32}
	if w.led.wants(end) {
		w.led.moveTo(st.place(w.span))
		return true
	}
	w.leave(st)
	return false
}

// place is where the step of the span begins.
func (st step) place(s Span) At {
	a := s.begin()
	a.Step = st.number
	return a
}

// leave moves the reader past the step, all of which has been dealt. The
// caller holds mu.
func (w *walk) leave(st step) {
	w.led.passed += st.samples
	a := st.place(w.span)
	a.Step++
	w.led.moveTo(a)
}

// again walks the first of the stored spans.
func (w *walk) again() (lost, error) {
	sp := w.rest[0]
	var entries []record.Entry
	for p := sp.Start; before(p, sp.End); {
		es, next, err := w.src.Entries(nil, p, entriesAtOnce)
		if err != nil {
			return lost{}, fmt.Errorf("read entries of segment %d: %w", sp.Start.Segment, err)
		}
		for _, e := range es {
			if before(e.Pos, sp.End) { // false in a later segment, too
				entries = append(entries, e)
			}
		}
		if len(es) == 0 || !before(p, next) {
			break
		}
		p = next
	}
	w.rest = w.rest[1:]
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(entries); n > 0 && before(sp.End, entries[n-1].End()) {
		// 0.1.0 (72d730c) wrote so where the segment ends. Who reads on from
		// within a frame finds no frame.
		sp.End = entries[n-1].End()
		w.led.end(sp)
	}
	w.span, w.read = sp, len(entries)
	w.steps = steps(sp.Kind, entries)

	if w.led.reader.Before(sp.begin()) {
		w.led.moveTo(sp.begin())
		return w.arrive(sp.Before, entries), nil
	}
	for len(w.steps) > 0 && w.steps[0].number < w.led.reader.Step { // the count includes them
		w.steps = w.steps[1:]
	}
	return lost{}, nil
}

// arrive sets the count of samples passed to what it must be at the span that
// is entered, and returns what is missing. The caller holds mu.
func (w *walk) arrive(before uint64, entries []record.Entry) (gone lost) {
	if before > w.led.passed {
		gone = lost{samples: before - w.led.passed, from: w.lastTime, reason: lossRetention}
		if len(entries) > 0 {
			gone.to = entries[0].Time
		}
	}
	w.led.passed = before
	return gone
}

// open reads on behind the last span: the last run grows, or a span is opened.
func (w *walk) open(since int64) (verdict, lost, error) {
	if len(w.ahead) == 0 {
		if err := w.look(w.span.End); err != nil {
			return blocked, lost{}, err
		}
		if len(w.ahead) == 0 {
			v, gone := w.stop()
			return v, gone, nil
		}
	}
	first := w.ahead[0]
	behind := first.Time < since
	sameSegment := first.Pos.Segment == w.span.Start.Segment
	n := w.alike()
	if !behind && sameSegment && w.span.Kind == Run && w.read < maxRun {
		w.span.End = w.end(n)
		w.mu.Lock()
		w.led.last().End = w.span.End
		w.mu.Unlock()
		w.take(n)
		return stepped, lost{}, nil
	}

	sp := Span{Kind: Run, Start: first.Pos}
	if sameSegment {
		sp.Start = w.span.End
	}
	if behind {
		if w.planned == 0 {
			if err := w.plan(); err != nil {
				return blocked, lost{}, err
			}
		}
		sp.Kind, n = w.plannedKind, w.planned
	}
	w.mu.Lock()
	may := w.led.mayOpen()
	w.mu.Unlock()
	if !may || !w.mayChange(sp.Kind) {
		return blocked, lost{}, nil
	}
	sp.End = w.end(n)

	var gone lost
	w.mu.Lock()
	defer w.mu.Unlock()
	if !sameSegment {
		if before, ok := w.src.Before(first.Pos.Segment); ok {
			gone = w.arrive(before, w.ahead)
		}
	}
	sp.Before = w.led.passed
	w.span, w.read = sp, 0
	w.led.open(sp)
	w.take(n)
	return stepped, gone, nil
}

// look reads entries ahead. All steps have been yielded, and nobody needs their
// entries any more.
func (w *walk) look(from wal.Pos) error {
	w.memory = append(w.memory[:0], w.ahead...)
	w.ahead = w.memory
	all, next, err := w.src.Entries(w.memory, from, entriesAtOnce)
	if err != nil {
		return fmt.Errorf("read entries of segment %d: %w", from.Segment, err)
	}
	es := all[len(w.ahead):]
	within := w.bound.Within(es)
	if len(within) < len(es) {
		w.behind = slices.Clone(es[len(within) : len(within)+1])
	}
	if w.bound.Excludes(next) {
		next = w.bound.Until
	}
	w.memory = all
	w.ahead, w.next = all[:len(w.ahead)+len(within)], next
	return nil
}

// stop says what it means that there is nothing more to read. A backlog ends
// at its bound: what is missing then is lost, as soon as the log goes on behind
// it, which tells whether there is less before it than there was.
func (w *walk) stop() (verdict, lost) {
	if cap(w.memory) > entriesAtOnce { // a window's
		w.memory, w.ahead = nil, nil
	}
	if w.bound == (Bound{}) {
		return atEnd, lost{}
	}
	total := w.bound.Total
	if len(w.behind) > 0 {
		if before, ok := w.src.Before(w.behind[0].Pos.Segment); ok && w.behind[0].Pos.Segment > w.bound.Until.Segment {
			total = min(total, before)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.led.passed >= total {
		return ended, lost{}
	}
	if len(w.behind) == 0 {
		return atEnd, lost{}
	}
	return ended, w.arrive(total, w.behind)
}

// mayChange says whether a span of the kind may follow: not while anything of
// another kind is outstanding, for a series' shard depends on the kind. What
// hinders it is made due.
func (w *walk) mayChange(kind Kind) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if kind == w.span.Kind || w.led.outstanding() == 0 {
		return true
	}
	w.led.flush()
	return false
}

// plan reads ahead for a window and decides how many of the entries ahead make
// one, and in which order they can be delivered.
func (w *walk) plan() error {
	segment := w.ahead[0].Pos.Segment
	w.mu.Lock()
	x := extent{most: min(max(w.led.limits.batch, minWindowBlock), maxWindowBlock)}
	w.mu.Unlock()
	n := 0
	for {
		for n < len(w.ahead) && w.ahead[n].Pos.Segment == segment && x.take(w.ahead[n]) {
			n++
		}
		if n < len(w.ahead) || w.next.Segment != segment {
			break
		}
		if err := w.look(w.next); err != nil {
			return err
		}
		if len(w.ahead) == n {
			break
		}
	}

	if w.segment != segment {
		w.segment, w.known = segment, map[record.BlockID]traits{}
	}
	var all []traits
	seen := map[record.BlockID]bool{}
	for _, e := range w.ahead[:n] {
		if seen[e.Anchor()] {
			continue
		}
		tr, ok := w.known[e.Anchor()]
		if !ok {
			err := w.src.LoadEach([]record.Entry{e}, func(_ int, p *template.Part, _ int64) error {
				tr, ok = traitsOf(p.Block), true
				return nil
			}, func(int, error) {})
			if err != nil {
				return fmt.Errorf("load block: %w", err)
			}
			if !ok { // perhaps another entry of the block can be read
				continue
			}
			w.known[e.Anchor()] = tr
		}
		seen[e.Anchor()] = true
		all = append(all, tr)
	}
	w.planned, w.plannedKind = n, Window
	if mayShare(all) {
		w.plannedKind = Run
	}
	return nil
}

// alike is how many of the entries ahead are of the first one's segment. Who
// has planned a window may have some of the next segment, and may find a run
// in its place when the data is no backlog any more.
func (w *walk) alike() int {
	n := 1
	for n < len(w.ahead) && w.ahead[n].Pos.Segment == w.ahead[0].Pos.Segment {
		n++
	}
	return n
}

// end is where the first n entries that are ahead end, in their segment.
func (w *walk) end(n int) wal.Pos {
	last := w.ahead[n-1]
	switch {
	case n < len(w.ahead) && w.ahead[n].Pos.Segment == last.Pos.Segment:
		return w.ahead[n].Pos
	case n == len(w.ahead) && w.next.Segment == last.Pos.Segment:
		return w.next
	}
	return last.End()
}

// take makes the first n entries ahead the next steps of the span.
func (w *walk) take(n int) {
	w.read += n
	w.planned = 0
	w.steps = steps(w.span.Kind, w.ahead[:n:n])
	w.ahead = w.ahead[n:]
	if len(w.ahead) == 0 {
		w.ahead = nil
	}
}

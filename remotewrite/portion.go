package remotewrite

import "slices"

// portions are the books of windows. There a batch, or portion, is a stretch of
// the delivery sequence, and belongs to no shard until one takes it: portions
// have the series of one target, which makes requests small, and no shard is
// idle while there are any. What keeps each series in order:
//   - within a step the slots are different series, so that portions that are
//     cut where a slot begins may be sent at the same time;
//   - a portion that goes on in the middle of a slot comes after the one before;
//   - a series may be in several steps, as its target gets new blocks and windows
//     follow each other: a portion comes after all those of earlier steps that
//     have a metric of its target in common with it.
type portions struct {
	unfinished []*batch // dealt and not final, ascending
	growing    bool     // the last one of unfinished takes further samples
	due        bool     // it may be taken all the same
	full       bool     // it takes no further samples, and waits to be pressed
	metrics    map[uint64]*appearance

	// Of an earlier life: what is before the frontier and not in stored is final.
	frontier At
	stored   []Interval // ascending, not dealt again yet
}

// appearance is where a metric of a target is among the unfinished portions.
type appearance struct {
	step   At       // the newest that has it
	latest []*batch // those of that step
	before []*batch // those of the step before: each of latest comes after them, and they after the ones of earlier steps
}

// Interval is a stretch of the delivery sequence of a window that is not final.
type Interval struct {
	First, End At
	Sent       bool // it is a request that has been in work, and must not be mixed with others
}

// portion returns the batch that takes the sample at a of a window, or nil when
// so many wait for a shard that there is no room. metric is the hash of its
// metric, job and instance; first says whether it is the first of n that follow of
// its slot. The caller adds the sample at once.
func (l *ledger) portion(a At, metric uint64, first bool, n int) *batch {
	var until At
	sent := false
	if in := l.storedAt(a); in != nil {
		until, sent = in.End, in.Sent
	}
	var b *batch
	if l.growing {
		b = l.unfinished[len(l.unfinished)-1]
		if b.press != notPressed || b.len() >= l.limits.batch || first && b.len()+n > l.limits.batch || b.until != until {
			if l.full = l.limits.ahead && b.mayBePressed(l.limits.starts); l.full || l.loose() > l.room() {
				return nil
			}
			l.growing = false
			b = nil
		}
	}
	if b == nil {
		b = l.newBatch()
		b.first, b.passed, b.until, b.sent = a, l.passed, until, sent
		if k := len(l.unfinished); k > 0 && l.unfinished[k-1].end.slot() == a.slot() {
			b.after = append(b.after, l.unfinished[k-1])
		}
		l.unfinished = append(l.unfinished, b)
		l.growing, l.due = true, false
	}
	if k := len(b.metrics); k == 0 || b.metrics[k-1] != metric || b.end.step() != a.step() {
		l.appear(b, metric, a.step())
	}
	b.end = a.after()
	l.moveTo(b.end)
	return b
}

// appear notes that b has samples of the metric in the step.
func (l *ledger) appear(b *batch, metric uint64, step At) {
	if l.metrics == nil {
		l.metrics = map[uint64]*appearance{}
	}
	m := l.metrics[metric]
	if m == nil {
		m = &appearance{step: step}
		l.metrics[metric] = m
	}
	if m.step != step {
		m.step, m.before, m.latest = step, m.latest, m.before[:0]
	}
	for _, o := range m.before {
		if o != b && !slices.Contains(b.after, o) {
			b.after = append(b.after, o)
		}
	}
	if k := len(m.latest); k == 0 || m.latest[k-1] != b {
		m.latest = append(m.latest, b)
	}
	b.metrics = append(b.metrics, metric)
}

// room is the number of portions that may wait for a shard, so that those that
// get their answers at the same time have something to do.
func (l *ledger) room() int { return len(l.lanes)/4 + 1 }

// loose is the number of portions that no shard has taken.
func (l *ledger) loose() (n int) {
	for _, b := range l.unfinished {
		if !b.taken {
			n++
		}
	}
	return n
}

// pressed says who makes the request of a portion that is full: a shard that has
// nothing to do, else the reader, before it goes on to the next one. So of portions that
// wait for a shard there are requests, which are a third of the size, and no columns.
type pressed uint8

const (
	notPressed   pressed = iota
	beingPressed         // by the reader
	wasPressed           // by it
	leftToShard
)

// maxUnpressed is the number of portions with columns at which the reader makes
// requests although shards have nothing to do: they share the presses.
const maxUnpressed = 3

// mayBePressed says whether nobody has made the request of the portion, which
// then would have all of its columns.
func (b *batch) mayBePressed(starts bool) bool {
	return b.press == notPressed && !b.taken && b.mayFreeze(b.samples(), starts)
}

// toPress says whether the reader has stopped because a portion is full, and
// returns it when the reader is to make its request. No shard takes it before that is done.
func (l *ledger) toPress() (b *batch, full bool) {
	if !l.full {
		return nil, false
	}
	l.full = false
	b = l.unfinished[len(l.unfinished)-1]
	if l.starving() && l.unpressed() <= maxUnpressed {
		b.press, l.growing = leftToShard, false
		return nil, true
	}
	b.press = beingPressed
	return b, true
}

// starving says whether a shard has nothing to do.
func (l *ledger) starving() bool {
	return slices.ContainsFunc(l.lanes, func(ln lane) bool { return ln.sending == nil })
}

// unpressed is the number of portions with columns.
func (l *ledger) unpressed() (n int) {
	for _, b := range l.unfinished {
		if !b.frozen {
			n++
		}
	}
	return n
}

// mayTake says whether a shard may take the k-th portion.
func (l *ledger) mayTake(k int) bool {
	b := l.unfinished[k]
	return !b.taken && b.press != beingPressed && len(b.after) == 0 && (!l.growing || l.due || k < len(l.unfinished)-1 || b.len() >= l.limits.batch)
}

// takeable is the number of portions that shards may take.
func (l *ledger) takeable() (n int) {
	for k := range l.unfinished {
		if l.mayTake(k) {
			n++
		}
	}
	return n
}

// takePortion returns the oldest portion that may be taken, nil when there is none.
func (l *ledger) takePortion() *batch {
	for k, b := range l.unfinished {
		if l.mayTake(k) {
			b.taken, b.sent = true, true
			if k == len(l.unfinished)-1 {
				l.growing = false
			}
			return b
		}
	}
	return nil
}

// close forgets a portion that is final, if b is one.
func (l *ledger) close(b *batch) {
	i := slices.Index(l.unfinished, b)
	if i < 0 {
		return
	}
	l.unfinished = slices.Delete(l.unfinished, i, i+1)
	is := func(o *batch) bool { return o == b }
	for _, o := range l.unfinished {
		o.after = slices.DeleteFunc(o.after, is)
	}
	for _, h := range b.metrics {
		m := l.metrics[h]
		if m == nil { // b had it twice
			continue
		}
		m.latest, m.before = slices.DeleteFunc(m.latest, is), slices.DeleteFunc(m.before, is)
		if len(m.latest)+len(m.before) == 0 {
			delete(l.metrics, h)
		}
	}
}

// storedAt is the stored interval that the sample at a is in, nil when there is none.
func (l *ledger) storedAt(a At) *Interval {
	for i := range l.stored {
		if s := &l.stored[i]; a.Before(s.End) {
			if a.Before(s.First) {
				return nil
			}
			return s
		}
	}
	return nil
}

// final says whether the sample at a of a window was final in an earlier life.
func (l *ledger) final(a At) bool { return a.Before(l.frontier) && l.storedAt(a) == nil }

// appendIntervals appends what is open and what is stored.
func (l *ledger) appendIntervals(all []Interval) []Interval {
	for _, b := range l.unfinished {
		all = append(all, Interval{b.first, b.end, b.sent})
	}
	for _, s := range l.stored {
		if s.First.Before(l.reader) {
			s.First = l.reader
		}
		all = append(all, s)
	}
	return all
}

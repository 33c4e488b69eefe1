package remotewrite

import "slices"

// portions are the books of windows. There a batch, or portion, is a stretch of
// the delivery sequence, and belongs to no shard until one takes it: portions
// have the series of one target, which makes requests small, and no shard is
// idle while there are any. What keeps each series in order:
//   - within a step the slots are different series, so that portions that are
//     cut where a slot begins may be sent at the same time;
//   - a portion that goes on in the middle of a slot comes after the one before;
//   - series that two steps may have in common have a pair of job and instance
//     in common: a portion comes after all those of earlier steps with such a pair.
type portions struct {
	unfinished []*batch // dealt and not final, ascending
	growing    bool     // the last one of unfinished takes further samples
	due        bool     // it may be taken all the same

	step   At                  // that is being dealt
	after  []*batch            // what the step's portions come after
	byPair map[uint64][]*batch // of unfinished: those of the newest step of the pair; anyPair: of steps whose pairs are not known

	// Of an earlier life: what is before the frontier and not in stored is final.
	frontier At
	stored   []Interval // ascending, not dealt again yet
}

// Interval is a stretch of the delivery sequence of a window that is not final.
type Interval struct {
	First, End At
	Sent       bool // it is a request that has been in work, and must not be mixed with others
}

// anyPair stands for all pairs of job and instance. Where it is a pair's hash,
// portions come after others without need.
const anyPair = 0

// portion returns the batch that takes the sample at a of a window, or nil when
// so many wait for a shard that there is no room. The sample is of a step with
// the given pairs; first says whether it is the first of n that follow of its slot. The
// caller adds the sample at once.
func (l *ledger) portion(a At, pairs []uint64, first bool, n int) *batch {
	var until At
	sent := false
	if in := l.storedAt(a); in != nil {
		until, sent = in.End, in.Sent
	}
	var b *batch
	if l.growing {
		b = l.unfinished[len(l.unfinished)-1]
		if b.len() >= l.limits.batch || first && b.len()+n > l.limits.batch || b.until != until {
			if l.loose() > l.room() {
				return nil
			}
			l.growing = false
			b = nil
		}
	}
	if step := a.step(); step != l.step {
		l.enter(step, pairs)
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
	if b.step != l.step {
		b.step = l.step
		for _, o := range l.after {
			if o != b && !slices.Contains(b.after, o) {
				b.after = append(b.after, o)
			}
		}
		if pairs == nil {
			pairs = []uint64{anyPair}
		}
		for _, p := range pairs {
			if all := l.byPair[p]; len(all) == 0 || all[len(all)-1] != b {
				l.byPair[p] = append(all, b)
				b.pairs = append(b.pairs, p)
			}
		}
	}
	b.end = a.after()
	l.moveTo(b.end)
	return b
}

// enter notes what the portions of a step come after. Those of the newest step
// of a pair are enough, for they come after the ones before.
func (l *ledger) enter(step At, pairs []uint64) {
	l.step = step
	l.after = l.after[:0]
	if l.byPair == nil {
		l.byPair = map[uint64][]*batch{}
	}
	if pairs == nil {
		l.after = append(l.after, l.unfinished...)
		clear(l.byPair)
		return
	}
	l.after = append(l.after, l.byPair[anyPair]...)
	for _, p := range pairs {
		for _, b := range l.byPair[p] {
			if !slices.Contains(l.after, b) {
				l.after = append(l.after, b)
			}
		}
		delete(l.byPair, p)
	}
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

// mayTake says whether a shard may take the k-th portion.
func (l *ledger) mayTake(k int) bool {
	b := l.unfinished[k]
	return !b.taken && len(b.after) == 0 && (!l.growing || l.due || k < len(l.unfinished)-1 || b.len() >= l.limits.batch)
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
	l.after = slices.DeleteFunc(l.after, is)
	for _, p := range b.pairs {
		if all := slices.DeleteFunc(l.byPair[p], is); len(all) > 0 {
			l.byPair[p] = all
		} else {
			delete(l.byPair, p)
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

// intervals are what is open and what is stored.
func (l *ledger) intervals() (all []Interval) {
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

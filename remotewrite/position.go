package remotewrite

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"promagent/wal"
)

// Kind is the order in which the samples of a span are delivered.
type Kind uint8

// The kinds of spans.
const (
	// Run delivers entries in log order.
	Run Kind = 1
	// Window delivers block by block in order of first appearance, then slot
	// by slot, then in order of time.
	Window Kind = 2
)

// Span is a range of one segment that is delivered in one order: the entries
// whose position is in [Start, End).
type Span struct {
	Kind       Kind
	Start, End wal.Pos
	Before     uint64 // samples in the log before Start, as segments count them
}

// At is a sample's place in the delivery sequence of an endpoint, ordered by
// its fields from first to last. Within a span it depends on the log's bytes
// and the span alone, so that it means the same after a restart.
type At struct {
	Segment uint64
	Span    uint32 // offset of the span's start
	Step    uint32 // Run: offset of the entry; Window: number of the block in order of first appearance
	Slot    uint16
	Nth     uint32 // sample of the slot within the step, as nth makes it
}

// nth numbers the k-th sample that the i-th entry of a step has for a slot. A
// number depends on nothing but these two, so that an entry that cannot be
// read (any more) does not shift the others.
func nth(entry, k int) uint32 { return uint32(entry)<<24 | uint32(min(k, 1<<24-1)) }

// Compare orders by delivery: negative when a is delivered before b.
func (a At) Compare(b At) int {
	return cmp.Or(
		cmp.Compare(a.Segment, b.Segment), cmp.Compare(a.Span, b.Span), cmp.Compare(a.Step, b.Step),
		cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Nth, b.Nth))
}

// Before says whether a is delivered before b.
func (a At) Before(b At) bool { return a.Compare(b) < 0 }

// after is the place right after a.
func (a At) after() At {
	if a.Nth == math.MaxUint32 {
		a.Slot, a.Nth = a.Slot+1, 0
		return a
	}
	a.Nth++
	return a
}

// step is the place before everything in a's step.
func (a At) step() At { return At{Segment: a.Segment, Span: a.Span, Step: a.Step} }

// slot is the place before everything of a's slot in its step.
func (a At) slot() At { return At{Segment: a.Segment, Span: a.Span, Step: a.Step, Slot: a.Slot} }

// begin is the place before everything in the span.
func (s Span) begin() At { return At{Segment: s.Start.Segment, Span: s.Start.Offset} }

// holds says whether the place is one of the span.
func (s Span) holds(a At) bool { return a.Segment == s.Start.Segment && a.Span == s.Start.Offset }

// State is what an endpoint persists: enough to go on where each shard was.
type State struct {
	Spans  []Span // open, ascending; the last is the one being read
	Ats    []At   // per shard: everything of the shard before it is final; in one of the spans
	Sent   [][]At // of runs, per shard: ends of batches that are not final and were in work, ascending; empty: there are none
	Passed uint64 // samples in the log before the lowest position, as segments count them

	Reader At         // of windows: what is before it and not in Open is final
	Open   []Interval // of windows, ascending
}

// Versions of a state. Up to 4 the samples of a window belonged to shards; what
// such a state says of windows is not used. Where there is no window and
// nothing in work, the first one is what is written, so that older releases
// can read it. 2 is that of Progress.
const (
	stateVersion       = 1
	stateVersionWindow = 3 // only read
	stateVersionSent   = 4
	stateVersionOpen   = 5
)

var errState = errors.New("malformed state")

// Low is the lowest position that is still needed.
func (s *State) Low() wal.Pos {
	if len(s.Spans) == 0 {
		return wal.Pos{}
	}
	return s.Spans[0].Start
}

// AppendTo appends the state's encoding: the version, then uvarints: passed;
// number of spans, each kind, segment, start, end, before; number of shards, each
// number of its span, step, slot, nth; of version 4 then of each shard the number
// of ends, and these in the same way; of version 5 then the reader's place, the
// number of intervals, and each one's first place, end and whether it was sent.
func (s *State) AppendTo(dst []byte) []byte {
	version := byte(stateVersion)
	switch {
	case s.hasWindow():
		version = stateVersionOpen
	case len(s.Sent) > 0:
		version = stateVersionSent
	}
	dst = append(dst, version)
	dst = binary.AppendUvarint(dst, s.Passed)
	dst = binary.AppendUvarint(dst, uint64(len(s.Spans)))
	for _, sp := range s.Spans {
		dst = append(dst, byte(sp.Kind))
		dst = binary.AppendUvarint(dst, sp.Start.Segment)
		dst = binary.AppendUvarint(dst, uint64(sp.Start.Offset))
		dst = binary.AppendUvarint(dst, uint64(sp.End.Offset))
		dst = binary.AppendUvarint(dst, sp.Before)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Ats)))
	for _, a := range s.Ats {
		dst = s.appendAt(dst, a)
	}
	if version == stateVersionOpen {
		dst = s.appendAt(dst, s.Reader)
		dst = binary.AppendUvarint(dst, uint64(len(s.Open)))
		for _, in := range s.Open {
			dst = s.appendAt(s.appendAt(dst, in.First), in.End)
			sent := byte(0)
			if in.Sent {
				sent = 1
			}
			dst = append(dst, sent)
		}
		return dst
	}
	for _, ends := range s.Sent {
		dst = binary.AppendUvarint(dst, uint64(len(ends)))
		for _, a := range ends {
			dst = s.appendAt(dst, a)
		}
	}
	return dst
}

func (s *State) appendAt(dst []byte, a At) []byte {
	n := 0
	for n < len(s.Spans)-1 && !s.Spans[n].holds(a) {
		n++
	}
	dst = binary.AppendUvarint(dst, uint64(n))
	dst = binary.AppendUvarint(dst, uint64(a.Step))
	dst = binary.AppendUvarint(dst, uint64(a.Slot))
	return binary.AppendUvarint(dst, uint64(a.Nth))
}

// sentBy are the ends of what a shard had in work.
func (s *State) sentBy(shard int) []At {
	if len(s.Sent) == 0 {
		return nil
	}
	return s.Sent[shard]
}

// Decode reads what AppendTo wrote. The integrity of the bytes is the
// cursor's concern; Decode only refuses what it could not walk.
func (s *State) Decode(b []byte) error {
	r := fields{rest: b}
	version := r.byte()
	if r.err == nil && (version < stateVersion || version == progressVersion || version > stateVersionOpen) {
		return fmt.Errorf("decode state: version %d is not known", version)
	}
	var d State
	d.Passed = r.uint(math.MaxUint64)
	for n := r.count(5); n > 0 && r.err == nil; n-- {
		var sp Span
		sp.Kind = Kind(r.byte())
		sp.Start.Segment = r.uint(math.MaxUint64)
		sp.Start.Offset = uint32(r.uint(math.MaxUint32))
		sp.End = wal.Pos{Segment: sp.Start.Segment, Offset: uint32(r.uint(math.MaxUint32))}
		sp.Before = r.uint(math.MaxUint64)
		if sp.Kind != Run && sp.Kind != Window || sp.End.Offset < sp.Start.Offset {
			r.err = errState
		}
		if k := len(d.Spans); k > 0 && !d.Spans[k-1].begin().Before(sp.begin()) {
			r.err = errState
		}
		d.Spans = append(d.Spans, sp)
	}
	if len(d.Spans) == 0 {
		r.err = cmp.Or(r.err, errState)
	}
	d.Ats = r.ats(d.Spans)
	if version == stateVersionOpen {
		d.Reader = r.at(d.Spans)
		for n := r.count(9); n > 0 && r.err == nil; n-- {
			in := Interval{First: r.at(d.Spans), End: r.at(d.Spans), Sent: r.byte() != 0}
			if !in.First.Before(in.End) || d.Reader.Before(in.End) {
				r.err = cmp.Or(r.err, errState)
			}
			if k := len(d.Open); k > 0 && in.First.Before(d.Open[k-1].End) {
				r.err = cmp.Or(r.err, errState)
			}
			d.Open = append(d.Open, in)
		}
		if slices.ContainsFunc(d.Spans, func(sp Span) bool { return sp.Kind != Window }) {
			r.err = cmp.Or(r.err, errState)
		}
	}
	if version == stateVersionSent {
		for range d.Ats {
			d.Sent = append(d.Sent, r.ats(d.Spans))
		}
	}
	if len(d.Ats) == 0 || len(r.rest) > 0 {
		r.err = cmp.Or(r.err, errState)
	}
	if r.err != nil {
		return fmt.Errorf("decode state: %w", r.err)
	}
	if version != stateVersionOpen && d.hasWindow() {
		d.repeat()
	}
	*s = d
	return nil
}

func (s *State) hasWindow() bool {
	return slices.ContainsFunc(s.Spans, func(sp Span) bool { return sp.Kind == Window })
}

// repeat has everything from the lowest place on delivered again, in the spans
// of one kind that are left: those behind them are divided anew.
func (s *State) repeat() {
	low := slices.MinFunc(s.Ats, At.Compare)
	for i := range s.Ats {
		s.Ats[i] = low
	}
	s.Sent = nil
	for len(s.Spans) > 1 && !s.Spans[0].holds(low) {
		s.Spans = s.Spans[1:]
	}
	if i := slices.IndexFunc(s.Spans, func(sp Span) bool { return sp.Kind != s.Spans[0].Kind }); i >= 0 {
		s.Spans = s.Spans[:i]
	}
	if s.hasWindow() {
		s.Reader = low
	}
}

// fields takes numbers off a byte slice and remembers the first failure.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) byte() byte {
	if f.err != nil || len(f.rest) == 0 {
		f.err = cmp.Or(f.err, errState)
		return 0
	}
	b := f.rest[0]
	f.rest = f.rest[1:]
	return b
}

// uint takes a number of at most limit.
func (f *fields) uint(limit uint64) uint64 {
	if f.err != nil {
		return 0
	}
	v, n := binary.Uvarint(f.rest)
	if n <= 0 || v > limit {
		f.err = errState
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

// ats takes a number of places, and these, which are in the spans.
func (f *fields) ats(spans []Span) (all []At) {
	for n := f.count(4); n > 0 && f.err == nil; n-- {
		all = append(all, f.at(spans))
	}
	return all
}

// at takes a place, which is in one of the spans.
func (f *fields) at(spans []Span) (a At) {
	number := f.uint(uint64(max(1, len(spans)) - 1))
	if f.err != nil {
		return At{}
	}
	a = spans[number].begin()
	a.Step = uint32(f.uint(math.MaxUint32))
	a.Slot = uint16(f.uint(math.MaxUint16))
	a.Nth = uint32(f.uint(math.MaxUint32))
	return a
}

// count takes a number of elements that are at least size bytes long each.
func (f *fields) count(size int) int {
	return int(f.uint(uint64(len(f.rest) / size)))
}

// before says whether a is before b in the log.
func before(a, b wal.Pos) bool {
	return a.Segment < b.Segment || a.Segment == b.Segment && a.Offset < b.Offset
}

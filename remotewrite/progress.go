package remotewrite

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"promagent/wal"
	"promagent/wal/record"
)

// Stretch is a part of the log that one endpoint delivers, and how far it is:
// from its state on, to a bound when it is a backlog.
type Stretch struct {
	State
	Bound Bound
}

// Bound is where a backlog ends. The zero Bound is none.
type Bound struct {
	Until wal.Pos // what is before it is delivered
	Total uint64  // samples in the log before Until, as segments count them
}

// Progress is what is persisted of a remote: its stretches in the order of the
// log. All but the last one have a bound.
type Progress []Stretch

// Excludes says whether a position is not before the bound.
func (b Bound) Excludes(p wal.Pos) bool { return b != (Bound{}) && !before(p, b.Until) }

// Within leaves out the entries that are not before the bound.
func (b Bound) Within(es []record.Entry) []record.Entry {
	if i := slices.IndexFunc(es, func(e record.Entry) bool { return b.Excludes(e.Pos) }); i >= 0 {
		return es[:i]
	}
	return es
}

const progressVersion = 2 // of more than one stretch; one alone is written as its state

var errProgress = errors.New("malformed progress")

// Low is the lowest position that is still needed.
func (p Progress) Low() wal.Pos {
	if len(p) == 0 {
		return wal.Pos{}
	}
	return p[0].Low()
}

// Final is how many of the log's samples are final: they had their last answer,
// or are older than the remote.
func (p Progress) Final() uint64 {
	if len(p) == 0 {
		return 0
	}
	final := p[len(p)-1].Passed
	for i := range p[:len(p)-1] {
		if b := &p[i]; b.Bound.Total > b.Passed {
			final -= min(final, b.Bound.Total-b.Passed)
		}
	}
	return final
}

// Pending is how many of the log's samples, total in all, are not final.
func (p Progress) Pending(total uint64) (n uint64) {
	for i := range p {
		n += p[i].Pending(total)
	}
	return n
}

// Pending is how many of the stretch's samples are not final, of a log with
// total samples.
func (s *Stretch) Pending(total uint64) uint64 {
	if s.Bound != (Bound{}) {
		total = min(total, s.Bound.Total)
	}
	if total < s.Passed {
		return 0
	}
	return total - s.Passed
}

// Positions are all positions in the log that are spoken of.
func (p Progress) Positions() (all []wal.Pos) {
	for i := range p {
		for _, s := range p[i].Spans {
			all = append(all, s.Start, s.End)
		}
		if p[i].Bound != (Bound{}) {
			all = append(all, p[i].Bound.Until)
		}
	}
	return all
}

// AppendTo appends the encoding: that of its state for one stretch, so that
// releases that know of no others can read it; for several the version, then
// uvarints: their number; of each, segment and offset of the bound and the
// samples before it, which the last one does not have; the length of its
// state, and the state.
func (p Progress) AppendTo(dst []byte) []byte {
	if len(p) == 1 {
		return p[0].AppendTo(dst)
	}
	dst = append(dst, progressVersion)
	dst = binary.AppendUvarint(dst, uint64(len(p)))
	var state []byte
	for i := range p {
		if i < len(p)-1 {
			dst = binary.AppendUvarint(dst, p[i].Bound.Until.Segment)
			dst = binary.AppendUvarint(dst, uint64(p[i].Bound.Until.Offset))
			dst = binary.AppendUvarint(dst, p[i].Bound.Total)
		}
		state = p[i].AppendTo(state[:0])
		dst = binary.AppendUvarint(dst, uint64(len(state)))
		dst = append(dst, state...)
	}
	return dst
}

// Decode reads what AppendTo wrote, and refuses what could not be walked.
func (p *Progress) Decode(b []byte) error {
	if len(b) == 0 || b[0] != progressVersion {
		var s State
		if err := s.Decode(b); err != nil {
			return err
		}
		*p = Progress{{State: s}}
		return nil
	}
	r := fields{rest: b[1:]}
	var d Progress
	n := r.count(2)
	if n < 2 {
		r.err = cmp.Or(r.err, errProgress)
	}
	for i := 0; i < n && r.err == nil; i++ {
		var s Stretch
		if i < n-1 {
			s.Bound.Until.Segment = r.uint(math.MaxUint64)
			s.Bound.Until.Offset = uint32(r.uint(math.MaxUint32))
			s.Bound.Total = r.uint(math.MaxUint64)
			if s.Bound == (Bound{}) {
				r.err = cmp.Or(r.err, errProgress)
			}
		}
		size := r.uint(uint64(len(r.rest)))
		if size > uint64(len(r.rest)) { // its own encoding took bytes, too
			r.err = cmp.Or(r.err, errProgress)
		}
		if r.err != nil {
			break
		}
		if r.err = s.Decode(r.rest[:size]); r.err != nil {
			break
		}
		r.rest = r.rest[size:]
		if i > 0 && before(s.Low(), d[i-1].Bound.Until) {
			r.err = errProgress
		}
		d = append(d, s)
	}
	if len(r.rest) > 0 {
		r.err = cmp.Or(r.err, errProgress)
	}
	if r.err != nil {
		return fmt.Errorf("decode progress: %w", r.err)
	}
	*p = d
	return nil
}

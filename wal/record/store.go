package record

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"promagent/template"
	"promagent/wal"
)

// keyEvery is the number of records of a block from one key to the next.
const keyEvery = 32

// Options of a Store; zero values mean the stated defaults.
type Options struct {
	RingBytes  int64 // of the newest batches kept decoded; default 1 MiB
	BlockBytes int64 // of blocks decoded for reading; default 8 MiB
	Logger     *slog.Logger
}

// BlockID names a block within the log: the position of its anchor.
type BlockID = wal.Pos

// Entry is one record, one block's part of one batch, by the header of its frame:
// Time is the batch's, Samples are with stale markers and further samples, and
// Anchor names the block.
type Entry = wal.Header

// Store is the log as batches. All methods may be called from any goroutine,
// Append for one block by one at a time.
type Store struct {
	log    *wal.Log
	slog   *slog.Logger
	ring   ring
	blocks blocks

	scratch sync.Pool // *encoding

	batches           atomic.Uint64
	exemplars         atomic.Uint64
	notOnDisk         atomic.Uint64
	unreadable        atomic.Uint64
	unreadableSamples atomic.Uint64
	complained        atomic.Uint64 // segment of the record last complained about

	before func() int64 // time of the newest record of an earlier process, ms
}

// Stats are a Store's numbers.
type Stats struct {
	Batches           uint64 // accepted
	Exemplars         uint64 // in them
	NotOnDisk         uint64 // batches accepted while the disk did not take them
	Unreadable        uint64 // records found corrupt, or leaning on one that is; each time that one is read
	UnreadableSamples uint64 // in them
}

// NewStore returns a Store over l.
func NewStore(l *wal.Log, o Options) *Store {
	if o.RingBytes == 0 {
		o.RingBytes = 1 << 20
	}
	if o.BlockBytes == 0 {
		o.BlockBytes = 8 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{log: l, slog: o.Logger}
	s.ring.limit = o.RingBytes
	s.blocks.limit = o.BlockBytes
	s.before = sync.OnceValue(s.newestBefore)
	s.scratch.New = func() any { return new(encoding) }
	return s
}

// Log is the log below.
func (s *Store) Log() *wal.Log { return s.log }

// Stats returns the store's numbers.
func (s *Store) Stats() Stats {
	return Stats{s.batches.Load(), s.exemplars.Load(), s.notOnDisk.Load(), s.unreadable.Load(), s.unreadableSamples.Load()}
}

// encoding is the memory in which a batch becomes a group of frames.
type encoding struct {
	body   []byte
	frames []wal.Frame
	spans  []span // of the frames' bodies in body
	parts  []int  // by part: index of its record's frame
	at     []wal.Pos
}

type span struct{ start, end int }

// Append commits a batch: all of it, or nothing and an error. It keeps
// nothing of b. When it returns, the batch is written, unless the disk fails:
// then it is in the log's end in memory, where readers find it too.
func (s *Store) Append(b *template.Batch) error {
	if len(b.Parts) == 0 {
		return nil
	}
	e := s.scratch.Get().(*encoding)
	defer s.scratch.Put(e)
	for {
		segment := s.log.Segment()
		s.encode(e, b, segment)
		at, err := s.log.Append(segment, e.frames, e.at[:0])
		e.at = at
		switch {
		case errors.Is(err, wal.ErrSegment):
			forget(b)
			continue
		case errors.Is(err, wal.ErrNotOnDisk):
			s.notOnDisk.Add(1)
		case err != nil:
			forget(b)
			return err
		}
		s.accepted(e, b, segment)
		return nil
	}
}

// forget makes the next record of every block of b a key behind an anchor.
func forget(b *template.Batch) {
	for i := range b.Parts {
		b.Parts[i].Block.Log.Segment = 0
	}
}

// encode makes the group of b for the given segment.
func (s *Store) encode(e *encoding, b *template.Batch, segment uint64) {
	e.body, e.frames, e.spans, e.parts = e.body[:0], e.frames[:0], e.spans[:0], e.parts[:0]
	for i := range b.Parts {
		p := &b.Parts[i]
		st := &p.Block.Log
		anchored := st.Segment == segment
		f := wal.Frame{Kind: wal.Record, Samples: uint32(p.Samples()), Time: b.Time, Ref: st.Anchor}
		if !anchored {
			start := len(e.body)
			e.body = AppendAnchor(e.body, p.Block)
			e.spans = append(e.spans, span{start, len(e.body)})
			e.frames = append(e.frames, wal.Frame{Kind: wal.Anchor, Time: b.Time})
			f.Ref, f.RefFrame = 0, len(e.frames)
		}
		key := !anchored || st.SinceKey >= keyEvery-1
		start := len(e.body)
		e.body = AppendRecord(e.body, p, b.Time, key, st)
		e.spans = append(e.spans, span{start, len(e.body)})
		e.parts = append(e.parts, len(e.frames))
		if key {
			st.SinceKey = 0
		} else {
			st.SinceKey++
		}
		e.frames = append(e.frames, f)
	}
	for i := range e.frames { // body has stopped growing
		e.frames[i].Body = e.body[e.spans[i].start:e.spans[i].end]
	}
}

// accepted notes where everything went, and shows the batch to readers.
func (s *Store) accepted(e *encoding, b *template.Batch, segment uint64) {
	s.batches.Add(1)
	for i := range b.Parts {
		p := &b.Parts[i]
		st := &p.Block.Log
		frame := e.parts[i]
		pos := e.at[frame]
		if n := e.frames[frame].RefFrame; n > 0 {
			st.Segment, st.Anchor = segment, e.at[n-1].Offset
			s.blocks.register(e.at[n-1], contentOf(e.frames[n-1].Body), p.Block, s.log.Oldest().Segment)
		}
		if st.SinceKey == 0 {
			st.Key = pos.Offset
		}
		st.Last = pos.Offset
		for k := range p.Extra {
			if p.Extra[k].Kind == template.Exemplar {
				s.exemplars.Add(1)
			}
		}
		s.ring.put(pos, p, b.Time)
	}
}

// Before is the number of samples in the log before a segment, and whether
// there is such a segment.
func (s *Store) Before(segment uint64) (uint64, bool) { return s.log.SamplesBefore(segment) }

// Total is the number of samples in the log so far.
func (s *Store) Total() uint64 { return s.log.SamplesTotal() }

// End is the position after the last batch.
func (s *Store) End() wal.Pos { return s.log.End() }

// Changed is closed when a batch has been appended.
func (s *Store) Changed() <-chan struct{} { return s.log.Changed() }

// Entries returns the records at from and after it, of whole batches and of
// one segment, about max of them, behind those of dst, and where to go on. When there is no more in
// from's segment, or no such segment any more, they are those of the next one
// that has some; none at the log's end.
func (s *Store) Entries(dst []Entry, from wal.Pos, max int) (es []Entry, next wal.Pos, err error) {
	at := s.log.Next(from)
	for {
		hs, next, err := s.log.Scan(dst, at, wal.Pos{}, max)
		if errors.Is(err, wal.ErrGone) {
			if moved := s.log.Next(at); moved != at {
				at = moved
				continue
			}
		}
		if err != nil {
			return dst, at, err
		}
		es = dst
		for _, h := range hs[len(dst):] { // in its own memory
			if h.Kind == wal.Record {
				es = append(es, h)
			}
		}
		if len(es) > len(dst) || next == at {
			return es, next, nil
		}
		at = next
	}
}

// Newest is the end of the log and the time of the newest record there is, in
// ms; 0 when there is none.
func (s *Store) Newest() (wal.Pos, int64) {
	t := s.ring.newest()
	if t == 0 {
		t = s.before()
	}
	return s.log.End(), t
}

// newestBefore looks for the newest record in the segments that there are,
// from the last one back.
func (s *Store) newestBefore() (newest int64) {
	last, oldest := s.log.Segment(), s.log.Oldest().Segment
	for id := last; id >= oldest && last-id < 1<<16 && newest == 0; id-- {
		for at := s.log.Next(wal.Pos{Segment: id}); at.Segment == id; {
			hs, next, err := s.log.Scan(nil, at, wal.Pos{}, 4096)
			if err != nil {
				break // whoever reads there says so
			}
			for _, h := range hs {
				newest = max(newest, h.Time)
			}
			if next == at {
				break
			}
			at = next
		}
	}
	return newest
}

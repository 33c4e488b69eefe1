package record

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"

	"promagent/template"
	"promagent/wal"
)

// loaders holds the memory of decoding between loads.
var loaders = sync.Pool{New: func() any { return new(loader) }}

// loader decodes entries of one block.
type loader struct {
	column column
	at     uint32 // offset of the record that the column is as of; 0: none
	body   []byte
	chain  []link // records to decode before the one wanted, newest first
	bodies []byte // theirs
}

// link is a record in a loader's chain.
type link struct {
	header     wal.Header
	links      links
	start, end int // of the body
}

// maxPooled bounds the bytes that a loader keeps between loads.
const maxPooled = 1 << 20

// Block returns the block of an anchor.
func (s *Store) Block(id BlockID) (*template.Block, error) {
	if b := s.blocks.find(id); b != nil {
		return b, nil
	}
	h, err := s.log.HeaderAt(id)
	if err != nil {
		return nil, err
	}
	if h.Kind != wal.Anchor {
		return nil, fmt.Errorf("frame at %s is not an anchor: %w", id, errRecord)
	}
	body, err := s.log.Read(h, nil)
	if err != nil {
		return nil, err
	}
	oldest, what := s.log.Oldest().Segment, contentOf(body)
	if b := s.blocks.same(id, what, oldest); b != nil {
		return b, nil
	}
	b, err := DecodeAnchor(body)
	if err != nil {
		return nil, fmt.Errorf("anchor at %s: %w", id, err)
	}
	return s.blocks.keep(id, what, b, oldest), nil
}

// Load calls f with the part of every entry; they must be of one block and
// ascending. A part is valid during the call only. Entries that can never be
// read (corrupt, leaning on one that is, or deleted meanwhile) are left out,
// counted, and logged. An error is f's, or says that the disk cannot be read
// now: the entries from the last one passed to f on are to be loaded again.
func (s *Store) Load(es []Entry, f func(i int, p *template.Part, t int64) error) error {
	return s.LoadEach(es, f, func(int, error) {})
}

// LoadEach is Load, and tells lost of the entries that are left out: the error
// is wal.ErrCorrupt, or wal.ErrGone when retention has deleted them.
func (s *Store) LoadEach(es []Entry, f func(i int, p *template.Part, t int64) error, lost func(i int, err error)) error {
	var l *loader
	var block *template.Block
	for i := range es {
		e := &es[i]
		if r := s.ring.get(e.Pos); r != nil {
			if err := f(i, &r.part, r.time); err != nil {
				return err
			}
			continue
		}
		if l == nil {
			l = loaders.Get().(*loader)
			defer l.done()
		}
		var err error
		if block == nil {
			if block, err = s.Block(e.Anchor()); err == nil {
				l.column.reset(block)
			}
		}
		if err == nil {
			err = l.load(s.log, *e)
		}
		if err != nil {
			l.at = 0
			if err = final(err); !errors.Is(err, wal.ErrCorrupt) && !errors.Is(err, wal.ErrGone) {
				return fmt.Errorf("load record at %s: %w", e.Pos, err)
			}
			s.cannotRead(e, err)
			lost(i, err)
			continue
		}
		if err := f(i, &l.column.part, e.Time); err != nil {
			return err
		}
	}
	return nil
}

// final makes what no later attempt can read corrupt: bytes that are not
// there, and those that the medium has lost.
func final(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EIO) {
		return fmt.Errorf("%w: %w", wal.ErrCorrupt, err)
	}
	return err
}

func (s *Store) cannotRead(e *Entry, err error) {
	if errors.Is(err, wal.ErrGone) {
		return // whose position it was counts it
	}
	s.unreadable.Add(1)
	s.unreadableSamples.Add(uint64(e.Samples))
	if s.complained.Swap(e.Pos.Segment) != e.Pos.Segment {
		s.slog.Error("Records of the log cannot be read; this is the first of the segment", "position", e.Pos.String(), "samples", e.Samples, "err", err)
	}
}

// done gives the loader back.
func (l *loader) done() {
	l.at = 0
	l.column.part = template.Part{Values: l.column.part.Values[:0]} // holds on to no block and no exemplar
	if cap(l.bodies) <= maxPooled && cap(l.body) <= maxPooled {
		loaders.Put(l)
	}
}

// load brings the column to the record of h: in one step when it stands at the
// record before, else from there or from the key on.
func (l *loader) load(log *wal.Log, h wal.Header) error {
	var err error
	if l.body, err = log.Read(h, l.body); err != nil {
		return err
	}
	k, err := parseLinks(l.body)
	if err != nil {
		return fmt.Errorf("record at %s: %w", h.Pos, err)
	}
	if !k.key && (l.at == 0 || l.at != k.previous) {
		if err := l.rebuild(log, h, k); err != nil {
			return err
		}
	}
	return l.step(h, k, l.body)
}

// step decodes the record that follows what the column is as of.
func (l *loader) step(h wal.Header, k links, body []byte) error {
	l.at = 0
	if err := l.column.decode(body, k, h.Time); err != nil {
		return fmt.Errorf("record at %s: %w", h.Pos, err)
	}
	l.at = h.Pos.Offset
	return nil
}

// rebuild decodes the records before h, back to its key or to the one that the
// column is as of.
func (l *loader) rebuild(log *wal.Log, h wal.Header, k links) error {
	l.chain, l.bodies = l.chain[:0], l.bodies[:0]
	for at := h.Pos.Offset; !k.key && (l.at == 0 || k.previous != l.at); {
		if k.previous >= at || k.previous < k.keyAt || len(l.chain) == keyEvery {
			return fmt.Errorf("record at %s leans on %d: %w", h.Pos, k.previous, errRecord)
		}
		at = k.previous
		p, err := log.HeaderAt(wal.Pos{Segment: h.Pos.Segment, Offset: at})
		if err != nil {
			return err
		}
		if p.Kind != wal.Record || p.Ref != h.Ref {
			return fmt.Errorf("record at %s leans on one of another block: %w", h.Pos, errRecord)
		}
		start := len(l.bodies)
		body, err := log.Read(p, l.bodies[start:])
		if err != nil {
			return err
		}
		if k, err = parseLinks(body); err != nil {
			return fmt.Errorf("record at %s: %w", p.Pos, err)
		}
		l.bodies = append(l.bodies[:start], body...) // in place when it fitted
		l.chain = append(l.chain, link{p, k, start, len(l.bodies)})
	}
	for i := len(l.chain) - 1; i >= 0; i-- {
		c := &l.chain[i]
		if err := l.step(c.header, c.links, l.bodies[c.start:c.end]); err != nil {
			return err
		}
	}
	return nil
}

package record

import (
	"errors"
	"fmt"
	"sync"

	"promagent/template"
	"promagent/wal"
)

// columns holds the memory of decoding between loads.
var columns = sync.Pool{New: func() any { return new(loader) }}

// loader decodes entries of one block.
type loader struct {
	column column
	at     uint32 // offset of the record that the column is as of; 0: none
	body   []byte
	chain  []wal.Header
}

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
	b, err := DecodeAnchor(body)
	if err != nil {
		return nil, fmt.Errorf("anchor at %s: %w", id, err)
	}
	s.blocks.keep(id, b, int64(b.Size()))
	return b, nil
}

// Load calls f with the part of every entry; they must be of one block and
// ascending. A part is valid during the call only. Entries that cannot be read
// (corrupt, or deleted meanwhile) are left out, counted, and logged. An error is f's.
func (s *Store) Load(es []Entry, f func(i int, p *template.Part, t int64) error) error {
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
			l = columns.Get().(*loader)
			l.at = 0
			defer columns.Put(l)
		}
		var err error
		if block == nil {
			if block, err = s.Block(e.Block); err != nil {
				s.cannotRead(e, err)
				continue
			}
			l.column.reset(block)
		}
		if err = l.load(s.log, e.header); err != nil {
			l.at = 0
			l.column.reset(block)
			s.cannotRead(e, err)
			continue
		}
		if err := f(i, &l.column.part, e.Time); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) cannotRead(e *Entry, err error) {
	s.unreadable.Add(1)
	if !errors.Is(err, wal.ErrGone) {
		s.slog.Error("A record of the log cannot be read", "position", e.Pos.String(), "samples", e.Samples, "err", err)
	}
}

// load brings the column to the record of h: in one step when it stands at the
// record before, else from the key on.
func (l *loader) load(log *wal.Log, h wal.Header) error {
	body, err := log.Read(h, l.body)
	if err != nil {
		return err
	}
	l.body = body
	links, err := parseLinks(body)
	if err != nil {
		return err
	}
	if !links.key && (l.at == 0 || l.at != links.previous) {
		if err := l.rebuild(log, h, links); err != nil {
			return err
		}
		if l.body, err = log.Read(h, l.body); err != nil {
			return err
		}
		body = l.body
	}
	if err := l.column.decode(body, links, h.Time); err != nil {
		return fmt.Errorf("record at %s: %w", h.Pos, err)
	}
	l.at = h.Pos.Offset
	return nil
}

// rebuild decodes the records from the key of h up to the one before h.
func (l *loader) rebuild(log *wal.Log, h wal.Header, k links) error {
	l.chain = l.chain[:0]
	anchor, at := h.Ref, h.Pos.Offset
	for {
		if k.previous >= at || len(l.chain) >= keyEvery {
			return fmt.Errorf("record at %s leans on %d: %w", h.Pos, k.previous, errRecord)
		}
		at = k.previous
		p, err := log.HeaderAt(wal.Pos{Segment: h.Pos.Segment, Offset: at})
		if err != nil {
			return err
		}
		if p.Kind != wal.Record || p.Ref != anchor {
			return fmt.Errorf("record at %s leans on one of another block: %w", h.Pos, errRecord)
		}
		l.chain = append(l.chain, p)
		if l.body, err = log.Read(p, l.body); err != nil {
			return err
		}
		if k, err = parseLinks(l.body); err != nil {
			return err
		}
		if k.key {
			break
		}
	}
	for i := len(l.chain) - 1; i >= 0; i-- {
		p := l.chain[i]
		var err error
		if l.body, err = log.Read(p, l.body); err != nil {
			return err
		}
		if k, err = parseLinks(l.body); err != nil {
			return err
		}
		if err := l.column.decode(l.body, k, p.Time); err != nil {
			return fmt.Errorf("record at %s: %w", p.Pos, err)
		}
	}
	return nil
}

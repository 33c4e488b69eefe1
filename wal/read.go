package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"sort"
	"syscall"
)

// Errors of reading.
var (
	ErrGone    = errors.New("wal: the segment has been deleted")
	ErrCorrupt = errors.New("wal: corrupt")
)

// Lost is what a position skipped.
type Lost struct {
	Samples  uint64
	From, To int64 // ms; 0 when unknown
}

// find is the index of the first segment with an id of at least id. l.mu is held.
func (l *Log) find(id uint64) int {
	return sort.Search(len(l.segments), func(i int) bool { return l.segments[i].id >= id })
}

// readable is the first readable segment from index i on. l.mu is held.
func (l *Log) readable(i int) *segment {
	for ; i < len(l.segments); i++ {
		if !l.segments[i].gone {
			return l.segments[i]
		}
	}
	return l.active
}

// Oldest is the first position that can be read.
func (l *Log) Oldest() Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Pos{l.readable(0).id, segmentHeader}
}

// SamplesBefore is the number of samples in the log before a segment that
// exists, and whether it does and its header could be read.
func (l *Log) SamplesBefore(id uint64) (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.find(id); i < len(l.segments) && l.segments[i].id == id && !l.segments[i].alien {
		return l.segments[i].before, true
	}
	return 0, false
}

// SamplesTotal is the number of samples in the log so far, deleted ones included.
func (l *Log) SamplesTotal() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Next is p when it can be read, else the first position after it that can.
func (l *Log) Next(p Pos) Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.readable(l.find(p.Segment))
	if s.id != p.Segment {
		return Pos{s.id, segmentHeader}
	}
	if int64(p.Offset) < segmentHeader {
		p.Offset = segmentHeader
	}
	if int64(p.Offset) > s.size { // after power loss a cursor may be ahead of the bytes
		if s.ended {
			return Pos{l.readable(l.find(p.Segment + 1)).id, segmentHeader}
		}
		p.Offset = uint32(s.size)
	}
	return p
}

// Scan returns the headers of the frames of whole groups at from and after,
// in from's segment, before to (zero: no bound), about max of them (0: all),
// behind those of dst. next is where to go on: in the segment after when this one has ended.
func (l *Log) Scan(dst []Header, from, to Pos, max int) (hs []Header, next Pos, err error) {
	l.mu.Lock()
	i := l.find(from.Segment)
	if i == len(l.segments) || l.segments[i].id != from.Segment || l.segments[i].gone {
		l.mu.Unlock()
		return dst, from, ErrGone
	}
	s := l.segments[i]
	end, ended := s.size, s.ended
	if to.Segment == from.Segment && int64(to.Offset) < end {
		end, ended = int64(to.Offset), false
	}
	l.mu.Unlock()
	hs, off, damaged, err := l.scan(dst, s, int64(from.Offset), end, max)
	if err != nil {
		return dst, from, err
	}
	next = Pos{s.id, uint32(off)}
	if damaged && s.own && !ended {
		return hs, next, fmt.Errorf("segment %d at %d: %w", s.id, off, ErrCorrupt)
	}
	if ended && (damaged || off >= end) && len(hs) == len(dst) {
		l.mu.Lock()
		if damaged && off < end && !l.torn[s.id] {
			l.torn[s.id] = true
			l.stats.Corruptions++
			l.o.Logger.Warn("The rest of a segment cannot be read", "segment", s.id, "offset", off, "bytes", end-off)
		}
		next = Pos{l.readable(l.find(s.id + 1)).id, segmentHeader}
		l.mu.Unlock()
	}
	return hs, next, nil
}

// scan reads headers of whole groups in [off, end); damaged says that what
// stands at the returned offset is no whole group.
func (l *Log) scan(dst []Header, s *segment, off, end int64, max int) (hs []Header, next int64, damaged bool, err error) {
	var b [frameHeader]byte
	hs = dst
	whole := len(hs)
	at := off
	next = off
	for at < end {
		if err := twice(func() error { return l.readAt(s, b[:], at) }); err != nil {
			if lostBytes(err) {
				return hs[:whole], next, true, nil
			}
			return dst, off, false, err
		}
		h, ok := parseFrameHeader(b[:], Pos{s.id, uint32(at)})
		if !ok || at+frameHeader+int64(h.Len) > end {
			return hs[:whole], next, true, nil
		}
		hs = append(hs, h)
		at += frameHeader + int64(h.Len)
		if !h.More {
			whole, next = len(hs), at
			if max > 0 && whole-len(dst) >= max {
				break
			}
		}
	}
	return hs[:whole], next, whole < len(hs), nil
}

// lostBytes says whether no later attempt will read what this one could not:
// the file ends before it, or the medium has lost it.
func lostBytes(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EIO)
}

// twice reads again what the medium has failed to read: when it has lost the
// bytes, it says so again.
func twice(read func() error) error {
	err := read()
	if errors.Is(err, syscall.EIO) {
		err = read()
	}
	return err
}

// Read returns the checked body of a frame, in dst's memory where it fits.
func (l *Log) Read(h Header, dst []byte) ([]byte, error) {
	l.mu.Lock()
	i := l.find(h.Pos.Segment)
	if i == len(l.segments) || l.segments[i].id != h.Pos.Segment || l.segments[i].gone {
		l.mu.Unlock()
		return nil, ErrGone
	}
	s := l.segments[i]
	beyond, cut := h.Len > MaxBody || int64(h.Pos.Offset)+frameHeader+int64(h.Len) > s.size, s.cut
	l.mu.Unlock()
	switch {
	case beyond && cut:
		return nil, ErrGone
	case beyond:
		return nil, fmt.Errorf("frame at %s: %d bytes reach beyond its segment: %w", h.Pos, h.Len, ErrCorrupt)
	}
	if cap(dst) < int(h.Len) {
		dst = make([]byte, h.Len)
	}
	dst = dst[:h.Len]
	if err := l.readAt(s, dst, int64(h.Pos.Offset)+frameHeader); err != nil {
		return nil, err
	}
	if crc32.Checksum(dst, castagnoli) != h.crc {
		return nil, fmt.Errorf("frame at %s: checksum differs: %w", h.Pos, ErrCorrupt)
	}
	return dst, nil
}

// HeaderAt reads the header of the frame at p.
func (l *Log) HeaderAt(p Pos) (Header, error) {
	l.mu.Lock()
	i := l.find(p.Segment)
	if i == len(l.segments) || l.segments[i].id != p.Segment || l.segments[i].gone {
		l.mu.Unlock()
		return Header{}, ErrGone
	}
	s := l.segments[i]
	l.mu.Unlock()
	var b [frameHeader]byte
	if err := l.readAt(s, b[:], int64(p.Offset)); err != nil {
		return Header{}, err
	}
	h, ok := parseFrameHeader(b[:], p)
	if !ok {
		return Header{}, fmt.Errorf("frame at %s: header does not check: %w", p, ErrCorrupt)
	}
	return h, nil
}

// readAt reads from memory what is there, and the rest from the file.
func (l *Log) readAt(s *segment, b []byte, off int64) error {
	l.mu.Lock()
	if s.own && (s.gone || s.cut && off+int64(len(b)) > s.size) {
		l.mu.Unlock()
		return ErrGone
	}
	if s.own && len(s.mem) > 0 && off+int64(len(b)) > s.memOff {
		var fromFile []byte
		if off < s.memOff {
			fromFile, b = b[:s.memOff-off], b[s.memOff-off:]
		}
		start := max(off, s.memOff) - s.memOff
		if int64(len(s.mem))-start < int64(len(b)) {
			l.mu.Unlock()
			return io.ErrUnexpectedEOF
		}
		copy(b, s.mem[start:])
		b = fromFile
	}
	l.mu.Unlock()
	if len(b) == 0 {
		return nil
	}
	f, err := l.reads.get(l.o.FS, s.id, s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrGone
	}
	if err != nil {
		return fmt.Errorf("open segment %d: %w", s.id, err)
	}
	defer l.reads.release(f)
	n, err := f.file.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read segment %d: %w", s.id, err)
}

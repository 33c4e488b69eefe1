package wal

import (
	"errors"
	"io/fs"
)

// retain deletes the segments that nobody needs and those beyond the limits,
// oldest first, and computes the size bound anew.
func (l *Log) retain() {
	free, total, err := l.o.FS.Free(l.dir)
	low, haveCursors := l.lowest()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = l.o.MaxBytes
	if err == nil && l.limit == 0 {
		l.limit = int64(float64(total) * l.o.MaxPercent / 100)
	}
	if l.due() {
		l.begin(l.active.id + 1)
	}
	now := l.o.Now()
	for len(l.segments) > 0 && l.segments[0] != l.active {
		s := l.segments[0]
		size := l.bytes()
		switch {
		case haveCursors && s.id < low.Segment: // everybody has it
		case l.limit > 0 && size > l.limit:
			l.said("its size limit", s)
		case err == nil && float64(free) < float64(total)*l.o.FreePercent/100:
			l.said("the volume is nearly full", s)
			free += uint64(s.size)
		case l.o.MaxAge > 0 && now.Sub(timeOf(s.newest)) > l.o.MaxAge:
			l.said("its age limit", s)
		default:
			return
		}
		if !l.delete(s) {
			return
		}
	}
}

// lowest is the lowest position that a cursor needs.
func (l *Log) lowest() (low Pos, any bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.cursors {
		p, _, ok := c.Load()
		if !ok {
			continue
		}
		if !any || p.Less(low) {
			low = p
		}
		any = true
	}
	return low, any
}

// said logs a deletion that somebody may mind. l.mu is held.
func (l *Log) said(why string, s *segment) {
	l.o.Logger.Warn("Deleting a segment of the log that not every remote has: "+why, "segment", s.id, "bytes", s.size, "newest", timeOf(s.newest))
}

// bytes is the log's size. l.mu is held.
func (l *Log) bytes() (n int64) {
	for _, s := range l.segments {
		if !s.lost {
			n += s.size
		}
	}
	return n
}

// dropOldest deletes the oldest ended segment that is on disk. l.mu is held.
func (l *Log) dropOldest(why string) {
	for _, s := range l.segments {
		if s == l.active || s.own && len(s.mem) > 0 || s.lost {
			continue
		}
		l.said(why, s)
		l.delete(s)
		return
	}
}

// delete removes a segment. l.mu is held.
func (l *Log) delete(s *segment) bool {
	if !s.lost {
		if err := l.o.FS.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.stats.TruncationsFailed++
			l.o.Logger.Error("Cannot delete a segment of the log", "segment", s.id, "err", err)
			return false
		}
		l.stats.Truncations++
	}
	l.forget(s)
	return true
}

// forget takes a segment out of the list. l.mu is held.
func (l *Log) forget(s *segment) {
	s.gone = true
	l.memory -= int64(len(s.mem))
	s.mem = nil
	for i := range l.segments {
		if l.segments[i] == s {
			l.segments = append(l.segments[:i], l.segments[i+1:]...)
			break
		}
	}
	l.reads.forget(s.id)
	if f := s.file; f != nil && !s.busy {
		s.file = nil
		f.Close() // deleted: what it held is not wanted
	}
}

// Stats returns the log's numbers.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.stats
	st.Segments, st.Bytes, st.MemoryBytes, st.Current = len(l.segments), l.bytes(), l.memory, l.active.id
	st.NotOnDisk, st.LimitBytes = l.failing != nil, l.limit
	return st
}

package wal

import (
	"errors"
	"io/fs"
	"time"
)

// retain deletes the segments that nobody needs and those beyond the limits,
// oldest first, and computes the size bound anew.
func (l *Log) retain() {
	// What is deleted because everybody has it must not be asked for after a
	// crash: the positions go to their files first.
	low, haveCursors := l.lowest()
	l.flushCursors(false)
	l.deleting.Lock()
	defer l.deleting.Unlock()
	free, total, err := l.o.FS.Free(l.dir)
	l.mu.Lock()
	if err == nil {
		l.setLimit(total)
	} else {
		free, total = l.free, l.volume
	}
	if l.due() {
		l.begin(l.active.id + 1)
	}
	l.foresee(low, free, total)
	l.mu.Unlock()
	for {
		l.mu.Lock()
		s := l.segments[0]
		if s == l.active || l.closed {
			l.mu.Unlock()
			return
		}
		switch {
		case haveCursors && s.id < low.Segment: // everybody has it
		case l.limit > 0 && l.bytes() > l.limit:
			l.said("its size limit", s)
		case err == nil && float64(free) < float64(total)*l.o.FreePercent/100:
			l.said("the volume is nearly full", s)
			free += uint64(s.size)
		case l.o.MaxAge > 0 && l.o.Now().Sub(timeOf(s.newest)) > l.o.MaxAge:
			l.said("its age limit", s)
		default:
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		begin := time.Now()
		if !l.delete(s, low) {
			return
		}
		if l.o.ObserveDrop != nil {
			l.o.ObserveDrop(time.Since(begin))
		}
	}
}

// setLimit computes the size bound for a volume of so many bytes. l.mu is
// held, or l is not shared yet.
func (l *Log) setLimit(total uint64) {
	if l.limit = l.o.MaxBytes; l.limit == 0 {
		l.limit = int64(float64(total) * l.o.MaxPercent / 100)
	}
}

// lowest is the lowest position that a cursor needs.
func (l *Log) lowest() (low Pos, any bool) {
	l.mu.Lock()
	all := l.allCursors()
	l.mu.Unlock()
	for _, c := range all {
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
		n += s.size
	}
	return n
}

// dropOldest deletes the oldest ended segment that is on disk.
func (l *Log) dropOldest(why string) {
	low, _ := l.lowest()
	l.deleting.Lock()
	defer l.deleting.Unlock()
	l.mu.Lock()
	var oldest *segment
	for _, s := range l.segments {
		if s != l.active && len(s.mem) == 0 {
			oldest = s
			l.said(why, s)
			break
		}
	}
	l.mu.Unlock()
	if oldest != nil {
		l.delete(oldest, low)
	}
}

// delete removes a segment; low is the lowest position that a cursor needs.
// l.deleting is held.
func (l *Log) delete(s *segment, low Pos) bool {
	err := l.o.FS.Remove(s.path)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.stats.TruncationsFailed++
		l.o.Logger.Error("Cannot delete a segment of the log", "segment", s.id, "err", err)
		return false
	}
	l.stats.Truncations++
	l.missed(s, low)
	l.forget(s)
	return true
}

// forget takes a segment out of the list. l.mu is held.
func (l *Log) forget(s *segment) {
	s.gone = true
	l.memory -= int64(len(s.mem))
	s.mem = nil
	delete(l.torn, s.id)
	for i := range l.segments {
		if l.segments[i] == s {
			l.segments = append(l.segments[:i], l.segments[i+1:]...)
			break
		}
	}
	l.reads.forget(s.id)
	if f := s.file; f != nil && s.busy == 0 {
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
	st.FullSeconds = fullIn(l.growth.rate(time.Now()), room(l.limit, st.Bytes, l.free, l.volume, l.o.FreePercent))
	return st
}

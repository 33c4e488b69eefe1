package wal

import (
	"fmt"
	"time"
)

func timeOf(ms int64) time.Time { return time.UnixMilli(ms) }

const (
	segmentAge    = 2 * time.Hour
	minRecords    = 1 << 20 // bytes of records before a segment ends by weight
	recordsWeigh  = 16      // times the anchors
	longestWait   = time.Second
	memoryPerPart = 4 // segments that the memory bound holds
)

// begin makes a new active segment. l.mu is held, or l is not shared yet.
func (l *Log) begin(id uint64) {
	now := l.o.Now()
	s := &segment{id: id, path: l.file(id), before: l.total, created: now, newest: now.UnixMilli(), own: true}
	s.mem = appendSegmentHeader(nil, id, l.total, now.UnixMilli())
	s.size = int64(len(s.mem))
	l.memory += s.size
	if l.active != nil {
		l.active.ended = true
	}
	l.active = s
	l.segments = append(l.segments, s)
	l.publish()
}

// publish tells whoever waits that the log has grown. l.mu is held.
func (l *Log) publish() {
	close(l.changed)
	l.changed = make(chan struct{})
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// Changed is closed at the next publication.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Segment is the active segment's id.
func (l *Log) Segment() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.active.id
}

// End is the position after the last published group.
func (l *Log) End() Pos {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Pos{l.active.id, uint32(l.active.size)}
}

// due says whether the active segment is to end. l.mu is held.
func (l *Log) due() bool {
	s := l.active
	switch {
	case s.nosync: // also an empty one: what it takes would never be synced
	case s.anchorBytes+s.recordBytes == 0:
		return false
	case s.recordBytes >= minRecords && s.recordBytes >= recordsWeigh*s.anchorBytes:
	case l.limit > 0 && s.size >= l.limit/4 && s.recordBytes >= 4*s.anchorBytes:
	case s.size >= maxSegment:
	case l.o.Now().Sub(s.created) >= segmentAge:
	case int64(len(s.mem)) >= l.o.MemoryBytes/memoryPerPart: // the disk fails, hangs or is slow
	default:
		return false
	}
	return true
}

// Append adds the frames as one group to the given segment, which must be the
// active one, and appends their positions to at. It waits until the group is
// written, at most a second. ErrSegment: nothing was taken. ErrNotOnDisk: the
// group was taken. Any other error: nothing was taken.
func (l *Log) Append(segment uint64, group []Frame, at []Pos) ([]Pos, error) {
	size := 0
	for i := range group {
		f := &group[i]
		if len(f.Body) > MaxBody || f.Samples > MaxSamples || f.Kind == 0 || f.Kind > 15 || f.RefFrame > i {
			return at, fmt.Errorf("wal: frame of kind %d with %d bytes, %d samples and reference to frame %d cannot be stored", f.Kind, len(f.Body), f.Samples, f.RefFrame)
		}
		size += frameHeader + len(f.Body)
	}
	if size == 0 {
		return at, nil
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return at, errClosed
	}
	s := l.active
	if s.id == segment && l.due() {
		l.begin(s.id + 1)
	}
	if l.active.id != segment {
		l.mu.Unlock()
		return at, ErrSegment
	}
	if s.size+int64(size) > 1<<32-1 {
		l.mu.Unlock()
		return at, fmt.Errorf("wal: a group of %d bytes does not fit a segment", size)
	}
	first := len(at)
	for i := range group {
		f := &group[i]
		ref := f.Ref
		if f.RefFrame > 0 {
			ref = at[first+f.RefFrame-1].Offset
		}
		at = append(at, Pos{segment, uint32(s.size)})
		before := len(s.mem)
		s.mem = appendFrame(s.mem, f, ref, i < len(group)-1)
		n := int64(len(s.mem) - before)
		s.size += n
		l.memory += n
		if f.Kind == Anchor {
			s.anchorBytes += n
		} else {
			s.recordBytes += n
		}
		s.samples += uint64(f.Samples)
		l.total += uint64(f.Samples)
		l.stats.Appended += uint64(f.Samples)
		s.newest = max(s.newest, f.Time)
	}
	end := s.size
	l.shed()
	l.publish()
	err := l.wait(s, end)
	l.mu.Unlock()
	return at, err
}

// wait waits until s is on disk up to end. l.mu is held, and released meanwhile.
func (l *Log) wait(s *segment, end int64) error {
	if l.failing != nil {
		return ErrNotOnDisk
	}
	onDisk := func() int64 {
		if l.o.SyncInterval == 0 {
			return s.synced
		}
		return s.memOff
	}
	var timer *time.Timer
	for onDisk() < end {
		if timer == nil {
			timer = time.NewTimer(longestWait)
			defer timer.Stop()
		}
		progress := l.progress
		l.mu.Unlock()
		late := false
		select {
		case <-progress:
		case <-timer.C:
			late = true
		}
		l.mu.Lock()
		if late || l.failing != nil || l.closed || s.gone || s.size < end || s.nosync && l.o.SyncInterval == 0 {
			if onDisk() >= end {
				return nil
			}
			return ErrNotOnDisk
		}
	}
	return nil
}

// shed keeps the unwritten bytes within the memory bound: of the oldest
// segment that has any, they go and are counted. What the writer is busy with
// stays, for it would stay in memory anyway. l.mu is held.
func (l *Log) shed() {
	for _, s := range l.segments {
		if l.memory <= l.o.MemoryBytes || s == l.active {
			return // the active segment is bounded by its part
		}
		if s.own && !s.gone && len(s.mem) > s.busy {
			l.cut(s)
		}
	}
}

// cut ends a segment where the writer is. l.mu is held.
func (l *Log) cut(s *segment) {
	dropped := s.mem[s.busy:]
	if s.memOff+int64(s.busy) == 0 {
		dropped = dropped[segmentHeader:]
		s.gone = true // of the file there is no header; retention takes what there is of it
	}
	var samples uint64
	for b := dropped; ; {
		h, ok := parseFrameHeader(b, Pos{})
		if !ok {
			break
		}
		samples += uint64(h.Samples)
		b = b[frameHeader+int(h.Len):]
	}
	l.memory -= int64(len(s.mem) - s.busy)
	s.mem = s.mem[:s.busy:s.busy]
	l.tooLate += int64(len(dropped))
	s.size, s.cut = s.memOff+int64(s.busy), true
	s.samples -= samples
	l.stats.DroppedUnwritten += samples
	l.o.Logger.Error("The disk does not take the log's data; the oldest of what is in memory is dropped",
		"segment", s.id, "samples", samples, "err", l.failing)
	if f := s.file; f != nil && s.gone {
		s.file = nil
		f.Close() // nothing of it is wanted
	}
}

func (l *Log) file(id uint64) string { return joinPath(l.dir, segmentName(id)) }

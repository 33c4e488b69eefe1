package wal

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const segmentSuffix = ".seg"

func segmentName(id uint64) string { return fmt.Sprintf("%020d%s", id, segmentSuffix) }

// load lists the old segments and opens the active one, whose id is above
// every file's and every cursor's.
func (l *Log) load() error {
	names, err := l.o.FS.List(l.dir)
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	var next uint64 = 1
	for _, name := range names {
		text, ok := strings.CutSuffix(name, segmentSuffix)
		id, err := strconv.ParseUint(text, 10, 64)
		if !ok || err != nil || name != segmentName(id) || id == math.MaxUint64 {
			continue // not ours
		}
		next = max(next, id+1)
		s := &segment{id: id, path: filepath.Join(l.dir, name), ended: true}
		err = twice(func() error { return l.readSegmentHeader(s) })
		if err != nil && !isAlien(err) {
			return fmt.Errorf("read segment %d: %w", id, err) // it may be readable next time
		}
		if err != nil {
			s.gone, s.alien, s.reason = true, true, err // counted in the size, deleted by retention, never read
		}
		l.segments = append(l.segments, s)
	}
	slices.SortFunc(l.segments, func(a, b *segment) int { return Pos{a.id, 0}.Compare(Pos{b.id, 0}) })
	if n := len(l.segments); n > 0 && l.segments[n-1].alien && l.segments[n-1].size == 0 {
		l.forgetEmpty(l.segments[n-1])
		l.segments = l.segments[:n-1]
	}
	for _, s := range l.segments {
		if err := s.reason; err != nil {
			l.o.Logger.Error("Skipping a file of the log", "file", s.path, "err", err)
			l.stats.Corruptions++
		}
	}
	highest, err := l.loadCursors()
	if err != nil {
		return err
	}
	next = max(next, highest+1)
	// The count of samples goes on where the newest readable segment ends.
	for i := len(l.segments) - 1; i >= 0; i-- {
		if s := l.segments[i]; !s.gone {
			l.total = s.before + l.countSamples(s)
			break
		}
	}
	if _, total, err := l.o.FS.Free(l.dir); err == nil {
		l.setLimit(total)
	} else {
		l.limit = l.o.MaxBytes
	}
	l.begin(next)
	return nil
}

// forgetEmpty removes the newest file, of a process that was killed right after
// it had made it. There was never anything in it.
func (l *Log) forgetEmpty(s *segment) {
	if err := l.o.FS.Remove(s.path); err != nil { // it is tried again at the next start
		l.o.Logger.Debug("An empty file of the log could not be removed", "file", s.path, "err", err)
	}
}

// headersAtOnce bounds the headers in memory while a segment is counted.
const headersAtOnce = 4096

// countSamples counts the samples of a segment as far as it can be read.
func (l *Log) countSamples(s *segment) (n uint64) {
	for off := int64(segmentHeader); off < s.size; {
		hs, next, damaged, err := l.scan(nil, s, off, s.size, headersAtOnce)
		for _, h := range hs {
			n += uint64(h.Samples)
			s.newest = max(s.newest, h.Time)
		}
		if err != nil {
			l.o.Logger.Error("The newest segment cannot be read; the log's count of samples is too low", "segment", s.id, "offset", off, "err", err)
		}
		if err != nil || damaged {
			return n
		}
		off = next
	}
	return n
}

// isAlien says whether a file whose header could not be read for err never will be a segment of ours.
func isAlien(err error) bool {
	return lostBytes(err) || errors.Is(err, errNotSegment) || errors.Is(err, errVersion)
}

func (l *Log) readSegmentHeader(s *segment) error {
	f, err := l.o.FS.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if s.size, err = f.Size(); err != nil {
		return err
	}
	var b [segmentHeader]byte
	if s.size < segmentHeader {
		return fmt.Errorf("%w: shorter than a header", errNotSegment)
	}
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return err
	}
	id, before, created, err := parseSegmentHeader(b[:])
	if err != nil {
		return err
	}
	if id != s.id {
		return fmt.Errorf("%w: its header says segment %d", errNotSegment, id)
	}
	s.before, s.created, s.newest = before, timeOf(created), created
	return nil
}

package wal

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

func joinPath(dir, name string) string { return filepath.Join(dir, name) }

// Run writes, syncs, flushes cursors and deletes until ctx ends; then it
// writes and syncs once more and returns.
func (l *Log) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { l.writeLoop(ctx) })
	wg.Go(func() {
		if l.o.SyncInterval > 0 {
			l.tick(ctx, l.o.SyncInterval, func() { l.syncAll() })
		}
	})
	wg.Go(func() { l.tick(ctx, cursorInterval, l.flushCursors) })
	wg.Go(func() { l.tick(ctx, retentionInterval, l.retain) })
	wg.Wait()
	err := l.Sync()
	l.flushCursors()
	return err
}

const (
	cursorInterval    = 250 * time.Millisecond
	retentionInterval = time.Second
)

func (l *Log) tick(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// writeLoop is the one writer.
func (l *Log) writeLoop(ctx context.Context) {
	const first, most = 10 * time.Millisecond, 5 * time.Second
	pause := first
	for {
		err := l.writePending()
		if err == nil {
			pause = first
			select {
			case <-l.work:
			case <-ctx.Done():
				return
			}
			continue
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, most)
	}
}

// writePending writes what is in memory, oldest first, until nothing is left
// or a write fails.
func (l *Log) writePending() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	for {
		l.mu.Lock()
		var s *segment
		for _, c := range l.segments {
			if c.own && !c.gone && len(c.mem) > 0 {
				s = c
				break
			}
		}
		if s == nil {
			l.setFailing(nil)
			l.mu.Unlock()
			return nil
		}
		chunk, off, started := s.mem[:len(s.mem):len(s.mem)], s.memOff, s.started
		s.busy = true
		l.mu.Unlock()

		err := l.write(s, chunk, off, started)

		l.mu.Lock()
		if s.busy = false; s.gone && s.file != nil {
			s.file.Close() // deleted meanwhile: what it held is not wanted
			s.file = nil
		}
		if err == nil {
			if !s.gone {
				s.memOff += int64(len(chunk))
				l.memory -= int64(len(chunk))
				if rest := s.mem[len(chunk):]; len(rest) == 0 {
					s.mem = nil
				} else {
					s.mem = append([]byte(nil), rest...)
				}
			}
			l.stats.WrittenBytes += uint64(len(chunk))
			l.setFailing(nil)
			if l.o.SyncInterval == 0 {
				l.mu.Unlock()
				l.syncSegment(s)
				l.mu.Lock()
			}
		} else {
			l.stats.WritesFailed++
			if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
				l.dropOldest("the disk is full")
			}
			l.setFailing(err)
		}
		close(l.progress)
		l.progress = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// setFailing notes and logs whether the disk takes bytes. l.mu is held.
func (l *Log) setFailing(err error) {
	if err != nil && l.failing == nil {
		l.o.Logger.Error("The disk does not take the log's data; scraping and sending go on from memory", "err", err, "bound", l.o.MemoryBytes)
	}
	if err == nil && l.failing != nil {
		l.o.Logger.Info("The disk takes the log's data again", "bytes", l.memory)
	}
	l.failing = err
}

// write puts a chunk of a segment where it belongs, making the file first.
func (l *Log) write(s *segment, chunk []byte, off int64, started bool) error {
	if s.file == nil {
		f, err := l.o.FS.OpenRW(s.path)
		if err != nil {
			return fmt.Errorf("create segment: %w", err)
		}
		s.file = f
	}
	if !started {
		if _, err := s.file.WriteAt(chunk[:segmentHeader], 0); err != nil {
			return fmt.Errorf("write header of segment %d: %w", s.id, err)
		}
		if err := s.file.Sync(); err != nil {
			// What a failed sync left of the file is unknown: begin it anew.
			return errors.Join(fmt.Errorf("sync segment %d: %w", s.id, err), s.file.Close(), l.o.FS.Remove(s.path), l.unopen(s))
		}
		if err := l.o.FS.SyncDir(l.dir); err != nil {
			return fmt.Errorf("sync directory: %w", err)
		}
		l.mu.Lock()
		s.started = true
		l.mu.Unlock()
	}
	if _, err := s.file.WriteAt(chunk, off); err != nil {
		return fmt.Errorf("write segment %d at %d: %w", s.id, off, err)
	}
	return nil
}

func (l *Log) unopen(s *segment) error { s.file = nil; return nil }

// Sync writes and syncs all that has been appended.
func (l *Log) Sync() error {
	if err := l.writePending(); err != nil {
		return err
	}
	return l.syncAll()
}

// syncAll syncs every segment that has unsynced bytes, and closes the files of
// those that have ended.
func (l *Log) syncAll() error {
	l.mu.Lock()
	var todo []*segment
	for _, s := range l.segments {
		if s.own && !s.gone && s.file != nil && s.started && (s.synced < s.memOff && !s.nosync || s.ended) {
			todo = append(todo, s)
		}
	}
	l.mu.Unlock()
	var errs []error
	for _, s := range todo {
		errs = append(errs, l.syncSegment(s))
	}
	return errors.Join(errs...)
}

func (l *Log) syncSegment(s *segment) error {
	l.mu.Lock()
	f, upto, skip := s.file, s.memOff, s.nosync || s.gone || s.file == nil || s.synced == s.memOff && !s.ended
	l.mu.Unlock()
	if skip {
		return nil
	}
	begin := time.Now()
	err := f.Sync()
	if l.o.ObserveSync != nil {
		l.o.ObserveSync(time.Since(begin))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !s.gone {
		// The kernel may have dropped the pages and will not say so again:
		// this file is not synced any more, and the next append begins another.
		s.nosync = true
		l.stats.SyncsFailed++
		l.o.Logger.Error("Syncing the log failed; this segment is left as it is and another begun", "segment", s.id, "err", err)
		return fmt.Errorf("sync segment %d: %w", s.id, err)
	}
	s.synced = max(s.synced, upto)
	if s.ended && !s.busy && s.synced == s.size && s.file == f {
		s.file = nil
		if err := f.Close(); err != nil {
			l.o.Logger.Warn("Closing a segment failed", "segment", s.id, "err", err)
		}
	}
	close(l.progress)
	l.progress = make(chan struct{})
	return nil
}

package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
			l.tick(ctx, l.o.SyncInterval, nil, func() { _ = l.syncAll() }) // counted and logged
		}
	})
	wg.Go(func() { l.tick(ctx, cursorInterval, l.hurry, func() { l.flushCursors(false) }) })
	wg.Go(func() { l.tick(ctx, retentionInterval, nil, l.retain) })
	wg.Wait()
	err := l.Sync()
	l.flushCursors(true)
	return err
}

const (
	cursorInterval    = 250 * time.Millisecond
	retentionInterval = time.Second
)

// tick calls f every d, and when it is woken, until ctx ends.
func (l *Log) tick(ctx context.Context, d time.Duration, wake <-chan struct{}, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f()
		case <-wake:
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
		if l.closed {
			l.mu.Unlock()
			return errClosed
		}
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
			if l.o.SyncInterval == 0 {
				return l.syncAll() // closes what has ended
			}
			return nil
		}
		chunk, off := s.mem[:len(s.mem):len(s.mem)], s.memOff
		s.busy = len(chunk)
		l.mu.Unlock()

		err := l.write(s, chunk, off)
		full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
		if full && l.pressed() {
			l.dropOldest("the disk is full")
		}
		deleted := l.written(s, chunk, err)
		if deleted {
			l.unmake(s)
		}
		if err == nil && l.o.SyncInterval == 0 {
			_ = l.syncSegment(s) // counted and logged; whoever waits sees nosync
		}
		l.mu.Lock()
		close(l.progress)
		l.progress = make(chan struct{})
		l.mu.Unlock()
		if err != nil && !deleted {
			return err
		}
	}
}

// pressed says whether what waits for the disk takes half of the memory that it
// may: a disk that is full for a while costs nothing.
func (l *Log) pressed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return 2*l.memory > l.o.MemoryBytes
}

// written notes how the write of a chunk of s ended, and whether s has been
// deleted meanwhile.
func (l *Log) written(s *segment, chunk []byte, err error) (deleted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.busy = 0
	if err != nil {
		l.stats.WritesFailed++
		if !s.gone {
			l.setFailing(err)
		}
		return s.gone
	}
	l.stats.WrittenBytes += uint64(len(chunk))
	l.setFailing(nil)
	if s.gone {
		return true
	}
	s.memOff += int64(len(chunk))
	l.memory -= int64(len(chunk))
	s.mem = append([]byte(nil), s.mem[len(chunk):]...) // nil when all is written
	return false
}

// unmake closes and removes the file of a segment that was deleted while the
// writer had it: the writer may have made it again.
func (l *Log) unmake(s *segment) {
	l.mu.Lock()
	f := s.file
	s.file = nil
	l.mu.Unlock()
	if f != nil {
		f.Close() // deleted: what it held is not wanted
	}
	if err := l.o.FS.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.o.Logger.Error("Cannot delete a segment of the log", "segment", s.id, "err", err)
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
// l.writing is held.
func (l *Log) write(s *segment, chunk []byte, off int64) error {
	l.mu.Lock()
	f, started := s.file, s.started
	l.mu.Unlock()
	if f == nil {
		var err error
		if f, err = l.o.FS.OpenRW(s.path); err != nil {
			return fmt.Errorf("create segment: %w", err)
		}
		l.setFile(s, f)
	}
	if !started {
		if _, err := f.WriteAt(chunk[:segmentHeader], 0); err != nil {
			return fmt.Errorf("write header of segment %d: %w", s.id, err)
		}
		if err := f.Sync(); err != nil {
			// What a failed sync left of the file is unknown: begin it anew.
			l.setFile(s, nil)
			return errors.Join(fmt.Errorf("sync segment %d: %w", s.id, err), f.Close(), l.o.FS.Remove(s.path))
		}
		if err := l.o.FS.SyncDir(l.dir); err != nil {
			return fmt.Errorf("sync directory: %w", err)
		}
		l.mu.Lock()
		s.started = true
		l.mu.Unlock()
	}
	if _, err := f.WriteAt(chunk, off); err != nil {
		return fmt.Errorf("write segment %d at %d: %w", s.id, off, err)
	}
	return nil
}

func (l *Log) setFile(s *segment, f File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.file = f
}

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
		if s.file != nil && (s.unsynced() || s.ended) {
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

// unsynced says whether a sync of the file would store something.
func (s *segment) unsynced() bool { return s.synced < s.memOff && !s.nosync }

// syncSegment syncs what is written of a segment, and closes its file when
// nothing more will be written.
func (l *Log) syncSegment(s *segment) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	f, upto, sync := s.file, s.memOff, s.unsynced()
	if s.gone {
		f = nil
	}
	l.mu.Unlock()
	if f == nil {
		return nil
	}
	var err error
	if sync {
		begin := time.Now()
		err = f.Sync()
		if l.o.ObserveSync != nil {
			l.o.ObserveSync(time.Since(begin))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.gone {
		return nil // deleted meanwhile, and closed
	}
	if err != nil {
		// The kernel may have dropped the pages and will not say so again:
		// this file is not synced any more, and the next append begins another.
		s.nosync = true
		l.stats.SyncsFailed++
		l.o.Logger.Error("Syncing the log failed; this segment is left as it is and another begun", "segment", s.id, "err", err)
		return fmt.Errorf("sync segment %d: %w", s.id, err)
	}
	if sync {
		s.synced = max(s.synced, upto)
	}
	if s.ended && s.busy == 0 && len(s.mem) == 0 && !s.unsynced() && s.file == f {
		s.file = nil
		if err := f.Close(); err != nil {
			l.o.Logger.Warn("Closing a segment failed", "segment", s.id, "err", err)
		}
	}
	close(l.progress)
	l.progress = make(chan struct{})
	return nil
}

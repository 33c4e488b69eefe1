package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockFile is the data directory's lock, which Prometheus takes too.
type lockFile struct {
	f    *os.File
	path string
}

// takeLock locks dir/lock. state is what prometheus_agent_clean_start shows:
// -1 not locked, 0 the file of a process that did not end cleanly was there, 1 clean.
func takeLock(dir string, o Options) (l *lockFile, state int, err error) {
	if o.NoLock {
		return nil, -1, nil
	}
	path := filepath.Join(dir, "lock")
	state = 1
	if _, err := os.Stat(path); err == nil {
		state = 0
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, 0, fmt.Errorf("lock DB directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, 0, errors.Join(fmt.Errorf("lock DB directory: %s is held by another process: %w", path, err), f.Close())
	}
	if state == 0 {
		o.Logger.Warn("A lockfile from a previous execution already existed. It was replaced", "file", path)
	}
	return &lockFile{f, path}, state, nil
}

// release removes the file and lets go of the lock.
func (l *lockFile) release() error {
	if l == nil {
		return nil
	}
	return errors.Join(os.Remove(l.path), l.f.Close())
}

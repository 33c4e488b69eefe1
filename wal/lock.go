package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

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
	f, err := lockNow(path)
	if err != nil {
		return nil, 0, fmt.Errorf("lock DB directory: %w", err)
	}
	if state == 0 {
		o.Logger.Warn("A lockfile from a previous execution already existed. It was replaced", "file", path)
	}
	return &lockFile{f, path}, state, nil
}

// lockNow makes and locks the file of that name.
func lockNow(path string) (*os.File, error) {
	for try := 0; ; {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			err = errors.Join(fmt.Errorf("%s is held by another process: %w", path, err), f.Close())
			if try++; try == 3 {
				return nil, err
			}
			time.Sleep(time.Millisecond) // InUse of somebody who looks at the log takes it for a moment
			continue
		}
		// Between the two calls its holder may have ended and removed it: then
		// this lock is of a file that nobody else will see.
		ours, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(ours, there) {
			return f, nil
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// release removes the file and lets go of the lock.
func (l *lockFile) release() error {
	if l == nil {
		return nil
	}
	return errors.Join(os.Remove(l.path), l.f.Close())
}

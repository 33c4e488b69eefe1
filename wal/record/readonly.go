package record

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"promagent/wal"
)

// OpenReadOnly opens the log of a data directory to look at it as it is now,
// also while an agent uses it. Nothing in the directory is changed. The
// store takes no appends to disk; stop ends its use.
func OpenReadOnly(path string, logger *slog.Logger) (s *Store, stop func() error, err error) {
	l, err := wal.Open(path, wal.Options{FS: readOnly{}, NoLock: true, Logger: logger})
	if err != nil {
		return nil, nil, err
	}
	return NewStore(l, Options{RingBytes: 1, Logger: logger}), l.Close, nil
}

// readOnly is the file system without all that changes it.
type readOnly struct{}

var errReadOnly = errors.New("the log was opened to be read only")

func (readOnly) MkdirAll(dir string) error {
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no log here: %w", err)
	}
	return err
}

func (readOnly) Create(string) (wal.File, error)         { return nil, errReadOnly }
func (readOnly) OpenRW(name string) (wal.File, error)    { return readOnly{}.Open(name) }
func (readOnly) Remove(string) error                     { return errReadOnly }
func (readOnly) Rename(string, string) error             { return fs.ErrNotExist } // a bad cursor stays where it is
func (readOnly) SyncDir(string) error                    { return nil }
func (readOnly) Free(string) (free, all uint64, _ error) { return 0, 0, errReadOnly }

func (readOnly) Open(name string) (wal.File, error) {
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	return readOnlyFile{f}, nil
}

func (readOnly) List(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

type readOnlyFile struct{ *os.File }

func (readOnlyFile) WriteAt([]byte, int64) (int, error) { return 0, errReadOnly }
func (readOnlyFile) Sync() error                        { return nil }

func (f readOnlyFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

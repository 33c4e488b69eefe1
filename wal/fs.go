package wal

import (
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FS is what the log needs of a file system, so that faults can be injected.
type FS interface {
	MkdirAll(dir string) error
	Create(name string) (File, error) // fails when the file exists
	Open(name string) (File, error)   // for reading
	OpenRW(name string) (File, error) // for reading and writing, made when absent
	Remove(name string) error
	Rename(from, to string) error
	List(dir string) ([]string, error) // names of the files in dir
	SyncDir(dir string) error
	Free(dir string) (free, total uint64, err error) // bytes of the volume
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Size() (int64, error)
}

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func wrap(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o777) }
func (osFS) Create(name string) (File, error) {
	return wrap(os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666))
}
func (osFS) Open(name string) (File, error) { return wrap(os.Open(name)) }
func (osFS) OpenRW(name string) (File, error) {
	return wrap(os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666))
}
func (osFS) Remove(name string) error     { return os.Remove(name) }
func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (osFS) Free(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

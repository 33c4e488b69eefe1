package waltest

import (
	"io"
	"io/fs"
	"slices"
	"syscall"
)

// file is an open file.
type file struct {
	fs       *FS
	name     string
	node     *inode
	writable bool
	closed   bool
}

// begin counts an operation on the file. f.fs.mu is held.
func (f *file) begin(k Kind, size int, off int64) *Fault {
	if f.closed {
		return &Fault{Err: pathError(k, f.name, fs.ErrClosed)}
	}
	return f.fs.begin(k, f.name, size, off)
}

// ReadAt reads as io.ReaderAt says.
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if ft := f.begin(Read, len(b), off); ft != nil {
		return 0, ft.Err
	}
	if off < 0 {
		return 0, pathError(Read, f.name, syscall.EINVAL)
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes as io.WriterAt says.
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if ft := f.begin(Write, len(b), off); ft != nil {
		f.store(b[:ft.Written], off)
		return ft.Written, ft.Err
	}
	if !f.writable {
		return 0, pathError(Write, f.name, syscall.EBADF)
	}
	n := len(b)
	if grow := off + int64(n) - int64(len(f.node.data)); f.fs.capacity > 0 && grow > 0 {
		n -= int(min(int64(n), max(0, grow-max(0, f.fs.capacity-f.fs.used()))))
	}
	f.store(b[:n], off)
	if n < len(b) {
		if f.fs.full != nil {
			return n, pathError(Write, f.name, f.fs.full)
		}
		return n, pathError(Write, f.name, syscall.ENOSPC)
	}
	return n, nil
}

func (f *file) store(b []byte, off int64) {
	if len(b) == 0 {
		return
	}
	f.node.data = put(f.node.data, off, b)
	f.node.pending = append(f.node.pending, write{off, slices.Clone(b)})
}

// Sync makes the file's bytes last. After a Sync that fails they are taken for
// stored, as kernels do: some are, and no later Sync stores the others.
func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if ft := f.begin(Sync, 0, 0); ft != nil {
		if !f.closed && !f.fs.crashed {
			f.node.settle(f.fs.rng)
		}
		return ft.Err
	}
	for _, w := range f.node.pending {
		f.node.durable = put(f.node.durable, w.off, w.data)
	}
	f.node.pending = nil
	return nil
}

// Size is the file's length in bytes.
func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if ft := f.begin(Size, 0, 0); ft != nil {
		return 0, ft.Err
	}
	return int64(len(f.node.data)), nil
}

// Close closes the file, also when it fails.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	ft := f.begin(Close, 0, 0)
	if !f.closed {
		f.closed = true
		f.fs.open--
	}
	if ft != nil {
		return ft.Err
	}
	return nil
}

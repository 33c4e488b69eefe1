// Package waltest has a file system in memory whose operations can be made to
// fail one by one and whose power can be cut.
package waltest

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"promagent/wal"
)

// ErrCrashed is what every operation on a crashed file system returns.
var ErrCrashed = errors.New("the machine has crashed")

// Kind is what an operation does.
type Kind string

// The kinds of operations.
const (
	MkdirAll Kind = "mkdir"
	Create   Kind = "create"
	Open     Kind = "open"
	OpenRW   Kind = "openrw"
	Remove   Kind = "remove"
	Rename   Kind = "rename"
	List     Kind = "list"
	SyncDir  Kind = "syncdir"
	Free     Kind = "free"
	Read     Kind = "read"
	Write    Kind = "write"
	Sync     Kind = "sync"
	Size     Kind = "size"
	Close    Kind = "close"
)

// Op is one operation.
type Op struct {
	N    int // from 0
	Kind Kind
	Name string
	Len  int   // bytes to read or write
	Off  int64 // of the read or write
}

// Fault is how an operation fails. Written says how many bytes of a failing
// write are stored all the same.
type Fault struct {
	Err     error
	Written int
}

// FS is a file system in memory. It implements wal.FS, and its methods may be
// called from any goroutine. Directories last from the moment they are made;
// the entries in them last when the directory has been synced, and the bytes
// of a file when the file has been.
type FS struct {
	mu       sync.Mutex // guards all that follows
	dirs     map[string]bool
	files    map[string]*inode // as a running process sees them
	durable  map[string]*inode // as they are after a crash
	entries  []entryChange     // what the two differ by, in order
	ops      int
	fault    func(Op) *Fault
	rng      *rand.Rand // decides what a failed sync has stored
	capacity int64      // 0: no bound
	full     error      // of a write beyond the capacity; nil: ENOSPC
	readOnly bool
	crashed  bool
	open     int
}

// inode is a file's content.
type inode struct {
	data    []byte // as a running process sees it
	durable []byte // as it is after a crash
	pending []write
}

type write struct {
	off  int64
	data []byte
}

// entryChange is one change of a directory: a name gets an inode, or goes.
type entryChange struct {
	gone string // "": none
	name string // "": none
	node *inode
}

// New returns an empty file system.
func New() *FS {
	return &FS{
		dirs: map[string]bool{"/": true}, files: map[string]*inode{}, durable: map[string]*inode{},
		rng: rand.New(rand.NewPCG(1, 1)),
	}
}

// SetFault makes every operation fail for which f returns a fault; nil ends
// that. f must not call the file system.
func (m *FS) SetFault(f func(Op) *Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// FailOp makes operation n fail with err. Of a write, the first half is stored.
func (m *FS) FailOp(n int, err error) {
	m.SetFault(func(op Op) *Fault {
		if op.N != n {
			return nil
		}
		return &Fault{Err: err, Written: op.Len / 2}
	})
}

// SetCapacity bounds the bytes of all files; a write beyond stores what fits
// and fails with ENOSPC. 0: no bound.
func (m *FS) SetCapacity(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity, m.full = n, nil
}

// SetQuota bounds the bytes of all files as SetCapacity does, but writes beyond
// fail with EDQUOT, and Free does not know of it.
func (m *FS) SetQuota(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity, m.full = n, syscall.EDQUOT
}

// Used is the number of bytes of all files.
func (m *FS) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used()
}

// SetReadOnly makes every operation fail with EROFS that changes something.
func (m *FS) SetReadOnly(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readOnly = on
}

// Ops is the number of operations so far.
func (m *FS) Ops() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// OpenFiles is the number of files that are open.
func (m *FS) OpenFiles() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

// Crash cuts the power. m fails from now on; the file system that is returned
// has what was synced and, chosen by seed, some of the rest: each change of a
// directory is there or not, and each write is there, is not, or ends at any byte.
func (m *FS) Crash(seed uint64) *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed = true
	rng := rand.New(rand.NewPCG(seed, 2))
	for _, c := range m.entries {
		if rng.IntN(2) == 0 {
			c.apply(m.durable)
		}
	}
	after := m.successor(rng)
	for _, name := range slices.Sorted(maps.Keys(m.durable)) {
		n := m.durable[name]
		n.settle(rng)
		after.put(name, n.durable)
	}
	return after
}

// Kill ends the process, not the machine: the file system that is returned
// has all that was written.
func (m *FS) Kill() *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed = true
	after := m.successor(m.rng)
	for name, n := range m.files {
		after.files[name] = n
	}
	maps.Copy(after.durable, m.durable)
	after.entries = slices.Clone(m.entries)
	return after
}

func (m *FS) successor(rng *rand.Rand) *FS {
	after := New()
	after.dirs, after.rng, after.capacity, after.readOnly = maps.Clone(m.dirs), rng, m.capacity, m.readOnly
	return after
}

// put makes a file that lasts. m.mu is held, or m is not shared yet.
func (m *FS) put(name string, b []byte) {
	n := &inode{data: slices.Clone(b), durable: slices.Clone(b)}
	m.files[name], m.durable[name] = n, n
}

// settle stores a share of what a file's last sync did not cover.
func (n *inode) settle(rng *rand.Rand) {
	for _, w := range n.pending {
		switch rng.IntN(3) {
		case 0:
			n.durable = put(n.durable, w.off, w.data)
		case 1:
			n.durable = put(n.durable, w.off, w.data[:rng.IntN(len(w.data)+1)])
		}
	}
	n.pending = nil
}

// put writes data at off; a gap before it reads as zeros.
func put(b []byte, off int64, data []byte) []byte {
	if len(data) == 0 {
		return b
	}
	if end := int(off) + len(data); end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[off:], data)
	return b
}

func (c entryChange) apply(files map[string]*inode) {
	if c.gone != "" {
		delete(files, c.gone)
	}
	if c.name != "" {
		files[c.name] = c.node
	}
}

// in says whether a change is one of directory dir. "" lies in none.
func (c entryChange) in(dir string) bool {
	return c.gone != "" && filepath.Dir(c.gone) == dir || c.name != "" && filepath.Dir(c.name) == dir
}

// ReadFile returns a file's bytes as a process sees them.
func (m *FS) ReadFile(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.files[filepath.Clean(name)]
	if n == nil {
		return nil, pathError(Read, name, syscall.ENOENT)
	}
	return slices.Clone(n.data), nil
}

// WriteFile makes or replaces a file, which lasts at once.
func (m *FS) WriteFile(name string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	m.addDir(filepath.Dir(name))
	m.put(name, b)
}

// Names lists all files, sorted.
func (m *FS) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.files))
}

func pathError(k Kind, name string, err error) error {
	return &fs.PathError{Op: string(k), Path: name, Err: err}
}

var changes = map[Kind]bool{MkdirAll: true, Create: true, OpenRW: true, Remove: true, Rename: true, Write: true}

// begin counts an operation and says whether it is to fail. m.mu is held.
func (m *FS) begin(k Kind, name string, size int, off int64) *Fault {
	if m.crashed {
		return &Fault{Err: pathError(k, name, ErrCrashed)}
	}
	op := Op{N: m.ops, Kind: k, Name: name, Len: size, Off: off}
	m.ops++
	if m.readOnly && changes[k] {
		return &Fault{Err: pathError(k, name, syscall.EROFS)}
	}
	if m.fault == nil {
		return nil
	}
	f := m.fault(op)
	if f == nil {
		return nil
	}
	return &Fault{Err: pathError(k, name, f.Err), Written: min(f.Written, size)}
}

func (m *FS) change(c entryChange) {
	c.apply(m.files)
	m.entries = append(m.entries, c)
}

func (m *FS) addDir(dir string) {
	for ; !m.dirs[dir]; dir = filepath.Dir(dir) {
		m.dirs[dir] = true
	}
}

// MkdirAll makes a directory and those above it.
func (m *FS) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = filepath.Clean(dir)
	if f := m.begin(MkdirAll, dir, 0, 0); f != nil {
		return f.Err
	}
	m.addDir(dir)
	return nil
}

// Create makes a file that is not there.
func (m *FS) Create(name string) (wal.File, error) { return m.openFile(Create, name) }

// Open opens a file for reading.
func (m *FS) Open(name string) (wal.File, error) { return m.openFile(Open, name) }

// OpenRW opens a file for reading and writing, and makes it when it is absent.
func (m *FS) OpenRW(name string) (wal.File, error) { return m.openFile(OpenRW, name) }

func (m *FS) openFile(k Kind, name string) (wal.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if f := m.begin(k, name, 0, 0); f != nil {
		return nil, f.Err
	}
	n := m.files[name]
	switch {
	case n == nil && (k == Open || !m.dirs[filepath.Dir(name)]):
		return nil, pathError(k, name, syscall.ENOENT)
	case n != nil && k == Create:
		return nil, pathError(k, name, syscall.EEXIST)
	case n == nil:
		n = &inode{}
		m.change(entryChange{name: name, node: n})
	}
	m.open++
	return &file{fs: m, name: name, node: n, writable: k != Open}, nil
}

// Remove deletes a file; who has it open can go on using it.
func (m *FS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if f := m.begin(Remove, name, 0, 0); f != nil {
		return f.Err
	}
	if m.files[name] == nil {
		return pathError(Remove, name, syscall.ENOENT)
	}
	m.change(entryChange{gone: name})
	return nil
}

// Rename renames a file and replaces the one that has the new name.
func (m *FS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	if f := m.begin(Rename, from, 0, 0); f != nil {
		return f.Err
	}
	n := m.files[from]
	if n == nil {
		return pathError(Rename, from, syscall.ENOENT)
	}
	m.change(entryChange{gone: from, name: to, node: n})
	return nil
}

// List returns the names of the files in dir, sorted.
func (m *FS) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = filepath.Clean(dir)
	if f := m.begin(List, dir, 0, 0); f != nil {
		return nil, f.Err
	}
	if !m.dirs[dir] {
		return nil, pathError(List, dir, syscall.ENOENT)
	}
	var names []string
	for name := range m.files {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir makes the entries of a directory last.
func (m *FS) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = filepath.Clean(dir)
	if f := m.begin(SyncDir, dir, 0, 0); f != nil {
		return f.Err
	}
	if !m.dirs[dir] {
		return pathError(SyncDir, dir, syscall.ENOENT)
	}
	m.entries = slices.DeleteFunc(m.entries, func(c entryChange) bool {
		if !c.in(dir) {
			return false
		}
		c.apply(m.durable)
		return true
	})
	return nil
}

// Free returns the bytes that can still be written, and the capacity (1 TiB when unbounded).
func (m *FS) Free(dir string) (free, total uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.begin(Free, dir, 0, 0); f != nil {
		return 0, 0, f.Err
	}
	total = uint64(m.capacity)
	if total == 0 || m.full != nil {
		total = 1 << 40
	}
	return total - min(total, uint64(m.used())), total, nil
}

func (m *FS) used() (n int64) {
	for _, f := range m.files {
		n += int64(len(f.data))
	}
	return n
}

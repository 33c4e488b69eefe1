package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
)

const (
	cursorDir    = "cursors"
	cursorSuffix = ".cur"
	cursorMagic  = "PROMACUR"
	slotHeader   = 8 + 4 + 8 + 4 + 4 // magic, version, sequence, length, CRC
	minSlot      = 4096
)

// Cursor is a named position that survives the process: the lowest position
// its owner still needs, and the owner's own state. Set is cheap; Log.Run
// writes what has moved four times a second.
type Cursor struct {
	name string
	path string

	mu       sync.Mutex // guards what follows
	low      Pos
	state    []byte
	set      bool // low and state mean something
	dirty    bool
	file     File
	slotSize int
	sequence uint64
}

// Name is the cursor's name.
func (c *Cursor) Name() string { return c.name }

// Load returns what was last set, in this process or before; ok is false for a new cursor.
func (c *Cursor) Load() (low Pos, state []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.low, slices.Clone(c.state), c.set
}

// Set moves the cursor.
func (c *Cursor) Set(low Pos, state []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.low, c.state, c.set, c.dirty = low, append(c.state[:0], state...), true, true
}

// payload is name, low and state.
func (c *Cursor) payload() []byte {
	b := binary.AppendUvarint(nil, uint64(len(c.name)))
	b = append(b, c.name...)
	b = binary.LittleEndian.AppendUint64(b, c.low.Segment)
	b = binary.LittleEndian.AppendUint32(b, c.low.Offset)
	return append(b, c.state...)
}

var errCursor = errors.New("not a cursor")

func parsePayload(b []byte) (name string, low Pos, state []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || uint64(len(b)-k) < n+12 {
		return "", low, nil, errCursor
	}
	name, b = string(b[k:k+int(n)]), b[k+int(n):]
	low = Pos{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])}
	return name, low, slices.Clone(b[12:]), nil
}

// appendSlot writes one slot, padded to size.
func appendSlot(sequence uint64, payload []byte, size int) []byte {
	b := make([]byte, 0, size)
	b = append(b, cursorMagic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint64(b, sequence)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:size]
}

func parseSlot(b []byte) (sequence uint64, payload []byte, err error) {
	if len(b) < slotHeader || string(b[:8]) != cursorMagic {
		return 0, nil, errCursor
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return 0, nil, fmt.Errorf("%w: format %d", errVersion, v)
	}
	n := int(binary.LittleEndian.Uint32(b[20:]))
	if n > len(b)-slotHeader || crc32.Checksum(b[:24+n], castagnoli) != binary.LittleEndian.Uint32(b[24+n:]) {
		return 0, nil, errCursor
	}
	return binary.LittleEndian.Uint64(b[12:]), b[24 : 24+n], nil
}

// readCursor reads a cursor's file: the newer of its valid slots.
func readCursor(fsys FS, path string) (*Cursor, error) {
	f, err := fsys.OpenRW(path)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil && (size < 2*minSlot || size > 64<<20 || size%2 != 0) {
		err = errCursor
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c := &Cursor{path: path, file: f, slotSize: int(size / 2)}
	err = errCursor
	for _, slot := range [2][]byte{b[:size/2], b[size/2:]} {
		seq, payload, serr := parseSlot(slot)
		if serr != nil || seq < c.sequence {
			continue
		}
		if name, low, state, perr := parsePayload(payload); perr == nil {
			c.name, c.low, c.state, c.set, c.sequence, err = name, low, state, true, seq, nil
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

// flush writes the cursor in place, into the slot that is not the newest.
// The file grows only when the state does not fit.
func (c *Cursor) flush(fsys FS) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		return nil
	}
	payload := c.payload()
	if c.file == nil || len(payload)+slotHeader > c.slotSize {
		if err := c.layOut(fsys, payload); err != nil {
			return err
		}
		c.dirty = false
		return nil
	}
	slot := appendSlot(c.sequence+1, payload, c.slotSize)
	if _, err := c.file.WriteAt(slot, int64((c.sequence+1)%2)*int64(c.slotSize)); err != nil {
		return fmt.Errorf("write cursor %s: %w", c.name, err)
	}
	c.sequence++
	c.dirty = false
	return nil
}

// layOut makes the file with both slots, so that writing in place never needs
// space. A crash leaves the old file or the new one. c.mu is held.
func (c *Cursor) layOut(fsys FS, payload []byte) (err error) {
	size := max(minSlot, c.slotSize)
	for size < 2*len(payload)+slotHeader {
		size *= 2
	}
	temp := c.path + ".tmp"
	f, err := fsys.OpenRW(temp)
	if err != nil {
		return fmt.Errorf("make cursor %s: %w", c.name, err)
	}
	both := append(appendSlot(c.sequence+1, payload, size), appendSlot(c.sequence+2, payload, size)...)
	_, err = f.WriteAt(both, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fsys.Rename(temp, c.path)
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(c.path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make cursor %s: %w", c.name, err), f.Close())
	}
	if c.file != nil {
		c.file.Close() // replaced; nothing of it is needed
	}
	c.file, c.slotSize, c.sequence = f, size, c.sequence+2
	return nil
}

// loadCursors reads the cursors there are. highest is the highest segment one knows of.
func (l *Log) loadCursors() (highest uint64, err error) {
	dir := filepath.Join(l.dir, cursorDir)
	names, err := l.o.FS.List(dir)
	if err != nil {
		return 0, fmt.Errorf("list cursors: %w", err)
	}
	for _, n := range names {
		if !strings.HasSuffix(n, cursorSuffix) {
			continue
		}
		path := filepath.Join(dir, n)
		c, err := readCursor(l.o.FS, path)
		if err != nil {
			l.stats.Corruptions++
			l.o.Logger.Error("A remote's position cannot be read; its file is kept aside", "file", path, "err", err)
			if err := l.o.FS.Rename(path, path+".bad"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return 0, fmt.Errorf("put cursor aside: %w", err)
			}
			continue
		}
		l.cursors[c.name] = c
		highest = max(highest, c.low.Segment)
	}
	return highest, nil
}

// Cursor returns the cursor of that name, a new one when there is none.
func (l *Log) Cursor(name string) (*Cursor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.cursors[name]; c != nil {
		return c, nil
	}
	c := &Cursor{name: name, path: l.cursorPath(name)}
	l.cursors[name] = c
	return c, nil
}

func (l *Log) cursorPath(name string) string {
	return filepath.Join(l.dir, cursorDir, fmt.Sprintf("%016x%s", xxhash.Sum64String(name), cursorSuffix))
}

// Cursors lists the names.
func (l *Log) Cursors() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.cursors))
	for n := range l.cursors {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// RemoveCursor forgets a cursor and deletes its file.
func (l *Log) RemoveCursor(name string) error {
	l.mu.Lock()
	c := l.cursors[name]
	delete(l.cursors, name)
	l.mu.Unlock()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		return nil
	}
	err := errors.Join(c.file.Close(), l.o.FS.Remove(c.path))
	c.file, c.dirty = nil, false
	return err
}

// RenameCursor gives a cursor another name, whose own cursor (if any) goes.
func (l *Log) RenameCursor(from, to string) error {
	l.mu.Lock()
	old := l.cursors[from]
	l.mu.Unlock()
	if old == nil || from == to {
		return nil
	}
	low, state, ok := old.Load()
	if err := l.RemoveCursor(to); err != nil {
		return err
	}
	c, err := l.Cursor(to)
	if err != nil {
		return err
	}
	if ok {
		c.Set(low, state)
		if err := c.flush(l.o.FS); err != nil {
			return err
		}
	}
	return l.RemoveCursor(from)
}

// flushCursors writes the cursors that have moved.
func (l *Log) flushCursors() {
	l.mu.Lock()
	all := make([]*Cursor, 0, len(l.cursors))
	for _, c := range l.cursors {
		all = append(all, c)
	}
	l.mu.Unlock()
	failed := false
	for _, c := range all {
		if err := c.flush(l.o.FS); err != nil {
			if failed = true; !l.cursorsFailing {
				l.o.Logger.Error("A remote's position cannot be written; after a crash more is sent twice", "err", err)
			}
		}
	}
	l.cursorsFailing = failed
}

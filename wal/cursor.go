package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	cursorDir    = "cursors"
	cursorSuffix = ".cur"
	cursorMagic  = "PROMACUR"
	slotHeader   = 8 + 4 + 8 + 4 + 4 // magic, version, sequence, length, CRC
	minSlot      = 4096
	maxSlot      = 32 << 20
	cursorSync   = 5 * time.Second // between two syncs of a cursor
)

// Cursor is a named position that survives the process: the lowest position
// its owner still needs, and the owner's own state. Set is cheap; Log.Run
// writes what has moved four times a second, and when somebody waits for it.
type Cursor struct {
	path  string          // stays when the name changes
	hurry chan<- struct{} // tells Log.Run that somebody waits

	mu    sync.Mutex // guards what follows; never held while the disk works
	name  string     // changes under Log.cursorFiles as well: either is enough to read it
	low   Pos
	state []byte
	set   bool // low and state mean something
	dirty bool

	version uint64        // counts the calls of Set
	written uint64        // the newest version that is in the file
	news    chan struct{} // closed and replaced when an attempt to write has ended; nil: nobody waits
	ill     bool          // the disk: the last attempt failed, or somebody has waited in vain for the one under way

	// Guarded by Log.cursorFiles.
	file     File   // nil until something is written
	slotSize int    // 0: there is no file
	sequence uint64 // of the newest slot
	safe     int    // the slot that is synced, and so is not written to
	unsynced bool   // the other slot is newer
	syncedAt time.Time
	payload  []byte // memory of the last take's
	slot     []byte // and of the last write's
}

// Name is the cursor's name.
func (c *Cursor) Name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name
}

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
	c.version++
}

// Persist has what was last set in the cursor's file, where it survives a kill
// of the process, though not yet a loss of power. It waits for that no longer
// than patience, and says whether it is there. While the disk fails, or has kept
// somebody waiting for longer, it neither waits nor asks more of the disk.
func (c *Cursor) Persist(patience time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	want := c.version
	var timer *time.Timer
	for c.written < want { // an attempt that is under way may have begun before
		if c.ill {
			return false
		}
		if c.news == nil {
			c.news = make(chan struct{})
		}
		news := c.news
		c.mu.Unlock()
		select {
		case c.hurry <- struct{}{}:
		default:
		}
		if timer == nil {
			timer = time.NewTimer(patience)
			defer timer.Stop()
		}
		late := false
		select {
		case <-news:
		case <-timer.C:
			late = true
		}
		c.mu.Lock()
		if late && c.news == news {
			c.ill = true
		}
	}
	return true
}

// take returns the payload and its version when the cursor has moved since the
// last take, whose payload it overwrites. l.cursorFiles is held.
func (c *Cursor) take() (payload []byte, version uint64, moved bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		return nil, 0, false
	}
	c.dirty = false
	c.payload = c.appendPayload(c.payload[:0])
	return c.payload, c.version, true
}

// tried ends an attempt to write a version, and tells those who wait for it.
func (c *Cursor) tried(version uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.written = version
	}
	c.ill = err != nil
	if c.news != nil {
		close(c.news)
		c.news = nil
	}
}

// untake makes the next take return a payload again, if there is one.
func (c *Cursor) untake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirty = c.set
}

// appendPayload appends name, low and state. c.mu is held.
func (c *Cursor) appendPayload(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(c.name)))
	b = append(b, c.name...)
	b = binary.LittleEndian.AppendUint64(b, c.low.Segment)
	b = binary.LittleEndian.AppendUint32(b, c.low.Offset)
	return append(b, c.state...)
}

var errCursor = errors.New("not a cursor")

func parsePayload(b []byte) (name string, low Pos, state []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)) || len(b)-k < int(n)+12 {
		return "", low, nil, errCursor
	}
	name, b = string(b[k:k+int(n)]), b[k+int(n):]
	low = Pos{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])}
	return name, low, slices.Clone(b[12:]), nil
}

// appendSlot appends one slot to b, without what it is padded with.
func appendSlot(b []byte, sequence uint64, payload []byte) []byte {
	begin := len(b)
	b = append(b, cursorMagic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint64(b, sequence)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[begin:], castagnoli))
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
	var b []byte
	if err := twice(func() (err error) { b, err = readSmall(fsys, path); return err }); err != nil {
		return nil, err
	}
	return parseCursor(path, b)
}

// parseCursor reads the bytes of a cursor's file.
func parseCursor(path string, b []byte) (*Cursor, error) {
	half := len(b) / 2
	c := &Cursor{path: path, slotSize: half}
	var errs []error
	for i, slot := range [2][]byte{b[:half], b[half:]} {
		seq, payload, err := parseSlot(slot)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		name, low, state, err := parsePayload(payload)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !c.set || seq > c.sequence {
			c.name, c.low, c.state, c.set, c.sequence, c.safe = name, low, state, true, seq, i
		}
	}
	if !c.set {
		return nil, errors.Join(errs...)
	}
	return c, nil
}

// readSmall reads a cursor's file whole, if it has the size of one.
func readSmall(fsys FS, path string) (b []byte, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size < 2*minSlot || size > 2*maxSlot || size%2 != 0 {
		return nil, fmt.Errorf("%w: %d bytes", errCursor, size)
	}
	b = make([]byte, size)
	_, err = f.ReadAt(b, 0)
	return b, err
}

// flush writes the cursor in place when it has moved, and syncs it every
// cursorSync, or at once when now is set. One slot is synced at any time and
// is not written to, so that power loss cannot take both. The file grows only
// when the state does not fit. l.cursorFiles is held.
func (c *Cursor) flush(fsys FS, now bool) error {
	payload, version, moved := c.take()
	if moved {
		err := c.write(fsys, payload)
		if err != nil {
			c.untake()
		}
		c.tried(version, err)
		if err != nil {
			return err
		}
	}
	if !c.unsynced || !now && time.Since(c.syncedAt) < cursorSync {
		return nil
	}
	if err := c.sync(); err != nil {
		c.untake()
		return err
	}
	return nil
}

// write puts the payload into the slot that is not the synced one. l.cursorFiles is held.
func (c *Cursor) write(fsys FS, payload []byte) error {
	if len(payload)+slotHeader > maxSlot {
		return fmt.Errorf("write cursor %s: a state of %d bytes is too large", c.name, len(payload))
	}
	if len(payload)+slotHeader > c.slotSize {
		return c.layOut(fsys, payload)
	}
	if c.file == nil {
		if ok, err := c.reopen(fsys); err != nil {
			return err
		} else if !ok {
			return c.layOut(fsys, payload)
		}
	}
	c.slot = slices.Grow(c.slot[:0], c.slotSize)[:c.slotSize]
	clear(c.slot[len(appendSlot(c.slot[:0], c.sequence+1, payload)):])
	if _, err := c.file.WriteAt(c.slot, int64(1-c.safe)*int64(c.slotSize)); err != nil {
		return fmt.Errorf("write cursor %s: %w", c.name, err)
	}
	c.sequence++
	c.unsynced = true
	return nil
}

// reopen opens the file of an earlier process; ok is false when it is not as
// it was when it was read. l.cursorFiles is held.
func (c *Cursor) reopen(fsys FS) (ok bool, err error) {
	f, err := fsys.OpenRW(c.path)
	if err != nil {
		return false, fmt.Errorf("open cursor %s: %w", c.name, err)
	}
	size, err := f.Size()
	if err == nil && size == 2*int64(c.slotSize) {
		c.file = f
		// The newest slot may be in the page cache only, and the other is about
		// to be written.
		if err := f.Sync(); err != nil {
			return false, c.distrust(err)
		}
		c.syncedAt = time.Now()
		return true, nil
	}
	return false, errors.Join(err, f.Close())
}

// sync makes the slot last that was written. l.cursorFiles is held.
func (c *Cursor) sync() error {
	if err := c.file.Sync(); err != nil {
		return c.distrust(err)
	}
	c.safe, c.unsynced, c.syncedAt = 1-c.safe, false, time.Now()
	return nil
}

// distrust lets go of a file that could not be synced: nobody knows what is in
// it, so the next write makes another. l.cursorFiles is held.
func (c *Cursor) distrust(err error) error {
	f := c.file
	c.file, c.slotSize, c.unsynced = nil, 0, false
	return errors.Join(fmt.Errorf("sync cursor %s: %w", c.name, err), f.Close())
}

// layOut makes the file with both slots, so that writing in place never needs
// space. A crash leaves the old file or the new one. l.cursorFiles is held.
func (c *Cursor) layOut(fsys FS, payload []byte) (err error) {
	size := max(minSlot, c.slotSize)
	for size < 2*len(payload)+slotHeader && size < maxSlot {
		size *= 2
	}
	temp := c.path + ".tmp"
	// What an earlier attempt has left may be longer than what is written now.
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make cursor %s: %w", c.name, err)
	}
	f, err := fsys.Create(temp)
	if err != nil {
		return fmt.Errorf("make cursor %s: %w", c.name, err)
	}
	both := make([]byte, 2*size)
	appendSlot(both[:0], c.sequence+1, payload)
	appendSlot(both[size:size], c.sequence+2, payload)
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
	c.safe, c.unsynced, c.syncedAt = 1, false, time.Now()
	return nil
}

// close closes the file; a write opens it again. l.cursorFiles is held.
func (c *Cursor) close() error {
	if c.file == nil {
		return nil
	}
	f := c.file
	c.file, c.unsynced = nil, false
	return f.Close()
}

// remove deletes the file, for good. l.cursorFiles is held.
func (c *Cursor) remove(fsys FS) error {
	err := c.close()
	if rerr := fsys.Remove(c.path); !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return errors.Join(err, fsys.SyncDir(filepath.Dir(c.path)))
}

// loadCursors reads the cursors there are. highest is the highest segment one knows of.
func (l *Log) loadCursors() (highest uint64, err error) {
	dir := filepath.Join(l.dir, cursorDir)
	names, err := l.o.FS.List(dir)
	if err != nil {
		return 0, fmt.Errorf("list cursors: %w", err)
	}
	var found []*Cursor
	for _, n := range names {
		if !strings.HasSuffix(n, cursorSuffix) {
			continue
		}
		path := filepath.Join(dir, n)
		c, err := readCursor(l.o.FS, path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // removed meanwhile
		case err != nil && !lostBytes(err) && !errors.Is(err, errCursor) && !errors.Is(err, errVersion):
			return 0, fmt.Errorf("read cursor: %w", err) // it may be readable next time
		case err != nil:
			l.stats.Corruptions++
			l.o.Logger.Error("A remote's position cannot be read; its file is kept aside", "file", path, "err", err)
			if err := l.o.FS.Rename(path, path+".bad"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return 0, fmt.Errorf("put cursor aside: %w", err)
			}
			continue
		}
		found = append(found, c)
		highest = max(highest, l.newestPoint(c))
	}
	found, err = l.loadRenames(found)
	for _, c := range found {
		c.hurry = l.hurry
		l.cursors[c.name] = c
	}
	return highest, err
}

// newestPoint is the highest segment that a cursor speaks of.
func (l *Log) newestPoint(c *Cursor) uint64 {
	highest := c.low.Segment
	if l.o.Points == nil {
		return highest
	}
	points, err := l.o.Points(c.state)
	if err != nil { // its owner will begin elsewhere
		return highest
	}
	for _, p := range points {
		highest = max(highest, p.Segment)
	}
	return highest
}

// Cursor returns the cursor of that name, a new one when there is none.
func (l *Log) Cursor(name string) *Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.cursors[name]; c != nil {
		return c
	}
	c := &Cursor{name: name, path: l.cursorPath(name), hurry: l.hurry}
	l.cursors[name] = c
	return c
}

// cursorPath is the file of a new cursor. A cursor that was renamed keeps its
// file, which may be the one that the name suggests. l.mu is held.
func (l *Log) cursorPath(name string) string {
	others := l.allCursors()
	if l.renames != nil {
		others = append(others, l.renames.gone...)
	}
	base := filepath.Join(l.dir, cursorDir, fmt.Sprintf("%016x", xxhash.Sum64String(name)))
	path := base + cursorSuffix
	for n := 2; slices.ContainsFunc(others, func(c *Cursor) bool { return c.path == path }); n++ {
		path = fmt.Sprintf("%s-%d%s", base, n, cursorSuffix)
	}
	return path
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

// RemoveCursor forgets a cursor and deletes its file. With an error it is kept.
func (l *Log) RemoveCursor(name string) error {
	l.cursorFiles.Lock()
	defer l.cursorFiles.Unlock()
	if err := l.finishRenames(); err != nil { // they go by the files' names
		return err
	}
	l.mu.Lock()
	c := l.cursors[name]
	l.mu.Unlock()
	if c == nil {
		return nil
	}
	if err := c.remove(l.o.FS); err != nil {
		c.untake() // the file may be gone
		return fmt.Errorf("remove cursor %s: %w", name, err)
	}
	l.mu.Lock()
	delete(l.cursors, name)
	l.mu.Unlock()
	return nil
}

// allCursors lists the cursors. l.mu is held.
func (l *Log) allCursors() []*Cursor {
	return slices.Collect(maps.Values(l.cursors))
}

// SaveCursors writes the cursors now, and syncs them. Failures are logged, and
// made up for by the writes that come anyway.
func (l *Log) SaveCursors() { l.flushCursors(true) }

// flushCursors writes the cursors that have moved, and syncs them all when now is set.
func (l *Log) flushCursors(now bool) {
	l.cursorFiles.Lock()
	defer l.cursorFiles.Unlock()
	l.mu.Lock()
	all := l.allCursors()
	l.mu.Unlock()
	var errs []error
	if err := l.finishRenames(); err != nil {
		errs = append(errs, err)
	}
	for _, c := range all {
		if err := c.flush(l.o.FS, now); err != nil {
			errs = append(errs, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(errs) > 0 && !l.cursorsFailing {
		l.o.Logger.Error("A remote's position cannot be written; after a crash more is sent twice", "err", errors.Join(errs...))
	}
	l.cursorsFailing = len(errs) > 0
}

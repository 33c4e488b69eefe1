package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
)

// renamesFile holds the renames that are not in the cursors' own files yet. It
// is laid out as a cursor's file, and is none by its suffix.
const renamesFile = "renames"

// rename is what happens to a cursor's file: its cursor gets another name, or
// gives its name up to another. It applies while the file has the name from,
// so that doing it twice does no harm.
type rename struct {
	file     string // without directory
	from, to string // to "": the file goes
}

// renames are renames in force whose file waits to be removed.
type renames struct {
	journal *Cursor
	moved   []*Cursor
	gone    []*Cursor // whose names others have taken
}

func appendRenames(b []byte, all []rename) []byte {
	for _, r := range all {
		for _, s := range []string{r.file, r.from, r.to} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	}
	return b
}

func parseRenames(b []byte) (all []rename, err error) {
	for len(b) > 0 {
		var r rename
		for _, s := range []*string{&r.file, &r.from, &r.to} {
			n, k := binary.Uvarint(b)
			if k <= 0 || n > uint64(len(b)-k) {
				return nil, fmt.Errorf("%w: renames", errCursor)
			}
			*s, b = string(b[k:k+int(n)]), b[k+int(n):]
		}
		all = append(all, r)
	}
	return all, nil
}

// RenameCursors gives cursors other names, from key to value, all of them or,
// with an error, none, whatever crashes in between; two may swap theirs. Who
// holds a Cursor goes on with it. A cursor that had one of the new names, and
// gets no other, is removed. Names without a cursor are left out. A value must
// not appear twice.
func (l *Log) RenameCursors(to map[string]string) error {
	l.cursorFiles.Lock()
	defer l.cursorFiles.Unlock()
	if err := l.finishRenames(); err != nil {
		return err
	}
	w := &renames{}
	var names []string // of moved
	var all []rename
	l.mu.Lock()
	for _, from := range slices.Sorted(maps.Keys(to)) {
		name := to[from]
		c := l.cursors[from]
		if c == nil || name == from {
			continue
		}
		w.moved, names = append(w.moved, c), append(names, name)
		all = append(all, rename{filepath.Base(c.path), from, name})
		if c := l.cursors[name]; c != nil && (to[name] == "" || to[name] == name) {
			w.gone = append(w.gone, c)
			all = append(all, rename{filepath.Base(c.path), name, ""})
		}
	}
	l.mu.Unlock()
	if len(w.moved) == 0 {
		return nil
	}
	w.journal = l.newJournal(appendRenames(nil, all))
	if err := errors.Join(w.journal.flush(l.o.FS, true), w.journal.close()); err != nil {
		// It may be on disk all the same: nothing else gets a name before it is gone.
		l.setRenames(&renames{journal: w.journal})
		return fmt.Errorf("rename cursors: %w", errors.Join(err, l.finishRenames()))
	}
	l.mu.Lock()
	for _, c := range w.gone {
		delete(l.cursors, c.name)
	}
	for _, c := range w.moved {
		delete(l.cursors, c.name)
	}
	for i, c := range w.moved {
		c.rename(names[i])
		l.cursors[c.name] = c
	}
	l.renames = w
	l.mu.Unlock()
	// In force from here on: what fails now is tried again with the next flush,
	// which says so.
	_ = l.finishRenames()
	return nil
}

func (l *Log) newJournal(state []byte) *Cursor {
	c := &Cursor{name: renamesFile, path: filepath.Join(l.dir, cursorDir, renamesFile)}
	c.Set(Pos{}, state)
	return c
}

// rename gives the cursor another name, in memory. Log.cursorFiles is held, or
// the log is not shared yet.
func (c *Cursor) rename(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.name, c.dirty = name, c.set
}

// finishRenames puts the renames in force into the cursors' own files and
// removes theirs. l.cursorFiles is held.
func (l *Log) finishRenames() error {
	w := l.renames
	if w == nil {
		return nil
	}
	var errs []error
	for _, c := range w.moved {
		errs = append(errs, c.flush(l.o.FS, true))
	}
	for _, c := range w.gone {
		errs = append(errs, c.remove(l.o.FS))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("finish renaming cursors: %w", err)
	}
	if err := w.journal.remove(l.o.FS); err != nil {
		return fmt.Errorf("finish renaming cursors: %w", err)
	}
	l.setRenames(nil)
	return nil
}

// setRenames says what waits. l.cursorFiles is held.
func (l *Log) setRenames(w *renames) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renames = w
}

// loadRenames puts into force, in memory, what an earlier process did not get
// to write into the files of the cursors found; it returns those that stay. l
// is not shared yet.
func (l *Log) loadRenames(found []*Cursor) ([]*Cursor, error) {
	w := &renames{journal: l.newJournal(nil)}
	j, err := readCursor(l.o.FS, w.journal.path)
	var all []rename
	if err == nil {
		all, err = parseRenames(j.state)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return found, nil
	case err != nil && !lostBytes(err) && !errors.Is(err, errCursor) && !errors.Is(err, errVersion):
		return nil, fmt.Errorf("read renames of cursors: %w", err) // they may be readable next time
	case err != nil:
		l.stats.Corruptions++
		l.o.Logger.Error("Names of positions cannot be read; remotes may go on at each other's", "file", w.journal.path, "err", err)
	}
	for _, r := range all {
		i := slices.IndexFunc(found, func(c *Cursor) bool { return filepath.Base(c.path) == r.file && c.name == r.from })
		if i < 0 {
			continue
		}
		if r.to == "" {
			w.gone = append(w.gone, found[i])
			found = slices.Delete(found, i, i+1)
			continue
		}
		found[i].rename(r.to)
		w.moved = append(w.moved, found[i])
	}
	l.renames = w
	return found, nil
}

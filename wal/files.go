package wal

import "sync"

// maxReadFiles bounds the files that are kept open for reading.
const maxReadFiles = 8

// readFiles keeps files open between reads. A deleted segment's file is let
// go at once: an open one would keep its space.
type readFiles struct {
	mu   sync.Mutex // guards what follows
	open []*readFile
}

type readFile struct {
	id    uint64
	file  File
	users int
	drop  bool
}

// get returns the open file of a segment, which must be released after use.
func (r *readFiles) get(fs FS, id uint64, path string) (*readFile, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, c := range r.open {
		if c.id == id && !c.drop {
			c.users++
			copy(r.open[1:i+1], r.open[:i]) // newest first
			r.open[0] = c
			return c, nil
		}
	}
	file, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	c := &readFile{id: id, file: file, users: 1}
	r.open = append([]*readFile{c}, r.open...)
	for i := len(r.open) - 1; i >= maxReadFiles; i-- {
		r.letGo(i)
	}
	return c, nil
}

func (r *readFiles) release(c *readFile) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.users--; c.users == 0 && c.drop {
		c.file.Close() // opened for reading: nothing can be lost
	}
}

// letGo takes file i out; it is closed when its last user is done. r.mu is held.
func (r *readFiles) letGo(i int) {
	c := r.open[i]
	r.open = append(r.open[:i], r.open[i+1:]...)
	if c.drop = true; c.users == 0 {
		c.file.Close()
	}
}

// forget lets go of a segment's file.
func (r *readFiles) forget(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.open) - 1; i >= 0; i-- {
		if r.open[i].id == id {
			r.letGo(i)
		}
	}
}

// close lets go of all files.
func (r *readFiles) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.open) - 1; i >= 0; i-- {
		r.letGo(i)
	}
}

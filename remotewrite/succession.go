package remotewrite

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"promagent/wal"
	"promagent/wal/record"
)

// identities numbers blocks of equal identity in the file's order.
func identities(cfgs []Config) []string {
	ids := make([]string, len(cfgs))
	seen := map[string]int{}
	for i := range cfgs {
		id := cfgs[i].Identity()
		if seen[id]++; seen[id] > 1 {
			ids[i] = id + "#" + strconv.Itoa(seen[id])
		} else {
			ids[i] = id
		}
	}
	return ids
}

// unnumbered is an identity without the number that identities gave it.
func unnumbered(id string) string {
	if i := strings.LastIndexByte(id, '#'); i >= 0 {
		if _, err := strconv.Atoi(id[i+1:]); err == nil {
			return id[:i]
		}
	}
	return id
}

// place is where a remote's position is: its cursor's name, and the block that
// it was delivered under; nil when that was in an earlier process.
type place struct {
	identity string
	cfg      *Config
}

// moves says which cursors get other names, from key to value, so that every
// position follows its remote: blocks of equal identity may have changed
// places, and a block whose name or URL was edited takes the position over that
// nobody else has any more. m.reloading is held.
func (m *Manager) moves(cfgs []Config, ids, known []string) map[string]string {
	moves := m.renumbered(cfgs, ids)
	final := func(id string) string {
		if to, ok := moves[id]; ok {
			return to
		}
		return id
	}
	has := map[string]bool{}
	for _, id := range known {
		has[final(id)] = true
	}
	var fresh []int
	for i, id := range ids {
		if !has[id] {
			fresh = append(fresh, i)
		}
	}
	var left []place
	for _, r := range m.remotes {
		if !slices.Contains(ids, final(r.identity)) {
			left = append(left, place{r.identity, r.cfg})
		}
	}
	if len(m.remotes) == 0 { // at the start: what the process before has left
		for _, id := range known {
			if !slices.Contains(ids, id) {
				left = append(left, place{identity: id})
			}
		}
	}
	take := func(i int, p place) {
		moves[p.identity] = ids[i]
		m.o.Logger.Info("A remote takes over the position of the one that it replaces", "new", ids[i], "old", p.identity)
	}
	for _, same := range []func(*Config, place) bool{sameURL, sameName, sameButURL} {
		fresh = slices.DeleteFunc(fresh, func(i int) bool {
			n := slices.IndexFunc(left, func(p place) bool { return same(&cfgs[i], p) })
			if n < 0 {
				return false
			}
			take(i, left[n])
			left = slices.Delete(left, n, n+1)
			return true
		})
	}
	if len(fresh) == 1 && len(left) == 1 {
		take(fresh[0], left[0])
	}
	return moves
}

// sameURL says whether only the name tells the two apart: URL and tenant are the same.
func sameURL(cfg *Config, p place) bool {
	c := *cfg
	c.Name = ""
	if p.cfg == nil {
		return c.Identity() == unnumbered(p.identity)
	}
	was := *p.cfg
	was.Name = ""
	return c.Identity() == was.Identity()
}

func sameName(cfg *Config, p place) bool { return p.cfg != nil && p.cfg.RemoteName == cfg.RemoteName }

// sameButURL says whether nothing but the URL was edited, and what follows from it.
func sameButURL(cfg *Config, p place) bool {
	if p.cfg == nil {
		return false
	}
	c := *cfg
	c.URL, c.Hash, c.RemoteName = p.cfg.URL, p.cfg.Hash, p.cfg.RemoteName
	return c.Equal(p.cfg)
}

// renumbered are the moves of remotes with blocks of equal identity whose
// blocks have moved in the file. m.reloading is held.
func (m *Manager) renumbered(cfgs []Config, ids []string) map[string]string {
	moves := map[string]string{}
	taken := map[string]bool{}
	for i := range cfgs {
		for _, r := range m.remotes {
			if _, moved := moves[r.identity]; !moved && r.identity != ids[i] && r.cfg.Equal(&cfgs[i]) {
				moves[r.identity], taken[ids[i]] = ids[i], true
				break
			}
		}
	}
	var free []place
	for _, r := range m.remotes {
		if _, moved := moves[r.identity]; moved && !taken[r.identity] {
			free = append(free, place{r.identity, r.cfg})
		}
	}
	for _, r := range m.remotes { // those whose numbers are wanted get the ones left
		if _, moved := moves[r.identity]; moved || !taken[r.identity] {
			continue
		}
		i := max(0, slices.IndexFunc(free, func(p place) bool { return p.cfg.Identity() == r.cfg.Identity() }))
		moves[r.identity] = free[i].identity
		free = slices.Delete(free, i, i+1)
	}
	return moves
}

// unmoved are the names that the blocks' positions have when nothing has moved.
func unmoved(ids []string, moves map[string]string) []string {
	from := map[string]string{}
	for was, id := range moves {
		from[id] = was
	}
	out := slices.Clone(ids)
	for i, id := range ids {
		if was, ok := from[id]; ok {
			out[i] = was
			continue
		}
		for moves[id] != "" { // its name is kept by another: the one at the end of the chain is free
			id = moves[id]
		}
		out[i] = id
	}
	return out
}

// settle gives every block its position, and returns the names of their
// cursors, the cursors, and which were renamed. A remote without a position
// begins at the log's end as it is now, or at its oldest record. It works on files, which may take
// long. m.reloading is held.
func (m *Manager) settle(cfgs []Config) (ids []string, cursors []*wal.Cursor, moves map[string]string) {
	log := m.store.Log()
	known := log.Cursors()
	before := make([]*wal.Cursor, len(known))
	for i, id := range known {
		before[i] = log.Cursor(id)
	}
	ids = identities(cfgs)
	moves = m.moves(cfgs, ids, known)
	if err := log.RenameCursors(moves); err != nil {
		m.o.Logger.Error("The positions of remotes could not be renamed; the next reload tries it again", "err", err)
		ids, moves = unmoved(ids, moves), nil
	}
	replaced := map[string]bool{}
	for _, id := range moves {
		replaced[id] = moves[id] == ""
	}
	for i, id := range known {
		now := id
		if to, ok := moves[id]; ok {
			now = to
		}
		switch {
		case replaced[id]:
			m.sayUndelivered("The position of a remote that is gone is given up: another has its number", id, m.undelivered(id, before[i]))
		case !slices.Contains(ids, now) && m.orphans[id].IsZero():
			m.sayUndelivered("A remote is gone; its position is kept for a while", now, m.undelivered(id, before[i]))
		}
	}
	begun := false
	for i, id := range ids {
		c := log.Cursor(id)
		if _, _, ok := c.Load(); !ok {
			s := beginning(m.store, &cfgs[i])
			c.Set(s.Low(), s.AppendTo(nil))
			begun = true
		}
		cursors = append(cursors, c)
	}
	if begun {
		log.SaveCursors() // else a kill would make the remote begin once more, further on
	}
	return ids, cursors, moves
}

// beginning is the state of an endpoint that has none: that of one which begins
// at the log's end, or at its oldest record.
func beginning(store *record.Store, cfg *Config) State {
	at, before := end(store)
	if cfg.FromOldest {
		at, before = oldest(store)
	}
	return beginningAt(at, before, cfg)
}

// beginningAt is the state of an endpoint that begins at a place with so many
// samples before it.
func beginningAt(at wal.Pos, before uint64, cfg *Config) State {
	s := State{Spans: []Span{{Run, at, at, before}}, Passed: before}
	for range max(1, cfg.Queue.MinShards) {
		s.Ats = append(s.Ats, s.Spans[0].begin())
	}
	return s
}

// end is where the log ends, and the samples before.
func end(store *record.Store) (wal.Pos, uint64) {
	for {
		total, end := store.Total(), store.End()
		if store.Total() == total { // the two belong together
			return end, total
		}
	}
}

// oldest is where the log begins, and the samples that were before.
func oldest(store *record.Store) (wal.Pos, uint64) {
	for {
		at := store.Log().Oldest()
		if before, ok := store.Before(at.Segment); ok { // else it has just been deleted
			return at, before
		}
	}
}

// from is the first place in the log that is not before low, and the samples
// before it. With an error it is the beginning of low's segment.
func from(store *record.Store, low wal.Pos) (at wal.Pos, passed uint64, err error) {
	for {
		at = store.Log().Next(low)
		start := store.Log().Next(wal.Pos{Segment: at.Segment})
		passed, ok := store.Before(start.Segment)
		if !ok || start.Segment != at.Segment { // it has just been deleted
			continue
		}
		within := uint64(0)
		for p := start; p.Less(at); {
			entries, next, err := store.Entries(nil, p, entriesAtOnce)
			if err != nil {
				return start, passed, fmt.Errorf("count samples of segment %d: %w", start.Segment, err)
			}
			for _, e := range entries {
				if e.Pos.Less(at) {
					within += uint64(e.Samples)
				}
			}
			if next == p {
				break
			}
			p = next
		}
		return at, passed + within, nil
	}
}

// sayUndelivered logs what has become of a position, loudly when its remote
// has not got so many samples.
func (m *Manager) sayUndelivered(what, id string, samples uint64) {
	level := slog.LevelInfo
	if samples > 0 {
		level = slog.LevelWarn
	}
	m.o.Logger.Log(context.Background(), level, what, "remote", id, "undelivered_samples", samples)
}

// undelivered is how many samples of the log a remote has not got.
func (m *Manager) undelivered(id string, c *wal.Cursor) uint64 {
	m.mu.Lock()
	var d *delivery
	for _, r := range m.remotes {
		if r.identity == id {
			d = r.delivery
		}
	}
	m.mu.Unlock()
	if d != nil {
		if a, ok := d.demand(time.Now()); ok {
			return a.behind
		}
	}
	return pending(c, m.store)
}

// pending is how many of the log's samples the remote of a cursor has not got,
// as the cursor says.
func pending(c *wal.Cursor, store *record.Store) uint64 {
	low, b, ok := c.Load()
	if !ok {
		return 0
	}
	var p Progress
	if p.Decode(b) == nil {
		return p.Pending(store.Total())
	}
	_, passed, _ := from(store, low) // an error is told when the delivery begins
	return store.Total() - min(passed, store.Total())
}

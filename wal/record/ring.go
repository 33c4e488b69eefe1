package record

import (
	"slices"
	"sync"

	"promagent/template"
	"promagent/wal"
)

// ring keeps the newest parts decoded, so that who keeps up with the log
// never decodes. Parts are immutable once they are in. While nobody reads what
// it has, as in an outage, it keeps nothing.
type ring struct {
	limit int64 // bytes

	mu     sync.Mutex // guards what follows
	parts  map[wal.Pos]*ringPart
	order  []wal.Pos // by arrival; the oldest goes first
	bytes  int64
	low    wal.Pos // reading from here on is reading what the ring has, or would have
	unread int64   // bytes offered since somebody did
	last   int64   // time of the newest part, ms
}

type ringPart struct {
	part  template.Part
	time  int64
	bytes int64
}

// put copies a part in, if anybody wants it.
func (r *ring) put(pos wal.Pos, p *template.Part, t int64) {
	size := int64(128 + len(p.States) + 8*(len(p.Values)+len(p.Times)+len(p.Starts)) + 96*len(p.Extra))
	if !r.offer(pos, size, t) {
		return
	}
	c := &ringPart{time: t, bytes: size, part: template.Part{
		Block: p.Block, States: slices.Clone(p.States), Values: slices.Clone(p.Values), Times: slices.Clone(p.Times),
		Starts: slices.Clone(p.Starts), Extra: cloneExtra(p.Extra),
	}}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parts == nil {
		r.parts, r.low = map[wal.Pos]*ringPart{}, pos
	}
	r.parts[pos] = c
	r.order = append(r.order, pos)
	r.bytes += size
	for r.bytes > r.limit && len(r.order) > 1 {
		r.bytes -= r.parts[r.order[0]].bytes
		delete(r.parts, r.order[0])
		r.order = r.order[1:]
		r.low = r.order[0]
	}
}

// offer says whether anybody wants a part: when as much as the ring holds has
// come since somebody read of it, nobody does, and the ring lets go of all.
func (r *ring) offer(pos wal.Pos, size, t int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.last, t)
	r.unread += size
	if r.unread <= max(r.limit, size) {
		return true
	}
	r.parts, r.order, r.bytes, r.low = nil, nil, 0, pos
	return false
}

func cloneExtra(x []template.Extra) []template.Extra {
	c := slices.Clone(x)
	for i := range c {
		c[i].Labels = slices.Clone(c[i].Labels)
	}
	return c
}

// get returns the part at pos, nil when it is not here.
func (r *ring) get(pos wal.Pos) *ringPart {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !pos.Less(r.low) {
		r.unread = 0
	}
	return r.parts[pos]
}

func (r *ring) newest() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

package record

import (
	"cmp"
	"container/list"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"
	"weak"

	"promagent/template"
	"promagent/wal"
)

// content identifies an anchor by what it says.
type content [16]byte

func contentOf(anchor []byte) (c content) {
	sum := sha256.Sum256(anchor)
	copy(c[:], sum[:])
	return c
}

// maxAnchors bounds the anchors that are known by position.
const maxAnchors = 1 << 16

// blocks finds the block of an anchor without decoding it where it can: the
// one that a scrape still uses, whichever segment or process anchored it, or
// one decoded before. It keeps alive only what was decoded last.
type blocks struct {
	limit int64 // bytes of decoded blocks

	mu        sync.Mutex // guards what follows
	byAnchor  map[wal.Pos]weak.Pointer[template.Block]
	byContent map[content]weak.Pointer[template.Block]
	sweepAt   int // number of entries at which the useless are swept out
	decoded   map[*template.Block]*list.Element
	order     list.List // of *template.Block, last used first
	bytes     int64
}

// find returns the block anchored at id, nil when it is not known.
func (c *blocks) find(id wal.Pos) *template.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.useLocked(c.byAnchor[id].Value())
}

// same returns the block of an equal anchor and notes that it is at id, too;
// nil when there is none.
func (c *blocks) same(id wal.Pos, what content, oldest uint64) *template.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.byContent[what].Value()
	if b != nil {
		c.registerLocked(id, what, b, oldest)
	}
	return c.useLocked(b)
}

// useLocked makes b the last used one.
func (c *blocks) useLocked(b *template.Block) *template.Block {
	if e := c.decoded[b]; e != nil {
		c.order.MoveToFront(e)
	}
	return b
}

// register notes that b is anchored at id. It does not keep b alive. oldest is
// the log's oldest segment.
func (c *blocks) register(id wal.Pos, what content, b *template.Block, oldest uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.registerLocked(id, what, b, oldest)
}

func (c *blocks) registerLocked(id wal.Pos, what content, b *template.Block, oldest uint64) {
	if c.byAnchor == nil {
		c.byAnchor, c.byContent = map[wal.Pos]weak.Pointer[template.Block]{}, map[content]weak.Pointer[template.Block]{}
		c.decoded, c.sweepAt = map[*template.Block]*list.Element{}, 1024
	}
	c.byAnchor[id], c.byContent[what] = weak.Make(b), weak.Make(b)
	if len(c.byAnchor)+len(c.byContent) < c.sweepAt {
		return
	}
	maps.DeleteFunc(c.byContent, func(_ content, w weak.Pointer[template.Block]) bool { return w.Value() == nil })
	maps.DeleteFunc(c.byAnchor, func(id wal.Pos, w weak.Pointer[template.Block]) bool {
		return id.Segment < oldest || w.Value() == nil
	})
	if len(c.byAnchor) > maxAnchors { // those of the oldest segments are found by their content
		all := slices.SortedFunc(maps.Keys(c.byAnchor), func(a, b wal.Pos) int { return cmp.Compare(a.Segment, b.Segment) })
		for _, id := range all[:len(all)-maxAnchors/2] {
			delete(c.byAnchor, id)
		}
	}
	c.sweepAt = max(1024, 2*(len(c.byAnchor)+len(c.byContent)))
}

// keep remembers a decoded block, and forgets the one unused for longest when
// there are too many.
func (c *blocks) keep(id wal.Pos, what content, b *template.Block, oldest uint64) *template.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.byContent[what].Value(); other != nil { // decoded meanwhile by another reader
		b = other
	}
	c.registerLocked(id, what, b, oldest)
	if c.decoded[b] != nil {
		return c.useLocked(b)
	}
	c.decoded[b] = c.order.PushFront(b)
	c.bytes += int64(b.Size())
	for c.bytes > c.limit && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Back()).(*template.Block)
		delete(c.decoded, old)
		c.bytes -= int64(old.Size())
	}
	return b
}

package record

import (
	"container/list"
	"sync"
	"weak"

	"promagent/template"
	"promagent/wal"
)

// blocks finds the block of an anchor: the one that a scrape still uses, or
// one decoded before.
type blocks struct {
	limit int64 // bytes of decoded blocks

	mu      sync.Mutex // guards what follows
	live    map[wal.Pos]weak.Pointer[template.Block]
	sweepAt int // size of live at which the dead are swept out
	decoded map[wal.Pos]*list.Element
	order   list.List // of *decodedBlock, last used first
	bytes   int64
}

type decodedBlock struct {
	id    wal.Pos
	block *template.Block
	bytes int64
}

// register notes that b is anchored at id. It does not keep b alive.
func (c *blocks) register(id wal.Pos, b *template.Block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live == nil {
		c.live, c.sweepAt = map[wal.Pos]weak.Pointer[template.Block]{}, 1024
	}
	c.live[id] = weak.Make(b)
	if len(c.live) < c.sweepAt {
		return
	}
	for id, w := range c.live {
		if w.Value() == nil {
			delete(c.live, id)
		}
	}
	c.sweepAt = max(1024, 2*len(c.live))
}

// find returns the block anchored at id, nil when it is not known.
func (c *blocks) find(id wal.Pos) *template.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w, ok := c.live[id]; ok {
		if b := w.Value(); b != nil {
			return b
		}
	}
	if e := c.decoded[id]; e != nil {
		c.order.MoveToFront(e)
		return e.Value.(*decodedBlock).block
	}
	return nil
}

// keep remembers a decoded block whose encoding had the given size.
func (c *blocks) keep(id wal.Pos, b *template.Block, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.decoded == nil {
		c.decoded = map[wal.Pos]*list.Element{}
	}
	if _, ok := c.decoded[id]; ok {
		return
	}
	c.decoded[id] = c.order.PushFront(&decodedBlock{id, b, bytes})
	c.bytes += bytes
	for c.bytes > c.limit && c.order.Len() > 1 {
		d := c.order.Remove(c.order.Back()).(*decodedBlock)
		delete(c.decoded, d.id)
		c.bytes -= d.bytes
	}
}

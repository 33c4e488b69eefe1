package template

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// SeriesHasher hashes the series of blocks, one block after the other. The zero
// value is ready to use. It is not for concurrent use.
type SeriesHasher struct {
	block   *Block
	schemas []schemaHash
}

// schemaHash is what the series of a schema have in common.
type schemaHash struct {
	known bool
	base  uint64   // of the metric's name and the target's labels
	names []uint64 // of the schema's labels
}

// Hash is a hash of the complete labels of the iterator's slot, as Series puts
// them together: equal for equal labels, whichever block they are in, and the
// same in every process. The low bits are as good as the high ones.
func (h *SeriesHasher) Hash(it *Slots) uint64 {
	if h.block != it.b {
		h.block = it.b
		h.schemas = append(h.schemas[:0], make([]schemaHash, len(it.b.Schemas))...)
	}
	sh := &h.schemas[it.Schema]
	if !sh.known {
		sh.learn(it.b.Schemas[it.Schema], it.b.Target)
	}
	sum := sh.base
	for i, v := range it.Values {
		sum += labelHash(sh.names[i], it.b.String(v))
	}
	return sum
}

func (sh *schemaHash) learn(sc *Schema, target labels.Labels) {
	sh.known = true
	own := map[string]bool{model.MetricNameLabel: true}
	for _, name := range sc.Labels {
		own[name] = true
		sh.names = append(sh.names, xxhash.Sum64String(name))
	}
	sh.base = labelHash(xxhash.Sum64String(model.MetricNameLabel), sc.Name)
	if sc.Whole {
		return
	}
	target.Range(func(l labels.Label) {
		if !own[l.Name] {
			sh.base += labelHash(xxhash.Sum64String(l.Name), l.Value)
		}
	})
}

// labelHash is a label's share of a series' hash, which is the sum of them, for
// blocks have the labels in no common order. An empty value is no label.
func labelHash(name uint64, value string) uint64 {
	if value == "" {
		return 0
	}
	x := bits.RotateLeft64(name, 32)*0x9e3779b97f4a7c15 + xxhash.Sum64String(value)
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

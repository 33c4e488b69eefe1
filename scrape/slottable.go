package scrape

import "math/bits"

// slotTable finds slots by the hash of their labels: open addressing, at most
// half full.
type slotTable struct {
	slots []slotEntry
	n     int
	shift uint
}

type slotEntry struct {
	hash uint64
	slot uint32 // plus one; 0: free
}

// begin makes an empty table with room for n slots and some more.
func (t *slotTable) begin(n int) {
	size := 1 << bits.Len(uint(2*n|63))
	t.slots, t.n, t.shift = make([]slotEntry, size), 0, uint(64-bits.TrailingZeros(uint(size)))
}

func (t *slotTable) drop() { t.slots = nil }

// add takes a slot in, or replaces the one with that hash.
func (t *slotTable) add(hash uint64, slot uint32) {
	if 2*t.n >= len(t.slots) {
		old := t.slots
		t.begin(len(old))
		for _, e := range old {
			if e.slot != 0 {
				t.add(e.hash, e.slot-1)
			}
		}
	}
	mask := uint64(len(t.slots) - 1)
	k := t.home(hash)
	for t.slots[k].slot != 0 && t.slots[k].hash != hash {
		k = (k + 1) & mask
	}
	if t.slots[k].slot == 0 {
		t.n++
	}
	t.slots[k] = slotEntry{hash, slot + 1}
}

func (t *slotTable) find(hash uint64) (uint32, bool) {
	mask := uint64(len(t.slots) - 1)
	for k := t.home(hash); t.slots[k].slot != 0; k = (k + 1) & mask {
		if t.slots[k].hash == hash {
			return t.slots[k].slot - 1, true
		}
	}
	return 0, false
}

// home spreads hashes that differ in their low bits only.
func (t *slotTable) home(hash uint64) uint64 { return hash * 0x9e3779b97f4a7c15 >> t.shift }

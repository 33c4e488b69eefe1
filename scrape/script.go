package scrape

import (
	"hash/maphash"
	"math/bits"
)

// seed keys the hashes by which lines are known: a target cannot make two
// lines that are taken for one.
var seed = maphash.MakeSeed()

// droppedLine stands in place of a slot for a line that metric relabelling drops.
const droppedLine = ^uint32(0)

// line is an exposed series' text as the script knows it.
type line struct {
	hash uint64
	slot uint32 // of the target, or droppedLine
}

// script is the lines of the last exposition, in their order. It predicts the
// next one: a line is looked for where it stood last, and only then elsewhere.
type script struct {
	lines []line
	table lineTable // of lines; made when a line stands elsewhere
	next  []line    // the order of this exposition, once it differs
	at    int       // where the next line is expected
	moved int       // lines that stood elsewhere
	same  bool      // so far the exposition follows the script
}

// begin starts an exposition.
func (s *script) begin() { s.at, s.moved, s.same, s.next = 0, 0, true, s.next[:0] }

// lookAhead is how many lines past the expected one are compared before the
// table is asked: what follows lines that are gone.
const lookAhead = 3

// find returns the slot of the line with that hash.
func (s *script) find(h uint64) (slot uint32, ok bool) {
	for i := s.at; i < len(s.lines) && i <= s.at+lookAhead; i++ {
		if s.lines[i].hash == h {
			if i != s.at {
				s.diverge()
			}
			s.at = i + 1
			s.note(s.lines[i])
			return s.lines[i].slot, true
		}
	}
	if s.table.empty() {
		s.table.build(s.lines)
	}
	i, ok := s.table.find(s.lines, h)
	if !ok {
		return 0, false
	}
	s.diverge()
	s.moved++
	s.at = i + 1
	s.note(s.lines[i])
	return s.lines[i].slot, true
}

// learn adds a line that the script does not know.
func (s *script) learn(h uint64, slot uint32) {
	s.diverge()
	s.note(line{h, slot})
}

// diverge begins to write the order down anew.
func (s *script) diverge() {
	if s.same {
		s.same = false
		s.next = append(s.next[:0], s.lines[:s.at]...)
	}
}

func (s *script) note(l line) {
	if !s.same {
		s.next = append(s.next, l)
	}
}

// end takes the exposition as the script from now on. keepOrder leaves the
// lines as they are: for targets that shuffle them, whose table then stays good.
func (s *script) end() {
	if s.same {
		if s.at == len(s.lines) {
			return
		}
		s.next = append(s.next[:0], s.lines[:s.at]...)
	}
	if len(s.next) == len(s.lines) && s.moved > len(s.lines)/8 && !s.hasNew() {
		return
	}
	if cap(s.lines) > 2*len(s.next)+64 {
		s.lines = nil
	}
	s.lines = append(s.lines[:0], s.next...)
	s.table.drop()
}

// hasNew says whether next holds a line that lines does not.
func (s *script) hasNew() bool {
	for _, l := range s.next {
		if _, ok := s.table.find(s.lines, l.hash); !ok {
			return true
		}
	}
	return false
}

// lineTable finds lines by hash: open addressing over their numbers plus one.
type lineTable struct {
	slots []uint32
	shift uint
}

func (t *lineTable) empty() bool { return t.slots == nil }
func (t *lineTable) drop()       { t.slots = nil }

func (t *lineTable) build(lines []line) {
	size := 1 << bits.Len(uint(2*len(lines)|7))
	t.slots = make([]uint32, size)
	t.shift = uint(64 - bits.TrailingZeros(uint(size)))
	for i, l := range lines {
		for k := l.hash >> t.shift; ; k = (k + 1) & uint64(size-1) {
			if n := t.slots[k]; n == 0 {
				t.slots[k] = uint32(i + 1)
				break
			} else if lines[n-1].hash == l.hash {
				break // the same text twice: the first one counts
			}
		}
	}
}

func (t *lineTable) find(lines []line, h uint64) (int, bool) {
	mask := uint64(len(t.slots) - 1)
	for k := h >> t.shift; ; k = (k + 1) & mask {
		n := t.slots[k]
		if n == 0 {
			return 0, false
		}
		if lines[n-1].hash == h {
			return int(n - 1), true
		}
	}
}

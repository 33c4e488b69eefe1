package wal

import (
	"math"
	"time"
)

const (
	forecastSpan = 4 * time.Minute // that a rate of growth is taken of
	forecastBin  = 5 * time.Second
)

// forecast follows how much of the log somebody still needs, and says how fast
// that grows. What is delivered in bursts does not count as growth: of each half
// of the span, only the lowest level counts.
type forecast struct {
	bins []level // ascending by time, at least forecastBin apart
}

// level is how much was needed at least, in the time of a bin.
type level struct {
	at    time.Time
	bytes int64
}

// note takes in what is needed now, in bytes, what retention has deleted
// included: the differences count, not the number.
func (f *forecast) note(now time.Time, needed int64) {
	n := len(f.bins)
	if n > 0 && now.Sub(f.bins[n-1].at) < forecastBin {
		f.bins[n-1].bytes = min(f.bins[n-1].bytes, needed)
		return
	}
	for n > 1 && now.Sub(f.bins[1].at) >= forecastSpan {
		f.bins, n = append(f.bins[:0], f.bins[1:]...), n-1
	}
	f.bins = append(f.bins, level{now, needed})
}

// rate is the growth in bytes per second, 0 when there is none.
func (f *forecast) rate(now time.Time) float64 {
	if len(f.bins) < 2 {
		return 0
	}
	begin := f.bins[0].at
	span := now.Sub(begin)
	if span < 4*forecastBin {
		return 0
	}
	lows := [2]int64{math.MaxInt64, math.MaxInt64}
	var starts [2]time.Time // of the halves' first bins: where something that grows is lowest
	for _, b := range f.bins {
		half := 0
		if b.at.Sub(begin) >= span/2 {
			half = 1
		}
		if lows[half] == math.MaxInt64 {
			starts[half] = b.at
		}
		lows[half] = min(lows[half], b.bytes)
	}
	if lows[1] == math.MaxInt64 || lows[1] <= lows[0] {
		return 0
	}
	return float64(lows[1]-lows[0]) / starts[1].Sub(starts[0]).Seconds()
}

// fullIn is in how many seconds something that grows at a rate in bytes per
// second fills the room that is left: +Inf when it does not grow.
func fullIn(rate float64, room int64) float64 {
	if rate <= 0 {
		return math.Inf(1)
	}
	return max(0, float64(room)) / rate
}

// room is how many bytes the log may grow by: to its limit, or until the volume
// has no more than its reserve, of which free and total were asked for.
func room(limit, bytes int64, free, total uint64, reservePercent float64) int64 {
	left := int64(math.MaxInt64)
	if limit > 0 {
		left = limit - bytes
	}
	if total > 0 {
		left = min(left, int64(float64(free)-float64(total)*reservePercent/100))
	}
	return max(0, left)
}

// BytesFrom is how many bytes of the log stand at p and after it.
func (l *Log) BytesFrom(p Pos) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytesFrom(p)
}

// bytesFrom is BytesFrom. l.mu is held.
func (l *Log) bytesFrom(p Pos) (n int64) {
	for _, s := range l.segments[l.find(p.Segment):] {
		if s.alien {
			continue // nobody can read it
		}
		from := int64(segmentHeader)
		if s.id == p.Segment {
			from = max(from, int64(p.Offset))
		}
		n += max(0, s.size-from)
	}
	return n
}

// foresee, by a clock that nobody sets, takes what is needed from low on into the forecast. l.mu is held.
func (l *Log) foresee(low Pos, free, total uint64) {
	l.free, l.volume = free, total
	l.growth.note(time.Now(), l.bytesFrom(low)+l.tooLate)
}

// missed counts what is needed of a segment that goes. l.mu is held.
func (l *Log) missed(s *segment, low Pos) {
	from := int64(segmentHeader)
	switch {
	case s.alien || s.id < low.Segment:
		return
	case s.id == low.Segment:
		from = max(from, int64(low.Offset))
	}
	l.tooLate += max(0, s.size-from)
}

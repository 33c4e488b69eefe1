package record

import (
	"encoding/binary"
	"math"
	"math/bits"
)

const (
	wholeBound   = 1 << 53 // integers below are exact in a float64
	decimalBound = 1 << 50 // numbers below survive the scaling to an integer and back

	maxDecimals = 14
	noDecimals  = 15   // in a slot's exponent: its values are not short decimals; looked at again in the next key
	announced   = 0x80 // flag in a slot's exponent: the record's reader knows it

	maxValueBytes = 9
)

// pow10 are the units of decimal differences.
var pow10 = [maxDecimals + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14}

func zigzag(d int64) uint64   { return uint64(d<<1) ^ uint64(d>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// appendValue appends the difference from old to v, which are not the same
// bits. exponent is the slot's memory.
func appendValue(dst []byte, old, v float64, exponent *uint8) []byte {
	x := math.Float64bits(v) ^ math.Float64bits(old)
	if d := v - old; d < wholeBound && d > -wholeBound {
		n := int64(math.RoundToEven(d))
		if math.Float64bits(old+float64(n)) == math.Float64bits(v) {
			u := zigzag(n) << 1
			if u < 1<<28 || (bits.Len64(u)+6)/7 <= bitsSize(x) {
				return binary.AppendUvarint(dst, u)
			}
			return appendBits(dst, x)
		}
	}
	e := *exponent &^ announced
	if e == noDecimals {
		return appendBits(dst, x)
	}
	n, ok := inUnits(v, e)
	if !ok {
		if e = decimals(v); e == noDecimals {
			*exponent = noDecimals
			return appendBits(dst, x)
		}
		n, _ = inUnits(v, e)
		*exponent = e
	}
	o, ok := nearest(old, e)
	if !ok {
		return appendBits(dst, x)
	}
	u := zigzag(n - o)
	if *exponent&announced != 0 {
		return binary.AppendUvarint(dst, u<<2|3)
	}
	*exponent |= announced
	return binary.AppendUvarint(append(dst, exponentByte(e)), u)
}

// bitsSize is the number of bytes that appendBits takes.
func bitsSize(x uint64) int {
	return 1 + (64-bits.LeadingZeros64(x)+7)/8 - min(6, bits.TrailingZeros64(x)/8)
}

// appendBits appends the bits in which a value differs from the old one.
func appendBits(dst []byte, x uint64) []byte {
	t := min(6, bits.TrailingZeros64(x)/8)
	x >>= 8 * t
	n := (bits.Len64(x) + 7) / 8
	dst = append(dst, byte(1|t<<2|(n-1)<<5))
	return binary.LittleEndian.AppendUint64(dst, x)[:len(dst)+n]
}

// exponentByte says that the slot's decimals are e from here on. It is what
// the byte of a bits difference cannot be.
func exponentByte(e uint8) byte {
	if e <= 8 {
		return 1 | 7<<2 | (e-1)<<5
	}
	return 1 | 6<<2 | (e-7)<<5
}

// nearest is v in units of 10^-e, rounded, when it is not too big.
func nearest(v float64, e uint8) (int64, bool) {
	f := v * pow10[e]
	if !(f < decimalBound && f > -decimalBound) {
		return 0, false
	}
	return int64(math.RoundToEven(f)), true
}

// inUnits is v in units of 10^-e when that says it exactly.
func inUnits(v float64, e uint8) (int64, bool) {
	if e == 0 {
		return 0, false
	}
	n, ok := nearest(v, e)
	return n, ok && math.Float64bits(float64(n)/pow10[e]) == math.Float64bits(v)
}

// decimals is the least number of decimals that say v exactly. One look at the
// most digits that v can have settles it: with fewer the number is the same
// with zeros behind.
func decimals(v float64) uint8 {
	exp := int(math.Float64bits(v)>>52&0x7ff) - 1023 // |v| < 2^(exp+1)
	top := min(maxDecimals, (49-exp)*30103/100000)
	if top < 1 {
		return noDecimals
	}
	n, ok := inUnits(v, uint8(top))
	if !ok {
		return noDecimals
	}
	for top > 1 && n%10 == 0 {
		n /= 10
		top--
	}
	return uint8(top)
}

// value reads the difference to old off b's front, and says how long it is: 0
// when it is not one.
func value(b []byte, old float64, exponent *uint8) (v float64, size int) {
	if len(b) == 0 {
		return 0, 0
	}
	first := b[0]
	if first&3 != 1 {
		u, k := binary.Uvarint(b)
		if k <= 0 {
			return 0, 0
		}
		if first&1 == 0 {
			return old + float64(unzigzag(u>>1)), k
		}
		return decimal(old, unzigzag(u>>2), *exponent, k)
	}
	t, n := first>>2&7, first>>5+1
	if t+n > 8 || t == 7 {
		if t < 7 {
			if t != 6 || n < 3 {
				return 0, 0
			}
			n += 6
		}
		*exponent = n
		u, k := binary.Uvarint(b[1:])
		if k <= 0 {
			return 0, 0
		}
		return decimal(old, unzigzag(u), n, k+1)
	}
	if len(b) < int(n)+1 {
		return 0, 0
	}
	var x uint64
	if len(b) >= 9 {
		x = binary.LittleEndian.Uint64(b[1:]) & (1<<(8*n) - 1)
	} else {
		for i := range n {
			x |= uint64(b[1+i]) << (8 * i)
		}
	}
	return math.Float64frombits(math.Float64bits(old) ^ x<<(8*t)), int(n) + 1
}

// decimal is the value d units of 10^-e from old.
func decimal(old float64, d int64, e uint8, size int) (float64, int) {
	o, ok := nearest(old, e)
	if !ok || e == 0 {
		return 0, 0
	}
	return float64(o+d) / pow10[e], size
}

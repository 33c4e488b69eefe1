package expfmt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"unsafe"

	"github.com/prometheus/prometheus/model/value"
)

// ParseFloat reads a sample's value: what strconv.ParseFloat takes but for
// hexadecimal floats and underscores. Every NaN becomes the canonical one, so
// that a target cannot send a stale marker.
func ParseFloat(b []byte) (float64, error) {
	if f, ok := simpleFloat(b); ok {
		return f, nil
	}
	return anyFloat(b)
}

// powers holds the powers of ten that a float64 is exact for.
var powers = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// wholePowers holds the powers of ten that a uint64 is exact for.
var wholePowers = [...]uint64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// maxDigits is how many decimal digits surely fit into a uint64.
const maxDigits = 19

// simpleFloat reads numbers of few digits and a power of ten that is not
// extreme: nearly all there are.
func simpleFloat(b []byte) (float64, bool) {
	i, negative := 0, false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		i, negative = 1, b[0] == '-'
	}
	first := i
	mantissa := uint64(0)
	for i < len(b) && b[i]-'0' < 10 {
		mantissa = mantissa*10 + uint64(b[i]-'0')
		i++
	}
	digits, exponent := i-first, 0
	if i < len(b) && b[i] == '.' {
		i++
		point := i
		for i+8 <= len(b) && i < point+2*8 {
			v, ok := eightDigits(binary.LittleEndian.Uint64(b[i:]))
			if !ok {
				break
			}
			mantissa = mantissa*1e8 + v
			i += 8
		}
		for i < len(b) && b[i]-'0' < 10 {
			mantissa = mantissa*10 + uint64(b[i]-'0')
			i++
		}
		exponent = point - i
		digits -= exponent
	}
	if digits == 0 || digits > maxDigits {
		return 0, false
	}
	if i < len(b) {
		e, ok := smallExponent(b[i:])
		if !ok {
			return 0, false
		}
		exponent += e
	}
	f, ok := scale(mantissa, exponent)
	if negative {
		f = -f
	}
	return f, ok
}

// scale returns the float64 nearest to mantissa * 10^exponent, ok = false for
// exponents that are not small.
func scale(mantissa uint64, exponent int) (f float64, ok bool) {
	if mantissa <= 1<<53 {
		// One operation with two exact numbers rounds correctly (Clinger).
		switch {
		case exponent == 0:
			return float64(mantissa), true
		case 0 < exponent && exponent < len(powers):
			return float64(mantissa) * powers[exponent], true
		case -len(powers) < exponent && exponent < 0:
			return float64(mantissa) / powers[-exponent], true
		}
		return 0, false
	}
	// In integers: 64 bits of the result, more says that something not zero
	// lies behind them, and the power of two of the lowest.
	var top uint64
	var more bool
	var exp2 int
	switch {
	case 0 <= exponent && exponent <= maxDigits:
		hi, lo := bits.Mul64(mantissa, wholePowers[exponent])
		exp2 = 64
		if hi == 0 {
			hi, lo, exp2 = lo, 0, 0
		}
		n := bits.LeadingZeros64(hi)
		top, more = hi<<n|lo>>(64-n), lo<<n != 0
		exp2 -= n
	case -maxDigits <= exponent && exponent < 0:
		power := wholePowers[-exponent]
		n, d := bits.LeadingZeros64(mantissa), bits.LeadingZeros64(power)
		mantissa <<= n
		top, more = divide(mantissa>>1, mantissa<<63, power<<d, reciprocals[-exponent])
		exp2 = d - n - 63
		n = bits.LeadingZeros64(top) // 0 or 1; a bit shifted in is part of more
		top <<= n
		exp2 -= n
	default:
		return 0, false
	}
	const dropped, half = 64 - 53, 1 << (64 - 53 - 1)
	kept, tail := top>>dropped, top&(1<<dropped-1)
	if tail > half || tail == half && (more || kept&1 != 0) { // to nearest, ties to even
		kept++
	}
	exp2 += dropped + 52 // of the highest bit of kept
	// A carry out of the 53 bits leaves zeros and adds one to the exponent.
	return math.Float64frombits(uint64(exp2+1023-1)<<52 + kept), true
}

// reciprocals holds, for wholePowers shifted up to their highest bit,
// (2^128-1)/power - 2^64.
var reciprocals = func() (r [len(wholePowers)]uint64) {
	for i, power := range wholePowers {
		power <<= bits.LeadingZeros64(power)
		r[i], _ = bits.Div64(^power, math.MaxUint64, power)
	}
	return r
}()

// divide returns hi*2^64 + lo divided by d, whose highest bit is set, and
// whether there is a remainder; hi is less than d. With d's reciprocal at hand
// two multiplications take the place of the processor's slow division (Möller
// and Granlund, Improved division by invariant integers).
func divide(hi, lo, d, reciprocal uint64) (quotient uint64, more bool) {
	q, fraction := bits.Mul64(reciprocal, hi)
	fraction, carry := bits.Add64(fraction, lo, 0)
	q, _ = bits.Add64(q, hi, carry)
	q++
	rest := lo - q*d
	if rest > fraction {
		q--
		rest += d
	}
	if rest >= d {
		q++
		rest -= d
	}
	return q, rest != 0
}

// eightDigits reads eight decimal digits at once, the first in the lowest byte:
// first pairs of them are joined, then fours, then all.
func eightDigits(v uint64) (uint64, bool) {
	const highs, digits, sixes = 0xf0f0f0f0f0f0f0f0, 0x3030303030303030, 0x0606060606060606
	if v&highs != digits || (v+sixes)&highs != digits {
		return 0, false
	}
	v -= digits
	v = (v*10 + v>>8) & 0x00ff00ff00ff00ff
	v = (v*100 + v>>16) & 0x0000ffff0000ffff
	return (v*10000 + v>>32) & 0xffffffff, true
}

// smallExponent reads e, sign and one to three digits.
func smallExponent(b []byte) (int, bool) {
	if b[0] != 'e' && b[0] != 'E' {
		return 0, false
	}
	b = b[1:]
	negative := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		negative = b[0] == '-'
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 3 {
		return 0, false
	}
	e := 0
	for _, c := range b {
		if c-'0' > 9 {
			return 0, false
		}
		e = e*10 + int(c-'0')
	}
	if negative {
		e = -e
	}
	return e, true
}

// anyFloat reads everything else.
func anyFloat(b []byte) (float64, error) {
	for _, c := range b {
		if c == 'p' || c == 'P' || c == '_' { // Go takes them since 1.13
			return 0, fmt.Errorf("parse value %q: unsupported character in float", b)
		}
	}
	s := unsafe.String(unsafe.SliceData(b), len(b))
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("parse value: %w", err)
	}
	if math.IsNaN(f) {
		f = math.Float64frombits(value.NormalNaN)
	}
	return f, nil
}

// ParseTimestamp reads a sample's timestamp and returns milliseconds: an
// integer of milliseconds without sign in the Prometheus format, a float of
// seconds, cut off, in OpenMetrics.
func ParseTimestamp(f Format, b []byte) (int64, error) {
	if f.OpenMetrics() {
		return parseSeconds(b)
	}
	return parseMillis(b)
}

var errTimestamp = errors.New("malformed timestamp")

func parseMillis(b []byte) (int64, error) {
	if len(b) == 0 {
		return 0, errTimestamp
	}
	t := int64(0)
	for _, c := range b {
		d := int64(c) - '0'
		if d < 0 || d > 9 || t > (math.MaxInt64-d)/10 {
			return 0, errTimestamp
		}
		t = t*10 + d
	}
	return t, nil
}

func parseSeconds(b []byte) (int64, error) {
	f, err := ParseFloat(b)
	if err != nil {
		return 0, err
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, errTimestamp
	}
	return int64(f * 1000), nil
}

package expfmt

import (
	"errors"
	"fmt"
	"math"
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

// maxDigits is how many decimal digits surely fit into a uint64.
const maxDigits = 19

// simpleFloat reads numbers whose digits fit into 53 bits and whose power of
// ten is exact. One multiplication or division of two exact numbers rounds
// correctly (Clinger). It answers for most samples, in a sixth of the time
// that the general way takes.
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
		for i < len(b) && b[i]-'0' < 10 {
			mantissa = mantissa*10 + uint64(b[i]-'0')
			i++
		}
		exponent = point - i
		digits -= exponent
	}
	if digits == 0 || digits > maxDigits || mantissa > 1<<53 {
		return 0, false
	}
	if i < len(b) {
		e, ok := smallExponent(b[i:])
		if !ok {
			return 0, false
		}
		exponent += e
	}
	f := float64(mantissa)
	if negative {
		f = -f
	}
	switch {
	case exponent == 0:
		return f, true
	case 0 < exponent && exponent < len(powers):
		return f * powers[exponent], true
	case -len(powers) < exponent && exponent < 0:
		return f / powers[-exponent], true
	}
	return 0, false
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

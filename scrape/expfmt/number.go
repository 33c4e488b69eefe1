package expfmt

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unsafe"

	"github.com/prometheus/prometheus/model/value"
)

// ParseFloat reads a sample's value: what strconv.ParseFloat takes but for
// hexadecimal floats and underscores. Every NaN becomes the canonical one, so
// that a target cannot send a stale marker.
func ParseFloat(b []byte) (float64, error) {
	s := unsafe.String(unsafe.SliceData(b), len(b))
	if strings.ContainsAny(s, "pP_") {
		return 0, errFloat
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, err
	}
	if math.IsNaN(f) {
		return math.Float64frombits(value.NormalNaN), nil
	}
	return f, nil
}

var errFloat = errors.New("unsupported character in float")

// ParseTimestamp reads a sample's timestamp and returns milliseconds: an
// unsigned integer of milliseconds in the Prometheus format, a float of
// seconds in OpenMetrics.
func ParseTimestamp(f Format, b []byte) (int64, error) {
	if f.OpenMetrics() {
		return parseSeconds(b)
	}
	return parseMillis(b)
}

func parseMillis(b []byte) (int64, error) {
	return strconv.ParseInt(string(b), 10, 64)
}

func parseSeconds(b []byte) (int64, error) {
	f, err := ParseFloat(b)
	return int64(f * 1000), err
}

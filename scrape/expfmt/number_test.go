package expfmt

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
)

// numbers are spellings of all kinds, good and bad.
var numbers = []string{
	"", "0", "-0", "+0", "1", "-1", "+1", "00", "007", "1.", ".1", ".", "-.", "+", "-", "1.5", "-1.5", "0.1", "0.3", "1e5", "1E5", "1e+05", "1e-05", "1e", "1e+", "1ee5", "1e5.", "1e1e1",
	"9007199254740991", "9007199254740992", "9007199254740993", "9007199254740994", "9223372036854775807", "18446744073709551615", "18446744073709551616",
	"1234567890123456789", "12345678901234567890", "1.234567890123456789", "0.0000000000000000001", "0.00000000000000000001", "1e22", "1e23", "123e20", "9007199254740992e22",
	"1e-22", "1e-23", "9007199254740991e-22", "1.7976931348623157e308", "1.7976931348623159e308", "1e309", "-1e309", "4.9e-324", "1e-400", "0e999", "0e-999", "1e0000000000001", "1e-0001",
	"1.7000000001e+09", "1.700000000123e+09", "0.30000000000000004", "2.2250738585072011e-308", "179769313486231570000000000000",
	"NaN", "nan", "NAN", "-NaN", "+NaN", "Inf", "inf", "+Inf", "-Inf", "-inf", "INFINITY", "infinit", "infinity", "0x1", "0x1p4", "0X1P-2", "1p4", "1_000", "0x_1p4", "0b1", "0o1", "1 ", " 1", "1\x00", "1,5", "１", "1e５",
}

func TestNumbersAreReadAsByTextparse(t *testing.T) {
	for _, s := range numbers {
		checkFloat(t, s)
	}
}

func FuzzParseFloat(f *testing.F) {
	for _, s := range numbers {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkFloat(t, s) })
}

// checkFloat compares with textparse and strconv.
func checkFloat(t *testing.T, s string) {
	t.Helper()
	got, err := ParseFloat([]byte(s))
	if s == "" || strings.ContainsAny(s, "{ \t\n\x00") {
		if err == nil {
			t.Fatalf("%q: got %v for what is not one word", s, got)
		}
		return
	}
	p := textparse.NewPromParser([]byte("a "+s), nil, false)
	_, oracle := p.Next()
	_, _, want := p.Series()
	if (err == nil) != (oracle == nil) {
		t.Fatalf("%q: got error %v, want %v", s, err, oracle)
	}
	if err == nil && math.Float64bits(got) != math.Float64bits(want) {
		t.Fatalf("%q: got %x, want %x", s, math.Float64bits(got), math.Float64bits(want))
	}
	if exact, err := strconv.ParseFloat(s, 64); err == nil && oracle == nil && !math.IsNaN(exact) && math.Float64bits(exact) != math.Float64bits(got) {
		t.Fatalf("%q: got %v, strconv says %v", s, got, exact)
	}
}

func TestStaleMarkersCannotBeSent(t *testing.T) {
	for _, s := range []string{"NaN", "nan", "-NaN"} {
		v, err := ParseFloat([]byte(s))
		if s == "-NaN" {
			if err == nil {
				t.Errorf("%s is taken", s)
			}
			continue
		}
		if err != nil || math.Float64bits(v) != value.NormalNaN {
			t.Errorf("%s: got %x, %v", s, math.Float64bits(v), err)
		}
	}
}

func TestFormattedFloatsSurvive(t *testing.T) {
	seed := uint64(1)
	for range 20000 {
		seed = seed*6364136223846793005 + 1442695040888963407
		v := math.Float64frombits(seed)
		if seed>>60 < 8 { // most numbers out there are short
			v = float64(int64(seed>>12)%1e7) / float64([]int{1, 10, 100, 1000, 100000}[seed>>32%5])
		}
		if math.IsNaN(v) {
			continue
		}
		for _, format := range []byte{'g', 'f', 'e'} {
			s := strconv.FormatFloat(v, format, -1, 64)
			got, err := ParseFloat([]byte(s))
			if err != nil || math.Float64bits(got) != math.Float64bits(v) {
				t.Fatalf("%s: got %v, %v", s, got, err)
			}
		}
	}
}

func TestRoundingToNearestEven(t *testing.T) {
	f := func(mantissa uint64, exponent int) {
		t.Helper()
		got, ok := scale(mantissa, exponent)
		if !ok {
			return
		}
		want, err := strconv.ParseFloat(strconv.FormatUint(mantissa, 10)+"e"+strconv.Itoa(exponent), 64)
		if err != nil || math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("%de%d: got %x, want %x (%v)", mantissa, exponent, math.Float64bits(got), math.Float64bits(want), err)
		}
	}
	for exponent := -25; exponent <= 25; exponent++ {
		for bit := range 64 { // numbers next to powers of two, and half way between two floats
			for _, low := range []uint64{0, 1, 2, 3, 1 << 8, 1<<9 - 1, 1 << 9, 1<<9 + 1, 1 << 10, 1<<10 - 1, 1<<10 + 1, 3 << 10, 1 << 11, 1<<11 - 1} {
				f(1<<bit+low, exponent)
				f(1<<bit-low, exponent)
			}
		}
		seed := uint64(exponent)
		for range 2000 {
			seed = seed*6364136223846793005 + 1442695040888963407
			f(seed>>(seed%12), exponent)
		}
		for n := uint64(1); n < 1000; n++ { // products that end in a tie
			if power := uint64(1) << 54; exponent < 0 && exponent > -10 {
				f((power+2*n+1)*wholePowers[-exponent]/2, exponent)
			}
		}
	}
	f(math.MaxUint64, 19)
	f(math.MaxUint64, -19)
	if _, ok := scale(math.MaxUint64, 20); ok {
		t.Error("an exponent that is not small is taken")
	}
}

func TestTimestampsOfBothFormats(t *testing.T) {
	f := func(format Format, s string, want int64, ok bool) {
		t.Helper()
		got, err := ParseTimestamp(format, []byte(s))
		if (err == nil) != ok || ok && got != want {
			t.Errorf("%s: %q: got %d, %v", format, s, got, err)
		}
	}
	f(Text004, "1700000000123", 1700000000123, true)
	f(Text004, "0", 0, true)
	f(Text004, "9223372036854775807", math.MaxInt64, true)
	f(Text004, "9223372036854775808", 0, false)
	f(Text004, "99999999999999999999", 0, false)
	f(Text004, "", 0, false)
	f(Text004, "-1", 0, false)
	f(Text004, "+1", 0, false)
	f(Text004, "1.5", 0, false)
	f(OpenMetrics100, "1700000000.123", 1700000000123, true)
	f(OpenMetrics100, "1.0009", 1000, true)
	f(OpenMetrics100, "-1.5", -1500, true)
	f(OpenMetrics100, "1e3", 1000000, true)
	f(OpenMetrics100, "NaN", 0, false)
	f(OpenMetrics100, "+Inf", 0, false)
	f(OpenMetrics100, "x", 0, false)
}

// go test -run xxx -bench ParseFloat ./scrape/expfmt
func BenchmarkParseFloat(b *testing.B) {
	for _, s := range []string{"0", "12345", "0.25", "1.7000000001e+09", "1.23456789e+06", "0.30000000000000004", "1.2345678901234567e+09", "NaN"} {
		v := []byte(s)
		b.Run("value="+s, func(b *testing.B) {
			for b.Loop() {
				if _, err := ParseFloat(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

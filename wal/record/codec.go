package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/klauspost/compress/s2"

	"promagent/template"
)

const (
	version = 1

	flagKey    = 1
	flagStates = 2
	flagTimes  = 4
	flagStarts = 8
	flagExtras = 16

	changesNone   = 0
	changesAll    = 1
	changesBitmap = 2

	tagInteger = 0
	tagBits    = 1
	tagDecimal = 2

	wholeBound = 1 << 53 // integers below are exact in a float64
)

var errRecord = errors.New("malformed record")

// AppendAnchor appends the bytes of a block's anchor.
func AppendAnchor(dst []byte, b *template.Block) []byte {
	raw := b.AppendTo([]byte{version})
	start := len(dst)
	dst = append(dst, make([]byte, s2.MaxEncodedLen(len(raw)))...)
	return dst[:start+len(s2.Encode(dst[start:], raw))]
}

// maxAnchor bounds what an anchor unpacks to.
const maxAnchor = 512 << 20

// DecodeAnchor makes the block that an anchor describes.
func DecodeAnchor(body []byte) (*template.Block, error) {
	n, err := s2.DecodedLen(body)
	if err != nil || n > maxAnchor {
		return nil, fmt.Errorf("anchor: %w", errRecord)
	}
	raw, err := s2.Decode(nil, body)
	if err != nil {
		return nil, fmt.Errorf("unpack anchor: %w", err)
	}
	if len(raw) == 0 || raw[0] != version {
		return nil, fmt.Errorf("anchor of an unknown version: %w", errRecord)
	}
	b, err := template.Decode(raw[1:])
	if err != nil {
		return nil, fmt.Errorf("decode anchor: %w", err)
	}
	return b, nil
}

// pow10 are the scales of decimal differences.
var pow10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8}

// whole returns v as an integer when it is one that the integer coding covers.
func whole(v float64) (int64, bool) {
	i := int64(v)
	return i, float64(i) == v && i < wholeBound && i > -wholeBound && (i != 0 || !math.Signbit(v))
}

// scaled returns v in units of 10^-e when that says it exactly.
func scaled(v float64, e uint8) (int64, bool) {
	f := v * pow10[e]
	if !(f < wholeBound && f > -wholeBound) {
		return 0, false
	}
	i := int64(math.Round(f))
	return i, math.Float64bits(float64(i)/pow10[e]) == math.Float64bits(v)
}

func zigzag(d int64) uint64   { return uint64(d<<1) ^ uint64(d>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// noDecimals marks a slot whose values are not short decimals; it is tried
// again at the next key.
const noDecimals = 0xff

// appendValue appends the difference from old to v, which are not the same bits.
func appendValue(dst []byte, old, v float64, exponent *uint8, key bool) []byte {
	if n, ok := whole(v); ok {
		if o, ok := whole(old); ok {
			return binary.AppendUvarint(dst, zigzag(n-o)<<2|tagInteger)
		}
	}
	if key || *exponent == 0 {
		// Remember how many decimals the slot shows; the most seen is kept, for
		// 0.5 fits into hundredths too.
		first := uint8(1)
		if *exponent != noDecimals && *exponent > 0 {
			first = *exponent
		}
		*exponent = noDecimals
		for e := first; e < uint8(len(pow10)); e++ {
			if _, ok := scaled(v, e); ok {
				*exponent = e
				break
			}
		}
	}
	if e := *exponent; e != noDecimals {
		if n, ok := scaled(v, e); ok {
			if o, ok := scaled(old, e); ok {
				return binary.AppendUvarint(dst, zigzag(n-o)<<5|uint64(e-1)<<2|tagDecimal)
			}
		} else if !key {
			*exponent = 0 // more decimals than so far: look again next time
		}
	}
	x := math.Float64bits(v) ^ math.Float64bits(old)
	t := 0
	for x&0xff == 0 {
		x >>= 8
		t++
	}
	at := len(dst)
	dst = append(dst, 0)
	n := 0
	for x != 0 {
		dst = append(dst, byte(x))
		x >>= 8
		n++
	}
	dst[at] = byte(tagBits | t<<2 | (n-1)<<5)
	return dst
}

// AppendRecord appends the record of a part of a batch at time t, as the
// difference to values (by slot), and moves values to the part's. key makes
// the record stand alone; else keyAt and lastAt are where the block's last key
// and last record are. exponents is the slots' memory of decimals.
func AppendRecord(dst []byte, p *template.Part, t int64, key bool, keyAt, lastAt uint32, values []float64, exponents []uint8) []byte {
	flags := byte(0)
	if key {
		flags |= flagKey
		clear(values)
	}
	if p.States != nil {
		flags |= flagStates
	}
	if p.Times != nil {
		flags |= flagTimes
	}
	if p.Starts != nil {
		flags |= flagStarts
	}
	if len(p.Extra) > 0 {
		flags |= flagExtras
	}
	dst = append(dst, version, flags)
	if !key {
		dst = binary.LittleEndian.AppendUint32(dst, keyAt)
		dst = binary.LittleEndian.AppendUint32(dst, lastAt)
	}
	n := p.Block.Len()
	if p.States != nil {
		for i := 0; i < n; {
			j := i + 1
			for j < n && p.States[j] == p.States[i] {
				j++
			}
			dst = binary.AppendUvarint(dst, uint64(j-i)<<2|uint64(p.States[i]))
			i = j
		}
	}
	// The bitmap's place is taken first and given back when it says nothing.
	at := len(dst)
	dst = append(dst, changesBitmap)
	var bits [template.MaxSlots / 8]byte
	dst = append(dst, bits[:(n+7)/8]...)
	first := len(dst)
	with, changed := 0, 0
	for i := range n {
		if p.States != nil && p.States[i] != template.Value {
			continue
		}
		v := p.Values[i]
		if math.Float64bits(v) != math.Float64bits(values[i]) {
			dst[at+1+with/8] |= 1 << (with % 8)
			dst = appendValue(dst, values[i], v, &exponents[i], key)
			values[i] = v
			changed++
		}
		with++
	}
	switch keep := (with + 7) / 8; {
	case changed == 0:
		dst = append(dst[:at], changesNone)
	case changed == with:
		dst[at] = changesAll
		dst = dst[:at+1+copy(dst[at+1:], dst[first:])]
	case at+1+keep < first:
		dst = dst[:at+1+keep+copy(dst[at+1+keep:], dst[first:])]
	}
	if p.Times != nil {
		dst = appendColumn(dst, p, p.Times, t, template.NoTime)
	}
	if p.Starts != nil {
		dst = appendColumn(dst, p, p.Starts, t, 0)
	}
	if len(p.Extra) > 0 {
		dst = binary.AppendUvarint(dst, uint64(len(p.Extra)))
		slot := 0
		for i := range p.Extra {
			x := &p.Extra[i]
			dst = binary.AppendUvarint(dst, uint64(x.Slot-slot))
			slot = x.Slot
			dst = append(dst, byte(x.Kind))
			dst = binary.AppendVarint(dst, x.Time-t)
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(x.Value))
			if x.Kind == template.Exemplar {
				dst = binary.AppendUvarint(dst, uint64(len(x.Labels)))
				for _, l := range x.Labels {
					dst = append(binary.AppendUvarint(dst, uint64(len(l))), l...)
				}
			}
		}
	}
	return dst
}

// buffers holds byte slices between columns.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// appendColumn appends the timestamps of the slots that have a value; none is
// the number that stands for no timestamp.
func appendColumn(dst []byte, p *template.Part, column []int64, t, none int64) []byte {
	buf := buffers.Get().(*[]byte)
	raw := (*buf)[:0]
	run, current, last := uint64(0), int64(0), int64(0)
	flush := func() {
		switch {
		case run == 0:
		case current == none:
			raw = binary.AppendUvarint(raw, run<<1|1)
		default:
			raw = binary.AppendUvarint(raw, run<<1)
			raw = binary.AppendVarint(raw, current-t-last)
			last = current - t
		}
	}
	for i := range p.Block.Len() {
		if p.State(i) != template.Value {
			continue
		}
		if run > 0 && column[i] == current {
			run++
			continue
		}
		flush()
		run, current = 1, column[i]
	}
	flush()
	packed := buffers.Get().(*[]byte)
	*packed = s2.Encode((*packed)[:cap(*packed)], raw)
	dst = binary.AppendUvarint(dst, uint64(len(*packed)))
	dst = append(dst, *packed...)
	*buf = raw
	buffers.Put(buf)
	buffers.Put(packed)
	return dst
}

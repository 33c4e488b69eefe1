package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"

	"promagent/template"
	"promagent/wal"
)

const (
	version = 1

	flagKey    = 1
	flagStates = 2
	flagTimes  = 4
	flagStarts = 8
	flagExtras = 16
	flagSame   = 32 // with flagStarts: they are those of the record before

	changesNone   = 0
	changesAll    = 1
	changesBitmap = 2
)

// errRecord is what is wrong with a body that does not say what it should.
var errRecord = fmt.Errorf("%w: malformed record", wal.ErrCorrupt)

// AppendAnchor appends the bytes of a block's anchor.
func AppendAnchor(dst []byte, b *template.Block) []byte {
	buf := buffers.Get().(*[]byte)
	raw := b.AppendTo(append((*buf)[:0], version))
	start := len(dst)
	dst = slices.Grow(dst, s2.MaxEncodedLen(len(raw)))
	dst = dst[:start+len(s2.EncodeBetter(dst[start:cap(dst)], raw))]
	*buf = raw
	buffers.Put(buf)
	return dst
}

// maxAnchor bounds what an anchor unpacks to.
const maxAnchor = wal.MaxBody

// DecodeAnchor makes the block that an anchor describes.
func DecodeAnchor(body []byte) (*template.Block, error) {
	n, err := s2.DecodedLen(body)
	if err != nil || n > maxAnchor {
		return nil, fmt.Errorf("anchor: %w", errRecord)
	}
	raw, err := s2.Decode(nil, body)
	if err != nil {
		return nil, fmt.Errorf("unpack anchor: %w: %w", errRecord, err)
	}
	if len(raw) == 0 || raw[0] != version {
		return nil, fmt.Errorf("anchor of an unknown version: %w", errRecord)
	}
	b, err := template.Decode(raw[1:])
	if err != nil {
		return nil, fmt.Errorf("decode anchor: %w: %w", errRecord, err)
	}
	return b, nil
}

// AppendRecord appends the record of a part of a batch at time t, as the
// difference to st, and moves st to the part's values. key makes the record
// stand alone; else st.Key and st.Last are where the block's last key and last
// record are. What st says about positions is left to the caller.
func AppendRecord(dst []byte, p *template.Part, t int64, key bool, st *template.LogState) []byte {
	n := p.Block.Len()
	if len(st.Values) != n {
		st.Values, st.Exponents, key = make([]float64, n), make([]uint8, n), true
	}
	flags := byte(0)
	if key {
		flags |= flagKey
		clear(st.Values)
		st.Starts = st.Starts[:0]
		for i, e := range st.Exponents {
			if e &^= announced; e == noDecimals {
				e = 0
			}
			st.Exponents[i] = e
		}
	}
	if p.States != nil {
		flags |= flagStates
	}
	if p.Times != nil {
		flags |= flagTimes
	}
	if p.Starts != nil {
		flags |= flagStarts
		if moveStarts(st, p) {
			flags |= flagSame
		}
	}
	if len(p.Extra) > 0 {
		flags |= flagExtras
	}
	dst = append(dst, version, flags)
	if !key {
		dst = binary.LittleEndian.AppendUint32(dst, st.Key)
		dst = binary.LittleEndian.AppendUint32(dst, st.Last)
	}
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
	dst = appendValues(dst, p, st)
	if p.Times != nil {
		dst = appendColumn(dst, p, p.Times, t, template.NoTime)
	}
	if flags&(flagStarts|flagSame) == flagStarts {
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

// appendValues appends the values that differ from st's, and moves st to them.
func appendValues(dst []byte, p *template.Part, st *template.LogState) []byte {
	// The bitmap's place is taken first and given back when it says nothing.
	n := p.Block.Len()
	at := len(dst)
	first := at + 1 + (n+63)/64*8
	dst = slices.Grow(dst, first-at+maxValueBytes*n+8)[:first]
	dst[at] = changesBitmap
	values, old, exponents, states := p.Values[:n], st.Values[:n], st.Exponents[:n], p.States
	with, changed := 0, 0
	word := uint64(0) // of the bitmap
	for i, v := range values {
		if states != nil && states[i] != template.Value {
			continue
		}
		if o := old[i]; math.Float64bits(v) != math.Float64bits(o) {
			word |= 1 << (with & 63)
			changed++
			old[i] = v
			// Most differences are small whole numbers.
			if d := int64(v - o); d < 1<<19 && d > -1<<19 && math.Float64bits(o+float64(d)) == math.Float64bits(v) {
				switch u := uint32(zigzag(d) << 1); {
				case u < 1<<7:
					dst = append(dst, byte(u))
				case u < 1<<14:
					dst = append(dst, byte(u)|0x80, byte(u>>7))
				default:
					dst = append(dst, byte(u)|0x80, byte(u>>7)|0x80, byte(u>>14))
				}
			} else {
				dst = appendValue(dst, o, v, &exponents[i])
			}
		}
		if with++; with&63 == 0 {
			binary.LittleEndian.PutUint64(dst[at+1+with/8-8:], word)
			word = 0
		}
	}
	if with&63 != 0 {
		binary.LittleEndian.PutUint64(dst[at+1+with/64*8:], word)
	}
	switch keep := at + 1 + (with+7)/8; {
	case changed == 0:
		dst = append(dst[:at], changesNone)
	case changed == with:
		dst[at] = changesAll
		dst = dst[:at+1+copy(dst[at+1:], dst[first:])]
	case keep < first:
		dst = dst[:keep+copy(dst[keep:], dst[first:])]
	}
	return dst
}

// moveStarts makes st's starts the part's, and says whether they were already.
func moveStarts(st *template.LogState, p *template.Part) (same bool) {
	if same = len(st.Starts) > 0; !same {
		st.Starts = append(st.Starts, make([]int64, len(p.Starts))...)
	}
	for i, start := range p.Starts {
		if st.Starts[i] != start && p.State(i) == template.Value {
			st.Starts[i], same = start, false
		}
	}
	return same
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

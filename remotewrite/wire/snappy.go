package wire

import (
	"encoding/binary"
	"math/bits"
)

// Snappy packs requests in the Snappy block format, as small as the better
// encoder of klauspost/compress/s2 does and about as fast, and needs 40 KB for it, not 288 KB per
// processor. It is for requests of tens of kilobytes: longer ones are packed in
// pieces, and do not profit from what repeats in another piece.
//
// The format: https://github.com/google/snappy/blob/main/format_description.txt
type Snappy struct {
	// By the hash of what stands there, the last position in the piece; 0: none.
	long  [1 << longBits]uint16  // of seven bytes
	short [1 << shortBits]uint16 // of four, the least that a copy is for
}

const (
	pieceSize = 1 << 16
	longBits  = 14
	shortBits = 12
	margin    = 8 // bytes that are read at a position
	skipShift = 6 // without a match for so many bytes, as a power of two, positions are left out
	maxSkip   = 64

	tagLiteral = 0
	tagCopy1   = 1
	tagCopy2   = 2
)

// Append appends src, packed. src is shorter than 4 GiB.
func (s *Snappy) Append(dst, src []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(src)))
	for len(src) > 0 {
		piece := src[:min(len(src), pieceSize)]
		src = src[len(piece):]
		dst = s.pack(dst, piece)
	}
	return dst
}

func hash7(v uint64) uint64 { return v << 8 * 0x9fb21c651e98df25 >> (64 - longBits) }
func hash4(v uint64) uint64 { return v << 32 * 0x9e3779b185ebca87 >> (64 - shortBits) }

func load8(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i : i+8 : len(b)]) }
func load4(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i : i+4 : len(b)]) }

// pack appends a piece.
func (s *Snappy) pack(dst, src []byte) []byte {
	done := 0 // what stands before it is in dst
	if len(src) > 2*margin {
		clear(s.long[:])
		clear(s.short[:])
		end := len(src) - margin - 1
		for at := 1; at <= end; {
			v := load8(src, at)
			l, sh := &s.long[hash7(v)], &s.short[hash4(v)]
			from, near := int(*l), int(*sh)
			*l, *sh = uint16(at), uint16(at)
			switch {
			case (load8(src, from)^v)<<8 == 0:
			case load4(src, near) == uint32(v):
				// A better one may begin at the next byte.
				w := load8(src, at+1)
				n := &s.long[hash7(w)]
				next := int(*n)
				*n = uint16(at + 1)
				if from = near; next > 0 && (load8(src, next)^w)<<8 == 0 {
					from = next
					at++
				}
			default:
				at += min(1+(at-done)>>skipShift, maxSkip)
				continue
			}
			for at > done && from > 0 && src[at-1] == src[from-1] {
				at, from = at-1, from-1
			}
			length := 4 + common(src, at+4, from+4)
			dst = appendCopy(appendLiteral(dst, src[done:at]), at-from, length)
			first, last := at+1, at+length
			done, at = last, last
			// What was passed over may be repeated, too.
			for i := first; i < last && i <= end; i++ {
				s.long[hash7(load8(src, i))] = uint16(i)
			}
		}
	}
	return appendLiteral(dst, src[done:])
}

// common counts the bytes that are equal at two positions, of which a is the later one.
func common(src []byte, a, b int) int {
	begin := a
	for a+8 <= len(src) {
		if x := load8(src, a) ^ load8(src, b); x != 0 {
			return a - begin + bits.TrailingZeros64(x)/8
		}
		a, b = a+8, b+8
	}
	for a < len(src) && src[a] == src[b] {
		a, b = a+1, b+1
	}
	return a - begin
}

func appendLiteral(dst, b []byte) []byte {
	switch n := len(b) - 1; {
	case n < 0:
		return dst
	case n < 60:
		dst = append(dst, byte(n)<<2|tagLiteral)
	case n < 1<<8:
		dst = append(dst, 60<<2|tagLiteral, byte(n))
	default:
		dst = append(dst, 61<<2|tagLiteral, byte(n), byte(n>>8))
	}
	return append(dst, b...)
}

// appendCopy appends copies of length bytes, four at least, from offset bytes before.
func appendCopy(dst []byte, offset, length int) []byte {
	for length >= 68 {
		dst = append(dst, 63<<2|tagCopy2, byte(offset), byte(offset>>8))
		length -= 64
	}
	if length > 64 { // what is left is long enough for a copy
		dst = append(dst, 59<<2|tagCopy2, byte(offset), byte(offset>>8))
		length -= 60
	}
	if length >= 12 || offset >= 1<<11 {
		return append(dst, byte(length-1)<<2|tagCopy2, byte(offset), byte(offset>>8))
	}
	return append(dst, byte(offset>>8)<<5|byte(length-4)<<2|tagCopy1, byte(offset))
}

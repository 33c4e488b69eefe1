package wal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Pos is the position of a frame's first byte.
type Pos struct {
	Segment uint64 `json:"segment"`
	Offset  uint32 `json:"offset"`
}

// Compare orders positions as the log does.
func (p Pos) Compare(q Pos) int {
	return cmp.Or(cmp.Compare(p.Segment, q.Segment), cmp.Compare(p.Offset, q.Offset))
}

// Less says whether p comes before q.
func (p Pos) Less(q Pos) bool { return p.Compare(q) < 0 }

// IsZero says whether p is the zero position, which stands for the oldest data.
func (p Pos) IsZero() bool { return p == Pos{} }

func (p Pos) String() string { return fmt.Sprintf("%d/%d", p.Segment, p.Offset) }

// Kind is what a frame is; the log only weighs kinds against each other.
type Kind uint8

// The kinds of frames.
const (
	Anchor Kind = 1
	Record Kind = 2
)

// Frame is one piece of a group to append.
type Frame struct {
	Kind    Kind
	Samples uint32 // at most MaxSamples
	Time    int64  // ms
	Ref     uint32 // in-segment offset of another frame; 0: none
	// RefFrame, when not 0, is the number (from 1) of the frame of the same
	// group that this one refers to, in place of Ref.
	RefFrame int
	Body     []byte
}

// Header is a frame as found in the log.
type Header struct {
	Pos     Pos
	Kind    Kind
	More    bool // the group goes on in the next frame
	Samples uint32
	Time    int64
	Ref     uint32
	Len     uint32 // of the body
	crc     uint32 // of the body
}

// Anchor is the position of the frame that Ref is the offset of.
func (h Header) Anchor() Pos { return Pos{h.Pos.Segment, h.Ref} }

// End is the position after the frame.
func (h Header) End() Pos { return Pos{h.Pos.Segment, h.Pos.Offset + frameHeader + h.Len} }

const (
	magic         = "PROMALOG"
	formatVersion = 1
	segmentHeader = 48
	frameHeader   = 28
	moreBit       = 0x80
	// MaxSamples and MaxBody bound a frame.
	MaxSamples = 1<<24 - 1
	MaxBody    = 256 << 20
	// maxSegment keeps offsets within 32 bits.
	maxSegment = 3 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendSegmentHeader writes a segment's first 48 bytes.
func appendSegmentHeader(dst []byte, id, before uint64, created int64) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, formatVersion)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, id)
	dst = binary.LittleEndian.AppendUint64(dst, before)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(created))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	return binary.LittleEndian.AppendUint32(dst, 0)
}

var (
	errNotSegment = errors.New("not a segment of the log")
	errVersion    = errors.New("written by a newer version")
)

func parseSegmentHeader(b []byte) (id, before uint64, created int64, err error) {
	if len(b) < segmentHeader || string(b[:8]) != magic {
		return 0, 0, 0, errNotSegment
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return 0, 0, 0, fmt.Errorf("%w: format %d, this one reads %d", errVersion, v, formatVersion)
	}
	if crc32.Checksum(b[:40], castagnoli) != binary.LittleEndian.Uint32(b[40:]) {
		return 0, 0, 0, fmt.Errorf("%w: header checksum differs", errNotSegment)
	}
	return binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:]), int64(binary.LittleEndian.Uint64(b[32:])), nil
}

// appendFrame writes f's header and body.
func appendFrame(dst []byte, f *Frame, ref uint32, more bool) []byte {
	start := len(dst)
	kind := uint32(f.Kind)
	if more {
		kind |= moreBit
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(f.Body)))
	dst = binary.LittleEndian.AppendUint32(dst, kind|f.Samples<<8)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(f.Time))
	dst = binary.LittleEndian.AppendUint32(dst, ref)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(f.Body, castagnoli))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	return append(dst, f.Body...)
}

// parseFrameHeader reads a frame's header at pos; ok is false when it does not check.
func parseFrameHeader(b []byte, pos Pos) (h Header, ok bool) {
	if len(b) < frameHeader || crc32.Checksum(b[:24], castagnoli) != binary.LittleEndian.Uint32(b[24:]) {
		return h, false
	}
	kind := binary.LittleEndian.Uint32(b[4:])
	h = Header{
		Pos: pos, Kind: Kind(kind & 0x0f), More: kind&moreBit != 0, Samples: kind >> 8,
		Time: int64(binary.LittleEndian.Uint64(b[8:])), Ref: binary.LittleEndian.Uint32(b[16:]),
		Len: binary.LittleEndian.Uint32(b), crc: binary.LittleEndian.Uint32(b[20:]),
	}
	return h, h.Kind != 0 && h.Len <= MaxBody
}

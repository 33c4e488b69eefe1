package record

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"promagent/template"
	"promagent/wal"
)

// Check is what Store.Check is to tell, and to whom. Nil functions are not
// called; an error of one ends the check.
type Check struct {
	Segment func(Segment) error             // each that has frames, oldest first
	Damage  func(wal.Damage) error          // each place that is damaged
	Points  func([]byte) ([]wal.Pos, error) // the positions in a cursor's state
}

// Checked is what has been checked.
type Checked struct {
	Segments, Cursors int
	Bytes             int64
	Samples           uint64 // that can be read
	Growing           bool   // the newest segment's end was not whole, because it is being written
}

// Check reads all of the log that other processes have written, decodes every
// record, and checks the positions. An error is a function's of c, or says that
// the disk cannot be read now.
func (s *Store) Check(c Check) (sum Checked, err error) {
	k := checker{s: s, c: c, sum: &sum, ends: map[uint64]int64{}}
	files := s.log.Files()
	for i := range files {
		if err := k.file(files, i); err != nil {
			return sum, fmt.Errorf("check segment %d: %w", files[i].ID, err)
		}
	}
	var bad []wal.Damage
	if sum.Cursors, bad, err = s.log.VerifyCursors(k.ends, c.Points); err != nil {
		return sum, err
	}
	for _, d := range bad {
		if err := k.tell(d); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// checker goes through the segments.
type checker struct {
	s    *Store
	c    Check
	sum  *Checked
	ends map[uint64]int64 // by segment: up to where it can be read

	next    uint64 // samples in the log before what comes, as the segments count them
	nextOK  bool   // next is known
	claimed uint64 // samples that damages since next was known have counted

	last int64 // time of the last frame, ms

	loader loader
}

// inFile is what is known of the segment that is being checked.
type inFile struct {
	file    wal.SegmentFile
	seg     Segment
	last    int64 // time of the last frame, ms
	bad     map[uint32]*wal.Damage
	broken  map[uint32]uint32 // by block: the frame at which its chain of records has ended
	entries []wal.Header      // records that are not decoded yet
}

// window bounds the records that are decoded together, ordered by block.
const window = 1 << 17

func (k *checker) tell(d wal.Damage) error {
	if k.c.Damage == nil {
		return nil
	}
	return k.c.Damage(d)
}

// file checks a segment.
func (k *checker) file(files []wal.SegmentFile, i int) error {
	file, newest := files[i], i == len(files)-1
	if file.Err == nil {
		k.last = max(k.last, file.Created)
	}
	in := &inFile{file: file, last: k.last, bad: map[uint32]*wal.Damage{}, broken: map[uint32]uint32{}}
	end, err := k.frames(in, newest)
	if errors.Is(err, wal.ErrGone) { // deleted while the agent goes on
		k.nextOK = false
		return nil
	}
	if err != nil {
		return err
	}
	k.last = in.last
	k.sum.Segments++
	k.sum.Bytes += file.Size
	var rest *wal.Damage
	torn := file.Err != nil || end < file.Size
	if newest && torn && k.growing(in, end) {
		k.sum.Growing, torn = true, false
	}
	if torn {
		d, err := k.s.log.Behind(file, end)
		if err != nil {
			return err
		}
		rest = &d
	}
	if file.Err == nil {
		in.seg.ID, in.seg.Before, in.seg.Torn = file.ID, file.Before, torn
		k.ends[file.ID] = end
		k.next, k.nextOK, k.claimed = file.Before+in.seg.Samples, true, 0
		if d, bad, err := k.s.log.VerifyHead(file); err != nil && !errors.Is(err, wal.ErrGone) {
			return err
		} else if bad {
			if err := k.tell(d); err != nil {
				return err
			}
		}
	}
	if rest = k.missing(in, rest, files[i+1:], end); rest != nil {
		in.bad[uint32(min(rest.Offset, 1<<32-1))] = rest
	}
	for _, at := range slices.Sorted(maps.Keys(in.bad)) {
		if err := k.tell(*in.bad[at]); err != nil {
			return err
		}
	}
	if k.c.Segment != nil && (in.seg.Anchors+in.seg.Records > 0 || file.Err == nil && torn) {
		return k.c.Segment(in.seg)
	}
	return nil
}

// missing compares the count of samples with that of the next segment that can
// be read, and adds to rest, the damage of the segment's end, if there is one,
// what is missing in between.
func (k *checker) missing(in *inFile, rest *wal.Damage, behind []wal.SegmentFile, end int64) *wal.Damage {
	var follow wal.SegmentFile
	if len(behind) > 0 {
		follow = behind[0]
	}
	if rest != nil {
		k.claimed += rest.Samples
		if rest.From == 0 || in.last != 0 && in.last < rest.From {
			rest.From = in.last
		}
		rest.To = max(rest.To, follow.Created)
	}
	if len(behind) == 0 || follow.Err != nil { // or it is asked when that one is looked at
		return rest
	}
	if !k.nextOK || follow.Before <= k.next+k.claimed {
		return rest // a count can be too low: of samples that could not be read when it was made
	}
	gap := follow.Before - k.next - k.claimed
	if rest == nil {
		rest = &wal.Damage{File: in.file.Path, Offset: end, What: "samples that were behind its end are not there", From: in.last, To: follow.Created}
	}
	rest.Samples += gap
	rest.AtLeast = false
	return rest
}

// frames reads a segment up to where it can be read.
func (k *checker) frames(in *inFile, newest bool) (end int64, err error) {
	if in.file.Err != nil {
		return 0, nil
	}
	at := wal.Pos{Segment: in.file.ID}
	at = k.s.log.Next(at)
	if at.Segment != in.file.ID {
		return 0, wal.ErrGone
	}
	for {
		hs, next, err := k.s.log.Scan(nil, at, wal.Pos{}, 4096)
		if err != nil {
			return 0, err
		}
		for _, h := range hs {
			if err := k.frame(in, h); err != nil {
				return 0, err
			}
		}
		if len(in.entries) >= window || len(hs) == 0 {
			if err := k.decode(in); err != nil {
				return 0, err
			}
		}
		if len(hs) == 0 {
			return int64(at.Offset), nil
		}
		at = next
	}
}

// growing says whether the newest segment, which can be read up to end, is one that is being written.
func (k *checker) growing(in *inFile, end int64) bool {
	for range 10 {
		time.Sleep(20 * time.Millisecond)
		now, err := k.s.log.Reread(in.file.ID)
		if err != nil {
			return errors.Is(err, wal.ErrGone)
		}
		if now.Err == nil && now.Size > in.file.Size {
			return true
		}
	}
	return k.s.log.InUse()
}

// frame takes a frame in; records are decoded later.
func (k *checker) frame(in *inFile, h wal.Header) error {
	in.last = h.Time
	size := int64(h.End().Offset - h.Pos.Offset)
	if h.Kind == wal.Record {
		in.seg.record(h, size)
		in.entries = append(in.entries, h)
		return nil
	}
	var err error
	if h.Kind != wal.Anchor { // of a kind to come: readers pass it by
		if k.loader.body, err = k.s.log.Read(h, k.loader.body); err != nil {
			return in.damaged(h, h.Pos.Offset, "a frame of an unknown kind", err)
		}
		return nil
	}
	in.seg.Anchors++
	in.seg.AnchorBytes += size
	if k.loader.body, err = k.s.log.Read(h, k.loader.body); err == nil {
		var b *template.Block
		if b, err = DecodeAnchor(k.loader.body); err == nil {
			in.seg.Slots += b.Len()
			return nil
		}
	}
	return in.damaged(h, h.Pos.Offset, "the series of a block", err)
}

// damaged counts a frame as not readable because of the one at root, of which
// what and why tell, unless the disk may give it at another time.
func (in *inFile) damaged(h wal.Header, root uint32, what string, why error) error {
	if why = final(why); !errors.Is(why, wal.ErrCorrupt) {
		return why
	}
	d := in.bad[root]
	if d == nil {
		d = &wal.Damage{File: in.file.Path, Offset: int64(root), What: fmt.Sprintf("%s: %v", what, why)}
		in.bad[root] = d
	}
	d.Bytes += int64(h.End().Offset - h.Pos.Offset)
	d.Count(h.Samples, h.Time)
	in.seg.Unreadable++
	in.seg.UnreadableSamples += uint64(h.Samples)
	return nil
}

// decode decodes the records that have been taken in, block by block.
func (k *checker) decode(in *inFile) error {
	slices.SortStableFunc(in.entries, func(a, b wal.Header) int { return cmp.Compare(a.Ref, b.Ref) })
	for i, h := range in.entries {
		if i == 0 || in.entries[i-1].Ref != h.Ref {
			k.loader.at = 0
		}
		if err := k.record(in, h); err != nil {
			return err
		}
	}
	in.entries = in.entries[:0]
	return nil
}

// record decodes a record, or says because of which frame it cannot be.
func (k *checker) record(in *inFile, h wal.Header) error {
	const what = "samples of a block"
	if in.bad[h.Ref] != nil { // its anchor: even one without damage of its own is of no use
		_, err := k.s.log.Read(h, nil)
		if err == nil {
			err = wal.ErrCorrupt
			return in.damaged(h, h.Ref, "", err)
		}
		return in.damaged(h, h.Pos.Offset, what, err)
	}
	block, err := k.s.Block(h.Anchor())
	if err == nil {
		if k.loader.at == 0 {
			k.loader.column.reset(block)
		}
		err = k.loader.load(k.s.log, h)
	}
	if err == nil {
		if n := k.loader.column.part.Samples(); n != int(h.Samples) {
			err = fmt.Errorf("%w: %d samples where its header says %d", errRecord, n, h.Samples)
		}
	}
	if err == nil {
		delete(in.broken, h.Ref)
		k.sum.Samples += uint64(h.Samples)
		return nil
	}
	k.loader.at = 0
	root, chained := in.broken[h.Ref]
	if chained {
		body, own := k.s.log.Read(h, k.loader.body)
		k.loader.body = body
		if own == nil {
			return in.damaged(h, root, "", err)
		}
		err = own
	}
	in.broken[h.Ref] = h.Pos.Offset
	return in.damaged(h, h.Pos.Offset, what, err)
}

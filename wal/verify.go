package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Damage is a place of the log's files that does not say what was written there.
type Damage struct {
	File     string
	Offset   int64
	What     string
	Bytes    int64 // that nobody can read for it, those of the place included
	Samples  uint64
	AtLeast  bool  // there may have been more samples than Samples
	From, To int64 // ms: what is lost is of times between the two; 0: unknown
}

// SegmentFile is a segment that is not of this process, as its file is now.
type SegmentFile struct {
	ID      uint64
	Path    string
	Size    int64
	Before  uint64 // samples in the log before it
	Created int64  // ms
	Err     error  // why it is no segment; then Before and Created say nothing
}

// Files lists the segments of other processes, ascending.
func (l *Log) Files() (all []SegmentFile) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments {
		if !s.own {
			all = append(all, s.asFile())
		}
	}
	return all
}

func (s *segment) asFile() SegmentFile {
	f := SegmentFile{ID: s.id, Path: s.path, Size: s.size, Before: s.before, Err: s.reason}
	if !s.created.IsZero() {
		f.Created = s.created.UnixMilli()
	}
	return f
}

// Reread looks at a segment's file again, which another process may be
// writing. [ErrGone]: it is not there any more.
func (l *Log) Reread(id uint64) (SegmentFile, error) {
	l.mu.Lock()
	i := l.find(id)
	if i == len(l.segments) || l.segments[i].id != id || l.segments[i].own {
		l.mu.Unlock()
		return SegmentFile{}, ErrGone
	}
	s := l.segments[i]
	l.mu.Unlock()
	now := &segment{id: s.id, path: s.path}
	err := l.readSegmentHeader(now)
	if errors.Is(err, fs.ErrNotExist) {
		return SegmentFile{}, ErrGone
	}
	if err != nil && !isAlien(err) {
		return SegmentFile{}, fmt.Errorf("read segment %d: %w", id, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.size, s.before, s.created, s.newest = now.size, now.before, now.created, now.newest
	s.reason, s.alien, s.gone = err, err != nil, err != nil
	return s.asFile(), nil
}

// InUse says whether a process holds the lock of the log's directory. A process that runs without lock is not seen.
func (l *Log) InUse() bool {
	f, err := os.Open(filepath.Join(filepath.Dir(l.dir), "lock"))
	if err != nil {
		return false
	}
	defer f.Close() // and with it the lock, if it was free
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// VerifyHead finds what is wrong with a segment's header and keeps nobody from reading it.
func (l *Log) VerifyHead(file SegmentFile) (d Damage, bad bool, err error) {
	f, err := l.reads.get(l.o.FS, file.ID, file.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, false, ErrGone
	}
	if err != nil {
		return d, false, fmt.Errorf("open segment %d: %w", file.ID, err)
	}
	defer l.reads.release(f)
	var b [segmentHeader]byte
	if _, err := f.file.ReadAt(b[:], 0); err != nil && !lostBytes(err) {
		return d, false, fmt.Errorf("read header of segment %d: %w", file.ID, err)
	} else if err != nil { // it could be read when the log was opened
		return Damage{File: file.Path, What: fmt.Sprintf("the header cannot be read any more: %v", err)}, true, nil
	}
	if [4]byte(b[44:]) == [4]byte{} {
		return d, false, nil
	}
	return Damage{File: file.Path, Offset: 44, What: "the header's last four bytes are not zero"}, true, nil
}

// scanChunk is how much Behind reads at once.
const scanChunk = 1 << 20

// Behind tells what is wrong in a segment behind the last group that can be
// read, which ends at offset; 0 when the file is no segment. Of what stands
// there, the frames whose headers check are counted.
func (l *Log) Behind(file SegmentFile, offset int64) (Damage, error) {
	d := Damage{File: file.Path, Offset: offset, Bytes: file.Size - offset, AtLeast: true}
	f, err := l.reads.get(l.o.FS, file.ID, file.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, ErrGone
	}
	if err != nil {
		return d, fmt.Errorf("open segment %d: %w", file.ID, err)
	}
	defer l.reads.release(f)
	at, cut := offset, false
	if file.Err != nil {
		d.What, at = file.Err.Error(), segmentHeader
	}
	buf := make([]byte, scanChunk)
	var chunk []byte // of the file from begin on
	begin := at
	for at < file.Size {
		if have := begin + int64(len(chunk)); at+frameHeader > have && have < file.Size {
			n := min(int64(len(buf)), file.Size-at)
			chunk, begin = buf[:n], at
			if _, err := f.file.ReadAt(chunk, at); err != nil {
				if !lostBytes(err) {
					return d, fmt.Errorf("read segment %d: %w", file.ID, err)
				}
				d.say(at, fmt.Sprintf("the medium does not give these bytes: %v", err))
				chunk = chunk[:0]
				at, begin = at+n, at+n
				continue
			}
		}
		rest := chunk[at-begin:]
		h, ok := likelyFrame(rest, Pos{file.ID, uint32(at)})
		next := at + frameHeader + int64(h.Len)
		switch {
		case ok && next <= file.Size:
			d.Count(h.Samples, h.Time)
			at, cut = next, false
			continue
		case ok:
			d.say(at, fmt.Sprintf("a frame of %d bytes, of which %d are there", next-at, file.Size-at))
			d.Count(h.Samples, h.Time)
			cut = true
		case len(rest) < frameHeader:
			d.say(at, fmt.Sprintf("a frame's header, of which %d bytes are there", len(rest)))
			cut = true
		default:
			d.say(at, "a frame's header does not check")
		}
		at++
	}
	if cut || d.What == "" { // it ended in the middle of something
		d.To = 0
	}
	d.say(offset, "a group without its last frame")
	return d, nil
}

// say notes the first place that is wrong.
func (d *Damage) say(at int64, what string) {
	if d.What == "" {
		d.Offset, d.What = at, what
	}
}

// Count adds samples of a time that are lost.
func (d *Damage) Count(samples uint32, at int64) {
	if samples == 0 {
		return
	}
	d.Samples += uint64(samples)
	d.Between(at, at)
}

// Between widens the time of what is lost.
func (d *Damage) Between(from, to int64) {
	if d.From == 0 || from < d.From {
		d.From = from
	}
	d.To = max(d.To, to)
}

// likelyFrame is parseFrameHeader for places where most often no frame is.
func likelyFrame(b []byte, pos Pos) (Header, bool) {
	if len(b) < frameHeader || b[4]&^(moreBit|0x0f) != 0 || b[3] > MaxBody>>24 {
		return Header{}, false
	}
	return parseFrameHeader(b, pos)
}

// VerifyCursors checks the files of the cursors and that what they point at can
// be read, as far as ends says up to which offset a segment can: what is behind
// is a segment's damage. points gives the positions in a cursor's state. An
// agent may be writing the files meanwhile.
func (l *Log) VerifyCursors(ends map[uint64]int64, points func(state []byte) ([]Pos, error)) (checked int, bad []Damage, err error) {
	dir := filepath.Join(l.dir, cursorDir)
	names, err := l.o.FS.List(dir)
	if err != nil {
		return 0, nil, fmt.Errorf("list cursors: %w", err)
	}
	for _, name := range names {
		if name != renamesFile && !strings.HasSuffix(name, cursorSuffix) {
			continue
		}
		path := filepath.Join(dir, name)
		c, damages, err := l.verifyCursor(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return checked, bad, fmt.Errorf("read cursor: %w", err)
		}
		checked++
		if c != nil {
			damages = append(damages, l.verifyPayload(c, ends, points)...)
		}
		bad = append(bad, damages...)
	}
	return checked, bad, nil
}

const (
	looks    = 10 // at what somebody may be writing
	lookPace = 20 * time.Millisecond
)

// verifyCursor reads a cursor's file; c is nil when no slot can be read.
func (l *Log) verifyCursor(path string) (c *Cursor, bad []Damage, err error) {
	for look := range looks {
		if look > 0 {
			time.Sleep(lookPace)
		}
		c, bad, err = l.lookAtCursor(path)
		if err != nil || len(bad) == 0 {
			break
		}
	}
	return c, bad, err
}

func (l *Log) lookAtCursor(path string) (*Cursor, []Damage, error) {
	var b []byte
	err := twice(func() (err error) { b, err = readSmall(l.o.FS, path); return err })
	if err != nil && !lostBytes(err) && !errors.Is(err, errCursor) {
		return nil, nil, err
	}
	const gone = "; its remote begins anew"
	if err != nil {
		return nil, []Damage{{File: path, What: fmt.Sprintf("a position cannot be read: %v%s", err, gone)}}, nil
	}
	half := len(b) / 2
	var bad []Damage
	for i, slot := range [2][]byte{b[:half], b[half:]} {
		at := int64(i * half)
		_, payload, err := parseSlot(slot)
		if err == nil {
			_, _, _, err = parsePayload(payload)
		}
		if err != nil {
			bad = append(bad, Damage{File: path, Offset: at, What: fmt.Sprintf("one of a position's two slots, of which the other counts: %v", err)})
			continue
		}
		used := slotHeader + len(payload)
		if k := len(bytes.TrimRight(slot[used:], "\x00")); k > 0 {
			bad = append(bad, Damage{File: path, Offset: at + int64(used+k) - 1, What: "bytes behind a position are not zero"})
		}
	}
	c, err := parseCursor(path, b)
	if err != nil {
		return nil, []Damage{{File: path, What: fmt.Sprintf("a position cannot be read: %v%s", strings.ReplaceAll(err.Error(), "\n", ", "), gone)}}, nil
	}
	return c, bad, nil
}

// verifyPayload checks where a cursor that can be read points at.
func (l *Log) verifyPayload(c *Cursor, ends map[uint64]int64, points func([]byte) ([]Pos, error)) (bad []Damage) {
	at := int64(c.safe * c.slotSize)
	if filepath.Base(c.path) == renamesFile {
		if _, err := parseRenames(c.state); err != nil {
			bad = append(bad, Damage{File: c.path, Offset: at, What: err.Error()})
		}
		return bad
	}
	all := []Pos{c.low}
	if points != nil {
		more, err := points(c.state)
		if err != nil {
			bad = append(bad, Damage{File: c.path, Offset: at, What: fmt.Sprintf("the state of %s: %v", c.name, err)})
		}
		all = append(all, more...)
	}
	slices.SortFunc(all, Pos.Compare)
	for _, p := range slices.Compact(all) {
		if what := l.pointsAt(p, ends); what != "" {
			bad = append(bad, Damage{File: c.path, Offset: at, What: fmt.Sprintf("the position %s of %s %s", p, c.name, what)})
		}
	}
	return bad
}

// pointsAt says what is wrong with a position, "" when nothing is. A segment
// that is not there was deleted: a position before the log's begin is right.
func (l *Log) pointsAt(p Pos, ends map[uint64]int64) string {
	files := l.Files()
	var newest uint64
	if len(files) > 0 {
		newest = files[len(files)-1].ID
	}
	end, read := ends[p.Segment]
	switch {
	case p.IsZero():
	case p.Segment > newest || read && p.Segment == newest && int64(p.Offset) > end:
		if !l.InUse() && !l.reaches(p) { // else it may be in the memory of who has the lock
			return "is beyond the log's end"
		}
	case !read || int64(p.Offset) <= segmentHeader || int64(p.Offset) == end:
	case int64(p.Offset) > end:
		if i := slices.IndexFunc(files, func(f SegmentFile) bool { return f.ID == p.Segment }); i >= 0 && int64(p.Offset) > files[i].Size {
			return fmt.Sprintf("is %d bytes beyond its segment's end", int64(p.Offset)-files[i].Size)
		}
	default:
		_, err := l.HeaderAt(p)
		if err != nil && !errors.Is(err, ErrGone) {
			// A position of 0.1.0 (72d730c) may be a byte behind where a segment's last frame begins.
			if h, lerr := l.HeaderAt(Pos{p.Segment, p.Offset - 1}); lerr == nil && read && int64(h.End().Offset) == end {
				err = nil
			}
		}
		if err != nil && !errors.Is(err, ErrGone) {
			return "is not where a frame begins"
		}
	}
	return ""
}

// reaches says whether the file of a position's segment reaches that far by now.
func (l *Log) reaches(p Pos) bool {
	f, err := l.o.FS.Open(l.file(p.Segment))
	if err != nil {
		return false
	}
	defer f.Close()
	size, err := f.Size()
	return err == nil && int64(p.Offset) <= size
}

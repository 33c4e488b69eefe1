package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
	"promagent/wal"
)

// Segment is what one segment holds, as Check finds it.
type Segment struct {
	ID                uint64
	Before            uint64 // samples in the log before it
	Anchors, Records  int
	AnchorBytes       int64 // frame headers included
	RecordBytes       int64
	Slots             int // of the anchored blocks: series, but those twice that have moved between blocks
	Samples           uint64
	From, To          int64 // times of its first and last batch, ms
	Unreadable        int   // frames that are corrupt, of an unknown version, or lean on one that is
	UnreadableSamples uint64
	Torn              bool // its end is no whole group: an unclean end, or corrupt
}

// BytesPerSample is what a sample takes, anchors included.
func (s *Segment) BytesPerSample() float64 {
	return float64(s.AnchorBytes+s.RecordBytes) / float64(max(1, s.Samples))
}

// record takes a record of so many bytes in.
func (s *Segment) record(h wal.Header, size int64) {
	s.Records++
	s.RecordBytes += size
	s.Samples += uint64(h.Samples)
	if s.From == 0 {
		s.From = h.Time
	}
	s.From, s.To = min(s.From, h.Time), max(s.To, h.Time)
}

// Dump writes all samples of the log as text, in the log's order, a line each:
// time, series, value. A stale marker's value is "stale"; a start timestamp
// follows as "start=<time>"; an exemplar is a line of its own that begins with
// "exemplar". What cannot be read is a line that begins with "#".
func (s *Store) Dump(w io.Writer) error {
	d := dumper{w: bufio.NewWriterSize(w, 1<<16), names: map[*template.Block][]string{}}
	for at := (wal.Pos{}); ; {
		es, next, err := s.Entries(nil, at, 256)
		if err != nil {
			return fmt.Errorf("read log at %s: %w", at, err)
		}
		for i := range es {
			e := &es[i]
			lost := func(_ int, err error) {
				d.printf("# %d samples of %s at %s cannot be read: %v\n", e.Samples, stamp(e.Time), e.Pos, err)
			}
			if err := s.LoadEach(es[i:i+1], d.part, lost); err != nil {
				return err
			}
		}
		if next == at || d.err != nil {
			return errors.Join(d.err, d.w.Flush())
		}
		at = next
	}
}

// dumper writes parts as text.
type dumper struct {
	w     *bufio.Writer
	names map[*template.Block][]string // the series of blocks, by slot
	err   error
}

func (d *dumper) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(d.w, format, args...); err != nil && d.err == nil {
		d.err = fmt.Errorf("write dump: %w", err)
	}
}

// maxNames bounds the blocks whose series are kept as text.
const maxNames = 256

func (d *dumper) series(b *template.Block) []string {
	if n := d.names[b]; n != nil {
		return n
	}
	if len(d.names) == maxNames {
		clear(d.names)
	}
	var lb labels.ScratchBuilder
	n := make([]string, 0, b.Len())
	for it := b.Slots(); it.Next(); {
		n = append(n, it.Series(&lb).String())
	}
	d.names[b] = n
	return n
}

func (d *dumper) part(_ int, p *template.Part, t int64) error {
	names := d.series(p.Block)
	extra := p.Extra
	for slot, name := range names {
		switch p.State(slot) {
		case template.Value:
			at := t
			if p.Times != nil && p.Times[slot] != template.NoTime {
				at = p.Times[slot]
			}
			d.printf("%s %s %s", stamp(at), name, number(p.Values[slot]))
			if p.Starts != nil && p.Starts[slot] != 0 {
				d.printf(" start=%s", stamp(p.Starts[slot]))
			}
			d.printf("\n")
		case template.Stale:
			d.printf("%s %s stale\n", stamp(t), name)
		}
		for ; len(extra) > 0 && extra[0].Slot == slot; extra = extra[1:] {
			switch x := &extra[0]; x.Kind {
			case template.Sample:
				d.printf("%s %s %s\n", stamp(x.Time), name, number(x.Value))
			case template.Exemplar:
				d.printf("exemplar %s %s %s %s\n", stamp(x.Time), name, number(x.Value), labels.FromStrings(x.Labels...))
			}
		}
	}
	return d.err
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }

func number(v float64) string {
	if math.Float64bits(v) == template.StaleNaN {
		return "stale"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

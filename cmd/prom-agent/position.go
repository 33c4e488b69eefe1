package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"promagent/remotewrite"
	"promagent/wal/record"
)

// position is where a remote is in the log.
type position struct {
	final   uint64    // samples of the log before it; they had their final answer, or are older than the remote
	pending uint64    // samples of the log from it on; some may have been delivered already
	oldest  time.Time // of what is pending; zero when nothing is, or when it is gone
	segment uint64    // the first that is still needed
	offset  uint32

	backlogs int // that are delivered beside the newest data
}

// positionOf decodes the state that a remote's endpoint keeps with its cursor.
func positionOf(store *record.Store, encoded []byte) (position, error) {
	var progress remotewrite.Progress
	if err := progress.Decode(encoded); err != nil {
		return position{}, err
	}
	low, total := progress.Low(), store.Total()
	p := position{final: progress.Final(), pending: progress.Pending(total), segment: low.Segment, offset: low.Offset, backlogs: len(progress) - 1}
	for i := range progress {
		if progress[i].Pending(total) == 0 {
			continue
		}
		oldest, err := oldestPending(store, &progress[i])
		if err != nil {
			return position{}, err
		}
		if p.oldest.IsZero() || !oldest.IsZero() && oldest.Before(p.oldest) {
			p.oldest = oldest
		}
	}
	return p, nil
}

// oldestPending is the time of the oldest entry of a stretch that is not final
// for every shard; zero when there is none.
func oldestPending(store *record.Store, stretch *remotewrite.Stretch) (time.Time, error) {
	low := slices.MinFunc(stretch.Ats, remotewrite.At.Compare)
	span := stretch.Spans[0]
	for _, s := range stretch.Spans {
		if s.Start.Segment == low.Segment && s.Start.Offset == low.Span {
			span = s
		}
	}
	var oldest int64
	number := map[record.BlockID]uint32{} // of the span's blocks, in order of first appearance
	for at := span.Start; ; {
		entries, next, err := store.Entries(nil, at, 4096)
		if err != nil {
			return time.Time{}, fmt.Errorf("read log at %s: %w", at, err)
		}
		for _, e := range stretch.Bound.Within(entries) {
			if e.Pos.Segment != span.Start.Segment || e.Pos.Offset >= span.End.Offset { // after the span: all of it is pending
				if oldest == 0 {
					oldest = e.Time
				}
				return time.UnixMilli(oldest), nil
			}
			step := e.Pos.Offset
			if span.Kind == remotewrite.Window {
				if _, ok := number[e.Anchor()]; !ok {
					number[e.Anchor()] = uint32(len(number))
				}
				step = number[e.Anchor()]
			}
			if step >= low.Step && (oldest == 0 || e.Time < oldest) {
				oldest = e.Time
			}
		}
		if next == at || stretch.Bound.Excludes(next) {
			break
		}
		at = next
	}
	if oldest == 0 {
		return time.Time{}, nil
	}
	return time.UnixMilli(oldest), nil
}

// printPosition writes a remote's line.
func printPosition(out io.Writer, name string, p position, now time.Time) {
	fmt.Fprintf(out, "remote %s: %d samples final, %d pending", name, p.final, p.pending)
	if !p.oldest.IsZero() {
		fmt.Fprintf(out, ", the oldest %s old", max(0, now.Sub(p.oldest)).Round(time.Second))
	}
	if p.backlogs > 0 {
		plural := "s"
		if p.backlogs == 1 {
			plural = ""
		}
		fmt.Fprintf(out, ", in %d backlog%s beside the newest data", p.backlogs, plural)
	}
	fmt.Fprintf(out, "; keeps segment %d from offset %d on\n", p.segment, p.offset)
}

// logIn says whether dir holds a log of ours, and if not what it holds instead.
func logIn(dir string) error {
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		return fmt.Errorf("open log in %s: not a directory", dir)
	}
	_, err = os.Stat(filepath.Join(dir, "log"))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return nil // what else is wrong is told when it is opened
	}
	text := "no prom-agent log in " + dir
	switch {
	case holds(filepath.Join(dir, "wal")):
		text += "; it holds a Prometheus WAL, in wal"
	case holds(dir):
		text += "; it holds a Prometheus WAL"
	case filepath.Base(filepath.Clean(dir)) == "log":
		text += "; it takes the agent's --storage.agent.path, which may be the directory above"
	}
	return errors.New(text)
}

// holds says whether dir has the segments of a Prometheus WAL, or a checkpoint of it.
func holds(dir string) bool {
	for _, pattern := range []string{"[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]", "checkpoint.[0-9]*"} {
		if found, err := filepath.Glob(filepath.Join(dir, pattern)); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}

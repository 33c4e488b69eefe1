package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"promagent/wal/record"
)

// inspectLog prints what a data directory's log holds: a summary, or every
// sample. The log may be in use; nothing of it is changed.
func inspectLog(out io.Writer, dir string, dump bool) (err error) {
	store, stop, err := record.OpenReadOnly(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("open log in %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, stop()) }()
	if dump {
		return store.Dump(out)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "segment\tfrom\tto\tseries\tsamples\trecords\tanchors\tbytes\tbytes/sample\tdamage\t")
	var samples uint64
	var bytes int64
	unreadable := 0
	err = store.Summary(func(s record.Segment) error {
		damage := "none"
		switch {
		case s.Unreadable > 0:
			damage = fmt.Sprintf("%d frames, %d samples", s.Unreadable, s.UnreadableSamples)
		case s.Torn:
			damage = "torn end"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%.2f\t%s\t\n", s.ID, stamp(s.From), stamp(s.To), s.Slots, s.Samples, s.Records, s.Anchors,
			s.AnchorBytes+s.RecordBytes, s.BytesPerSample(), damage)
		samples += s.Samples
		bytes += s.AnchorBytes + s.RecordBytes
		unreadable += s.Unreadable
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "in all\t\t\t\t%d\t\t\t%d\t%.2f\t\t\n", samples, bytes, float64(bytes)/float64(max(1, samples)))
	if err := w.Flush(); err != nil {
		return err
	}
	for _, name := range store.Log().Cursors() {
		c, err := store.Log().Cursor(name)
		if err != nil {
			return err
		}
		low, _, ok := c.Load()
		if !ok {
			fmt.Fprintf(out, "remote %s: no position\n", name)
			continue
		}
		fmt.Fprintf(out, "remote %s: needs segment %d from offset %d on\n", name, low.Segment, low.Offset)
	}
	if unreadable > 0 {
		return exitError{1, fmt.Sprintf("%d frames cannot be read", unreadable)}
	}
	return nil
}

func stamp(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format(time.DateTime)
}

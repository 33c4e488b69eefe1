package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"promagent/wal/record"
)

// inspectLog prints what a data directory's log holds: a summary, or every
// sample. The log may be in use; nothing of it is changed. Damage is told, on
// messages where it is not part of what is asked for, and ends with exit code 1.
func inspectLog(out, messages io.Writer, dir string, dump bool) (err error) {
	if err := logIn(dir); err != nil {
		return err
	}
	faults := &faultCounter{Handler: slog.NewTextHandler(messages, &slog.HandlerOptions{Level: slog.LevelWarn})}
	logger := slog.New(slog.DiscardHandler) // a summary lists all damage
	if dump {
		logger = slog.New(faults)
	}
	store, stop, err := record.OpenReadOnly(dir, logger)
	if err != nil {
		return fmt.Errorf("open log in %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, stop()) }()
	if !dump {
		all, err := summarise(out, messages, store)
		if err != nil {
			return err
		}
		return all.asError()
	}
	lines := &noteCounter{w: out, fresh: true}
	switch err := store.Dump(lines); {
	case err != nil:
		return err
	case lines.notes > 0:
		return exitError{1, fmt.Sprintf("%d records cannot be read", lines.notes)}
	case faults.n.Load() > 0:
		return exitError{1, "not all of the log can be read"}
	}
	return nil
}

// faultCounter counts the errors and warnings that are logged: all are about what cannot be read.
type faultCounter struct {
	slog.Handler
	n atomic.Int64
}

func (c *faultCounter) Handle(ctx context.Context, r slog.Record) error {
	c.n.Add(1) // the handler lets nothing less than warnings through
	return c.Handler.Handle(ctx, r)
}

func (c *faultCounter) WithAttrs([]slog.Attr) slog.Handler { return c } // one count for all
func (c *faultCounter) WithGroup(string) slog.Handler      { return c }

// noteCounter counts the lines that begin with "#": in a dump, what cannot be read.
type noteCounter struct {
	w     io.Writer
	fresh bool // at the beginning of a line
	notes int
}

func (c *noteCounter) Write(p []byte) (int, error) {
	for _, b := range p {
		if c.fresh && b == '#' {
			c.notes++
		}
		c.fresh = b == '\n'
	}
	return c.w.Write(p)
}

// summarise prints a line for each segment and each remote's position, and on
// messages each damaged place; it returns what all damage takes.
func summarise(out, messages io.Writer, store *record.Store) (all damages, err error) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "segment\tfrom\tto\tseries\tsamples\trecords\tanchors\tbytes\tbytes/sample\tdamage\t")
	var samples uint64
	var bytes int64
	_, err = checkLog(messages, store, &all, func(s record.Segment) error {
		damage := "none"
		switch {
		case s.Unreadable > 0 && s.Torn:
			damage = fmt.Sprintf("%d frames with %d samples, torn end", s.Unreadable, s.UnreadableSamples)
		case s.Unreadable > 0:
			damage = fmt.Sprintf("%d frames with %d samples", s.Unreadable, s.UnreadableSamples)
		case s.Torn:
			damage = "torn end"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%.2f\t%s\t\n", s.ID, stamp(s.From), stamp(s.To), s.Slots, s.Samples, s.Records, s.Anchors,
			s.AnchorBytes+s.RecordBytes, s.BytesPerSample(), damage)
		samples += s.Samples
		bytes += s.AnchorBytes + s.RecordBytes
		return nil
	})
	if err != nil {
		return all, err
	}
	fmt.Fprintf(w, "in all\t\t\t\t%d\t\t\t%d\t%.2f\t\t\n", samples, bytes, float64(bytes)/float64(max(1, samples)))
	if err := w.Flush(); err != nil {
		return all, err
	}
	for _, name := range store.Log().Cursors() {
		c := store.Log().Cursor(name)
		_, state, ok := c.Load()
		if !ok {
			fmt.Fprintf(out, "remote %s: no position\n", name)
			continue
		}
		p, err := positionOf(store, state)
		if err != nil {
			fmt.Fprintf(out, "remote %s: %v\n", name, err)
			continue
		}
		printPosition(out, name, p, time.Now())
	}
	return all, nil
}

func stamp(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format(time.DateTime)
}

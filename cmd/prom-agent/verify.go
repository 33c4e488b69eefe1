package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"promagent/remotewrite"
	"promagent/wal"
	"promagent/wal/record"
)

// verifyLog reads all of a data directory's log and prints a line for each
// damaged place and one of totals. The log may be in use; nothing of it is
// changed. Damage is an exit code of 1, what keeps from looking one of 2.
func verifyLog(out io.Writer, dir string) (err error) {
	cannot := func(err error) error { return exitError{2, fmt.Sprintf("prom-agent: %v", err)} }
	if err := logIn(dir); err != nil {
		return cannot(err)
	}
	store, stop, err := record.OpenReadOnly(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return cannot(fmt.Errorf("open log in %s: %w", dir, err))
	}
	defer func() {
		if serr := stop(); serr != nil && err == nil {
			err = cannot(serr)
		}
	}()
	var all damages
	sum, err := checkLog(out, store, &all, nil)
	if err != nil {
		return cannot(err)
	}
	fmt.Fprintf(out, "%s; read %d segments of %d bytes with %d samples, %d positions", all.verdict(), sum.Segments, sum.Bytes, sum.Samples, sum.Cursors)
	if sum.Growing {
		fmt.Fprint(out, "; the newest segment is being written")
	}
	fmt.Fprintln(out)
	if all.places > 0 {
		return exitError{code: 1}
	}
	return nil
}

// checkLog checks a log and writes a line for each damaged place to out.
func checkLog(out io.Writer, store *record.Store, all *damages, segment func(record.Segment) error) (record.Checked, error) {
	return store.Check(record.Check{
		Segment: segment,
		Damage: func(d wal.Damage) error {
			all.add(d)
			_, err := fmt.Fprintf(out, "%s at %d: %s; lost: %s\n", d.File, d.Offset, d.What, damages{0, d})
			return err
		},
		Points: pointsOf,
	})
}

// pointsOf are the positions in the state that a remote's endpoint keeps with its cursor.
func pointsOf(encoded []byte) (all []wal.Pos, err error) {
	var progress remotewrite.Progress
	if err := progress.Decode(encoded); err != nil {
		return nil, err
	}
	return progress.Positions(), nil
}

// damages sums up damage.
type damages struct {
	places int
	wal.Damage
}

func (a *damages) add(d wal.Damage) {
	a.places++
	a.Bytes += d.Bytes
	a.Samples += d.Samples
	a.AtLeast = a.AtLeast || d.AtLeast
	if d.From != 0 && (a.From == 0 || d.From < a.From) {
		a.From = d.From
	}
	a.To = max(a.To, d.To)
}

// String is what is lost.
func (a damages) String() string {
	text := fmt.Sprintf("%d bytes", a.Bytes)
	switch {
	case a.Bytes == 0 && a.Samples == 0 && !a.AtLeast:
		return "nothing of the log"
	case a.AtLeast && a.Samples == 0:
		text += ", an unknown number of samples"
	case a.AtLeast:
		text += fmt.Sprintf(", at least %d samples", a.Samples)
	default:
		text += fmt.Sprintf(", %d samples", a.Samples)
	}
	switch {
	case a.From != 0 && a.To > a.From:
		text += fmt.Sprintf(" from %s to %s", fine(a.From), fine(a.To))
	case a.From != 0 && a.To == a.From:
		text += " of " + fine(a.From)
	case a.From != 0:
		text += " after " + fine(a.From)
	}
	return text
}

func (a damages) verdict() string {
	if a.places == 0 {
		return "sound"
	}
	return fmt.Sprintf("damaged places: %d; lost: %s", a.places, a)
}

func (a damages) asError() error {
	if a.places == 0 {
		return nil
	}
	return exitError{1, a.verdict()}
}

// fine is a time to the millisecond.
func fine(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05.000") }

package scrape

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Refused counts samples that a target exposed and that were not logged.
type Refused struct {
	OutOfOrder  uint64 // not newer than the series' last one
	Duplicates  uint64 // of a series and time that the same scrape has already
	OutOfBounds uint64 // too far in the future
}

// complainEvery is the least time between two log lines of one cause.
const complainEvery = time.Minute

// complaints is what a target gives cause to log, maybe at every scrape. It
// outlives the target's loop: a reload neither forgets the counts nor repeats
// the lines.
type complaints struct {
	mu      sync.Mutex // guards what follows
	refused Refused

	outOfOrder, duplicates, outOfBounds, exemplars, contentType complaint
}

// complaint is one cause. A target that is wrong is so at every scrape, so
// only the first time is said at once, and the sum since then every minute.
type complaint struct {
	said time.Time // zero: never
	held int       // since then
}

// due adds n and returns what is to be logged now; 0 for nothing.
func (c *complaint) due(n int, now time.Time) int {
	c.held += n
	if c.held == 0 || !c.said.IsZero() && now.Sub(c.said) < complainEvery {
		return 0
	}
	n, c.held, c.said = c.held, 0, now
	return n
}

func (c *complaints) total() Refused {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

// complain takes in what a scrape at now refused, and err, what it failed with.
// The lines on samples are those of Prometheus.
func (l *loop) complain(now time.Time, n *counts, err error) {
	c := l.target.complaints
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused.OutOfOrder += uint64(n.outOfOrder)
	c.refused.Duplicates += uint64(n.duplicates)
	c.refused.OutOfBounds += uint64(n.outOfBounds)
	for _, cause := range [...]struct {
		*complaint
		n    int
		text string
	}{
		{&c.outOfOrder, n.outOfOrder, "Error on ingesting out-of-order samples"},
		{&c.duplicates, n.duplicates, "Error on ingesting samples with different value but same timestamp"},
		{&c.outOfBounds, n.outOfBounds, "Error on ingesting samples that are too old or are too far into the future"},
		{&c.exemplars, n.exemplarsTooLong + n.exemplarsAmbiguous, "Exemplars were dropped: their labels have more than 128 characters together, or a label name comes twice"},
	} {
		if dropped := cause.due(cause.n, now); dropped > 0 {
			l.log().Warn(cause.text, "num_dropped", dropped)
		}
	}
	var wrong contentTypeError
	if !errors.As(err, &wrong) {
		return
	}
	if scrapes := c.contentType.due(1, now); scrapes > 0 {
		l.log().Error("Failed to determine correct type of scrape target.",
			"content_type", wrong.contentType, "fallback_media_type", wrong.fallback, "err", wrong.error, "num_scrapes", scrapes)
	}
}

// log is the log for lines about the target.
func (l *loop) log() *slog.Logger {
	return l.env.log.With("scrape_pool", l.rules.cfg.Job, "target", l.target.url.Redacted())
}

// contentTypeError fails a scrape whose body cannot be read for its type.
type contentTypeError struct {
	error
	contentType, fallback string
}

func (e contentTypeError) Unwrap() error { return e.error }

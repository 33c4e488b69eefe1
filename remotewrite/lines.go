package remotewrite

import (
	"log/slog"
	"sync"
	"time"
)

// logEvery is the time between two lines with the same message.
const logEvery = time.Minute

// lines decides which log lines are written: of each message one at a time, so
// that what passes does not hide what is lost. Messages are constants.
type lines struct {
	mu   sync.Mutex
	last map[string]*line
}

// line is what is known of a message.
type line struct {
	at      time.Time // it was written last
	samples int       // that it has been about since
}

// due says whether a line with the message is to be written now, and of how
// many samples in all: those of the lines that were not written are among them.
func (l *lines) due(message string, samples int, now time.Time) (total int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.last[message]
	if x == nil {
		if l.last == nil {
			l.last = map[string]*line{}
		}
		x = &line{at: now.Add(-2 * logEvery)}
		l.last[message] = x
	}
	x.samples += samples
	if now.Sub(x.at) <= logEvery {
		return 0, false
	}
	total, x.at, x.samples = x.samples, now, 0
	return total, true
}

// complain logs trouble that passes or that loses no samples.
func (d *delivery) complain(message string, err error, args ...any) {
	args = append(args, "err", err)
	if _, ok := d.lines.due(message, 0, time.Now()); ok {
		d.log.Warn(message, args...)
	} else {
		d.log.Debug(message, args...)
	}
}

// dropped logs that samples do not reach the remote, with their number since
// the last such line: a remote may refuse a part of every request.
func (d *delivery) dropped(message string, err error, samples int, args ...any) {
	if samples == 0 {
		return
	}
	if total, ok := d.lines.due(message, samples, time.Now()); ok {
		d.log.Error(message, append([]any{"samples", total, "err", err}, args...)...)
	}
}

// refusals are the samples of a batch that the remote does not take, with one
// example: they are one line in the log, however the batch was divided.
type refusals struct {
	samples int
	err     error // of the example
	example example
}

// add counts samples of a part.
func (r *refusals) add(err error, samples int, b *batch, p part) {
	if r.samples == 0 {
		r.err, r.example = err, example{b, p.from}
	}
	r.samples += samples
}

// refused logs the refusals of a batch.
func (d *delivery) refused(r refusals) {
	if r.samples > 0 {
		d.dropped("Samples were refused by the remote and are dropped", r.err, r.samples, "example", r.example, "timestamp", r.example.b.times[r.example.sample])
	}
}

// example is a sample's series, named when a line is written.
type example struct {
	b      *batch
	sample int
}

func (x example) LogValue() slog.Value { return slog.StringValue(x.b.series(x.sample)) }

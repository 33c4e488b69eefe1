package remotewrite

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"
)

// shard sends the batches of one lane, one after the other: encode, compress,
// attempt until there is a final answer.
type shard struct {
	e        *Endpoint
	number   int
	wake     chan struct{}
	stop     chan struct{}
	wary     int      // batches in a row of which nothing was accepted
	tooLarge bool     // of the batch in work, something was
	fits     bool     // of the batch in work, something was not
	alone    error    // of the batch in work: the answer to a sample that is too large alone
	noneFits bool     // batches are too large down to their single samples
	refusals refusals // of the batch in work
}

// run sends until it is stopped; ctx ends requests under way.
func (s *shard) run(ctx context.Context) {
	e := s.e
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		e.mu.Lock()
		b, wait := e.led.take(s.number, time.Now())
		if b != nil {
			e.persist()
		}
		e.mu.Unlock()
		if b == nil {
			if wait <= 0 {
				wait = time.Hour
			}
			timer.Reset(wait)
			select {
			case <-s.wake:
			case <-timer.C:
			case <-s.stop:
				return
			case <-ctx.Done():
				return
			}
			continue
		}
		if b.isPortion() { // there is room for another one
			e.wakeReader()
		}
		// What may arrive must be known to a later life. Where the disk hangs,
		// delivery goes on all the same: it repeats more then.
		e.cursor.Persist(persistPatience)
		if !s.send(ctx, b) {
			return // given up: the batch is not final, and the position stays
		}
		portion, newest := b.isPortion(), b.newest
		e.mu.Lock()
		e.sent.samples += b.samples()
		e.all.samples += b.samples()
		e.all.requests++
		e.led.finished(s.number, time.Now())
		e.persist()
		e.mu.Unlock()
		raise(&e.sentTime, newest)
		if e.silent.Swap(false) {
			e.answers.Store(true)
		}
		e.wakeReader()
		if portion { // others may have waited for it, and the reader for the disk
			e.wakeShards()
		}
		select {
		case <-s.stop:
			return
		default:
		}
	}
}

// send delivers a batch, in halves where the remote refuses it. It returns
// false when it was stopped before all of it was final.
func (s *shard) send(ctx context.Context, b *batch) bool {
	d := divide(b.samples(), s.wary)
	largest := 0 // part that was accepted
	s.tooLarge, s.fits, s.alone, s.refusals = false, false, nil, refusals{}
	defer func() { s.e.refused(s.refusals) }()
	probing := s.noneFits && d.probe()
	for p, ok := d.next(); ok; p, ok = d.next() {
		accepted, again, done := s.sendPart(ctx, b, p, d)
		if !done {
			return false
		}
		if again {
			continue
		}
		d.done(accepted)
		if accepted {
			largest = max(largest, p.len())
		}
		switch {
		case !probing:
		case s.alone != nil:
			s.refuse(b, d.rest())
		case s.fits:
			probing = false
		default: // it has become too old, and was not sent
			probing = d.probe()
		}
	}
	s.wary++
	if d.accepted {
		s.wary = 0
	}
	s.remember(b)
	s.adapt(b.len(), largest)
	return true
}

// remember notes whether the remote finds everything too large, which halving
// asks with twice as many requests as there are samples: then the next batches
// have one request, of one sample, until one is not. Batches that are halved
// within the bound for any other refusal say too little, as does a single
// series, which may be too large alone.
func (s *shard) remember(b *batch) {
	switch {
	case s.fits:
		s.noneFits = false
	case s.alone != nil && 2*b.samples() > maxRequests && b.series(0) != b.series(b.samples()-1):
		s.noneFits = true
	default:
		return
	}
	s.e.noneFits.Store(s.noneFits)
}

// refuse makes a part final that is not sent, because the remote has just found
// a single sample of its batch too large, and all of a batch before.
func (s *shard) refuse(b *batch, p part) {
	if b.frozen {
		s.thaw(b)
	}
	samples, exemplars, tooOld := s.encode(b, p, s.e.cfg.Load().oldest(time.Now()))
	s.expired(tooOld)
	s.e.metrics.samplesFailed.Add(float64(samples))
	s.e.metrics.exemplarsFailed.Add(float64(exemplars))
	s.e.replies.note(s.alone, true, samples)
	s.refusals.add(s.alone, samples, b, p)
}

// growth is the share by which batches grow again after they were too large.
const growth = 64

// adapt makes batches as large as the remote takes them, at most as they are
// configured: what it took of a batch that was too large is the measure, and
// full batches that it takes make the next ones larger again. So one series
// that is too large alone does not keep requests small.
func (s *shard) adapt(n, largest int) {
	e := s.e
	e.mu.Lock()
	defer e.mu.Unlock()
	lim := &e.led.limits.batch
	switch most := e.cfg.Load().Queue.MaxSamplesPerSend; {
	case s.tooLarge && largest > 0:
		*lim = min(*lim, largest)
	case !s.tooLarge && largest > 0 && 2*n >= *lim && *lim < most: // those that waited are smaller
		*lim = min(*lim+max(1, *lim/growth), most)
	}
}

// sendPart attempts a part until there is a final answer. again means that the
// part has been divided.
func (s *shard) sendPart(ctx context.Context, b *batch, p part, d *division) (accepted, again, done bool) {
	e := s.e
	var back backoff
	m := e.metrics
	paid := 0 // bytes that the limit has let through for the next attempt
	var samples, exemplars, tooOld int
	for attempt := 0; ; {
		reconfigured := e.reconfigured()
		cfg := e.cfg.Load()
		back.min, back.max = cfg.Queue.MinBackoff, cfg.Queue.MaxBackoff
		if b.frozen && (cfg.Queue.SampleAgeLimit > 0 || p.len() < b.samples()) {
			s.thaw(b)
		}
		if b.frozen {
			samples, exemplars, tooOld = b.samples(), 0, 0
		} else {
			samples, exemplars, tooOld = s.encode(b, p, cfg.oldest(time.Now()))
			if cfg.Queue.SampleAgeLimit == 0 && b.mayFreeze(samples, e.v2) {
				e.mu.Lock()
				e.led.freeze(b)
				e.mu.Unlock()
			}
		}
		if samples == 0 { // all of it has become too old
			s.expired(tooOld)
			return true, false, true
		}
		if owed := len(b.packed) - paid; owed > 0 {
			take := e.rate.take
			if e.isBacklog() {
				take = e.rate.takeLast
			}
			waited, err := take(ctx, owed)
			if err != nil {
				e.giveUp(s.number)
				return false, false, false
			}
			if paid += owed; waited {
				continue // what is too old may be so by now, and the client another
			}
		}
		paid = 0
		begin := time.Now()
		body := &reading{bytes: b.packed}
		resp, err := e.client.Load().store(ctx, body, attempt)
		if body.goesOn() { // its memory is not for other requests
			b.packed = slices.Clone(b.packed)
		}
		took := time.Since(begin)
		e.mu.Lock()
		e.sent.busy += took
		e.all.busy += took
		e.sent.bytes += len(b.packed)
		if err == nil && (e.fastest == 0 || took < e.fastest) {
			e.fastest = took
		}
		e.mu.Unlock()
		if ctx.Err() != nil && err != nil {
			return false, false, false
		}
		m.sendDuration.Observe(took.Seconds())
		m.samples.Add(float64(samples))
		m.exemplars.Add(float64(exemplars))
		if attempt == 0 {
			m.bytes.Add(float64(len(b.packed)))
		} else {
			m.samplesRetried.Add(float64(samples))
			m.exemplarsRetried.Add(float64(exemplars))
		}
		if err == nil {
			e.noteAnswer()
			s.fits = true
			s.expired(tooOld)
			return s.answered(resp, samples, exemplars), false, true
		}
		var se *SendError
		errors.As(err, &se) // Store returns nothing else
		if se.Recoverable {
			wait := back.next(se.RetryAfter)
			e.lastRetry.Store(time.Now().Add(2 * wait).UnixNano())
			e.replies.note(err, false, 0)
			e.noteFailure(time.Now())
			e.mu.Lock()
			e.all.failed++
			e.mu.Unlock()
			e.complain("Failed to send batch, retrying", err)
			e.failing.Add(1)
			err := sleep(ctx, wait, reconfigured)
			e.failing.Add(-1)
			if err != nil {
				return false, false, false
			}
			attempt++
			continue
		}
		e.noteAnswer()
		if b.frozen { // parts of it may be sent, and it may be named
			s.thaw(b)
		}
		switch {
		case se.Status == http.StatusRequestEntityTooLarge && d.tooLarge():
			s.tooLarge = true
			e.complain("A batch is too large for the remote; smaller ones are sent", err, "samples", samples)
			return false, true, true
		case se.Status == http.StatusBadRequest && !se.Response.Confirmed && d.refused():
			return false, true, true
		case se.Status == http.StatusRequestEntityTooLarge:
			s.alone = err
		default:
			s.fits = true
		}
		s.expired(tooOld)
		failed, failedExemplars := samples, exemplars
		if se.Response.Confirmed { // 2.0: the rest has been written
			failed = max(0, samples-se.Response.Samples)
			failedExemplars = max(0, exemplars-se.Response.Exemplars)
		}
		m.samplesFailed.Add(float64(failed))
		m.exemplarsFailed.Add(float64(failedExemplars))
		e.replies.note(err, true, failed)
		s.refusals.add(err, failed, b, p)
		return failed < samples, false, true
	}
}

// expired counts samples of a part that is final that were too old to be sent
// in its last attempt. Those of the attempts before are among them.
func (s *shard) expired(n int) {
	s.e.metrics.samplesDropped.WithLabelValues(reasonTooOld).Add(float64(n))
}

var (
	errNothingWritten = errors.New("no samples were written")
	errPartWritten    = errors.New("only a part of the samples was written")
)

// answered takes a success and says whether anything was written: 2.0 tells
// how much, and a receiver that does not tell has not understood the message.
// With 1.x it need not tell.
func (s *shard) answered(resp Response, samples, exemplars int) bool {
	e := s.e
	if !e.v2 && !resp.Confirmed {
		return true
	}
	if !resp.Confirmed || resp.Samples+resp.Histograms+resp.Exemplars == 0 {
		e.metrics.samplesFailed.Add(float64(samples))
		e.metrics.exemplarsFailed.Add(float64(exemplars))
		e.replies.note(errNothingWritten, true, samples)
		e.dropped("The remote wrote nothing of a request; one that takes 1.x only does not confirm 2.0", errNothingWritten, samples)
		return false
	}
	if n := samples - resp.Samples; n > 0 {
		e.metrics.samplesFailed.Add(float64(n))
		e.replies.note(errPartWritten, true, n)
		e.dropped("The remote wrote only a part of a request", errPartWritten, n)
	}
	if n := exemplars - resp.Exemplars; n > 0 {
		e.metrics.exemplarsFailed.Add(float64(n))
	}
	return true
}

// thaw gives a frozen batch its columns back.
func (s *shard) thaw(b *batch) {
	c := b.melted(s.e.v2)
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.e.led.thaw(b, c)
}

// encode makes the request of the part's samples that are not older than
// oldest, ms, and packs it.
func (s *shard) encode(b *batch, p part, oldest int64) (samples, exemplars, tooOld int) {
	pr := s.e.presses.take()
	defer s.e.presses.put(pr)
	samples, exemplars, tooOld = pr.encode(b, p, oldest)
	if b.packed == nil {
		s.e.mu.Lock()
		b.packed = s.e.led.newRequest()
		s.e.mu.Unlock()
	}
	b.packed = append(b.packed[:0], pr.pack(b.isPortion())...)
	return samples, exemplars, tooOld
}

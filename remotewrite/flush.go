package remotewrite

import "time"

// flush waits until all that has been dealt is final, at most d. A remote that
// only fails is given up before: what is left is sent after the next start.
func (e *Endpoint) flush(d time.Duration) {
	begin := time.Now()
	deadline := begin.Add(d)
	e.rate.end() // what would have to wait is sent after the next start
	for {
		e.mu.Lock()
		e.led.flush()
		n := e.toFlush()
		e.mu.Unlock()
		end := e.flushEnd(begin, deadline)
		if n == 0 || !time.Now().Before(end) {
			return
		}
		e.wakeShards()
		t := time.NewTimer(min(time.Until(end), 50*time.Millisecond))
		select {
		case <-e.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// flushEnd is when a flush that began at begin is given up, as it stands: at
// the deadline, or when failures without a final answer have lasted for a
// grace. A failure alone says little: a remote that hiccups answers again, and
// requests of other shards may be under way.
func (e *Endpoint) flushEnd(begin, deadline time.Time) time.Time {
	since := e.failingSince.Load()
	if since == nil {
		return deadline
	}
	end := begin // what failed before has all of the grace, too
	if since.After(begin) {
		end = *since
	}
	end = end.Add(inFlightGrace)
	if deadline.Before(end) {
		return deadline
	}
	return end
}

// noteFailure notes that a request has failed and will be tried again.
func (e *Endpoint) noteFailure(now time.Time) {
	e.failingSince.CompareAndSwap(nil, &now)
	e.silent.Store(true)
}

// noteAnswer notes that the remote has given a final answer, whatever it says.
func (e *Endpoint) noteAnswer() { e.failingSince.Store(nil) }

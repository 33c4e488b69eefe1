package discovery

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"promagent/discovery/group"
)

// Between two deliveries lies at least minPause, growing by half with every
// one to maxPause while changes keep coming: a busy discovery must not make
// the reader work all the time, and a new pod must not wait long for the others. After maxPause of quiet it starts again.
const (
	minPause = 100 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// pending is what the reader was not told yet, by job.
type pending map[string]*news

type news struct {
	groups map[string]group.Group // by Source: the newest
	gone   bool
}

// announce makes job known to the reader.
func (p pending) announce(job string) *news {
	n := p[job]
	if n == nil {
		n = &news{groups: map[string]group.Group{}}
		p[job] = n
	}
	n.gone = false
	return n
}

// add tells of g in job.
func (p pending) add(job string, g group.Group) {
	p.announce(job).groups[g.Source] = g
}

// end tells that job is no longer. What is pending about its groups stays:
// should the job return before the reader heard, it learns what ended.
func (p pending) end(job string) { p.announce(job).gone = true }

// updates returns p as the reader gets it.
func (p pending) updates() []Update {
	batch := make([]Update, 0, len(p))
	for _, job := range slices.Sorted(maps.Keys(p)) {
		u := Update{Job: job, Gone: p[job].gone}
		if !u.Gone {
			u.Groups = slices.SortedFunc(maps.Values(p[job].groups), func(a, b group.Group) int {
				return strings.Compare(a.Source, b.Source)
			})
		}
		batch = append(batch, u)
	}
	return batch
}

// send delivers what is pending until ctx is done.
func (m *Manager) send(ctx context.Context) {
	var last time.Time // of delivery
	pause := minPause
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.news:
		}
		now := time.Now()
		if now.Sub(last) > maxPause {
			pause = minPause
		}
		// Never at once: what changes together should arrive together.
		until := last.Add(pause)
		if soon := now.Add(minPause); until.Before(soon) {
			until = soon
		}
		if !m.pauseUntil(ctx, until) {
			return
		}
		m.mu.Lock()
		batch := m.pending.updates()
		clear(m.pending)
		m.mu.Unlock()
		if len(batch) == 0 { // came with the batch before
			continue
		}
		select {
		case m.out <- batch:
		default:
			m.metrics.DelayedUpdates.Inc()
			select {
			case m.out <- batch:
			case <-ctx.Done():
				return
			}
		}
		last = time.Now()
		pause = min(pause+pause/2, maxPause)
		m.delivered(batch)
	}
}

// pauseUntil waits for t, or only for minPause when a commit changed
// something meanwhile; false: ctx is done.
func (m *Manager) pauseUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-m.hurry:
			if soon := time.Now().Add(minPause); soon.Before(t) {
				t = soon
				timer.Reset(minPause)
			}
		}
	}
}

// delivered counts a delivery.
func (m *Manager) delivered(batch []Update) {
	m.metrics.SentUpdates.Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range batch {
		if _, ok := m.jobs[u.Job]; ok { // else it would leave a series of a job that ended
			m.metrics.LastUpdated.WithLabelValues(u.Job).SetToCurrentTime()
		}
	}
}

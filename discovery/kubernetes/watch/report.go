package watch

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// quiet is how long a cause of failures is not logged again.
const quiet = time.Minute

// errSilent ends a request that the server does not get on with.
var errSilent = errors.New("the API server sends nothing")

// lostError is a connection that ended in the middle of an answer.
type lostError struct{ err error }

func (l *lostError) Error() string { return "connection lost: " + l.err.Error() }
func (l *lostError) Unwrap() error { return l.err }

// cause is what failures are told apart by. One that lies with the server and
// not with a query has the zero Query.
type cause struct {
	what  string
	query Query
}

// explain finds the cause of a failure and says what it is to a reader of the
// log.
func explain(q Query, err error) (cause, string) {
	var refused *refusal
	var bad *garbage
	var lost *lostError
	switch {
	case errors.As(err, &refused):
		return explainRefusal(q, refused)
	case errors.As(err, &bad):
		return cause{"garbage", q}, fmt.Sprintf("Kubernetes API server answers garbage when asked for %s", q)
	case errors.As(err, &lost):
		return cause{what: "lost"}, "connection to Kubernetes API server lost"
	case errors.Is(err, errShort):
		return cause{what: "short"}, "Kubernetes API server, or something before it, ends every watch at once, so that changes are seen late"
	case errors.Is(err, errSilent):
		return cause{what: "silent"}, "Kubernetes API server accepts connections but does not answer"
	}
	return cause{what: "unreachable"}, "Kubernetes API server cannot be reached"
}

func explainRefusal(q Query, r *refusal) (cause, string) {
	switch {
	case r.code == http.StatusUnauthorized:
		return cause{what: "unauthorized"}, "Kubernetes API server does not accept the credentials: check the token, the client certificate or the password"
	case r.code == http.StatusForbidden:
		return cause{"forbidden", q}, fmt.Sprintf("Kubernetes API server forbids to read %s: %s", q, q.rights())
	case r.code == http.StatusBadRequest && (q.Label != "" || q.Field != ""):
		return cause{"selector", q}, fmt.Sprintf("Kubernetes API server does not take the selector: check the selectors of the query for %s", q)
	case r.code == http.StatusNotFound:
		return cause{"not found", q}, fmt.Sprintf("Kubernetes API server does not know %s: it is too old, or the address is not that of an API server", q)
	case r.code == http.StatusNotAcceptable:
		return cause{"not acceptable", q}, fmt.Sprintf("Kubernetes API server gives %s neither as protobuf nor as JSON", q)
	case r.code == http.StatusTooManyRequests || r.code == http.StatusServiceUnavailable:
		return cause{what: "busy"}, "Kubernetes API server is busy or not ready"
	case r.code >= 500:
		return cause{what: fmt.Sprint("status ", r.code)}, "Kubernetes API server fails, or something before it"
	}
	return cause{fmt.Sprint("status ", r.code), q}, fmt.Sprintf("Kubernetes API server refuses to give %s", q)
}

// episode is what is known of one cause.
type episode struct {
	failing map[Query]bool
	said    time.Time // the last line
	open    bool      // a line was said and it does not work again yet
}

// reporter counts failures and says what is wrong, once a minute.
type reporter struct {
	log   *slog.Logger
	count func()

	mu       sync.Mutex
	episodes map[cause]*episode
	working  map[Query]bool // those that worked when they were tried last
}

func newReporter(log *slog.Logger, count func()) *reporter {
	return &reporter{log: log, count: count, episodes: map[cause]*episode{}, working: map[Query]bool{}}
}

// failed notes a failure of a query.
func (r *reporter) failed(q Query, err error) {
	r.count()
	c, text := explain(q, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.working, q)
	if c.query != (Query{}) {
		// Who is refused has reached the server. That there is nothing wrong
		// with the server itself is only said once it works for somebody.
		r.leave(q, func(c cause) bool { return c.query == (Query{}) })
		if len(r.working) > 0 {
			r.say(q)
		}
	}
	e := r.episodes[c]
	if e == nil {
		e = &episode{failing: map[Query]bool{}}
		r.episodes[c] = e
	}
	e.failing[q] = true
	if !e.said.IsZero() && time.Since(e.said) < quiet {
		return
	}
	e.said, e.open = time.Now(), true
	r.log.Warn(text, "query", q.String(), "err", err)
}

// works notes that a query works. What was logged to fail gets one line when it
// fails for nobody any more.
func (r *reporter) works(q Query) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.working[q] = true
	r.leave(q, func(cause) bool { return true })
	r.say(q)
}

// forget notes that nobody asks any more.
func (r *reporter) forget(q Query) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.working, q)
	for _, e := range r.episodes {
		if e.failing[q] && len(e.failing) == 1 {
			e.open = false
		}
	}
	r.leave(q, func(cause) bool { return true })
}

// leave takes a query out of the episodes of some causes; mu is held.
func (r *reporter) leave(q Query, of func(cause) bool) {
	for c, e := range r.episodes {
		if of(c) {
			delete(e.failing, q)
		}
		// Until then it keeps the cause quiet.
		if len(e.failing) == 0 && !e.open && time.Since(e.said) >= quiet {
			delete(r.episodes, c)
		}
	}
}

// say ends the episodes that fail for nobody any more, with one line; mu is
// held.
func (r *reporter) say(q Query) {
	var over []string
	for c, e := range r.episodes {
		if e.open && len(e.failing) == 0 {
			e.open = false
			over = append(over, c.what)
		}
	}
	if len(over) == 0 {
		return
	}
	slices.Sort(over)
	r.log.Info("Kubernetes API server gives what it is asked for again", "query", q.String(), "was", strings.Join(over, ", "))
}

package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"promagent/discovery/kubernetes/object"
)

const (
	// patience is how long a list may be without a byte.
	patience = time.Minute
	// grace is what the server gets beyond the end of a watch that it was told.
	grace = 30 * time.Second
	// fruitful is how long a watch must last to count as one that works.
	fruitful = time.Second
	// steady is how long one must last for its end to say nothing of the next.
	steady = time.Minute
	// shortInARow is how many watches that end at once are one too many.
	shortInARow = 3

	minDelay = 500 * time.Millisecond
	maxDelay = 5 * time.Second
	// maxListDelay is for lists that lead to nothing. They are what costs the
	// server most.
	maxListDelay = time.Minute

	// A list of more than this is beyond what a server can hold.
	mostPages   = 10_000
	mostObjects = 1_000_000
)

// bounds are what a list can have at most, so that one without an end does not
// fill the memory.
type bounds struct{ pages, objects int }

// decode decodes an object of a kind and gives its version.
type decode func(object.Kind, []byte) (object.Object, string, error)

// follower keeps a store equal to what the server has. It belongs to one
// goroutine.
type follower struct {
	store  *Store
	client *Client
	report *reporter
	decode decode
	most   bounds

	version string // the last that was seen; "": nothing was listed yet
	listed  bool   // what the store holds can be continued from version
	any     bool   // the next list must not ask for a version
	full    bool   // the server refuses to give metadata alone
	barren  bool   // no watch was fruitful since the last list
	tries   int    // failures in a row
	wasted  int    // lists in a row that made no sense or were followed by a watch that did not
	short   int    // watches in a row that ended at once

	watched bool          // the last step was a watch
	lasted  time.Duration // how long it went on
	doubt   bool          // the last watch made no sense, a list proves nothing
}

// run follows until ctx is done.
func (f *follower) run(ctx context.Context) {
	defer f.report.forget(f.store.query)
	for ctx.Err() == nil {
		err := f.step(ctx)
		if ctx.Err() != nil {
			return
		}
		if d := f.pause(err); d > 0 {
			sleep(ctx, d)
		}
	}
}

// errShort is a watch that the server ended at once.
var errShort = errors.New("the watch ended at once")

// step lists or watches once. nil: go on at once.
func (f *follower) step(ctx context.Context) error {
	if f.watched = f.listed; f.watched {
		return f.watch(ctx)
	}
	return f.list(ctx)
}

// pause says what to do about the end of a step: how long to wait, and through
// the follower's state whether to list or to watch.
func (f *follower) pause(err error) time.Duration {
	var r *refusal
	refused := errors.As(err, &r)
	bad := senseless(err)
	if f.watched && (f.lasted >= steady || !bad && !f.barren) {
		f.wasted = 0
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errShort):
		if f.short++; f.short >= shortInARow {
			f.report.failed(f.store.query, err)
		}
		return f.backOff()
	case refused && r.code == http.StatusNotAcceptable && f.lean():
		f.full = true
		return 0
	case gone(err) || rewound(err):
		return f.expired(err)
	}
	f.report.failed(f.store.query, err)
	d := f.backOff()
	if bad {
		// A list puts it right. A server that cannot or may not answer now
		// leaves the version valid.
		f.listed = false
		f.doubt = f.doubt || f.watched
		if f.watched || !refused {
			d = f.relist()
		}
	}
	if refused && r.wait > 0 {
		d = max(d, r.wait+rand.N(minDelay))
	}
	return d
}

// senseless says whether an answer, to the same request, is not worth to be
// waited for.
func senseless(err error) bool {
	var bad *garbage
	var r *refusal
	if errors.As(err, &r) {
		return !passing(r.code) && !gone(err) && !rewound(err)
	}
	return errors.As(err, &bad)
}

// expired goes on after an answer that the version is too old or too new: at
// once, unless that does not help.
func (f *follower) expired(err error) time.Duration {
	if f.listed {
		f.listed = false
		f.any = rewound(err)
		if !f.barren {
			return 0
		}
		return f.backOff()
	}
	if !f.any {
		f.any = true
		return 0
	}
	f.report.failed(f.store.query, err)
	return f.backOff()
}

// passing says whether a refusal with this status has to do with the server's
// state or the client's rights rather than with the request.
func passing(code int) bool {
	return code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusTooManyRequests || code >= 500
}

// lean says whether metadata alone is asked for.
func (f *follower) lean() bool {
	r, _ := f.store.query.resource()
	return r.metadata && !f.full
}

// backOff is the delay after one more failure: anything from half a second to
// a limit that grows.
func (f *follower) backOff() time.Duration {
	limit := min(2*minDelay<<min(f.tries, 10), maxDelay)
	f.tries++
	return minDelay + rand.N(limit-minDelay)
}

// relist is the delay before a list when the last one was in vain: it doubles
// from a second, less up to a half.
func (f *follower) relist() time.Duration {
	limit := min(2*minDelay<<min(f.wasted, 10), maxListDelay)
	f.wasted++
	return limit/2 + rand.N(limit/2)
}

// sleep waits until d is over or ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// list lists all objects and makes the store hold them.
func (f *follower) list(ctx context.Context) error {
	values := f.store.query.values()
	switch {
	case f.any:
	case f.version == "":
		values.Set("resourceVersion", "0")
	default:
		values.Set("resourceVersion", f.version)
		values.Set("resourceVersionMatch", "NotOlderThan")
	}
	staged := f.store.stage()
	first := ""
	for pages := 1; ; pages++ {
		before := len(staged.objects)
		m, err := f.page(ctx, values, staged)
		if err != nil {
			return err
		}
		if first == "" {
			first = m.version
		}
		if m.next == "" {
			break
		}
		// Pages may follow each other in a circle.
		if len(staged.objects) == before {
			return garbled("page %d of the list has nothing new and is not the last", pages)
		}
		if pages >= f.most.pages {
			return garbled("the list has more than %d pages", f.most.pages)
		}
		values = f.store.query.values()
		values.Set("continue", m.next)
	}
	staged.commit()
	f.version, f.listed, f.any, f.barren = first, true, false, true
	if f.trusted() {
		f.report.works(f.store.query)
	}
	return nil
}

// trusted says whether one good answer means that everything is well.
func (f *follower) trusted() bool { return !f.doubt && f.short < shortInARow }

// page lists one page into staged.
func (f *follower) page(ctx context.Context, values url.Values, staged *stage) (listMeta, error) {
	accept := wholeObjects
	if f.lean() {
		accept = metadataList
	}
	a, err := f.ask(ctx, values, accept, true, patience)
	if err != nil {
		return listMeta{}, err
	}
	defer a.close()
	body, err := content(a.resp)
	if err != nil {
		return listMeta{}, a.explain(err)
	}
	m, err := a.list(body, f.store.query.Kind, func(raw []byte) error {
		if staged.added >= f.most.objects {
			return fmt.Errorf("the list has more than %d objects", f.most.objects)
		}
		o, _, err := f.object(raw)
		if err == nil {
			staged.add(o)
		}
		return err
	})
	return m, a.explain(err)
}

// object decodes an object, which must have a name.
func (f *follower) object(raw []byte) (object.Object, string, error) {
	o, version, err := f.decode(f.store.query.Kind, raw)
	if err != nil {
		return nil, "", fmt.Errorf("decode object: %w", err)
	}
	if o.Base().Name == "" {
		return nil, "", errors.New("decode object: it has no name")
	}
	return o, version, nil
}

// watch follows the changes since the last version until the watch ends. nil:
// the server ended it as it should.
func (f *follower) watch(ctx context.Context) error {
	limit := 300 + rand.IntN(301)
	values := f.store.query.values()
	values.Set("watch", "1")
	values.Set("allowWatchBookmarks", "true")
	values.Set("resourceVersion", f.version)
	values.Set("timeoutSeconds", strconv.Itoa(limit))
	accept := wholeObjects
	if f.lean() {
		accept = metadataItem
	}
	f.lasted = 0
	a, err := f.ask(ctx, values, accept, false, time.Duration(limit)*time.Second+grace)
	if err != nil {
		return err
	}
	defer a.close()
	body, err := content(a.resp)
	if err != nil {
		return a.explain(err)
	}
	began := time.Now()
	settled := time.AfterFunc(fruitful, func() { f.report.works(f.store.query) })
	defer settled.Stop()
	defer func() {
		if f.lasted = time.Since(began); f.lasted >= fruitful {
			f.short, f.doubt = 0, false
			f.works()
		}
	}()
	for stream := a.events(body, f.store.query.Kind); ; {
		ev, err := stream.next()
		if err == io.EOF {
			if time.Since(began) < fruitful {
				return errShort
			}
			return nil
		}
		if err != nil {
			return a.explain(err)
		}
		if err := f.apply(ev); err != nil {
			return a.named(err)
		}
		if f.works(); f.trusted() && settled.Stop() {
			f.report.works(f.store.query)
		}
	}
}

// works notes that the watch gives what it is there for.
func (f *follower) works() { f.tries, f.barren = 0, false }

// apply makes the store as an event says.
func (f *follower) apply(ev event) error {
	var seen string
	switch ev.what {
	case eventAdded, eventModified, eventDeleted:
		o, v, err := f.object(ev.raw)
		if err != nil {
			return &garbage{err}
		}
		seen = v
		if ev.what == eventDeleted {
			f.store.drop(keyOf(o))
		} else {
			f.store.put(o)
		}
	case eventBookmark:
		v, err := version(ev.raw)
		if err != nil {
			return garbled("read bookmark: %w", err)
		}
		seen = v
	case eventError:
		s, ok := parseStatus(ev.raw)
		if !ok {
			return garbled("an error without a status")
		}
		r := s.refusal()
		if r.code != http.StatusGone {
			// The watch cannot be continued where it failed.
			f.listed = false
		}
		return r
	default:
		return garbled("an event of type %q", clip(ev.what))
	}
	if seen != "" {
		f.version = seen
	}
	return nil
}

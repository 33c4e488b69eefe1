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

	minDelay = 500 * time.Millisecond
	maxDelay = 5 * time.Second
)

// decode decodes an object of a kind and gives its version.
type decode func(object.Kind, []byte) (object.Object, string, error)

// follower keeps a store equal to what the server has. It belongs to one
// goroutine.
type follower struct {
	store  *Store
	client *Client
	report *reporter
	decode decode

	version string // the last that was seen; "": nothing was listed yet
	listed  bool   // what the store holds can be continued from version
	any     bool   // the next list must not ask for a version
	full    bool   // the server refuses to give metadata alone
	barren  bool   // no watch was fruitful since the last list
	tries   int    // failures in a row
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
	if f.listed {
		return f.watch(ctx)
	}
	return f.list(ctx)
}

// pause says what to do about the end of a step: how long to wait, and through
// the follower's state whether to list or to watch.
func (f *follower) pause(err error) time.Duration {
	var r *refusal
	refused := errors.As(err, &r)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errShort):
		return f.backOff()
	case refused && r.code == http.StatusNotAcceptable && f.lean():
		f.full = true
		return 0
	case gone(err) || rewound(err):
		return f.expired(err)
	}
	// A server that cannot or may not answer now leaves the version valid.
	// After everything else a list puts it right.
	if bad := new(garbage); errors.As(err, &bad) || refused && !passing(r.code) {
		f.listed = false
	}
	f.report.failed(f.store.query, err)
	d := f.backOff()
	if refused && r.wait > 0 {
		d = max(d, r.wait+rand.N(minDelay))
	}
	return d
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
	for next := ""; ; {
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
		if m.next == next {
			return garbled("a page of the list is followed by itself")
		}
		next = m.next
		values = f.store.query.values()
		values.Set("continue", next)
	}
	staged.commit()
	f.version, f.listed, f.any, f.barren = first, true, false, true
	f.report.works(f.store.query)
	return nil
}

// page lists one page into staged.
func (f *follower) page(ctx context.Context, values url.Values, staged *stage) (listMeta, error) {
	accept := protobufType
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
	m, err := readList(body, func(raw []byte) error {
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
	accept := protobufType
	if f.lean() {
		accept = metadataItem
	}
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
		if time.Since(began) >= fruitful {
			f.works()
		}
	}()
	for stream := newEvents(body); ; {
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
			return err
		}
		if settled.Stop() {
			f.report.works(f.store.query)
			f.works()
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

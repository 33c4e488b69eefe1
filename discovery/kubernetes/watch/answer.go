package watch

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"promagent/discovery/kubernetes/object"
)

// answer is a response whose body is being read. A server that sends nothing
// for long ends it.
type answer struct {
	resp   *http.Response
	media  string // content type, protobufType or jsonType
	err    error  // of the connection, once there was one
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
	idle   bool
}

// ask asks for the objects of the follower's query. With zipped the limit is
// for every read on its own, else for the whole answer.
func (f *follower) ask(ctx context.Context, values url.Values, accept string, zipped bool, limit time.Duration) (*answer, error) {
	a := &answer{limit: limit, idle: zipped}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	// The head of an answer comes at once or is not worth waiting for.
	a.timer = time.AfterFunc(patience, func() { a.cancel(errSilent) })
	resp, media, err := f.client.get(a.ctx, f.store.query.path(), values, accept, zipped) //nolint:bodyclose // the answer closes it
	if err != nil {
		a.timer.Stop()
		err = a.cause(err)
		a.cancel(nil)
		return nil, err
	}
	a.timer.Reset(limit)
	a.resp, a.media, a.body = resp, media, resp.Body
	resp.Body = a
	return a, nil
}

// Read reads the body and keeps what the connection says of its end.
func (a *answer) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	if err != nil && err != io.EOF {
		a.err = err
	}
	if a.idle && n > 0 {
		a.timer.Reset(a.limit)
	}
	return n, err
}

// Close closes the body.
func (a *answer) Close() error { return a.body.Close() }

// close ends the answer; what was not read of it is not wanted.
func (a *answer) close() {
	a.timer.Stop()
	a.cancel(nil)
	_ = a.Close() // there is nothing to be done about it
}

// explain says whether an error while reading is the connection's or lies in
// what was read.
func (a *answer) explain(err error) error {
	var bad *garbage
	switch {
	case err == nil:
		return nil
	case a.err != nil:
		return a.cause(&lostError{a.err})
	case errors.As(err, &bad):
		return a.named(err)
	}
	return a.named(&garbage{err})
}

// named says of what makes no sense in which content type it came.
func (a *answer) named(err error) error {
	var bad *garbage
	if errors.As(err, &bad) {
		return garbled("%s: %w", a.media, bad.err)
	}
	return err
}

// list reads a list of objects of a kind.
func (a *answer) list(body io.Reader, kind object.Kind, item func(raw []byte) error) (listMeta, error) {
	if a.media == jsonType {
		return readJSONList(body, kind, item)
	}
	return readList(body, item)
}

// events reads the events of a watch of objects of a kind.
func (a *answer) events(body io.Reader, kind object.Kind) interface{ next() (event, error) } {
	if a.media == jsonType {
		return newJSONEvents(body, kind)
	}
	return newEvents(body)
}

// cause is err, or the silence that led to it.
func (a *answer) cause(err error) error {
	if errors.Is(context.Cause(a.ctx), errSilent) {
		return errSilent
	}
	return err
}

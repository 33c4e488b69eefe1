package kubetest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
)

// stream is a watch that runs.
type stream struct {
	q       query
	server  *Server
	w       http.ResponseWriter
	frames  streaming.Encoder // writes events to w
	call    Call
	next    int // number of the table's next event to look at
	expired int // the table's count of expiries at the start
	cut     chan struct{}
	ended   chan struct{}
	cutOnce sync.Once
}

// watch answers WATCH.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, q query) {
	st := &stream{q: q, server: s, w: w, call: callOf("watch", r.URL), cut: make(chan struct{}), ended: make(chan struct{})}
	initial, opened, err := s.open(st)
	if err != nil && !opened {
		s.fail(w, r, err)
		return
	}
	st.frames = frames(q.media, w)
	var writer sync.WaitGroup
	writer.Go(st.free)
	defer writer.Wait()
	defer s.forget(st)
	kind := q.media.MediaType
	if kind != runtime.ContentTypeJSON {
		kind += ";stream=watch"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusOK)
	if err != nil {
		_ = st.error(err) // the client may be gone
		return
	}
	ctx := r.Context()
	if t := q.options.TimeoutSeconds; t != nil && *t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*t)*time.Second)
		defer cancel()
	}
	st.run(ctx, initial)
}

// open finds where a watch starts: with which objects, and after which event.
// An error comes with opened when it is for an event in the stream.
func (s *Server) open(st *stream) (initial []send, opened bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, q := st.q.table, &st.q
	s.streams[st] = struct{}{}
	defer func() {
		if err != nil && !opened {
			delete(s.streams, st)
		}
	}()
	st.expired = t.expired
	streamed := q.options.SendInitialEvents != nil && *q.options.SendInitialEvents
	end := t.first + len(t.events)
	st.next = end
	switch {
	case streamed && q.version > s.version:
		return nil, false, tooLarge(q.version, s.version)
	case streamed, q.version == 0 && q.options.SendInitialEvents == nil:
		for _, k := range t.keys() {
			if obj := t.items[k]; q.matches(obj) {
				initial = append(initial, send{watch.Added, obj})
			}
		}
		if streamed && q.options.AllowWatchBookmarks {
			mark := s.bookmark(q.res, s.version)
			accessor(mark).SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
			initial = append(initial, send{watch.Bookmark, mark})
		}
	case q.version == 0:
	case q.version < t.floor:
		return nil, s.expiredEvents, tooOld(q.version, t.floor)
	default:
		// Bookmarks of the past are nothing to the new watch.
		for _, e := range t.events {
			if e.version > q.version {
				if snd, ok := q.event(e); ok {
					initial = append(initial, snd)
				}
			}
		}
	}
	return initial, true, nil
}

// forget ends the record of a watch.
func (s *Server) forget(st *stream) {
	s.mu.Lock()
	delete(s.streams, st)
	s.mu.Unlock()
	close(st.ended)
}

// frames writes the events of a stream.
func frames(m media, w io.Writer) streaming.Encoder {
	return streaming.NewEncoder(m.StreamSerializer.Framer.NewFrameWriter(w), m.StreamSerializer.Serializer)
}

// free sees to it that a client that does not read cannot hold up a cut.
func (st *stream) free() {
	select {
	case <-st.cut:
		_ = http.NewResponseController(st.w).SetWriteDeadline(time.Now().Add(time.Second))
	case <-st.ended:
	}
}

// send is an event of a stream.
type send struct {
	kind watch.EventType
	obj  runtime.Object
}

// event is what a change is to the query; a bookmark is none.
func (q *query) event(e event) (send, bool) {
	was, is := q.matches(e.old), q.matches(e.new)
	switch {
	case is && was:
		return send{watch.Modified, e.new}, true
	case is:
		return send{watch.Added, e.new}, true
	case was:
		// The object as the client knew it, at the version of the change.
		gone := e.old.DeepCopyObject()
		accessor(gone).SetResourceVersion(strconv.FormatUint(e.version, 10))
		return send{watch.Deleted, gone}, true
	}
	return send{}, false
}

// bookmark is an object that has a version and nothing else.
func (s *Server) bookmark(r *resource, version uint64) runtime.Object {
	obj := s.empty(r)
	obj.GetObjectKind().SetGroupVersionKind(r.gv.WithKind(r.kind))
	accessor(obj).SetResourceVersion(strconv.FormatUint(version, 10))
	return obj
}

// run writes events until the client leaves, the time is over, or the server
// ends the stream.
func (st *stream) run(ctx context.Context, batch []send) {
	control := http.NewResponseController(st.w)
	for {
		for _, snd := range batch {
			if err := st.write(snd); err != nil {
				return
			}
		}
		if err := control.Flush(); err != nil {
			return
		}
		var err error
		var changed <-chan struct{}
		if batch, changed, err = st.more(); err != nil {
			_ = st.error(err)
			return
		}
		if len(batch) > 0 {
			select {
			case <-st.cut:
			default:
				continue
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-st.server.closed:
			return
		case <-st.cut:
			st.tear()
		}
	}
}

// more takes the events that came since, or a channel that is closed when some do.
func (st *stream) more() ([]send, <-chan struct{}, error) {
	s, t := st.server, st.q.table
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.expired != t.expired || st.next < t.first {
		return nil, nil, tooOld(t.floor-1, t.floor)
	}
	var batch []send
	for _, e := range t.events[st.next-t.first:] {
		mark := e.old == nil && e.new == nil
		switch {
		case e.version < st.q.version, e.version == st.q.version && !mark:
			// The client has asked for later ones.
		case mark && st.q.options.AllowWatchBookmarks:
			batch = append(batch, send{watch.Bookmark, s.bookmark(st.q.res, e.version)})
		default:
			if snd, ok := st.q.event(e); ok {
				batch = append(batch, snd)
			}
		}
	}
	st.next = t.first + len(t.events)
	return batch, t.changed, nil
}

// write writes one event.
func (st *stream) write(snd send) error {
	var raw bytes.Buffer
	if err := st.q.media.Serializer.Encode(partial(st.q.media, snd.obj), &raw); err != nil {
		return err
	}
	return st.frame(snd.kind, raw.Bytes())
}

func (st *stream) frame(kind watch.EventType, raw []byte) error {
	return st.frames.Encode(&metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: raw}})
}

// error writes the event that says why the stream ends.
func (st *stream) error(err error) error {
	status := statusOf(err)
	var raw bytes.Buffer
	if err := st.q.media.Serializer.Encode(&status, &raw); err != nil {
		return err
	}
	return st.frame(watch.Error, raw.Bytes())
}

// tear breaks the connection in the middle of an event.
func (st *stream) tear() {
	var whole bytes.Buffer
	part := stream{q: st.q, frames: frames(st.q.media, &whole)}
	if err := part.write(send{watch.Bookmark, st.server.bookmark(st.q.res, 1)}); err == nil {
		_, _ = st.w.Write(whole.Bytes()[:whole.Len()/2])
		_ = http.NewResponseController(st.w).Flush()
	}
	panic(http.ErrAbortHandler)
}

// CutWatches breaks the connections of all running watches in the middle of an
// event and returns when that is done.
func (s *Server) CutWatches() {
	s.mu.Lock()
	streams := make([]*stream, 0, len(s.streams))
	for st := range s.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	for _, st := range streams {
		st.cutOnce.Do(func() { close(st.cut) })
	}
	for _, st := range streams {
		<-st.ended
	}
}

// idle says whether every running watch has taken up all events.
func (s *Server) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		if t := st.q.table; st.next != t.first+len(t.events) {
			return false
		}
	}
	return true
}

// Watching counts the watches that run now.
func (s *Server) Watching() map[Call]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := map[Call]int{}
	for st := range s.streams {
		calls[st.call]++
	}
	return calls
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// receiver takes remote write 1.x and 2.0, counts, prints and forgets: for
// trying the agent out, and for seeing what goes over the wire.
type receiver struct {
	print   bool
	working chan struct{} // a place for each request that is read and decoded: what bounds the memory
	waiting chan struct{} // a place for each request that waits for one of those

	mu    sync.Mutex // guards out and total
	out   *bufio.Writer
	total tally
}

// tally is what has arrived.
type tally struct {
	requests, samples, stale, histograms, exemplars, metadata, refused int
	wireBytes, rawBytes                                                int
	newest                                                             int64 // timestamp, ms
	messages                                                           [2]int
}

const (
	maxWorking = 4
	maxWaiting = 64
)

// newReceiver returns a receiver that writes to out.
func newReceiver(print bool, out io.Writer) *receiver {
	return &receiver{print: print, out: bufio.NewWriter(out), working: make(chan struct{}, maxWorking), waiting: make(chan struct{}, maxWaiting)}
}

// receive serves until ctx ends and prints a line of rates every interval.
func receive(ctx context.Context, address string, print bool, every time.Duration, out io.Writer) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	r := newReceiver(print, out)
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	r.say("receiving on http://%s/api/v1/write\n", ln.Addr())

	tick := time.NewTicker(every)
	defer tick.Stop()
	last, lastAt := tally{}, time.Now()
	for {
		select {
		case now := <-tick.C:
			last = r.report(last, now.Sub(lastAt), now)
			lastAt = now
		case err := <-served:
			return err
		case <-ctx.Done():
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if err := srv.Shutdown(grace); err != nil {
				_ = srv.Close() // a sender that does not finish its request
			}
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			fmt.Fprintf(r.out, "in all: %d requests, %d samples, %d stale markers, %d exemplars, %d histograms, %d metadata, %d refused requests\n",
				r.total.requests, r.total.samples, r.total.stale, r.total.exemplars, r.total.histograms, r.total.metadata, r.total.refused)
			return r.out.Flush()
		}
	}
}

func (r *receiver) say(format string, a ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format, a...)
	_ = r.out.Flush()
}

// report prints what came since last, unless nothing did.
func (r *receiver) report(last tally, d time.Duration, now time.Time) tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.total
	if t.requests == last.requests && t.refused == last.refused {
		return t
	}
	per := func(n int) float64 { return float64(n) / d.Seconds() }
	samples := t.samples + t.stale - last.samples - last.stale
	line := fmt.Sprintf("%s  %6.1f requests/s  %8.0f samples/s", now.Format(time.TimeOnly), per(t.requests-last.requests), per(samples))
	if samples > 0 {
		line += fmt.Sprintf("  %5.1f bytes/sample  newest %.1f s old", float64(t.wireBytes-last.wireBytes)/float64(samples), float64(now.UnixMilli()-t.newest)/1000)
	}
	if n := t.stale - last.stale; n > 0 {
		line += fmt.Sprintf("  %d stale markers", n)
	}
	if n := t.refused - last.refused; n > 0 {
		line += fmt.Sprintf("  %d refused", n)
	}
	fmt.Fprintln(r.out, line)
	_ = r.out.Flush()
	return t
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "a remote write receiver takes POST", http.StatusMethodNotAllowed)
		return
	}
	if !r.enter(req.Context()) {
		r.refuse(w, http.StatusServiceUnavailable, errors.New("too many requests at once"))
		return
	}
	defer func() { <-r.working }()
	m, err := readMessage(w, req)
	var got tally
	if err == nil {
		got, err = m.tally()
	}
	if err != nil {
		code := http.StatusBadRequest
		switch {
		case errors.Is(err, errUnsupported):
			code = http.StatusUnsupportedMediaType
		case errors.Is(err, errTooLarge):
			code = http.StatusRequestEntityTooLarge
		}
		r.refuse(w, code, err)
		return
	}
	r.accept(got, m)
	h := w.Header()
	h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(got.samples+got.stale))
	h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(got.histograms))
	h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(got.exemplars))
	w.WriteHeader(http.StatusNoContent)
}

func (t *tally) add(o tally) {
	t.requests++
	t.samples += o.samples
	t.stale += o.stale
	t.histograms += o.histograms
	t.exemplars += o.exemplars
	t.metadata += o.metadata
	t.wireBytes += o.wireBytes
	t.rawBytes += o.rawBytes
	t.newest = max(t.newest, o.newest)
	t.messages[0] += o.messages[0]
	t.messages[1] += o.messages[1]
}

// enter waits for a place to work at; false: there are too many who wait, or the sender has gone.
func (r *receiver) enter(ctx context.Context) bool {
	select {
	case r.working <- struct{}{}:
		return true
	default:
	}
	select {
	case r.waiting <- struct{}{}:
		defer func() { <-r.waiting }()
	default:
		return false
	}
	select {
	case r.working <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// refuse answers with err, prints and counts it.
func (r *receiver) refuse(w http.ResponseWriter, code int, err error) {
	r.mu.Lock()
	r.total.refused++
	fmt.Fprintf(r.out, "refused: %v\n", err)
	_ = r.out.Flush()
	r.mu.Unlock()
	http.Error(w, err.Error(), code)
}

// accept counts what a message holds, and prints it when that is wanted:
// straight to the output, for the text can be far larger than the message.
func (r *receiver) accept(got tally, m *message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total.add(got)
	if r.print {
		m.print(r.out)
		_ = r.out.Flush()
	}
}

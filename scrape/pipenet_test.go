package scrape

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
)

// pipeNet is a network of one server over pipes, so that a test's clock can be
// a fake one.
type pipeNet struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	srv   *http.Server
}

func newPipeNet(h http.Handler) *pipeNet {
	n := &pipeNet{conns: make(chan net.Conn), done: make(chan struct{})}
	n.srv = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	go n.srv.Serve(n)
	return n
}

func (n *pipeNet) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case n.conns <- server:
		return client, nil
	case <-n.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *pipeNet) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

func (n *pipeNet) Close() error {
	n.once.Do(func() { close(n.done) })
	return nil
}

func (n *pipeNet) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// shut ends the server and its connections.
func (n *pipeNet) shut() { n.srv.Close() }

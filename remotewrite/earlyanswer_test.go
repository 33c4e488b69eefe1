package remotewrite

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
)

// A receiver that answers before it has read a request gets the rest of it as it
// was, though the batch is final and its memory serves another one.
func TestAnEarlyAnswerDoesNotChangeTheRestOfTheRequest(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	answered, changed := make(chan struct{}), make(chan struct{})
	bad := make(chan int)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		close(answered)
		<-changed
		b, _ := io.ReadAll(req.Body)
		n := 0
		for _, v := range b {
			if v != 1 {
				n++
			}
		}
		bad <- n
	}()
	e := testEndpoint(t, remoteConfig(t, "http://"+ln.Addr().String()), 1)
	memory := make([]byte, 8<<20) // more than sockets hold
	for i := range memory {
		memory[i] = 1
	}
	body := &reading{bytes: memory}
	if _, err := e.client.Load().store(t.Context(), body, 0); err != nil {
		t.Fatal(err)
	}
	<-answered
	if !body.goesOn() {
		clear(memory) // as the next request would
	}
	close(changed)
	if n := <-bad; n > 0 {
		t.Errorf("%d bytes of the request were others", n)
	}
}

package watch

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitUnacknowledged ends a connection whose other end acknowledges nothing.
func limitUnacknowledged(_, _ string, c syscall.RawConn) error {
	// A system that refuses it keeps its own limit, of minutes; no reason not
	// to connect.
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(lost.Milliseconds()))
	})
}

package watch

import (
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDeadConnectionIsNoticedWithin8Seconds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	option := func(level, name int) time.Duration {
		var v int
		var got error
		if err := raw.Control(func(fd uintptr) { v, got = unix.GetsockoptInt(int(fd), level, name) }); err != nil || got != nil {
			t.Fatalf("get option %d: %v, %v", name, err, got)
		}
		return time.Duration(v)
	}
	if option(unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 1 {
		t.Error("no keep-alive")
	}
	idle, interval, count := option(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE), option(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL), option(unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
	if d := (idle + interval*count) * time.Second; d <= 0 || d > 8*time.Second {
		t.Errorf("silence is noticed after %v", d)
	}
	if d := option(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) * time.Millisecond; d <= 0 || d > 8*time.Second {
		t.Errorf("data without acknowledgement is given up after %v", d)
	}
}

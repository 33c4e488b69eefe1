package parts

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// SlotModes are those of Slots.
var SlotModes = []string{"silent", "partial", "keepalive", "noread"}

// Slots opens n connections to an agent's server that never end their business.
func Slots(address, mode string, n int) (held []net.Conn, err error) {
	for range n {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			return held, err
		}
		held = append(held, c)
		switch mode {
		case "silent":
		case "partial":
			_, err = fmt.Fprint(c, "GET /-/healthy HTTP/1.1\r\nHost: a\r\nX: ")
		case "keepalive":
			_, err = fmt.Fprint(c, "GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n")
		case "noread":
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetReadBuffer(4096) // a hint
			}
			_, err = fmt.Fprint(c, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 200))
		default:
			err = fmt.Errorf("unknown mode %q", mode)
		}
		if err != nil {
			return held, err
		}
	}
	return held, nil
}

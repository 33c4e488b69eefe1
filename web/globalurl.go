package web

import (
	"net"
	"net/url"
	"slices"
)

// globalURL is a target's URL as it is reached from where the external URL
// is: loopback hosts become the external host, and where the port is our own,
// scheme and port become the external ones too.
func (s *Server) globalURL(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return target
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, host) {
		return target
	}
	_, own, err := net.SplitHostPort(s.o.ListenAddresses[0])
	if err == nil && own == port {
		u.Scheme, u.Host = s.o.ExternalURL.Scheme, s.o.ExternalURL.Host
		return u.String()
	}
	u.Host = net.JoinHostPort(s.o.ExternalURL.Hostname(), port)
	return u.String()
}

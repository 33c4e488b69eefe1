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
	if err != nil || !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname()) {
		return target
	}
	_, own, err := net.SplitHostPort(s.o.ListenAddresses[0])
	if err != nil {
		return target
	}
	external, port := s.o.ExternalURL, u.Port()
	switch {
	case port == own:
		u.Scheme, u.Host = external.Scheme, external.Host
	case port == "":
		u.Host = withoutPort(external)
	default:
		u.Host = net.JoinHostPort(external.Hostname(), port)
	}
	return u.String()
}

// withoutPort is the host of u as URLs write it.
func withoutPort(u *url.URL) string {
	if port := u.Port(); port != "" {
		return u.Host[:len(u.Host)-len(port)-1]
	}
	return u.Host
}

//go:build all_sd

package discovery

import _ "unsafe" // for go:linkname

// These discoveries make their User-Agent when the program starts, before it
// knows its version, and have no option for it. So their variables are set.

//go:linkname eurekaUserAgent github.com/prometheus/prometheus/discovery/eureka.userAgent
var eurekaUserAgent string

//go:linkname hetznerUserAgent github.com/prometheus/prometheus/discovery/hetzner.userAgent
var hetznerUserAgent string

//go:linkname puppetdbUserAgent github.com/prometheus/prometheus/discovery/puppetdb.userAgent
var puppetdbUserAgent string

//go:linkname stackitUserAgent github.com/prometheus/prometheus/discovery/stackit.userAgent
var stackitUserAgent string

//go:linkname xdsUserAgent github.com/prometheus/prometheus/discovery/xds.userAgent
var xdsUserAgent string

// setUserAgents sets the User-Agent of the discoveries that read it from a
// variable; it holds for the process.
func setUserAgents(userAgent string) {
	for _, v := range []*string{&eurekaUserAgent, &hetznerUserAgent, &puppetdbUserAgent, &stackitUserAgent, &xdsUserAgent} {
		*v = userAgent
	}
}

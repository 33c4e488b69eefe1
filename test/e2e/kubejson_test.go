package e2e

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
)

// jsonOnly is the URL of a proxy of the API server that knows JSON and nothing
// else, as the one of KubeEdge does: who does not accept JSON gets a 406.
func (c *cluster) jsonOnly() string {
	c.t.Helper()
	transport := c.answers.Transport.(*http.Transport).Clone()
	transport.DisableKeepAlives = false
	proxy := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), // of a server that the test kills
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "https", c.addr, c.addr
			r.Out.Header.Set("Accept", "application/json")
		},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if accept := r.Header.Get("Accept"); !strings.Contains(accept, "application/json") && !strings.Contains(accept, "*/*") {
			http.Error(w, "only the following media types are accepted: application/json", http.StatusNotAcceptable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	c.t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		transport.CloseIdleConnections()
	})
	return s.URL
}

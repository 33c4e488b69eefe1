package main

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What the agent asks of others, each kind of request of each stage, is sent
// under one name.
func TestEveryRequestCarriesTheVersion(t *testing.T) {
	var mu sync.Mutex
	got := map[string]string{} // User-Agent by path
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got[r.URL.Path] = r.UserAgent()
		mu.Unlock()
		switch {
		case strings.HasPrefix(r.URL.Path, "/token"):
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"access_token": "t", "token_type": "Bearer"}`))
		case r.URL.Path == "/metrics":
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write([]byte("some 1\n"))
		case r.URL.Path == "/v1", r.URL.Path == "/v2":
			w.WriteHeader(http.StatusNoContent)
		default: // the discoveries ask, and that is all
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(srv.Close)
	oauth := func(path string) string {
		return "oauth2: {client_id: i, client_secret: s, token_url: '" + srv.URL + path + "'}"
	}
	startAgent(t, "scrape_configs:\n"+job("a", srv.Listener.Addr().String())+"  "+oauth("/token/scrape")+"\n"+
		"- job_name: h\n  http_sd_configs: [{url: '"+srv.URL+"/sd', "+oauth("/token/sd")+"}]\n"+
		"- job_name: k\n  kubernetes_sd_configs: [{role: node, api_server: '"+srv.URL+"'}]\n"+
		"remote_write:\n"+
		"- {url: '"+srv.URL+"/v1', queue_config: {batch_send_deadline: 100ms}, "+oauth("/token/write")+"}\n"+
		"- {url: '"+srv.URL+"/v2', queue_config: {batch_send_deadline: 100ms}, protobuf_message: io.prometheus.write.v2.Request}\n")
	want := []string{"/api/v1/nodes", "/metrics", "/sd", "/token/scrape", "/token/sd", "/token/write", "/v1", "/v2"}
	until(t, "every kind of request was made", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Equal(slices.Sorted(maps.Keys(got)), want)
	})
	for path, agent := range got {
		if agent != "Prometheus/"+compatible+"+prom-agent.dev" {
			t.Errorf("%s: User-Agent %q", path, agent)
		}
	}
}

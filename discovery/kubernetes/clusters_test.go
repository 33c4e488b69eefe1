package kubernetes

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.yaml.in/yaml/v2"

	"promagent/discovery/kubernetes/object"
	"promagent/discovery/kubernetes/watch"
)

// TestConnectionsAreClosedWhenNobodyWatches has all that can be between a
// request and its connection.
func TestConnectionsAreClosedWhenNobodyWatches(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := file("token", "secret")
	kubeconfig := func(s *httptest.Server, cluster, user string) string {
		return "kubeconfig_file: " + file("kubeconfig", fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\n"+
			"clusters: [{name: c, cluster: {server: '%s'%s}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {%s}}]\n", s.URL, cluster, user))
	}
	ca := func(s *httptest.Server) string {
		return file("ca", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	}
	for name, tt := range map[string]struct {
		tls    bool
		config func(s *httptest.Server) string
	}{
		"kubeconfig":               {false, func(s *httptest.Server) string { return kubeconfig(s, "", "") }},
		"kubeconfig with token":    {false, func(s *httptest.Server) string { return kubeconfig(s, "", "tokenFile: "+token) }},
		"kubeconfig with password": {false, func(s *httptest.Server) string { return kubeconfig(s, "", "username: u, password: p") }},
		"kubeconfig with TLS":      {true, func(s *httptest.Server) string { return kubeconfig(s, ", insecure-skip-tls-verify: true", "") }},
		"kubeconfig with authority": {true, func(s *httptest.Server) string {
			return kubeconfig(s, ", certificate-authority: "+ca(s), "tokenFile: "+token)
		}},
		"api_server": {false, func(s *httptest.Server) string { return "api_server: " + s.URL }},
		"api_server with token": {false, func(s *httptest.Server) string {
			return "api_server: " + s.URL + "\nauthorization: {credentials_file: " + token + "}"
		}},
		"api_server with authority": {true, func(s *httptest.Server) string {
			return "api_server: " + s.URL + "\ntls_config: {ca_file: " + ca(s) + "}\nbasic_auth: {username: u, password: p}"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			refused, closed := make(chan struct{}, 100), make(chan struct{}, 100)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
			s.EnableHTTP2 = tt.tls
			s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateClosed {
					closed <- struct{}{}
				}
			}
			if tt.tls {
				s.StartTLS()
			} else {
				s.Start()
			}
			defer s.Close()
			var cfg SDConfig
			if err := yaml.UnmarshalStrict([]byte("role: pod\n"+tt.config(s)+"\n"), &cfg); err != nil {
				t.Fatal(err)
			}
			w := newWorld(t)
			d, err := w.Discoverer(&cfg, silent())
			if err != nil {
				t.Fatal(err)
			}
			cluster := watch.NewCluster(d.cluster.client, watch.Options{Failures: func() { refused <- struct{}{} }})
			_, release := cluster.Use(watch.Query{Kind: object.KindPod})
			defer release()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- cluster.Run(ctx) }()
			<-refused // and the connection is kept
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			select {
			case <-closed:
			case <-time.After(5 * time.Second):
				t.Error("the connection stays open")
			}
		})
	}
}

func TestClusterThatNobodyEverUsesIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cfg SDConfig
		if err := yaml.UnmarshalStrict([]byte("role: pod\napi_server: https://127.0.0.1:1\n"), &cfg); err != nil {
			t.Fatal(err)
		}
		w := newWorld(t)
		synctest.Wait()
		if _, err := w.Discoverer(&cfg, silent()); err != nil { // and never run
			t.Fatal(err)
		}
		time.Sleep(linger + time.Second)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := len(w.all); n > 0 {
			t.Errorf("%d clusters are kept", n)
		}
	})
}

//go:build all_sd

package discovery

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/prometheus/discovery/eureka"
	"github.com/prometheus/prometheus/discovery/puppetdb"
	"github.com/prometheus/prometheus/discovery/xds"
)

func TestTaggedDiscoveriesSendTheUserAgentOfTheAgent(t *testing.T) {
	const want = "Prometheus/9+own"
	asked := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.UserAgent()
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer s.Close()
	e, p, k := eureka.DefaultSDConfig, puppetdb.DefaultSDConfig, xds.DefaultKumaSDConfig
	e.Server = s.URL
	p.URL, p.Query = s.URL, "x"
	k.Server = s.URL
	for _, c := range []Configs{{&e}, {&p}, {&k}} {
		run(t, Options{UserAgent: want}, c)
		if got := <-asked; got != want {
			t.Errorf("%s: User-Agent %q, want %q", c[0].Name(), got, want)
		}
	}
}

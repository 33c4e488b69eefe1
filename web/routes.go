package web

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// routes is the list of all there is.
func (s *Server) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	m, err := newMetrics(s.o.Registerer, func() bool { return s.state.Load() == ready })
	if err != nil {
		return nil, err
	}
	prefix := strings.TrimSuffix(s.o.RoutePrefix, "/")
	plain := func(pattern string, h http.HandlerFunc) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.Handle(method+" "+prefix+path, m.instrument(path, h))
	}
	api := func(pattern string, f func(*http.Request) (any, *apiError)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.Handle(method+" "+prefix+"/api/v1"+path, m.instrument("/api/v1"+path, s.whenReady(gzhttp.GzipHandler(s.cors(answer(f))))))
	}

	plain("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Prometheus Agent is Healthy.\n") })
	plain("GET /-/ready", func(w http.ResponseWriter, r *http.Request) {
		s.whenReady(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "Prometheus Agent is Ready.\n")
		})).ServeHTTP(w, r)
	})
	for _, method := range []string{"POST", "PUT"} {
		plain(method+" /-/reload", s.lifecycle(s.reload))
		plain(method+" /-/quit", s.lifecycle(s.quit))
	}
	for _, path := range []string{"/-/reload", "/-/quit"} {
		plain("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", "POST, PUT")
			say(w, http.StatusMethodNotAllowed, "Only POST or PUT requests allowed")
		})
	}
	metrics := promhttp.InstrumentMetricHandler(s.o.Registerer, promhttp.HandlerFor(s.o.Gatherer, promhttp.HandlerOpts{EnableOpenMetrics: false}))
	plain("GET /metrics", metrics.ServeHTTP)
	plain("GET /version", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.o.Build) })
	plain("GET /agent", s.page)
	toPage := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, s.o.ExternalURL.Path+"/agent", http.StatusFound)
	}
	for _, path := range append([]string{"/{$}"}, oldPages...) {
		plain("GET "+path, toPage)
	}
	if prefix != "" {
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, prefix, http.StatusFound) })
		mux.HandleFunc("GET "+prefix, toPage)
	}
	if s.o.UserAssets != "" {
		mux.Handle("GET "+prefix+"/user/", http.StripPrefix(prefix+"/user/", http.FileServer(http.Dir(s.o.UserAssets))))
	}
	profiles(mux, prefix)

	api("GET /targets", s.targets)
	api("GET /targets/metadata", s.targetsMetadata)
	api("GET /metadata", s.metadata)
	api("GET /scrape_pools", s.scrapePools)
	api("GET /notifications", func(*http.Request) (any, *apiError) { return []string{}, nil }) // there is nothing to notify of
	api("GET /status/config", func(*http.Request) (any, *apiError) { return map[string]string{"yaml": s.o.Config()}, nil })
	api("GET /status/flags", func(*http.Request) (any, *apiError) { return s.o.Flags, nil })
	api("GET /status/buildinfo", func(*http.Request) (any, *apiError) { return s.o.Build, nil })
	api("GET /status/runtimeinfo", func(*http.Request) (any, *apiError) { return s.o.Runtime(), nil })
	api("GET /status/remotes", func(*http.Request) (any, *apiError) { return s.o.Remotes(), nil })
	mux.Handle("GET "+prefix+"/api/v1/status/walreplay", m.instrument("/api/v1/status/walreplay",
		s.cors(answer(func(*http.Request) (any, *apiError) { return map[string]int{"min": 0, "max": 0, "current": 0}, nil }))))
	for _, p := range unavailable {
		api(p, func(*http.Request) (any, *apiError) {
			return nil, &apiError{http.StatusUnprocessableEntity, "execution", "unavailable with Prometheus Agent"}
		})
	}
	for path, text := range map[string]string{
		"/write":           receiverText(s.o.RemoteWriteReceiver, "remote write", "--web.enable-remote-write-receiver"),
		"/otlp/v1/metrics": receiverText(s.o.OTLPReceiver, "otlp write", "--web.enable-otlp-receiver"),
	} {
		mux.Handle("POST "+prefix+"/api/v1"+path, m.instrument("/api/v1"+path, s.whenReady(s.cors(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, text, http.StatusNotFound)
		})))))
	}
	mux.Handle(prefix+"/api/v1/", s.cors(unknown(mux)))
	mux.Handle("OPTIONS "+prefix+"/api/v1/", s.cors(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })))
	return mux, nil
}

// oldPages are those of Prometheus's web UI that bookmarks and dashboards
// point to: all that an agent shows of them is on its one page.
var oldPages = []string{"/config", "/flags", "/graph", "/service-discovery", "/status", "/targets"}

// unavailable are the routes of Prometheus's API that an agent has nothing to say to.
var unavailable = []string{
	"GET /query", "POST /query", "GET /query_range", "POST /query_range", "GET /query_exemplars", "POST /query_exemplars",
	"GET /format_query", "POST /format_query", "GET /parse_query", "POST /parse_query", "GET /labels", "POST /labels",
	"GET /label/{name}/values", "GET /series", "POST /series", "DELETE /series", "GET /alertmanagers", "GET /alerts", "GET /rules",
	"GET /status/tsdb", "GET /status/tsdb/blocks", "POST /read",
	"POST /admin/tsdb/delete_series", "PUT /admin/tsdb/delete_series", "POST /admin/tsdb/clean_tombstones", "PUT /admin/tsdb/clean_tombstones",
	"POST /admin/tsdb/snapshot", "PUT /admin/tsdb/snapshot",
}

// receiverText is the answer to a sender: there is no receiver here.
func receiverText(asked bool, what, flag string) string {
	if asked {
		return "prom-agent has no " + what + " receiver: " + flag + " is accepted without effect"
	}
	return what + " receiver needs to be enabled with " + flag
}

// unknown answers what no route of the API takes: 405 with the methods that
// the path has, else 404, in the API's envelope.
func unknown(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, own := mux.Handler(r)
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
			if _, pattern := mux.Handler(other); pattern != own {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			writeError(w, &apiError{http.StatusNotFound, "not_found", "no such path in this API: " + r.URL.Path})
			return
		}
		w.Header().Set("Allow", strings.Join(append(allowed, http.MethodOptions), ", "))
		writeError(w, &apiError{http.StatusMethodNotAllowed, "bad_data", "method " + r.Method + " is not allowed here"})
	})
}

// whenReady answers 503 while the agent starts or stops.
func (s *Server) whenReady(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch s.state.Load() {
		case ready:
			next.ServeHTTP(w, r)
		case stopping:
			w.Header().Set("X-Prometheus-Stopping", "true")
			say(w, http.StatusServiceUnavailable, "Service Unavailable")
		default:
			w.Header().Set("X-Prometheus-Stopping", "false")
			say(w, http.StatusServiceUnavailable, "Service Unavailable")
		}
	})
}

// say answers with a text that Prometheus ends without a newline.
func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // the client may be gone
}

func (s *Server) lifecycle(next http.HandlerFunc) http.HandlerFunc {
	if s.o.EnableLifecycle {
		return next
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		say(w, http.StatusForbidden, "Lifecycle API is not enabled.")
	}
}

func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	if err := s.o.Reload(); err != nil {
		http.Error(w, fmt.Sprintf("failed to reload config: %s", err), http.StatusInternalServerError)
	}
}

func (s *Server) quit(w http.ResponseWriter, _ *http.Request) {
	if s.quitting.Swap(true) {
		say(w, http.StatusOK, "Termination already in progress.")
		return
	}
	say(w, http.StatusOK, "Requesting termination... Goodbye!")
	s.o.Quit()
}

// cors lets browsers of the allowed origins read the answer.
func (s *Server) cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); origin != "" {
			h.Set("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, Origin")
			h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
			h.Set("Access-Control-Expose-Headers", "Date")
			if s.o.CORS != nil && s.o.CORS.MatchString(origin) {
				h.Set("Access-Control-Allow-Origin", origin)
			}
		}
		next.ServeHTTP(w, r)
	})
}

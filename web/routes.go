package web

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/golang/snappy"
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
	handle := func(pattern string, h http.HandlerFunc) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.Handle(method+" "+prefix+path, m.instrument(handlerName(path), h))
	}
	// api routes answer 503 while the agent starts or stops, early ones at any time.
	api := func(pattern string, f func(*http.Request) (any, *apiError)) {
		method, path, _ := strings.Cut(pattern, " ")
		handle(method+" /api/v1"+path, s.whenReady(gzhttp.GzipHandler(s.cors(answer(f)))))
	}
	early := func(pattern string, f func(*http.Request) (any, *apiError)) {
		method, path, _ := strings.Cut(pattern, " ")
		handle(method+" /api/v1"+path, s.cors(answer(f)).ServeHTTP)
	}

	handle("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Prometheus Agent is Healthy.\n") })
	handle("GET /-/ready", s.whenReady(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "Prometheus Agent is Ready.\n")
	})))
	for _, method := range []string{"POST", "PUT"} {
		handle(method+" /-/reload", s.lifecycle(s.reload))
		handle(method+" /-/quit", s.lifecycle(s.quit))
	}
	for _, path := range []string{"/-/reload", "/-/quit"} {
		handle("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", "POST, PUT")
			say(w, http.StatusMethodNotAllowed, "Only POST or PUT requests allowed")
		})
	}
	metrics := promhttp.InstrumentMetricHandler(s.o.Registerer, promhttp.HandlerFor(s.o.Gatherer, promhttp.HandlerOpts{EnableOpenMetrics: false}))
	handle("GET /metrics", metrics.ServeHTTP)
	handle("GET /version", s.version)
	handle("GET /agent", s.page)
	toPage := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, s.o.ExternalURL.Path+"/agent", http.StatusFound)
	}
	for _, path := range append([]string{"/{$}"}, oldPages...) {
		handle("GET "+path, toPage)
	}
	if prefix != "" {
		mux.Handle("GET /{$}", m.instrument("/", http.RedirectHandler(prefix, http.StatusFound)))
		mux.Handle("GET "+prefix, m.instrument("/", http.HandlerFunc(toPage)))
	}
	if s.o.UserAssets != "" {
		handle("GET /user/{filepath...}", http.StripPrefix(prefix+"/user/", http.FileServer(http.Dir(s.o.UserAssets))).ServeHTTP)
	}
	for _, method := range []string{"GET", "POST"} {
		handle(method+" /debug/{subpath...}", profiles)
	}
	handle("GET /federate", s.whenReady(http.HandlerFunc(noQueries)))
	handle("GET /consoles/{filepath...}", s.whenReady(http.NotFoundHandler()))

	api("GET /targets", s.targets)
	api("GET /targets/metadata", s.targetsMetadata)
	api("GET /metadata", s.metadata)
	api("GET /scrape_pools", s.scrapePools)
	early("GET /notifications", func(*http.Request) (any, *apiError) { return []string{}, nil }) // there is nothing to notify of
	api("GET /status/config", func(*http.Request) (any, *apiError) { return map[string]string{"yaml": s.o.Config()}, nil })
	api("GET /status/flags", func(*http.Request) (any, *apiError) { return s.o.Flags, nil })
	api("GET /status/buildinfo", func(*http.Request) (any, *apiError) { return s.o.Build, nil })
	api("GET /status/runtimeinfo", func(*http.Request) (any, *apiError) { return s.o.Runtime(), nil })
	api("GET /status/remotes", func(*http.Request) (any, *apiError) { return s.o.Remotes(), nil })
	early("GET /status/walreplay", func(*http.Request) (any, *apiError) {
		return map[string]int{"min": 0, "max": 0, "current": 0}, nil
	})
	for _, p := range unavailable {
		api(p, func(*http.Request) (any, *apiError) {
			return nil, &apiError{http.StatusUnprocessableEntity, "execution", "unavailable with Prometheus Agent"}
		})
	}
	for _, path := range []string{"/search/metric_names", "/search/label_names", "/search/label_values"} {
		for _, method := range []string{"GET ", "POST "} {
			api(method+path, func(*http.Request) (any, *apiError) {
				return nil, &apiError{http.StatusInternalServerError, "unavailable", "search API disabled"}
			})
		}
	}
	handle("POST /api/v1/read", s.whenReady(http.HandlerFunc(remoteRead)))
	for path, text := range map[string]string{
		"/write":           receiverText(s.o.RemoteWriteReceiver, "remote write", "--web.enable-remote-write-receiver"),
		"/otlp/v1/metrics": receiverText(s.o.OTLPReceiver, "otlp write", "--web.enable-otlp-receiver"),
	} {
		handle("POST /api/v1"+path, s.whenReady(s.cors(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, text, http.StatusNotFound)
		}))))
	}
	options := m.instrument("/api/v1/*path", s.whenReady(s.cors(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions && strings.HasPrefix(r.URL.Path, prefix+"/api/v1/") { // whatever the path
			options.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// handlerName is the path of a route as Prometheus's router writes it: dashboards
// know the handlers by it.
func handlerName(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		name, wild := strings.CutPrefix(strings.TrimSuffix(part, "}"), "{")
		rest, many := strings.CutSuffix(name, "...")
		switch {
		case !wild:
		case name == "$":
			parts[i] = ""
		case many:
			parts[i] = "*" + rest
		default:
			parts[i] = ":" + name
		}
	}
	return strings.Join(parts, "/")
}

// oldPages are those of Prometheus's web UI that bookmarks and dashboards
// point to: all that an agent shows of them is on its one page.
var oldPages = []string{"/alertmanager-discovery", "/config", "/flags", "/graph", "/service-discovery", "/status", "/targets"}

// unavailable are the routes of Prometheus's API that an agent has nothing to say to.
var unavailable = []string{
	"GET /query", "POST /query", "GET /query_range", "POST /query_range", "GET /query_exemplars", "POST /query_exemplars",
	"GET /format_query", "POST /format_query", "GET /parse_query", "POST /parse_query", "GET /labels", "POST /labels",
	"GET /label/{name}/values", "GET /series", "POST /series", "GET /alertmanagers", "GET /alerts", "GET /rules",
	"GET /status/tsdb", "GET /status/tsdb/blocks",
	"POST /admin/tsdb/delete_series", "PUT /admin/tsdb/delete_series", "POST /admin/tsdb/clean_tombstones", "PUT /admin/tsdb/clean_tombstones",
	"POST /admin/tsdb/snapshot", "PUT /admin/tsdb/snapshot",
}

// noQueries answers those that ask for samples, in the words of Prometheus agent.
func noQueries(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "unsupported operation with WAL-only storage", http.StatusInternalServerError)
}

// longestRead is how much of a remote read request is looked at, bytes: queries are short.
const longestRead = 1 << 20

// remoteRead tells a body that is no remote read request from a query, which is not for an agent.
func remoteRead(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, longestRead))
	if err == nil {
		var n int
		if n, err = snappy.DecodedLen(body); err == nil && n > longestRead {
			err = snappy.ErrTooLarge
		}
	}
	if err == nil {
		_, err = snappy.Decode(nil, body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	noQueries(w, r)
}

// receiverText is the answer to a sender: there is no receiver here.
func receiverText(asked bool, what, flag string) string {
	if asked {
		return "prom-agent has no " + what + " receiver: " + flag + " is accepted without effect"
	}
	return what + " receiver needs to be enabled with " + flag
}

// whenReady answers 503 while the agent starts or stops.
func (s *Server) whenReady(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
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
	}
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

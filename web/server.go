// Package web serves what the agent shows: health and readiness, reload and
// quit, /metrics, the HTTP API in Prometheus's form and a status page.
//
// It asks others for values through the funcs of Options and stores no
// component. The path through it: New builds one list of routes, Listen opens
// the sockets early (so that health answers while the rest starts), Run serves
// them until its context ends. What an agent has no answer for (queries,
// rules, alerts) answers as Prometheus agent does.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grafana/regexp"
	"github.com/klauspost/compress/gzhttp"
	"github.com/mwitkow/go-conntrack"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	toolkit "github.com/prometheus/exporter-toolkit/web"

	"promagent/remotewrite"
	"promagent/scrape"
)

// Options are the server's settings and where its answers come from. All
// funcs may be called at any time, concurrently.
type Options struct {
	ListenAddresses []string
	WebConfigFile   string // exporter-toolkit's file; "": neither TLS nor authentication
	ReadTimeout     time.Duration
	MaxConnections  int // over all listeners
	ExternalURL     *url.URL
	RoutePrefix     string // "/" or "/prefix"
	UserAssets      string // directory; "": none
	EnableLifecycle bool
	CORS            *regexp.Regexp // origins that may read the API
	PageTitle       string

	Gatherer   prometheus.Gatherer
	Registerer prometheus.Registerer
	Logger     *slog.Logger
	Now        func() time.Time

	Reload  func() error // applies the config file; the error says what was wrong
	Quit    func()       // begins the shutdown
	Build   BuildInfo
	Flags   map[string]string
	Config  func() string // the running config as YAML, secrets hidden
	Runtime func() RuntimeInfo
	Pools   func() []scrape.PoolStatus
	Remotes func() []remotewrite.RemoteStatus
}

// Server is the agent's HTTP server.
type Server struct {
	o         Options
	state     atomic.Int32 // starting, ready, stopping
	quitting  atomic.Bool
	handler   http.Handler
	listeners []net.Listener
}

const (
	starting int32 = iota
	ready
	stopping
)

// New builds the server and checks the web config file. It opens nothing.
func New(o Options) (*Server, error) {
	if err := toolkit.Validate(o.WebConfigFile); err != nil {
		return nil, fmt.Errorf("web config file %s: %w", o.WebConfigFile, err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o}
	h, err := s.routes()
	if err != nil {
		return nil, err
	}
	s.handler = h
	return s, nil
}

// SetReady says that everything runs; until then what needs it answers 503.
func (s *Server) SetReady() { s.state.CompareAndSwap(starting, ready) }

// SetStopping says that the shutdown has begun.
func (s *Server) SetStopping() { s.state.Store(stopping) }

// Handler is the server's root handler.
func (s *Server) Handler() http.Handler { return s.handler }

// routes is the list of all there is.
func (s *Server) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	m, err := newMetrics(s.o.Registerer)
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
			http.Error(w, "Only POST or PUT requests allowed", http.StatusMethodNotAllowed)
		})
	}
	metrics := promhttp.InstrumentMetricHandler(s.o.Registerer, promhttp.HandlerFor(s.o.Gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	plain("GET /metrics", metrics.ServeHTTP)
	plain("GET /version", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.o.Build) })
	plain("GET /agent", s.page)
	plain("GET /targets", s.page)
	plain("GET /status", s.page)
	plain("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, s.o.ExternalURL.Path+"/agent", http.StatusFound)
	})
	if prefix != "" {
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, prefix, http.StatusFound) })
		mux.HandleFunc("GET "+prefix, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, s.o.ExternalURL.Path+"/agent", http.StatusFound)
		})
	}
	if s.o.UserAssets != "" {
		mux.Handle("GET "+prefix+"/user/", http.StripPrefix(prefix+"/user/", http.FileServer(http.Dir(s.o.UserAssets))))
	}
	profiles(mux, prefix)

	api("GET /targets", s.targets)
	api("GET /scrape_pools", s.scrapePools)
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
	mux.Handle("OPTIONS "+prefix+"/api/v1/", s.cors(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })))
	return mux, nil
}

// unavailable are the routes of Prometheus's API that an agent has nothing to say to.
var unavailable = []string{
	"GET /query", "POST /query", "GET /query_range", "POST /query_range", "GET /query_exemplars", "POST /query_exemplars",
	"GET /format_query", "POST /format_query", "GET /parse_query", "POST /parse_query", "GET /labels", "POST /labels",
	"GET /label/{name}/values", "GET /series", "POST /series", "DELETE /series", "GET /alertmanagers", "GET /alerts", "GET /rules",
	"GET /status/tsdb", "GET /status/tsdb/blocks", "POST /read",
	"POST /admin/tsdb/delete_series", "PUT /admin/tsdb/delete_series", "POST /admin/tsdb/clean_tombstones", "PUT /admin/tsdb/clean_tombstones",
	"POST /admin/tsdb/snapshot", "PUT /admin/tsdb/snapshot",
}

// whenReady answers 503 while the agent starts or stops.
func (s *Server) whenReady(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch s.state.Load() {
		case ready:
			next.ServeHTTP(w, r)
		case stopping:
			w.Header().Set("X-Prometheus-Stopping", "true")
			http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
		default:
			w.Header().Set("X-Prometheus-Stopping", "false")
			http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
		}
	})
}

func (s *Server) lifecycle(next http.HandlerFunc) http.HandlerFunc {
	if s.o.EnableLifecycle {
		return next
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Lifecycle API is not enabled.", http.StatusForbidden)
	}
}

func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	if err := s.o.Reload(); err != nil {
		http.Error(w, fmt.Sprintf("failed to reload config: %s", err), http.StatusInternalServerError)
	}
}

func (s *Server) quit(w http.ResponseWriter, _ *http.Request) {
	if s.quitting.Swap(true) {
		fmt.Fprint(w, "Termination already in progress.")
		return
	}
	fmt.Fprint(w, "Requesting termination... Goodbye!")
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

// Listen opens the sockets.
func (s *Server) Listen() error {
	slots := make(chan struct{}, s.o.MaxConnections)
	for _, addr := range s.o.ListenAddresses {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			for _, open := range s.listeners {
				open.Close()
			}
			return fmt.Errorf("listen on %s: %w", addr, err)
		}
		ln = conntrack.NewListener(&limited{Listener: ln, slots: slots, closed: make(chan struct{})}, conntrack.TrackWithName("http"), conntrack.TrackWithTracing())
		s.listeners = append(s.listeners, ln)
		s.o.Logger.Info("Listening on", "address", ln.Addr().String())
	}
	return nil
}

// Run serves until ctx ends; requests under way then get a second.
func (s *Server) Run(ctx context.Context) error {
	srv := &http.Server{
		Handler: s.handler, ReadTimeout: s.o.ReadTimeout,
		ErrorLog: slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelError),
	}
	failed := make(chan error, 1)
	go func() {
		failed <- toolkit.ServeMultiple(s.listeners, srv, &toolkit.FlagConfig{WebConfigFile: &s.o.WebConfigFile}, s.o.Logger)
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		srv.Close() // a reader that does not end, such as a profile
	}
	if err := <-failed; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

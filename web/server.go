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
	"sync"
	"sync/atomic"
	"time"

	"github.com/grafana/regexp"
	"github.com/mwitkow/go-conntrack"
	"github.com/prometheus/client_golang/prometheus"
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
	// RemoteWriteReceiver and OTLPReceiver say that the user asked for one; there is none, and its senders are told so.
	RemoteWriteReceiver, OTLPReceiver bool
	PageTitle                         string

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
	}
	return nil
}

// Run serves until ctx ends; requests under way then get a second. Each
// listener has a server of its own: the toolkit wraps the handler of the one
// it is given, and would count a request against the rate limit once per listener.
func (s *Server) Run(ctx context.Context) error {
	ended := make(chan error, len(s.listeners))
	servers := make([]*http.Server, len(s.listeners))
	for i, ln := range s.listeners {
		servers[i] = &http.Server{
			Handler: s.handler, ReadTimeout: s.o.ReadTimeout,
			ErrorLog: slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelError),
		}
		go func() {
			ended <- toolkit.Serve(ln, servers[i], &toolkit.FlagConfig{WebConfigFile: &s.o.WebConfigFile}, s.o.Logger)
		}()
	}
	var failed error
	running := len(servers)
	select {
	case err := <-ended:
		running--
		failed = fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}

	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	var stopped sync.WaitGroup
	for i, srv := range servers {
		stopped.Go(func() {
			if err := srv.Shutdown(grace); err != nil {
				_ = srv.Close() // a reader that does not end, such as a profile
			}
			s.listeners[i].Close() // where serving failed before it began
		})
	}
	for range running {
		if err := <-ended; failed == nil && !errors.Is(err, http.ErrServerClosed) {
			failed = fmt.Errorf("serve HTTP: %w", err)
		}
	}
	stopped.Wait()
	return failed
}

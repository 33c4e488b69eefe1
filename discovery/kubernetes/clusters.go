package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"time"

	commonconfig "github.com/prometheus/common/config"
	sd "github.com/prometheus/prometheus/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"promagent/discovery/kubernetes/watch"
)

// ownNamespace is where the kubelet writes the namespace of a pod.
const ownNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// linger is how long a cluster that nobody uses is kept, so that a reload that
// replaces its only discoverer finds what is watched.
const linger = 30 * time.Second

// Clusters makes discoverers: those of one API server share a client and what
// they watch. Run runs the watches.
type Clusters struct {
	log       *slog.Logger
	metrics   *metrics
	userAgent string // of requests; "": the client library's
	names     *names
	wake      chan struct{} // some cluster is to be started or stopped

	mu  sync.Mutex
	all []*cluster
}

// connection is what tells API servers, and the rights that they give, apart.
type connection struct {
	server     string
	http       commonconfig.HTTPClientConfig
	kubeconfig string // path
	content    []byte // of the kubeconfig
}

// cluster is an API server.
type cluster struct {
	connection connection
	client     *watch.Client

	// Guarded by Clusters.mu.
	users   int
	idle    time.Time          // since when there are none
	watched *watch.Cluster     // nil: nobody has used it, for a while at least
	stop    context.CancelFunc // nil: it does not run
}

// NewClusters returns Clusters that know no server yet. m is what
// SDConfig.NewDiscovererMetrics returned.
func NewClusters(log *slog.Logger, m sd.DiscovererMetrics, userAgent string) (*Clusters, error) {
	own, ok := m.(*metrics)
	if !ok {
		return nil, fmt.Errorf("metrics of Kubernetes discovery are of type %T", m)
	}
	return &Clusters{log: log, metrics: own, userAgent: userAgent, names: newNames(), wake: make(chan struct{}, 1)}, nil
}

// Discoverer makes the discoverer of a config. It reads files and connects to
// nothing; an error is one that only another config or other files mend.
func (c *Clusters) Discoverer(cfg *SDConfig, log *slog.Logger) (*Discoverer, error) {
	namespaces := append([]string(nil), cfg.Namespaces.Names...)
	if cfg.Namespaces.Own {
		own, err := os.ReadFile(ownNamespace)
		if err != nil {
			return nil, fmt.Errorf("could not determine the pod's namespace: %w", err)
		}
		if len(own) == 0 {
			return nil, errors.New("could not read own namespace name (empty file)")
		}
		namespaces = append(namespaces, string(own))
	}
	if len(namespaces) == 0 {
		namespaces = []string{""} // all
	}
	conn := connection{http: cfg.HTTPClientConfig, kubeconfig: cfg.KubeConfig}
	if cfg.APIServer.URL != nil {
		conn.server = cfg.APIServer.String()
	}
	if cfg.KubeConfig != "" {
		var err error
		if conn.content, err = os.ReadFile(cfg.KubeConfig); err != nil {
			return nil, fmt.Errorf("read kubeconfig_file: %w", err)
		}
	}
	cl, err := c.cluster(conn, log)
	if err != nil {
		return nil, err
	}
	return newDiscoverer(c, cl, cfg, namespaces, log), nil
}

// cluster is the one of that connection.
func (c *Clusters) cluster(conn connection, log *slog.Logger) (*cluster, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range c.all {
		if cl.connection.same(&conn) {
			return cl, nil
		}
	}
	cfg, err := conn.restConfig(log)
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = c.userAgent
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper { return c.metrics.timed(rt) })
	client, err := watch.NewClient(cfg)
	if err != nil {
		return nil, err
	}
	cl := &cluster{connection: conn, client: client, idle: time.Now()}
	c.all = append(c.all, cl)
	c.wakeUp() // nobody may ever use it
	return cl, nil
}

func (c *connection) same(o *connection) bool {
	return c.server == o.server && c.kubeconfig == o.kubeconfig && bytes.Equal(c.content, o.content) && reflect.DeepEqual(c.http, o.http)
}

// restConfig says how to talk to the server. Files with credentials that it
// names are read when they are needed.
func (c *connection) restConfig(log *slog.Logger) (*rest.Config, error) {
	switch {
	case c.kubeconfig != "":
		cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig_file: %w", err)
		}
		return cfg, nil
	case c.server == "":
		cfg, err := rest.InClusterConfig()
		if err != nil {
			return nil, err
		}
		log.Info("Using pod service account via in-cluster config")
		return cfg, nil
	}
	rt, err := commonconfig.NewRoundTripperFromConfig(c.http, "kubernetes_sd", commonconfig.WithDialContextFunc(watch.Dial))
	if err != nil {
		return nil, err
	}
	return &rest.Config{Host: c.server, Transport: rt}, nil
}

// use keeps cl running until release is called.
func (c *Clusters) use(cl *cluster) (watched *watch.Cluster, release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl.watched == nil {
		cl.watched = watch.NewCluster(cl.client, watch.Options{Logger: c.log, Failures: c.metrics.failures.Inc, Linger: linger})
	}
	if !slices.Contains(c.all, cl) { // it has been idle for long
		c.all = append(c.all, cl)
	}
	cl.users++
	c.wakeUp()
	return cl.watched, sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if cl.users--; cl.users == 0 {
			cl.idle = time.Now()
		}
		c.wakeUp()
	})
}

func (c *Clusters) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run runs the clusters that discoverers use until ctx is done.
func (c *Clusters) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c.mu.Lock()
		var due time.Duration // until the next cluster has been idle for long enough; 0: none is
		kept := c.all[:0]
		for _, cl := range c.all {
			left := linger - time.Since(cl.idle)
			switch {
			case cl.users > 0 && cl.stop == nil:
				running, stop := context.WithCancel(ctx)
				cl.stop = stop
				watched := cl.watched
				wg.Go(func() {
					if err := watched.Run(running); err != nil {
						c.log.Error("Watching a Kubernetes API server has ended", "err", err)
					}
				})
			case cl.users == 0 && left <= 0:
				if cl.stop != nil {
					cl.stop()
				}
				cl.client.CloseIdleConnections()
				cl.watched, cl.stop = nil, nil
				continue
			case cl.users == 0 && (due == 0 || left < due):
				due = left
			}
			kept = append(kept, cl)
		}
		clear(c.all[len(kept):])
		c.all = kept
		c.mu.Unlock()
		var later <-chan time.Time
		if due > 0 {
			later = time.After(due)
		}
		select {
		case <-c.wake:
		case <-later:
		case <-ctx.Done():
			return nil
		}
	}
}

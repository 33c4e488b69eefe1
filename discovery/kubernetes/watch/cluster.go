package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"promagent/discovery/kubernetes/object"
)

// Options are what a Cluster can be told. All have defaults.
type Options struct {
	Logger   *slog.Logger  // nil: nothing is logged
	Failures func()        // called for every request that failed, by any goroutine
	Linger   time.Duration // how long a store without users is kept; 0: 30 s, negative: not at all
	// Decode decodes an object and gives its version; nil: object.Decode.
	Decode func(object.Kind, []byte) (object.Object, string, error)
}

// Cluster is the stores of one API server. Any number of goroutines may use it.
type Cluster struct {
	client *Client
	linger time.Duration
	decode decode
	report *reporter
	most   bounds // of a list

	mu     sync.Mutex
	stores map[Query]*shared
	ctx    context.Context // of Run; nil: it has not begun
	group  sync.WaitGroup  // the followers
}

// shared is a store and who needs it.
type shared struct {
	store  *Store
	users  int
	expiry *time.Timer        // runs while there are no users; nil: there never was such a time
	stop   context.CancelFunc // nil: not started
}

// NewCluster makes a Cluster without stores. It starts nothing.
func NewCluster(client *Client, o Options) *Cluster {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Failures == nil {
		o.Failures = func() {}
	}
	if o.Linger == 0 {
		o.Linger = 30 * time.Second
	}
	if o.Decode == nil {
		o.Decode = object.Decode
	}
	return &Cluster{
		client: client,
		linger: o.Linger,
		decode: o.Decode,
		report: newReporter(o.Logger, o.Failures),
		most:   bounds{pages: mostPages, objects: mostObjects},
		stores: map[Query]*shared{},
	}
}

// Run keeps the stores up to date until ctx is done and everything that it
// started has ended. It may be called once.
func (c *Cluster) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.ctx != nil {
		c.mu.Unlock()
		return errors.New("run cluster: it was run before")
	}
	c.ctx = ctx
	for _, s := range c.stores {
		c.start(s)
	}
	c.mu.Unlock()

	<-ctx.Done()
	// Nothing starts after this: start asks ctx under the same lock.
	c.mu.Lock()
	for _, s := range c.stores {
		if s.expiry != nil {
			s.expiry.Stop()
		}
	}
	c.mu.Unlock()
	c.group.Wait()
	c.client.CloseIdleConnections()
	return nil
}

// start begins to follow; c.mu is held.
func (c *Cluster) start(s *shared) {
	if c.ctx == nil || c.ctx.Err() != nil {
		return
	}
	ctx, stop := context.WithCancel(c.ctx)
	s.stop = stop
	f := &follower{store: s.store, client: c.client, report: c.report, decode: c.decode, most: c.most}
	c.group.Go(func() { f.run(ctx) })
}

// Use gives the store of q, which its users share. It is filled and kept up to
// date while Run runs. release says that it is not needed any more; some time
// after its last user has gone it stops. A kind that is none of package
// object's is an error of the program and panics.
func (c *Cluster) Use(q Query) (store *Store, release func()) {
	if r, ok := q.resource(); !ok {
		panic(fmt.Sprintf("watch: no resource has kind %d", q.Kind))
	} else if r.everywhere {
		q.Namespace = ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stores[q]
	if s == nil {
		s = &shared{store: newStore(q)}
		c.stores[q] = s
		c.start(s)
	}
	s.users++
	if s.expiry != nil {
		s.expiry.Stop()
	}
	return s.store, sync.OnceFunc(func() { c.release(s) })
}

func (c *Cluster) release(s *shared) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.users--
	if s.users > 0 {
		return
	}
	if s.stop == nil || c.linger < 0 {
		c.end(s)
		return
	}
	s.expiry = time.AfterFunc(c.linger, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		// A user may have come while this waited for the lock.
		if s.users == 0 {
			c.end(s)
		}
	})
}

// end stops a store without users; c.mu is held.
func (c *Cluster) end(s *shared) {
	if s.stop != nil {
		s.stop()
	}
	if q := s.store.query; c.stores[q] == s {
		delete(c.stores, q)
	}
}

package watch

import (
	"sync"

	"promagent/discovery/kubernetes/object"
)

// key names an object within a store.
type key struct{ namespace, name string }

func keyOf(o object.Object) key {
	m := o.Base()
	return key{m.Namespace, m.Name}
}

// Store holds the objects of one Query. Any number of goroutines may use it.
type Store struct {
	query  Query
	synced chan struct{}

	mu          sync.RWMutex
	objects     map[key]object.Object
	subscribers []*subscriber // never written in place
}

type subscriber struct{ f func(old, new object.Object) }

func newStore(q Query) *Store {
	return &Store{query: q, synced: make(chan struct{}), objects: map[key]object.Object{}}
}

// Query is what the store holds.
func (s *Store) Query() Query { return s.query }

// Synced is closed once the store has held everything.
func (s *Store) Synced() <-chan struct{} { return s.synced }

// Get returns an object; nil: there is none.
func (s *Store) Get(namespace, name string) object.Object {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.objects[key{namespace, name}]
}

// Len is the number of objects.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.objects)
}

// Range calls f for every object, in no order, until f returns false. f must
// not call the store.
func (s *Store) Range(f func(object.Object) bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, o := range s.objects {
		if !f(o) {
			return
		}
	}
}

// Subscribe calls f at once with (nil, o) for every object, and from then on
// for every change, in the order of the changes: old is nil for what was
// added, new for what was deleted. Nothing is left out between the two. f holds
// up the store: it must be quick, must not call the store and must not wait for
// a lock that somebody holds who calls the store. After cancel has returned, f
// is not called any more.
func (s *Store) Subscribe(f func(old, new object.Object)) (cancel func()) {
	sub := &subscriber{f}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		f(nil, o)
	}
	s.subscribers = append(s.subscribers[:len(s.subscribers):len(s.subscribers)], sub)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		kept := make([]*subscriber, 0, len(s.subscribers))
		for _, other := range s.subscribers {
			if other != sub {
				kept = append(kept, other)
			}
		}
		s.subscribers = kept
	}
}

// tell is called with mu held.
func (s *Store) tell(old, new object.Object) {
	for _, sub := range s.subscribers {
		sub.f(old, new)
	}
}

// put adds or replaces an object.
func (s *Store) put(o object.Object) {
	k := keyOf(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.objects[k]
	if ok && old.Equal(o) {
		return
	}
	// The key's strings are those of the object. An old key would keep the
	// memory of the old object.
	delete(s.objects, k)
	s.objects[k] = o
	s.tell(old, o)
}

// drop deletes an object if it is there.
func (s *Store) drop(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.objects[k]
	if !ok {
		return
	}
	delete(s.objects, k)
	s.tell(old, nil)
}

// stage collects the objects of a list that is not complete yet. Objects that
// did not change are the held ones, so that a list needs memory for what is new
// only.
type stage struct {
	store   *Store
	objects map[key]object.Object
	order   []key // of what differs from what is held, as the list has it
	added   int   // objects, each time
	twice   bool  // a list in pages can have an object twice
}

func (s *Store) stage() *stage {
	return &stage{store: s, objects: make(map[key]object.Object, s.Len())}
}

func (g *stage) add(o object.Object) {
	g.added++
	k := keyOf(o)
	if _, again := g.objects[k]; again {
		g.twice = true
	}
	if held := g.store.Get(k.namespace, k.name); held != nil && held.Equal(o) {
		g.objects[keyOf(held)] = held
		return
	}
	g.order = append(g.order, k)
	g.objects[k] = o
}

// commit makes the store hold what was staged and nothing else. Nobody else
// writes to the store between stage and commit.
func (g *stage) commit() {
	s := g.store
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.objects
	s.objects = g.objects
	for k, old := range before {
		if _, ok := g.objects[k]; !ok {
			s.tell(old, nil)
		}
	}
	for _, k := range g.order {
		old, now := before[k], g.objects[k]
		if now == old {
			continue
		}
		s.tell(old, now)
		if g.twice {
			before[k] = now
		}
	}
	select {
	case <-s.synced:
	default:
		close(s.synced)
	}
}

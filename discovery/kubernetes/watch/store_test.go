package watch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"unsafe"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"promagent/discovery/kubernetes/object"
)

// journal notes what a subscriber is told.
type journal struct {
	mu   sync.Mutex
	list []string
}

func (j *journal) note(old, new object.Object) {
	j.mu.Lock()
	defer j.mu.Unlock()
	show := func(o object.Object) string {
		if o == nil {
			return "-"
		}
		return fmt.Sprint(o)
	}
	j.list = append(j.list, show(old)+" > "+show(new))
}

// want checks what was told since the last call.
func (j *journal) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.list, lines) && len(j.list)+len(lines) > 0 {
		t.Errorf("told %q, want %q", j.list, lines)
	}
	j.list = nil
}

func TestSubscriberIsToldEveryChangeInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s, _ := r.cluster.Use(podQuery)
		var early, late, gone journal
		s.Subscribe(early.note)
		c := r.next(t)
		early.want(t)
		c.list(pods("5", "", "a/z=1", "a/y=1", "a/x=1"))
		early.want(t, "- > a/z=1", "- > a/y=1", "- > a/x=1")

		cancel := s.Subscribe(gone.note)
		cancel()
		w := r.nextWatch(t, "5").watch()
		w.send("DELETED", pod("a/z=1", "6"))
		w.send("MODIFIED", pod("a/y=2", "7"))
		w.send("MODIFIED", pod("a/y=2", "8")) // nothing that counts
		early.want(t, "a/z=1 > -", "a/y=1 > a/y=2")
		s.Subscribe(late.note)
		late.mu.Lock()
		slices.Sort(late.list)
		late.mu.Unlock()
		late.want(t, "- > a/x=1", "- > a/y=2")

		w.send("ERROR", &metav1.Status{Code: 410})
		r.next(t).list(pods("9", "", "a/y=2", "a/x=3", "a/new=1"))
		early.want(t, "a/x=1 > a/x=3", "- > a/new=1")
		late.want(t, "a/x=1 > a/x=3", "- > a/new=1")

		w = r.nextWatch(t, "9").watch()
		w.send("ERROR", &metav1.Status{Code: 410})
		r.next(t).list(pods("10", "", "a/y=2"))
		synctest.Wait()
		early.mu.Lock()
		slices.Sort(early.list)
		early.mu.Unlock()
		early.want(t, "a/new=1 > -", "a/x=3 > -")
		gone.mu.Lock()
		defer gone.mu.Unlock()
		if len(gone.list) != 3 {
			t.Errorf("told after the end: %q", gone.list)
		}
	})
}

// TestSubscriberMissesNothing subscribes while objects change, and replays what
// it was told.
func TestSubscriberMissesNothing(t *testing.T) {
	s := newStore(podQuery)
	var group sync.WaitGroup
	type replay struct {
		mu   sync.Mutex
		held map[key]object.Object
	}
	var replays []*replay
	for range 4 {
		p := &replay{held: map[key]object.Object{}}
		replays = append(replays, p)
		group.Go(func() {
			for range 50 {
				cancel := s.Subscribe(func(object.Object, object.Object) {})
				cancel()
			}
			s.Subscribe(func(old, now object.Object) {
				p.mu.Lock()
				defer p.mu.Unlock()
				var k key
				if old != nil {
					k = keyOf(old)
				} else {
					k = keyOf(now)
				}
				if p.held[k] != old {
					t.Errorf("told %v > %v, held %v", old, now, p.held[k])
				}
				if delete(p.held, k); now != nil {
					p.held[k] = now
				}
			})
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	some := func() *thing {
		return &thing{object.Meta{Namespace: "a", Name: fmt.Sprint(random.IntN(20))}, fmt.Sprint(random.IntN(3))}
	}
	for range 2000 {
		switch random.IntN(20) {
		case 0:
			g := s.stage()
			for range 10 {
				g.add(some())
			}
			g.commit()
		case 1, 2, 3, 4, 5:
			s.drop(keyOf(some()))
		default:
			s.put(some())
		}
	}
	group.Wait()
	s.put(&thing{object.Meta{Name: "last"}, ""})
	for i, p := range replays {
		if len(p.held) != s.Len() {
			t.Errorf("subscriber %d holds %d objects, want %d", i, len(p.held), s.Len())
		}
		s.Range(func(o object.Object) bool {
			if p.held[keyOf(o)] != o {
				t.Errorf("subscriber %d does not hold %v", i, o)
			}
			return true
		})
	}
}

func TestListKeepsHeldObjectsThatDidNotChange(t *testing.T) {
	s := newStore(podQuery)
	held := &thing{object.Meta{Namespace: "a", Name: "x"}, "1"}
	s.put(held)
	g := s.stage()
	g.add(&thing{object.Meta{Namespace: "a", Name: "x"}, "1"})
	g.commit()
	if got := s.Get("a", "x"); got != object.Object(held) {
		t.Error("the list replaced an equal object")
	}
}

// TestOldObjectIsNotKeptByItsName looks at where the strings of the keys are:
// in the object that is held, or the memory of another one stays with them.
func TestOldObjectIsNotKeptByItsName(t *testing.T) {
	s := newStore(podQuery)
	made := func(value string) *thing {
		return &thing{object.Meta{Namespace: strings.Clone("space"), Name: strings.Clone("name")}, value}
	}
	check := func(when string) {
		t.Helper()
		for k, o := range s.objects {
			if unsafe.StringData(k.name) != unsafe.StringData(o.Base().Name) || unsafe.StringData(k.namespace) != unsafe.StringData(o.Base().Namespace) {
				t.Errorf("%s: the key has strings of another object", when)
			}
		}
	}
	for _, v := range []string{"1", "2", "2", "3"} {
		s.put(made(v))
		check("put " + v)
	}
	for _, v := range []string{"3", "4"} {
		g := s.stage()
		g.add(made(v))
		g.add(made(v))
		g.commit()
		check("list " + v)
	}
}

func TestRangeEndsEarly(t *testing.T) {
	s := newStore(podQuery)
	for i := range 5 {
		s.put(&thing{object.Meta{Name: fmt.Sprint(i)}, ""})
	}
	n := 0
	s.Range(func(object.Object) bool { n++; return n < 2 })
	if n != 2 {
		t.Errorf("calls: got %d, want 2", n)
	}
	if s.Get("", "9") != nil {
		t.Error("an object that is not there")
	}
}

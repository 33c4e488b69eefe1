package watch

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// badWatches are the ends of a watch after which only a list helps and that say
// that the next watch will be no better.
var badWatches = map[string]func(c *call){
	"web page": func(c *call) {
		c.respond(200, map[string]string{"Content-Type": "text/html"}, strings.NewReader("<html>"))
	},
	"noise":        func(c *call) { c.respond(200, nil, strings.NewReader("\x00\x00\x00\x04\xff\xff\xff\xff")) },
	"refused":      func(c *call) { c.refuse(&metav1.Status{Code: 400}, nil) },
	"error inside": func(c *call) { c.watch().send("ERROR", &metav1.Status{Code: 404}) },
	"noise after an event": func(c *call) {
		c.respond(200, nil, bytes.NewReader(append(c.frame("MODIFIED", pod("a/x=2", "5")), "\x00\x00\x00\x04\xff\xff\xff\xff"...)))
	},
}

func TestWatchThatIsAlwaysSenselessListsLessAndLess(t *testing.T) {
	for name, answer := range badWatches {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.cluster.Use(podQuery)
				var delays []time.Duration
				for at := time.Now(); len(delays) <= 40; at = time.Now() {
					c := r.next(t)
					delays = append(delays, c.at.Sub(at))
					c.list(pods("5", "", "a/x=1"))
					answer(r.next(t))
					synctest.Wait()
				}
				if l := r.lines(); strings.Contains(l, "level=INFO") {
					t.Errorf("log: got %q, want no word of recovery", l)
				}
				delays = delays[1:]
				for i, d := range delays {
					most := min(2*minDelay<<min(i, 10), maxListDelay)
					if d < most/2 || d > most {
						t.Errorf("delay %d: got %v, want %v to %v", i, d, most/2, most)
					}
				}
				settled := map[time.Duration]bool{}
				for _, d := range delays[10:] {
					settled[d] = true
				}
				if len(settled) < 20 {
					t.Errorf("delays without jitter: %v", delays[10:])
				}
			})
		})
	}
}

func TestListThatIsAlwaysGarbageIsAskedForLessAndLess(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cluster.Use(podQuery)
		begin := time.Now()
		for range 21 {
			r.next(t).list(pods("5", "", "a/x=1", "a/=1"))
		}
		if d := time.Since(begin); d < 7*time.Minute || d > 21*time.Minute {
			t.Errorf("21 lists in %v", d)
		}
	})
}

// TestGoodWatchMakesTheNextListQuick has a watch that works after many that did
// not.
func TestGoodWatchMakesTheNextListQuick(t *testing.T) {
	for name, tt := range map[string]struct {
		lasts time.Duration
		end   func(w stream)
		slow  bool
	}{
		"ended as it should":        {2 * time.Second, func(w stream) { w.w.Close() }, false},
		"lost":                      {2 * time.Second, func(w stream) { w.w.CloseWithError(errNoServer) }, false},
		"expired":                   {2 * time.Second, func(w stream) { w.send("ERROR", &metav1.Status{Code: 410}) }, false},
		"senseless after long":      {2 * time.Minute, func(w stream) { w.w.Write([]byte("\x00\x00\x00\x00")) }, false},
		"senseless after a moment":  {2 * time.Second, func(w stream) { w.w.Write([]byte("\x00\x00\x00\x00")) }, true},
		"ended at once, no success": {0, func(w stream) { w.w.Close() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.cluster.Use(podQuery)
				for range 10 {
					r.next(t).list(pods("5", ""))
					badWatches["noise"](r.nextWatch(t, "5"))
				}
				r.next(t).list(pods("5", ""))
				w := r.nextWatch(t, "5").watch()
				synctest.Wait()
				time.Sleep(tt.lasts)
				tt.end(w)
				c := r.next(t)
				if c.query.Get("watch") == "" {
					c.list(pods("5", ""))
					c = r.nextWatch(t, "5")
				}
				at := time.Now()
				badWatches["noise"](c)
				d := r.next(t).at.Sub(at)
				if slow := d > maxDelay; slow != tt.slow {
					t.Errorf("the list came after %v", d)
				}
			})
		})
	}
}

// TestGoodServerIsFoundWithin10Seconds has failures that last for long before
// the server is good again.
func TestGoodServerIsFoundWithin10Seconds(t *testing.T) {
	for name, fail := range map[string]func(c *call){
		"unreachable": func(c *call) { c.fail() },
		"429":         func(c *call) { c.refuse(&metav1.Status{Code: 429}, nil) },
		"500":         func(c *call) { c.refuse(&metav1.Status{Code: 500}, nil) },
		"503":         func(c *call) { c.refuse(&metav1.Status{Code: 503}, nil) },
		"410":         func(c *call) { c.refuse(&metav1.Status{Code: 410}, nil) },
		"403":         func(c *call) { c.refuse(&metav1.Status{Code: 403}, nil) },
		"404 of list": func(c *call) { c.refuse(&metav1.Status{Code: 404}, nil) },
		"500 inside":  func(c *call) { c.watch().send("ERROR", &metav1.Status{Code: 500}) },
		"410 inside":  func(c *call) { c.watch().send("ERROR", &metav1.Status{Code: 410}) },
	} {
		for _, listed := range []bool{true, false} {
			if listed && strings.HasSuffix(name, "list") {
				continue
			}
			t.Run(fmt.Sprintf("%s, listed %v", name, listed), func(t *testing.T) {
				bubble(t, func(t *testing.T, r *rig) {
					s, _ := r.cluster.Use(podQuery)
					for range 10 { // what makes lists rare
						r.next(t).list(pods("5", ""))
						badWatches["noise"](r.nextWatch(t, "5"))
					}
					c := r.next(t)
					var last time.Time // from then on the server is good
					for begin := time.Now(); time.Since(begin) < 10*time.Minute; c = r.next(t) {
						if c.query.Get("watch") == "" && (listed || strings.HasSuffix(name, "inside")) {
							c.list(pods("5", ""))
							continue
						}
						last = time.Now()
						fail(c)
					}
					if c.query.Get("watch") != "" {
						c.watch().send("ADDED", pod("a/x=1", "6"))
					} else {
						c.list(pods("6", "", "a/x=1"))
					}
					want(t, s, "a/x=1")
					if d := time.Since(last); d > 10*time.Second {
						t.Errorf("found after %v", d)
					}
				})
			})
		}
	}
}

func TestWatchesThatEndAtOnceAreReported(t *testing.T) {
	for name, answer := range map[string]func(c *call){
		"empty": func(c *call) { c.watch().w.Close() },
		"with an event": func(c *call) {
			c.respond(200, nil, bytes.NewReader(c.frame("MODIFIED", pod("a/x=2", "5"))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.cluster.Use(podQuery)
				r.next(t).list(pods("5", "", "a/x=1"))
				for i := 1; i <= 10; i++ {
					answer(r.nextWatch(t, "5"))
					synctest.Wait()
					if got, want := r.failed(), max(0, i-shortInARow+1); got != want {
						t.Fatalf("failures after %d watches: got %d, want %d", i, got, want)
					}
				}
				if l := r.lines(); strings.Count(l, "\n") != 1 || !strings.Contains(l, "ends every watch at once") {
					t.Errorf("log: got %q, want one line", l)
				}
				w := r.nextWatch(t, "5").watch()
				synctest.Wait()
				w.send("BOOKMARK", pod("/", "5"))
				time.Sleep(2 * time.Second)
				if l := r.lines(); strings.Count(l, "\n") != 1 || !strings.Contains(l, "level=INFO") {
					t.Errorf("log of recovery: got %q, want one line", l)
				}
				w.w.Close()
				for range shortInARow - 1 {
					answer(r.nextWatch(t, "5"))
				}
				r.nextWatch(t, "5")
				if got, want := r.failed(), 10-shortInARow+1; got != want {
					t.Errorf("failures after a good watch and some short ones: got %d, want %d", got, want)
				}
			})
		})
	}
}

func TestPagesInACircleAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s, _ := r.cluster.Use(podQuery)
		r.nextList(t, "resourceVersion=0").list(pods("5", "a", "a/x=1"))
		r.nextList(t, "continue=a").list(pods("5", "b", "a/y=1"))
		at := time.Now()
		r.nextList(t, "continue=b").list(pods("5", "a", "a/x=1"))
		c := r.nextList(t, "resourceVersion=0")
		if d := c.at.Sub(at); d < minDelay {
			t.Errorf("the next list came after %v", d)
		}
		if n := r.failed(); n != 1 {
			t.Errorf("failures: got %d, want 1", n)
		}
		want(t, s)
		c.list(pods("5", "", "a/x=1"))
		want(t, s, "a/x=1")
	})
}

// TestListWithoutEndIsRefused has lists that would fill the memory.
func TestListWithoutEndIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		pages, objects int
		page           func(i int) []string
		want           int // requests
	}{
		"pages":                 {10, 1000, func(i int) []string { return []string{fmt.Sprintf("a/%d=1", i)} }, 10},
		"objects of many pages": {10, 6, func(i int) []string { return []string{fmt.Sprintf("a/x%d=1", i), fmt.Sprintf("a/y%d=1", i)} }, 4},
		"objects of one page":   {10, 6, func(int) []string { return strings.Fields("a/1 a/2 a/3 a/4 a/5 a/6 a/7") }, 1},
		"one object":            {10, 6, func(int) []string { return strings.Fields("a/1 a/1=2 a/1=3 a/1=4 a/1=5 a/1=6 a/1=7") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.cluster.most = bounds{pages: tt.pages, objects: tt.objects}
				s, _ := r.cluster.Use(podQuery)
				for i := range tt.want {
					r.next(t).list(pods("5", fmt.Sprint("after", i), tt.page(i)...))
				}
				c := r.nextList(t, "resourceVersion=0")
				if n := r.failed(); n != 1 {
					t.Errorf("failures: got %d, want 1", n)
				}
				want(t, s)
				c.list(pods("5", "", "a/x=1"))
				want(t, s, "a/x=1")
			})
		})
	}
}

package watch

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const listAgain5 = "resourceVersion=5&resourceVersionMatch=NotOlderThan"

func TestStoreFollowsTheServer(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s, _ := r.cluster.Use(podQuery)
		c := r.nextList(t, "resourceVersion=0")
		for h, want := range map[string]string{"Accept": wholeObjects, "Accept-Encoding": "gzip"} {
			if got := c.req.Header.Get(h); got != want {
				t.Errorf("header %s of list: got %q, want %q", h, got, want)
			}
		}
		synctest.Wait()
		select {
		case <-s.Synced():
			t.Error("synced before the list")
		default:
		}
		c.list(pods("5", "", "a/x=1", "a/y=1", "b/x=1"))
		<-s.Synced()
		want(t, s, "a/x=1", "a/y=1", "b/x=1")

		c = r.nextWatch(t, "5")
		if got := c.query.Get("allowWatchBookmarks"); got != "true" {
			t.Errorf("allowWatchBookmarks: got %q", got)
		}
		if got := c.query.Get("timeoutSeconds"); len(got) != 3 || got < "300" || got > "600" {
			t.Errorf("timeoutSeconds: got %q, want 300 to 600", got)
		}
		w := c.watch()
		w.send("MODIFIED", pod("a/x=2", "6"))
		w.send("ADDED", pod("c/z=1", "7"))
		w.send("DELETED", pod("a/y=1", "8"))
		w.send("DELETED", pod("nobody/knows=1", "8"))
		want(t, s, "a/x=2", "b/x=1", "c/z=1")
		w.send("BOOKMARK", pod("/", "20"))
		time.Sleep(time.Minute)
		w.w.Close()

		// Ended as it should: on at once, without a list.
		at := time.Now()
		c = r.nextWatch(t, "20")
		if d := c.at.Sub(at); d != 0 {
			t.Errorf("the next watch came after %v, want at once", d)
		}
		want(t, s, "a/x=2", "b/x=1", "c/z=1")
		if r.failed() != 0 || r.lines() != "" {
			t.Error("a failure where there was none")
		}
	})
}

func TestListComesInPages(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s, _ := r.cluster.Use(Query{Kind: podQuery.Kind, Label: "v", Field: "f=1"})
		r.nextList(t, "fieldSelector=f%3D1&labelSelector=v&resourceVersion=0").list(pods("5", "more", "a/x=1", "a/y=1"))
		c := r.nextList(t, "continue=more&fieldSelector=f%3D1&labelSelector=v")
		want(t, s)
		// The same object twice: the later one counts. Not so with the version:
		// the first page may lack what happened until the second.
		c.list(pods("6", "", "a/y=2", "a/z=1"))
		want(t, s, "a/x=1", "a/y=2", "a/z=1")
		c = r.nextWatch(t, "5")
		if got := c.query.Get("labelSelector") + " " + c.query.Get("fieldSelector"); got != "v f=1" {
			t.Errorf("selectors of watch: got %q", got)
		}
	})
}

func TestExpiredPageIsListedAnew(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s, _ := r.cluster.Use(podQuery)
		r.next(t).list(pods("5", "more", "a/old=1"))
		r.nextList(t, "continue=more").refuse(&metav1.Status{Code: 410, Reason: "Expired"}, nil)
		c := r.nextList(t, "")
		want(t, s)
		c.list(pods("8", "", "a/x=1"))
		want(t, s, "a/x=1")
		r.nextWatch(t, "8")
	})
}

func TestWatchThatTheServerDoesNotTakeIsListedAgain(t *testing.T) {
	for _, code := range []int32{400, 404, 422} {
		bubble(t, func(t *testing.T, r *rig) {
			s, _ := r.cluster.Use(podQuery)
			r.next(t).list(pods("5", "", "a/x=1"))
			r.nextWatch(t, "5").refuse(&metav1.Status{Code: code}, nil)
			r.nextList(t, listAgain5)
			want(t, s, "a/x=1")
		})
	}
}

func TestListIsGzipped(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s, _ := r.cluster.Use(podQuery)
		b := zipped(r.media.encode(pods("5", "", "a/x=1")))
		r.next(t).respond(200, map[string]string{"Content-Encoding": "gzip"}, bytes.NewReader(b))
		want(t, s, "a/x=1")
	})
}

func TestBadListChangesNothing(t *testing.T) {
	good := func(c *call) []byte { return c.encode(pods("9", "", "a/x=2", "a/new=1")) }
	for name, answer := range map[string]func(c *call){
		"ends early": func(c *call) { b := good(c); c.respond(200, nil, bytes.NewReader(b[:len(b)-20])) },
		"ends in gzip": func(c *call) {
			c.respond(200, map[string]string{"Content-Encoding": "gzip"}, bytes.NewReader(zipped(good(c))[:60]))
		},
		"ends before gzip": func(c *call) { c.respond(200, map[string]string{"Content-Encoding": "gzip"}, strings.NewReader("")) },
		"gzip without end": func(c *call) {
			b := zipped(good(c))
			c.respond(200, map[string]string{"Content-Encoding": "gzip"}, bytes.NewReader(b[:len(b)-6]))
		},
		"other encoding": func(c *call) { c.respond(200, map[string]string{"Content-Encoding": "br"}, bytes.NewReader(good(c))) },
		"nothing":        func(c *call) { c.respond(200, nil, strings.NewReader("")) },
		"magic alone":    func(c *call) { c.respond(200, nil, strings.NewReader(magic)) },
		"web page": func(c *call) {
			c.respond(200, map[string]string{"Content-Type": "text/html"}, strings.NewReader("<html>"))
		},
		"not protobuf": func(c *call) { c.respond(200, nil, strings.NewReader("<html>")) },
		"one object":   func(c *call) { c.respond(200, nil, bytes.NewReader(c.encode(pod("a/x=1", "9")))) },
		"noise":        func(c *call) { c.respond(200, nil, strings.NewReader(magic+strings.Repeat("\xff", 100))) },
		"object too large": func(c *call) {
			c.respond(200, nil, strings.NewReader(magic+"\x12\xff\xff\xff\xff\x0f\x12\x81\x80\x80\x08"))
		},
		"object beyond list":  func(c *call) { c.respond(200, nil, strings.NewReader(magic+"\x12\x10\x12\x20")) },
		"no version":          func(c *call) { c.list(pods("", "", "a/x=1")) },
		"object without name": func(c *call) { c.list(pods("9", "", "a/x=1", "a/=1")) },
		"endless pages":       func(c *call) { c.list(pods("9", "again", "a/x=1")) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				s, _ := r.cluster.Use(podQuery)
				r.next(t).list(pods("5", "", "a/old=1", "a/x=1"))
				r.nextWatch(t, "5").refuse(&metav1.Status{Code: 410}, nil)
				answer(r.nextList(t, listAgain5))
				if name == "endless pages" {
					answer(r.nextList(t, "continue=again"))
				}
				c := r.nextList(t, listAgain5)
				want(t, s, "a/old=1", "a/x=1")
				if n := r.failed(); n != 1 {
					t.Errorf("failures: got %d, want 1", n)
				}
				if l := r.lines(); !strings.Contains(l, "garbage") {
					t.Errorf("log: got %q", l)
				}
				c.list(pods("9", "", "a/x=2"))
				want(t, s, "a/x=2")
				if l := r.lines(); !strings.Contains(l, "level=INFO") {
					t.Errorf("log after recovery: got %q", l)
				}
			})
		})
	}
}

func TestConnectionCutInListChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s, _ := r.cluster.Use(podQuery)
		r.next(t).list(pods("5", "", "a/old=1"))
		r.nextWatch(t, "5").refuse(&metav1.Status{Code: 410}, nil)
		good := r.media.encode(pods("9", "", "a/x=2", "a/new=1"))
		r.next(t).respond(200, nil, io.MultiReader(bytes.NewReader(good[:len(good)/2]), broken{}))
		r.nextList(t, listAgain5)
		want(t, s, "a/old=1")
		if l := r.lines(); !strings.Contains(l, "connection to Kubernetes API server lost") {
			t.Errorf("log: got %q", l)
		}
	})
}

// broken is a connection that was reset.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestExpiredVersionIsListedAgainAtOnce(t *testing.T) {
	for name, expire := range map[string]func(w stream){
		"status":         func(w stream) { w.w.Close() },
		"event":          func(w stream) { w.send("ERROR", &metav1.Status{Code: 410, Reason: "Expired", Message: "too old"}) },
		"event, no code": func(w stream) { w.send("ERROR", &metav1.Status{Reason: "Expired", Message: "too old"}) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				s, _ := r.cluster.Use(podQuery)
				r.next(t).list(pods("4", "", "a/gone=1", "a/x=1"))
				w := r.nextWatch(t, "4").watch()
				w.send("ADDED", pod("a/y=1", "5"))
				time.Sleep(time.Minute)
				at := time.Now()
				expire(w)
				if name == "status" {
					r.nextWatch(t, "5").refuse(&metav1.Status{Code: 410, Reason: "Expired"}, nil)
				}
				c := r.nextList(t, listAgain5)
				if d := c.at.Sub(at); d != 0 {
					t.Errorf("the list came after %v, want at once", d)
				}
				want(t, s, "a/gone=1", "a/x=1", "a/y=1")
				c.list(pods("90", "", "a/x=1", "a/y=2"))
				want(t, s, "a/x=1", "a/y=2")
				r.nextWatch(t, "90")
				if r.failed() != 0 || r.lines() != "" {
					t.Error("an expired version is not a failure")
				}
			})
		})
	}
}

func TestExpiryOverAndOverIsSlow(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cluster.Use(podQuery)
		begin := time.Now()
		for range 20 {
			r.next(t).list(pods("5", "", "a/x=1"))
			r.nextWatch(t, "5").refuse(&metav1.Status{Code: 410}, nil)
		}
		if d := time.Since(begin); d < 19*minDelay {
			t.Errorf("20 lists in %v", d)
		}
	})
}

// TestWatchFromTheFuture has a server that lost its newest versions.
func TestWatchFromTheFuture(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s, _ := r.cluster.Use(podQuery)
		r.next(t).list(pods("5", "", "a/x=1"))
		r.nextWatch(t, "5").refuse(&metav1.Status{Code: 504, Message: "Too large resource version: 5, current: 3"}, nil)
		r.nextList(t, "").list(pods("3", "", "a/y=1"))
		want(t, s, "a/y=1")
		if r.failed() != 0 {
			t.Error("it counts as a failure")
		}
	})
}

// TestSlowListIsWaitedFor has a list that takes minutes, but never one minute
// without a byte.
func TestSlowListIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s, _ := r.cluster.Use(podQuery)
		w := r.next(t).watch().w
		b := r.media.encode(pods("5", "", "a/x=1"))
		for i := 0; i < len(b); i += 30 {
			time.Sleep(50 * time.Second)
			w.Write(b[i:min(i+30, len(b))])
		}
		w.Close()
		want(t, s, "a/x=1")
		if r.failed() != 0 {
			t.Error("it counts as a failure")
		}
	})
}

func TestVersionThatTheServerDoesNotHave(t *testing.T) {
	for name, s := range map[string]*metav1.Status{
		"cause":   {Code: 504, Reason: "Timeout", Details: &metav1.StatusDetails{RetryAfterSeconds: 1, Causes: []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge}}}},
		"message": {Code: 504, Reason: "Timeout", Message: "Timeout: Too large resource version: 5, current: 3"},
		"gone":    {Code: 410, Reason: "Expired"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				store, _ := r.cluster.Use(podQuery)
				r.next(t).list(pods("5", "", "a/x=1"))
				r.nextWatch(t, "5").refuse(&metav1.Status{Code: 410}, nil)
				r.nextList(t, listAgain5).refuse(s, nil)
				c := r.nextList(t, "")
				want(t, store, "a/x=1")
				c.list(pods("3", "", "a/y=1"))
				want(t, store, "a/y=1")
				r.nextWatch(t, "3").refuse(&metav1.Status{Code: 410}, nil)
				r.nextList(t, "resourceVersion=3&resourceVersionMatch=NotOlderThan")
			})
		})
	}
}

package watch

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"promagent/discovery/kubernetes/object"
)

func TestFailureIsExplainedAndRecovered(t *testing.T) {
	slices := Query{Kind: object.KindEndpointSlice, Namespace: "shop", Label: "a=b"}
	for name, tt := range map[string]struct {
		query  Query
		answer func(c *call)
		want   string
	}{
		"forbidden everywhere": {podQuery, func(c *call) {
			c.refuse(&metav1.Status{Code: 403, Reason: "Forbidden", Message: `pods is forbidden: User "x" cannot list`}, nil)
		}, `forbids to read pods: the service account needs the verbs list and watch on pods (API group \"\"); add them to its ClusterRole" query=pods err="status 403: pods is forbidden: User \"x\" cannot list"`},
		"forbidden in namespace": {slices, func(c *call) { c.refuse(&metav1.Status{Code: 403}, nil) },
			`list and watch on endpointslices (API group \"discovery.k8s.io\") in namespace \"shop\"; add them to its Role or ClusterRole`},
		"unauthorized":     {podQuery, func(c *call) { c.refuse(&metav1.Status{Code: 401}, nil) }, "does not accept the credentials"},
		"selector":         {slices, func(c *call) { c.refuse(&metav1.Status{Code: 400, Message: "field label not supported"}, nil) }, "check the selectors of the query for endpointslices in namespace"},
		"bad request":      {podQuery, func(c *call) { c.refuse(&metav1.Status{Code: 400}, nil) }, "refuses to give pods"},
		"unknown resource": {podQuery, func(c *call) { c.refuse(&metav1.Status{Code: 404}, nil) }, "does not know pods"},
		"no protobuf":      {podQuery, func(c *call) { c.refuse(&metav1.Status{Code: 406}, nil) }, "gives pods neither as protobuf nor as JSON"},
		"unreachable":      {podQuery, func(c *call) { c.fail() }, "cannot be reached"},
		"silent":           {podQuery, func(c *call) { r, _ := io.Pipe(); c.respond(200, nil, silent{r, c}) }, "does not answer"},
		"no answer":        {podQuery, func(*call) {}, "does not answer"},
		"broken inside": {podQuery, func(c *call) {
			c.respond(500, map[string]string{"Content-Type": "application/json"}, strings.NewReader(`{"message":"etcd is \n away","code":1}`))
		}, `server fails, or something before it" query=pods err="status 500: etcd is \n away"`},
		"a proxy's page": {podQuery, func(c *call) {
			c.respond(502, map[string]string{"Content-Type": "text/html"}, strings.NewReader(strings.Repeat("x", 1<<20)))
		}, "status 502: " + strings.Repeat("x", 300) + "..."},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				s, _ := r.cluster.Use(tt.query)
				tt.answer(r.nextList(t, strings.TrimPrefix(tt.query.values().Encode()+"&resourceVersion=0", "&")))
				c := r.next(t)
				if l := r.lines(); !strings.Contains(l, tt.want) || strings.Count(l, "\n") != 1 {
					t.Errorf("log: got %q, want one line with %q", l, tt.want)
				}
				if n := r.failed(); n != 1 {
					t.Errorf("failures: got %d, want 1", n)
				}
				c.list(pods("5", "", "shop/x=1"))
				want(t, s, "shop/x=1")
				if l := r.lines(); !strings.Contains(l, "level=INFO") || strings.Count(l, "\n") != 1 {
					t.Errorf("log of recovery: got %q, want one line", l)
				}
			})
		})
	}
}

// silent is a body that never comes.
type silent struct {
	io.ReadCloser
	c *call
}

func (s silent) Read([]byte) (int, error) {
	<-s.c.req.Context().Done()
	return 0, s.c.req.Context().Err()
}

func TestCauseIsLoggedOnceAMinute(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cluster.Use(podQuery)
		begin := time.Now()
		var said []time.Duration
		for time.Since(begin) < 10*time.Minute {
			c := r.next(t)
			switch l := r.lines(); strings.Count(l, "\n") {
			case 0:
			case 1:
				said = append(said, time.Since(begin))
			default:
				t.Errorf("log: got %q, want one line at most", l)
			}
			c.fail()
		}
		if len(said) < 9 || len(said) > 10 {
			t.Errorf("lines in 10 minutes: got %d, at %v", len(said), said)
		}
		for i := 1; i < len(said); i++ {
			if said[i]-said[i-1] < quiet-maxDelay {
				t.Errorf("lines at %v and %v", said[i-1], said[i])
			}
		}
	})
}

func TestFailureOfServerIsOneLineForAllQueries(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cluster.Use(podQuery)
		r.cluster.Use(Query{Kind: object.KindService})
		for range 6 {
			r.next(t).fail()
		}
		a, b := r.next(t), r.next(t)
		if l := r.lines(); strings.Count(l, "\n") != 1 {
			t.Errorf("log: got %q, want one line", l)
		}
		a.list(pods("5", ""))
		synctest.Wait()
		if l := r.lines(); l != "" {
			t.Errorf("log while one query still fails: got %q", l)
		}
		b.list(pods("5", ""))
		synctest.Wait()
		if l := r.lines(); strings.Count(l, "level=INFO") != 1 {
			t.Errorf("log of recovery: got %q, want one line", l)
		}
	})
}

func TestNobodyAsksAnyMoreIsNoRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Linger: -1})
		_, release := r.cluster.Use(podQuery)
		r.next(t).fail()
		synctest.Wait()
		release()
		r.lines()
		r.cluster.Use(Query{Kind: object.KindNode})
		r.next(t).list(pods("5", ""))
		synctest.Wait()
		if l := r.lines(); l != "" {
			t.Errorf("log: got %q", l)
		}
	})
}

// TestOutageIsOverAlthoughOneQueryStaysRefused has a query that the server
// refuses before and after it was away.
func TestOutageIsOverAlthoughOneQueryStaysRefused(t *testing.T) {
	refuse := func(c *call) { c.refuse(&metav1.Status{Code: 403}, nil) }
	for name, refusedLast := range map[string]bool{"refused first": false, "refused last": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.cluster.Use(podQuery)
				refuse(r.next(t))
				r.cluster.Use(Query{Kind: object.KindService})
				away := time.Now().Add(5 * time.Second)
				for time.Now().Before(away) {
					r.next(t).fail()
				}
				r.lines()
				// Only now it is decided who is answered first.
				pod, service := r.next(t), r.next(t)
				if strings.HasSuffix(service.req.URL.Path, "pods") {
					pod, service = service, pod
				}
				first, second := func() { refuse(pod) }, func() { service.list(pods("5", "")) }
				if refusedLast {
					first, second = second, first
				}
				first()
				synctest.Wait()
				if l := r.lines(); l != "" {
					t.Errorf("log while one of two may still find the server away: got %q", l)
				}
				second()
				synctest.Wait()
				if l := r.lines(); strings.Count(l, "\n") != 1 || !strings.Contains(l, "was=unreachable") {
					t.Errorf("log: got %q, want that the server can be reached", l)
				}
			})
		})
	}
}

func TestBackOffGrowsAndEnds(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cluster.Use(podQuery)
		c := r.next(t)
		most := time.Duration(0)
		for i := range 200 {
			at := time.Now()
			c.fail()
			c = r.next(t)
			d := c.at.Sub(at)
			if d < minDelay || d > maxDelay || i == 0 && d > time.Second {
				t.Fatalf("delay %d: got %v", i, d)
			}
			most = max(most, d)
		}
		if most < 4*time.Second {
			t.Errorf("longest delay: got %v, want near %v", most, maxDelay)
		}
		c.list(pods("5", ""))
		w := r.nextWatch(t, "5").watch()
		w.send("BOOKMARK", pod("/", "6"))
		synctest.Wait()
		at := time.Now()
		w.w.CloseWithError(errNoServer)
		if d := r.nextWatch(t, "6").at.Sub(at); d > time.Second {
			t.Errorf("first delay after a success: got %v", d)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for name, tt := range map[string]struct {
		status *metav1.Status
		header string
		want   time.Duration
	}{
		"429":            {&metav1.Status{Code: 429}, "12", 12 * time.Second},
		"503":            {&metav1.Status{Code: 503}, "7", 7 * time.Second},
		"at most 30 s":   {&metav1.Status{Code: 429}, "3600", 30 * time.Second},
		"in the details": {&metav1.Status{Code: 429, Details: &metav1.StatusDetails{RetryAfterSeconds: 9}}, "", 9 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.cluster.Use(podQuery)
				c := r.next(t)
				at := time.Now()
				c.refuse(tt.status, map[string]string{"Retry-After": tt.header})
				c = r.next(t)
				if d := c.at.Sub(at); d < tt.want || d > tt.want+time.Second {
					t.Errorf("next list after %v, want %v", d, tt.want)
				}
				if l := r.lines(); !strings.Contains(l, "busy or not ready") {
					t.Errorf("log: got %q", l)
				}
				// A watch is refused in the same way, and goes on where it was.
				c.list(pods("5", ""))
				c = r.nextWatch(t, "5")
				at = time.Now()
				c.refuse(tt.status, map[string]string{"Retry-After": tt.header})
				if d := r.nextWatch(t, "5").at.Sub(at); d < tt.want || d > tt.want+time.Second {
					t.Errorf("next watch after %v, want %v", d, tt.want)
				}
			})
		})
	}
}

func TestLostWatchGoesOnWhereItWas(t *testing.T) {
	for name, end := range map[string]func(w stream){
		"reset": func(w stream) { w.w.CloseWithError(errNoServer) },
		"reset inside": func(w stream) {
			b := w.frame("ADDED", pod("a/lost=1", "7"))
			w.w.Write(b[:len(b)-9])
			w.w.CloseWithError(errNoServer)
		},
		"cut by proxy": func(w stream) { w.w.CloseWithError(io.ErrUnexpectedEOF) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				s, _ := r.cluster.Use(podQuery)
				r.next(t).list(pods("5", "", "a/x=1"))
				w := r.nextWatch(t, "5").watch()
				w.send("ADDED", pod("a/y=1", "6"))
				synctest.Wait()
				end(w)
				r.nextWatch(t, "6").fail()
				r.nextWatch(t, "6").refuse(&metav1.Status{Code: 403}, nil)
				r.nextWatch(t, "6").refuse(&metav1.Status{Code: 401}, nil)
				r.nextWatch(t, "6").refuse(&metav1.Status{Code: 500}, nil)
				c := r.nextWatch(t, "6")
				want(t, s, "a/x=1", "a/y=1")
				if n := r.failed(); n != 5 {
					t.Errorf("failures: got %d, want 5", n)
				}
				if l := r.lines(); strings.Count(l, "level=WARN") != 5 {
					t.Errorf("log: got %q", l)
				}
				c.watch()
				time.Sleep(2 * time.Second)
				if l := r.lines(); strings.Count(l, "level=INFO") != 1 || !strings.Contains(l, `was="forbidden, lost, status 500, unauthorized, unreachable"`) {
					t.Errorf("log of recovery: got %q", l)
				}
			})
		})
	}
}

func TestSenselessWatchIsListedAgain(t *testing.T) {
	raw := func(b string) func(w stream) {
		return func(w stream) { w.w.Write([]byte(b)); w.w.Close() }
	}
	for name, send := range map[string]func(w stream){
		"frame of 4 GiB":    raw("\xff\xff\xff\xff\x00"),
		"half a frame":      raw("\x00\x00\x00\x20\x0a"),
		"frame of 10 MiB":   raw("\x00\xa0\x00\x00\x0a"),
		"half a length":     raw("\x00\x00"),
		"noise":             raw("\x00\x00\x00\x04\xff\xff\xff\xff"),
		"empty event":       raw("\x00\x00\x00\x00"),
		"json":              raw(`{"type":"ADDED","object":{}}`),
		"unknown event":     func(w stream) { w.send("SURPRISE", pod("a/z=1", "6")) },
		"no name":           func(w stream) { w.send("ADDED", pod("a/=1", "6")) },
		"error, no status":  func(w stream) { w.send("ERROR", pod("a/z=1", "6")) },
		"other error":       func(w stream) { w.send("ERROR", &metav1.Status{Code: 500, Message: "etcd"}) },
		"bookmark of noise": func(w stream) { w.w.Write(rawFrame("BOOKMARK", magic+"\x12\x03\x0a\x7f\x01")) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				s, _ := r.cluster.Use(podQuery)
				r.next(t).list(pods("5", "", "a/x=1"))
				at := time.Now()
				send(r.nextWatch(t, "5").watch())
				c := r.nextList(t, listAgain5)
				if d := c.at.Sub(at); d < minDelay {
					t.Errorf("the list came after %v", d)
				}
				want(t, s, "a/x=1")
				if n := r.failed(); n != 1 {
					t.Errorf("failures: got %d, want 1", n)
				}
			})
		})
	}
}

// rawFrame is a frame around an object that nobody encoded.
func rawFrame(what, object string) []byte {
	field := func(n byte, v string) string { return string([]byte{n<<3 | 2, byte(len(v))}) + v }
	b := field(1, what) + field(2, field(1, object))
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func TestLengthAloneGetsNoMemory(t *testing.T) {
	e := newEvents(strings.NewReader("\x01\x00\x00\x00only this"))
	if _, err := e.next(); err != io.ErrUnexpectedEOF {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if n := cap(e.s.buf); n > firstGrowth {
		t.Errorf("the buffer has %d bytes", n)
	}
}

func TestLargeEventLeavesNoBuffer(t *testing.T) {
	large := pod("a/x=1", "5")
	large.Annotations = map[string]string{"large": strings.Repeat("x", 1<<20)}
	e := newEvents(bytes.NewReader(append(frame("ADDED", large), frame("ADDED", pod("a/y=1", "6"))...)))
	for range 2 {
		if _, err := e.next(); err != nil {
			t.Fatal(err)
		}
	}
	if n := cap(e.s.buf); n > keptBuffer {
		t.Errorf("the buffer has %d bytes", n)
	}
}

func TestWatchThatEndsAtOnceIsSlow(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cluster.Use(podQuery)
		r.next(t).list(pods("5", ""))
		begin := time.Now()
		for i := range 10 {
			r.nextWatch(t, "5").watch().w.Close()
			if synctest.Wait(); i < shortInARow-1 && (r.failed() != 0 || r.lines() != "") {
				t.Error("a watch that the server ends is no failure")
			}
		}
		if d := time.Since(begin); d < 9*minDelay {
			t.Errorf("10 watches in %v", d)
		}
	})
}

func TestWatchBeyondItsTimeIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cluster.Use(podQuery)
		r.next(t).list(pods("5", ""))
		at := time.Now()
		r.nextWatch(t, "5").watch()
		if d := r.nextWatch(t, "5").at.Sub(at); d < 5*time.Minute || d > 11*time.Minute {
			t.Errorf("next watch after %v", d)
		}
	})
}

func TestMetadataAloneIsAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cluster.Use(Query{Kind: object.KindReplicaSet})
		c := r.next(t)
		if got := c.req.Header.Get("Accept"); got != metadataList {
			t.Errorf("list: got %q", got)
		}
		c.list(pods("5", ""))
		c = r.nextWatch(t, "5")
		if got := c.req.Header.Get("Accept"); got != metadataItem {
			t.Errorf("watch: got %q", got)
		}
		at := time.Now()
		c.refuse(&metav1.Status{Code: 406}, nil)
		c = r.nextWatch(t, "5")
		if got := c.req.Header.Get("Accept"); got != wholeObjects || c.at != at {
			t.Errorf("after the refusal: got %q after %v, want %q at once", got, c.at.Sub(at), wholeObjects)
		}
		if r.failed() != 0 {
			t.Error("the refusal counts as a failure")
		}
	})
}

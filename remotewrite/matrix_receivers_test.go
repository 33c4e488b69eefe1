package remotewrite

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Faults of receivers that are tested elsewhere, and where:
//
//	a Retry-After that is neither seconds nor a date      TestRetryAfterIsSecondsOrADate
//	hostile answers: without end, without HTTP            TestHostileReceiversAreSurvived
//	an answer that trickles                               TestATrickledAnswerDoesNotHoldAShard
//	a timeout holds for every attempt                     TestTheTimeoutHoldsForEveryAttempt
//	a receiver that is not who it should be               TestTLSReceiversAreVerified
//	403, 400 and 429 for everything, throughout           TestWhatTheReceiverAnswersDecidesWhatIsDelivered
//	how many samples 2.0 confirms, in every combination   TestOnlyWhatA2ReceiverConfirmsCountsAsDelivered
//	all kinds of refusals at random                       TestCountersAddUp
//	the bound of requests that a refused batch costs      TestOneBadSampleCostsOnlyItself, TestPartsKeepOrderWithinTheBoundOfRequests
//	413 down to single samples                            TestAReceiverThatFindsEverythingTooLargeIsAskedLittle, TestFewSamplesDoNotSayThatNothingFits
//	one series that is too large alone                    TestOneOversizedSeriesDoesNotShrinkRequestsForGood
//	redirects                                             TestRedirectsDeliverTheBodyOrCountAsRefused
//	a fault at the end of the process                     TestTheFlushDeadlineHoldsWithADeadReceiver, TestAHiccupAtTheEndLosesNothing
//	a fault over a restart                                TestNothingIsLostOverARestartWhileTheReceiverIsDown
//	the rate of the lines in the log                      TestTroubleIsLoggedOnceAMinute, TestRetriesDoNotHideWhatIsLost

// cell is a fault of a receiver and what may come of it.
type cell struct {
	name     string
	messages []string // nil: both
	fault    func(f *front)
	set      func(*Config)

	impatient bool                     // it is given up after a moment, while the fault lasts: a healthy receiver may be slow, too
	passes    bool                     // the log is delivered, or refused, although the fault lasts
	flaps     bool                     // the fault comes and goes
	refused   func(series string) bool // what is refused for good while it lasts
	unsaid    bool                     // with 1.x, the refusal is not to be told from a success
	divided   bool                     // batches are sent in parts, so that attempts are not batches
	example   bool                     // one line in the log names one of the samples that are refused
	repeats   string                   // why samples come twice; "": they do not
}

// all and culprit are series that are refused.
func all(string) bool { return true }

func culprit(series string) bool { return strings.Contains(series, `n="5"`) }

// patient makes a remote wait for a receiver that asks for it.
func patient(c *Config) { c.Queue.RetryOnRateLimit = true }

// asks answers 429 once, and fails the test when it is asked again before the
// time that the header set by ask says.
func asks(ask func(h http.Header, now time.Time) time.Time) func(*front) {
	return func(f *front) {
		var until atomic.Int64
		f.answers = func(w http.ResponseWriter, _ *request) int {
			now := time.Now()
			switch not := until.Load(); {
			case not == 0:
				until.Store(ask(w.Header(), now).UnixNano())
				return http.StatusTooManyRequests
			case now.UnixNano() < not:
				f.t.Errorf("asked again %v too early", time.Duration(not-now.UnixNano()))
			}
			return http.StatusNoContent
		}
	}
}

// fails answers with the statuses in turn.
func fails(statuses ...int) func(*front) {
	return func(f *front) {
		var n atomic.Int64
		f.answers = func(http.ResponseWriter, *request) int { return statuses[int(n.Add(1))%len(statuses)] }
	}
}

// refuses is a network in which the receiver's port is not open.
func refuses(t testing.TB) dialFunc {
	dead := deadPort(t)
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, dead)
	}
}

// take lets the receiver take a request without an answer to anybody.
func take(r *http.Request, next http.Handler) http.Header {
	w := httptest.NewRecorder()
	next.ServeHTTP(w, r)
	return w.Header()
}

// turned is a ResponseWriter that turns any success into a refusal.
type turned struct{ http.ResponseWriter }

func (t turned) WriteHeader(int) { t.ResponseWriter.WriteHeader(http.StatusBadRequest) }

var cells = []cell{
	{name: "5xx", fault: fails(500, 502, 503, 504, 599)},
	{name: "429 without Retry-After", fault: fails(429), set: patient},
	{name: "429 with Retry-After in seconds", messages: []string{MessageV1}, passes: true, set: func(c *Config) {
		patient(c)
		c.Queue.MinShards, c.Queue.MaxShards = 1, 1
	}, fault: asks(func(h http.Header, now time.Time) time.Time {
		h.Set("Retry-After", "1")
		return now.Add(time.Second)
	})},
	{name: "429 with Retry-After as a date", messages: []string{MessageV2}, passes: true, set: func(c *Config) {
		patient(c)
		c.Queue.MinShards, c.Queue.MaxShards = 1, 1
	}, fault: asks(func(h http.Header, now time.Time) time.Time {
		until := now.Add(1300 * time.Millisecond).Truncate(time.Second)
		h.Set("Retry-After", until.UTC().Format(http.TimeFormat))
		return until
	})},
	{name: "429 that is not to be tried again", passes: true, fault: fails(429), refused: all, example: true},
	{name: "400 for a whole batch", passes: true, fault: fails(400), refused: all, divided: true, example: true},
	{name: "400 because of one culprit", passes: true, refused: culprit, divided: true, example: true, fault: func(f *front) {
		f.answers = func(_ http.ResponseWriter, q *request) int {
			if slices.ContainsFunc(q.order, culprit) {
				return 400
			}
			return 204
		}
	}},
	{name: "2.0 partial write, accepted", messages: []string{MessageV2}, passes: true, refused: culprit, fault: func(f *front) {
		f.answers = func(_ http.ResponseWriter, q *request) int {
			q.unwritten(culprit)
			return 200
		}
	}},
	{name: "2.0 partial write, refused", messages: []string{MessageV2}, passes: true, refused: culprit, example: true, fault: func(f *front) {
		f.answers = func(_ http.ResponseWriter, q *request) int {
			q.unwritten(culprit)
			return 200
		}
		f.serves = func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(turned{w}, r) }
	}},
	{name: "413", passes: true, divided: true, fault: func(f *front) {
		f.answers = func(_ http.ResponseWriter, q *request) int {
			if q.samples > 7 {
				return 413
			}
			return 204
		}
	}},
	{name: "timeout", impatient: true, fault: func(f *front) {
		f.serves = func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
			readAll(r.Body)
			f.hang(r)
		}
	}},
	{name: "timeout after all was taken", impatient: true, fault: func(f *front) {
		f.serves = func(_ http.ResponseWriter, r *http.Request, next http.Handler) {
			take(r, next)
			f.hang(r)
		}
	}, repeats: "the answer never comes"},
	{name: "connection refused", fault: func(f *front) {
		f.cuts = true
		f.dials = refuses(f.t)
	}},
	{name: "DNS gone", fault: func(f *front) {
		f.cuts = true
		f.dials = func(_ context.Context, network, host string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
		}
	}},
	{name: "TLS certificate expired", fault: func(f *front) {
		f.secure, f.cuts = true, true
	}},
	{name: "reset in the request's body", fault: func(f *front) {
		f.serves = func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, _ = r.Body.Read(make([]byte, 10))
			if c := hijacked(w); c != nil {
				c.reset()
			}
		}
	}},
	{name: "reset after all was taken", fault: func(f *front) {
		f.serves = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			take(r, next)
			if c := hijacked(w); c != nil {
				c.reset()
			}
		}
	}, repeats: "the answer never comes"},
	{name: "end in the answer's body", passes: true, fault: func(f *front) {
		f.serves = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			h := take(r, next)
			c := hijacked(w)
			if c == nil {
				return
			}
			defer c.Close()
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n")
			h.Set("Content-Length", "100")
			_ = h.Write(c)
			fmt.Fprint(c, "\r\nhalf")
		}
	}},
	{name: "slow receiver", passes: true, fault: func(f *front) { f.pace = 30 }},
	{name: "flapping", passes: true, flaps: true, fault: func(f *front) {
		f.cuts = true
		f.dials = refuses(f.t)
		f.serves = func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
	}, repeats: "requests are under way when the receiver goes"},
	{name: "200 without reading the body", passes: true, refused: all, unsaid: true, fault: func(f *front) {
		f.serves = func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			if c := hijacked(w); c != nil {
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				c.Close()
			}
		}
	}},
	{name: "connections closed after each request", passes: true, fault: func(f *front) {
		f.serves = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			w.Header().Set("Connection", "close")
			next.ServeHTTP(w, r)
		}
	}},
	{name: "connections closed after each request without a word", passes: true, fault: func(f *front) {
		f.serves = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			h := take(r, next)
			c := hijacked(w)
			if c == nil {
				return
			}
			defer c.Close()
			fmt.Fprint(c, "HTTP/1.1 204 No Content\r\n")
			_ = h.Write(c)
			fmt.Fprint(c, "\r\n")
		}
	}},
}

// TestReceiverFaults is the matrix of what receivers and the way to them can
// do, with what must hold of each: nothing is lost that was not refused for
// good, the order per series holds, samples come twice only where the fault
// makes that unavoidable, and the counters add up.
func TestReceiverFaults(t *testing.T) {
	t.Parallel()
	for _, c := range cells {
		for _, message := range bothMessages {
			if c.messages == nil || slices.Contains(c.messages, message) {
				t.Run(c.name+", "+map[string]string{MessageV1: "1.x", MessageV2: "2.0"}[message], func(t *testing.T) {
					t.Parallel()
					c.run(t, message)
				})
			}
		}
	}
}

func (c *cell) run(t *testing.T, message string) {
	f := newFront(t, c.fault)
	cfg := f.remote()
	cfg.ProtobufMessage = message
	cfg.Queue.MinShards, cfg.Queue.MaxShards = 3, 3
	if c.set != nil {
		c.set(&cfg)
	}
	l := openLog(t, t.TempDir())
	m, lines := startLogged(l, cfg)
	if f.dials != nil {
		endpoints(m)[0].configure(&prepared{cfg: &cfg, client: f.client(cfg)})
	}
	a, b := testTarget("a", 60), testTarget("b", 20)
	scrape := func(n int) {
		for range n {
			l.scrape(a, b)
		}
	}

	l.clock -= time.Hour.Milliseconds() // a backlog at first
	scrape(5)
	m.delivered()
	before := lengths(l.want)
	if c.flaps {
		for i := range 10 {
			if i == 5 {
				l.clock = time.Now().UnixMilli()
			}
			f.spoil()
			scrape(2)
			f.felt(2)
			f.heal()
			scrape(2)
		}
		m.delivered()
	} else {
		if c.impatient {
			hasty := cfg
			hasty.RemoteTimeout = 50 * time.Millisecond
			m.apply(hasty)
		}
		f.spoil()
		scrape(10)
		l.clock = time.Now().UnixMilli()
		scrape(10)
		if c.passes {
			m.delivered()
			if f.met.Load() == 0 {
				t.Error("the fault has not been felt")
			}
		} else {
			f.felt(9)
			m.accountOf("test", f.receiver, c.divided).addsUp(t, c.repeats != "")
		}
		if c.impatient {
			m.apply(f.next(cfg))
		}
		f.heal()
	}
	after := lengths(l.want)
	scrape(5)
	m.delivered()

	want, failed := maps.Clone(l.want), 0
	for s, ps := range want {
		if c.refused != nil && c.refused(s) {
			want[s] = slices.Delete(slices.Clone(ps), before[s], after[s])
			failed += after[s] - before[s]
		}
	}
	if c.repeats != "" {
		f.mustHaveOnceRepeated(want)
	} else {
		f.mustHave(want)
	}
	unsaid := 0
	if c.unsaid && message == MessageV1 {
		failed, unsaid = 0, failed
	}
	got := m.accountOf("test", f.receiver, c.divided)
	got.addsUp(t, false)
	if n := f.distinct() + unsaid; got.in != l.count || got.failed != failed || got.delivered != n || got.dropped+got.lost+got.behind != 0 {
		t.Errorf("counted %+v, want %d committed, %d delivered and %d failed", got, l.count, n, failed)
	}
	if _, n := f.counts(); n-f.distinct() > got.resent {
		t.Errorf("%d samples came again, want at most the %d of attempts that failed", n-f.distinct(), got.resent)
	}
	examples := 0
	if c.example {
		examples = 1
	}
	if n := lines.count("example=\"{__name__"); n != examples {
		t.Errorf("%d lines have an example, want %d:\n%s", n, examples, lines.buf.String())
	}
}

func lengths(series map[string][]point) map[string]int {
	out := map[string]int{}
	for s, ps := range series {
		out[s] = len(ps)
	}
	return out
}

// TestBodiesThatAreNotRead: a body that no buffer on the way can hold is given
// up when the receiver ends the connection, and waits for no reader when it
// has answered.
func TestBodiesThatAreNotRead(t *testing.T) {
	for _, tc := range []struct {
		name   string
		serve  func(*frontConn)
		status int // 0: none is sure to arrive
	}{
		{"reset in the middle", (*frontConn).reset, 0},
		{"200, and the connection stays", func(c *frontConn) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			c.f.outlast(nil)
			c.reset()
		}, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFront(t, func(f *front) {
				f.serves = func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
					if _, err := io.ReadFull(r.Body, make([]byte, 10)); err != nil {
						t.Errorf("nothing arrives: %v", err)
					}
					if c := hijacked(w); c != nil {
						tc.serve(c)
					}
				}
			})
			f.spoil()
			resp, err := testClient(t, f.remote()).Store(t.Context(), make([]byte, 64<<20), 0)
			if tc.status > 0 {
				if err != nil || resp.Status != tc.status {
					t.Errorf("got %+v, %v; want status %d", resp, err, tc.status)
				}
			} else if se := sendError(t, err); !se.Recoverable || se.Status != 0 {
				t.Errorf("got %+v, want to try again", se)
			}
			f.heal()
		})
	}
}

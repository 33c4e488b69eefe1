package remotewrite

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	promrelabel "github.com/prometheus/prometheus/model/relabel"

	"promagent/wal"
)

// lost is what a remote's metrics say is lost for the reason.
func (m *testManager) lost(reason string) int {
	m.t.Helper()
	return int(metric(m.t, m.registry, "prom_agent_remote_lost_samples_total", "reason="+reason))
}

// mustHaveRest fails unless what has been accepted is what was logged but for
// as many samples as counted as lost, per series in order.
func (r *receiver) mustHaveRest(l *testLog, lost int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	missing := 0
	for s, want := range l.want {
		got := r.series[s]
		missing += len(want) - len(got)
		for _, p := range got { // both ascend
			i := slices.Index(want, p)
			if i < 0 {
				r.t.Fatalf("%s: %+v came out of order, twice, or from nowhere", s, p)
			}
			want = want[i+1:]
		}
	}
	if missing != lost {
		r.t.Errorf("%d samples are missing, %d are counted as lost", missing, lost)
	}
	if missing == 0 || missing == l.count {
		r.t.Errorf("%d of %d samples are missing: nothing is tested", missing, l.count)
	}
}

func TestWhatRetentionTakesFromARemoteIsCounted(t *testing.T) {
	l := openBoundedLog(t, t.TempDir(), 1<<20)
	l.noise = true
	g := newGate(503)
	r := newReceiver(t, g.answer)
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience, cfg)
	a, b := testTarget("a", 900), testTarget("b", 900)
	before := l.store.Log().Oldest().Segment
	eventually(t, "the oldest is deleted", func() bool {
		for range 10 {
			l.scrape(a, b)
		}
		return l.store.Log().Oldest().Segment > before+1
	})
	g.set(204)
	m.delivered()
	r.mustHaveRest(l, m.lost("retention"))
	if s := m.Status()[0]; s.LostSamples != uint64(m.lost("retention")) || m.lost("corrupt") != 0 {
		t.Errorf("got status %+v", s)
	}
}

func TestWhatCannotBeReadIsCountedAndTheRestArrives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, dir)
	l.noise = true
	g := newGate(503)
	r := newReceiver(t, g.answer)
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience, cfg)
	a, b := testTarget("a", 300), testTarget("b", 200)
	for range 50 {
		l.scrape(a, b)
	}
	m.stop()
	l.stop()
	flipped := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".cur") {
			return err
		}
		file, err := os.ReadFile(path)
		if err != nil || len(file) < 100_000 {
			return err
		}
		file[len(file)/2] ^= 1
		flipped++
		return os.WriteFile(path, file, 0o666)
	})
	if err != nil || flipped != 1 {
		t.Fatalf("%d files were damaged: %v", flipped, err)
	}
	l = l.reopened(dir)
	l.noise = true
	cfg = g.next(cfg)
	g.set(204)
	m = startManager(l, patience, cfg)
	l.scrape(a, b)
	m.delivered()
	r.mustHaveRest(l, m.lost("corrupt"))
	if n := metric(t, m.registry, "prometheus_wal_watcher_record_decode_failures_total"); n == 0 {
		t.Error("no failure to decode is counted")
	}
}

// Where a remote is may be told in a way that only a later release knows. Its
// cursor says even so what it does not need any more.
func TestAStateThatCannotBeReadRepeatsFromTheCursorsPositionOn(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	a := testTarget("a", 10)
	l.scrape(a)
	l = l.reopened(dir)
	l.scrape(a)
	clear(l.want) // so far the remote has everything
	end := l.store.End()
	l.scrape(a)
	l.scrape(a)
	c := l.store.Log().Cursor(cfg.Identity())
	c.Set(end, []byte("nonsense"))
	if n := pending(c, l.store); n != 20 { // what is shown of a remote that has not begun yet
		t.Errorf("%d samples are pending, want those of two scrapes", n)
	}
	m := startManager(l, patience, cfg)
	l.scrape(a)
	m.delivered()
	r.mustHave(l.want)
	if n := m.Status()[0].LostSamples; n != 0 {
		t.Errorf("%d samples are counted as lost", n)
	}
}

func TestAStateThatCannotBeReadOfAPlaceThatIsGoneBeginsAtTheNext(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	a := testTarget("a", 10)
	l.scrape(a)
	l = l.reopened(dir)
	clear(l.want)
	l.scrape(a)
	c := l.store.Log().Cursor(cfg.Identity())
	c.Set(wal.Pos{Segment: l.store.Log().Segment() - 1, Offset: 1 << 20}, []byte("nonsense"))
	m := startManager(l, patience, cfg)
	l.scrape(a)
	m.delivered()
	r.mustHave(l.want)
}

func TestRulesThatDoNotCompileAreRefused(t *testing.T) {
	m, err := NewManager(openLog(t, t.TempDir()).store, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := remoteConfig(t, "http://127.0.0.1:1")
	cfg.WriteRelabel = []*promrelabel.Config{{Action: "nonsense"}}
	if _, err := m.Prepare([]Config{cfg}); err == nil || !strings.Contains(err.Error(), "write_relabel_configs of remote test") {
		t.Errorf("got error %v", err)
	}
}

// logged is a log's lines.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func TestTroubleIsLoggedOnceAMinute(t *testing.T) {
	for _, status := range []int{503, 400, 403} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			l := openLog(t, t.TempDir())
			r := newReceiver(t, func(http.ResponseWriter, *request) int { return status })
			cfg := remoteConfig(t, r.srv.URL)
			var lines logged
			stop := runEndpoint(t, loggedEndpoint(t, l, cfg, slog.New(slog.NewTextHandler(&lines, nil))))
			a := testTarget("a", 100)
			for range 10 {
				l.scrape(a)
			}
			r.wait("many requests", func() bool { return r.requests >= 8 })
			stop()
			if n := lines.count("level=WARN") + lines.count("level=ERROR"); n != 1 {
				t.Errorf("%d lines:\n%s", n, lines.buf.String())
			}
			if status != 503 && lines.count(`example="{__name__`) != 1 {
				t.Errorf("the line has no example:\n%s", lines.buf.String())
			}
		})
	}
}

func TestNothingRunsAfterTheEnd(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.MinShards, cfg.Queue.MaxShards = 10, 10
	cfg.Metadata = MetadataConfig{Send: true, SendInterval: time.Millisecond, MaxSamplesPerSend: 10}
	var m *testManager
	stopped := func() {
		m.stop()
		r.srv.CloseClientConnections()
	}
	m = startManager(l, patience, cfg) // until then the log and the receiver may still be starting
	stopped()
	before := runtime.NumGoroutine()
	m = startManager(l, patience, cfg)
	l.scrape(testTarget("a", 100))
	m.delivered()
	m.apply()
	m.apply(cfg)
	m.running(1)
	stopped()
	eventually(t, fmt.Sprintf("%d goroutines are left", before), func() bool { return runtime.NumGoroutine() <= before })
}

package remotewrite

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
	"promagent/wal/waltest"
)

// openLogOn opens a log on a file system in memory. Its store keeps next to
// nothing in memory: what is sent is read.
func openLogOn(t *testing.T, disk *waltest.FS, maxBytes int64) *testLog {
	t.Helper()
	return openLogWith(t, wal.Options{SyncInterval: time.Minute, MaxBytes: maxBytes, FS: disk})
}

// openLogWith opens and runs a log in /data.
func openLogWith(t *testing.T, o wal.Options) *testLog {
	t.Helper()
	o.NoLock, o.Logger = true, slog.New(slog.DiscardHandler)
	l, err := wal.Open("/data", o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	stop := sync.OnceFunc(func() { cancel(); <-ended; l.Close() })
	t.Cleanup(stop)
	return &testLog{t: t, store: record.NewStore(l, record.Options{RingBytes: 1}), stop: stop, want: map[string][]point{}, clock: time.Now().UnixMilli()}
}

func TestReadErrorThatPassesLosesNothing(t *testing.T) {
	disk := waltest.New()
	l := openLogOn(t, disk, 0)
	g := newGate(503)
	r := newReceiver(t, g.answer)
	m := startManager(l, patience, remoteConfig(t, r.srv.URL))
	a, b := testTarget("a", 900), testTarget("b", 900)
	for range 40 {
		l.scrape(a, b)
	}
	var failed atomic.Int32
	disk.SetFault(func(op waltest.Op) *waltest.Fault {
		if op.Kind == waltest.Read && strings.HasSuffix(op.Name, ".seg") && op.Len > 28 && failed.Add(1) <= 2 {
			return &waltest.Fault{Err: syscall.ENOMEM}
		}
		return nil
	})
	g.set(204)
	m.delivered()
	r.mustHave(l.want)
	if m.lost("corrupt") != 0 || m.lost("retention") != 0 || failed.Load() < 2 {
		t.Errorf("%d corrupt, %d gone, %d reads", m.lost("corrupt"), m.lost("retention"), failed.Load())
	}
}

func TestWhatRetentionTakesUnderTheReaderIsNotDamage(t *testing.T) {
	l := openLogOn(t, waltest.New(), 1<<20)
	l.noise = true
	g := newGate(503)
	r := newReceiver(t, g.answer)
	m := startManager(l, patience, remoteConfig(t, r.srv.URL))
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
	if n := m.lost("corrupt"); n != 0 {
		t.Errorf("%d samples that retention deleted count as corrupt", n)
	}
}

func TestAnchorThatIsNoneCostsItsRecordsOnly(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	m := startManager(l, patience, remoteConfig(t, r.srv.URL))
	a := testTarget("a", 10)
	l.scrape(a)
	m.delivered()
	log := l.store.Log()
	for _, at := range []int64{l.clock - 3600_000, l.clock} { // of a backlog, and live
		if _, err := log.Append(log.Segment(), []wal.Frame{
			{Kind: wal.Anchor, Time: at, Body: []byte("\x64what no compressor has made")},
			{Kind: wal.Record, Samples: 7, Time: at, RefFrame: 1, Body: []byte{1, 1, 0}},
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		l.scrape(a)
	}
	m.delivered()
	r.mustHave(l.want)
	if n := m.lost("corrupt"); n != 14 {
		t.Errorf("%d samples count as corrupt, want 14", n)
	}
}

// Two loops may have targets with the same labels: of one job with two paths,
// or of two jobs that relabelling makes one.
func TestBacklogOfTargetsWithTheSameLabelsArrivesInOrder(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, r.srv.URL)
	m := startManager(l, patience, cfg)
	m.stop()
	twin := func(origin uint32) *template.Block {
		b := template.NewBuilder(labels.FromStrings("instance", "a", "job", "j"))
		b.Origin = origin
		sc := template.Intern(template.Schema{Name: "m_total", Labels: []string{"n"}})
		for i := range 5 {
			b.Add(sc, []string{strconv.Itoa(i)})
		}
		return b.Block()
	}
	a, b := twin(1), twin(2)
	for range 5 {
		l.clock += 15000
		l.scrape(a)
		l.scrape(b)
	}
	l.clock += 60000
	l.scrape(testTarget("z", 1))
	m = startManager(l, patience, cfg)
	m.delivered()
	r.mustHave(l.want)
}

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
)

const (
	backlogTargets  = 20
	backlogSeries   = 100 // of each
	backlogInterval = 15 * time.Second
)

// writeLog opens a log, has it filled, and closes it.
func writeLog(t testing.TB, dir string, fill func(*record.Store)) {
	t.Helper()
	log, err := wal.Open(dir, wal.Options{SyncInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	fill(record.NewStore(log, record.Options{}))
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// writeBacklog fills a log with scrapes of so many hours, up to now: the values
// are the numbers of the scrapes, from 1.
func writeBacklog(t *testing.T, dir string, hours float64) (scrapes int) {
	t.Helper()
	var blocks []*template.Block
	for target := range backlogTargets {
		b := template.NewBuilder(labels.FromStrings("instance", fmt.Sprintf("host-%d:9100", target), "job", "backlog"))
		for i := range backlogSeries {
			schema := template.Intern(template.Schema{Name: fmt.Sprintf("backlog_%d_total", i%10), Labels: []string{"series"}, Type: "counter"})
			b.Add(schema, []string{strconv.Itoa(i)})
		}
		blocks = append(blocks, b.Block())
	}
	scrapes = int(hours * float64(time.Hour) / float64(backlogInterval))
	first := time.Now().Add(-time.Duration(scrapes) * backlogInterval)
	writeLog(t, dir, func(store *record.Store) {
		for n := 1; n <= scrapes; n++ {
			for i, b := range blocks {
				values := make([]float64, b.Len())
				for j := range values {
					values[j] = float64(n)
				}
				at := first.Add(time.Duration(n)*backlogInterval + time.Duration(i)*backlogInterval/backlogTargets)
				if err := store.Append(&template.Batch{Time: at.UnixMilli(), Parts: []template.Part{{Block: b, Values: values}}}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	return scrapes
}

// counted is a receiver to which every series must come in order and without gaps.
type counted struct {
	mu     sync.Mutex
	next   map[string]int
	wrong  []string
	come   atomic.Int64
	bytes  atomic.Int64
	wanted int64
	all    chan struct{}
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	packed, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	raw, err := snappy.Decode(nil, packed)
	var m prompb.WriteRequest
	if err == nil {
		err = m.Unmarshal(raw)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	n := 0
	c.mu.Lock()
	for _, ts := range m.Timeseries {
		var name, key string
		for _, l := range ts.Labels {
			switch l.Name {
			case "__name__":
				name = l.Value
			case "instance", "series":
				key += l.Value + " "
			}
		}
		if !strings.HasPrefix(name, "backlog_") {
			continue
		}
		for _, s := range ts.Samples {
			c.next[key]++
			if int(s.Value) != c.next[key] && len(c.wrong) < 10 {
				c.wrong = append(c.wrong, fmt.Sprintf("%s: %v comes as number %d", key, s.Value, c.next[key]))
			}
			n++
		}
	}
	c.mu.Unlock()
	c.bytes.Add(int64(len(packed)))
	if total := c.come.Add(int64(n)); total >= c.wanted && total-int64(n) < c.wanted {
		close(c.all)
	}
	w.WriteHeader(http.StatusNoContent)
}

// An outage of hours, which a log written for the purpose stands for, drains
// whole and in order, and takes little memory. PROMAGENT_BACKLOG_HOURS makes it
// longer than three.
func TestBacklogOfHoursIsDeliveredWhole(t *testing.T) {
	hours := 3.0
	if s := os.Getenv("PROMAGENT_BACKLOG_HOURS"); s != "" {
		var err error
		if hours, err = strconv.ParseFloat(s, 64); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	scrapes := writeBacklog(t, dir+"/data", hours)
	c := &counted{next: map[string]int{}, wanted: int64(scrapes) * backlogTargets * backlogSeries, all: make(chan struct{})}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	file := dir + "/prometheus.yml"
	writeFile(t, file, "remote_write: [{name: central, url: '"+srv.URL+"'}]\nprom_agent: {remotes: [{name: central, start: oldest}]}\n")
	begin := time.Now()
	p := start(t, "--config.file="+file, "--storage.agent.path="+dir+"/data", "--web.listen-address=127.0.0.1:0")
	memory := 0
	for waiting := true; waiting; {
		select {
		case <-c.all:
			waiting = false
		case <-p.done:
			t.Fatal("the agent has ended")
		case <-time.After(50 * time.Millisecond):
			memory = max(memory, resident(t, p))
		}
	}
	took := time.Since(begin)
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.wrong {
		t.Error(w)
	}
	if len(c.next) != backlogTargets*backlogSeries {
		t.Errorf("%d series", len(c.next))
	}
	for key, n := range c.next {
		if n != scrapes {
			t.Errorf("%s: %d samples, want %d", key, n, scrapes)
			break
		}
	}
	if memory > 150<<10 {
		t.Errorf("the agent took %d KiB", memory)
	}
	t.Logf("%.0f hours, %d samples in %.1f s, %.2f bytes per sample, at most %d MiB", hours, c.wanted, took.Seconds(), float64(c.bytes.Load())/float64(c.wanted), memory>>10)
}

// resident is a process' memory in KiB; 0 when it cannot be read.
func resident(t *testing.T, p *process) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest + " 0")[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb
}

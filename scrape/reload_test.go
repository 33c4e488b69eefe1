package scrape

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"promagent/discovery"
	"promagent/discovery/group"
	"promagent/template"
)

// managed is a Manager that does not run, whose samples go nowhere, and its log's lines.
func managed(t *testing.T) (*Manager, *bytes.Buffer) {
	t.Helper()
	var lines bytes.Buffer
	m, err := New(Options{
		Sink: sinkFunc(func(*template.Batch) error { return nil }), Registerer: prometheus.NewRegistry(),
		Logger: slog.New(slog.NewTextHandler(&lines, nil)), Hostname: testHost,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.stop)
	return m, &lines
}

func prepareJobs(t *testing.T, m *Manager, jobs ...JobConfig) *Change {
	t.Helper()
	c, err := m.Prepare(Config{Jobs: jobs})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// runsWith is the configuration of the job's pool; nil: it has none.
func runsWith(m *Manager, job string) *JobConfig {
	for _, p := range m.all() {
		if p.job() == job {
			return p.inForce().cfg
		}
	}
	return nil
}

// openIn counts the files of a directory that this process has open.
func openIn(t *testing.T, dir string) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if file, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil && strings.HasPrefix(file, dir+"/") {
			n++
		}
	}
	return n
}

func missingCA(c *JobConfig) { c.HTTP.TLSConfig.CAFile = "/does/not/exist.pem" }

// The files that a change was made with may go at any time after: it is put into
// force whole all the same, and scrapes go on when the files are back.
func TestCommitOfJobsAppliesThoughTheirFilesHaveVanished(t *testing.T) {
	t.Parallel()
	serve := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textType)
		io.WriteString(w, "a 1\n")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	overTCP, overSocket := httptest.NewTLSServer(http.HandlerFunc(serve)), httptest.NewUnstartedServer(http.HandlerFunc(serve))
	overSocket.Listener.Close()
	overSocket.Listener = listener
	overSocket.StartTLS()
	defer overTCP.Close()
	defer overSocket.Close()
	ca := filepath.Join(dir, "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: overTCP.Certificate().Raw})
	write := func() {
		if err := os.WriteFile(ca, certificate, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := model.LabelValue(strings.TrimPrefix(overTCP.URL, "https://"))
	with := func(samples int) []JobConfig {
		change := func(c *JobConfig) {
			c.Scheme, c.Interval, c.Timeout, c.SampleLimit = "https", 100*time.Millisecond, 100*time.Millisecond, samples
			c.HTTP = commonconfig.DefaultHTTPClientConfig
			c.HTTP.TLSConfig.CAFile = ca
		}
		return []JobConfig{job("tcp", change), job("socket", change)}
	}
	m, err := New(Options{Sink: sinkFunc(func(*template.Batch) error { return nil }), ReloadInterval: time.Millisecond, Hostname: testHost})
	if err != nil {
		t.Fatal(err)
	}
	write()
	prepareJobs(t, m, with(100)...).Commit()
	updates := make(chan []discovery.Update)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx, updates) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	updates <- []discovery.Update{
		{Job: "tcp", Groups: []group.Group{sourceOf("s", model.LabelSet{"__address__": address})}},
		{Job: "socket", Groups: []group.Group{sourceOf("s", model.LabelSet{"__address__": address, "__unix_socket__": model.LabelValue(socket)})}},
	}
	until := func(what string, healthy func(TargetStatus) bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			n := 0
			pools := m.Pools()
			for _, p := range pools {
				if len(p.Targets) == 1 && healthy(p.Targets[0]) {
					n++
				}
			}
			if n == 2 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: not so: %+v", what, pools)
			}
		}
	}
	up := func(s TargetStatus) bool { return s.Health == HealthUp }
	until("they are scraped", up)

	change := prepareJobs(t, m, with(200)...)
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	change.Commit()
	for _, name := range []string{"tcp", "socket"} {
		if c := runsWith(m, name); c == nil || c.SampleLimit != 200 {
			t.Errorf("job %s runs with %+v", name, c)
		}
	}
	until("the error names the file", func(s TargetStatus) bool { return strings.Contains(s.LastError, "ca.pem") })
	write()
	until("they are scraped again", up)
}

// A file that is open stays so, wherever it is moved: that is what a commit hands over.
func TestCommitGoesOnInTheFailureLogsThatPrepareHasOpened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	logged := func(c *JobConfig) { c.FailureLogFile = filepath.Join(dir, c.Job) }
	m, _ := managed(t)
	prepareJobs(t, m, job("same", logged), job("other", logged)).Commit()
	change := prepareJobs(t, m, job("same", logged), job("other", func(c *JobConfig) { logged(c); c.HonorLabels = true }), job("new", logged))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	change.Commit()
	for _, name := range []string{"same", "other", "new"} {
		if runsWith(m, name) == nil {
			t.Errorf("job %s does not run", name)
		}
	}
	for _, p := range m.all() {
		p.closing.Wait() // old logs, which no scrape needs any more
	}
	if n := openIn(t, dir); n != 3 {
		t.Errorf("%d failure logs are open, want one for each job", n)
	}
	m.stop()
	if n := openIn(t, dir); n != 0 {
		t.Errorf("%d failure logs are open after the end", n)
	}
}

func TestChangeOfJobsThatIsNotPutIntoForceLeavesNothingOpen(t *testing.T) {
	dir := t.TempDir()
	logged := func(c *JobConfig) { c.FailureLogFile = filepath.Join(dir, c.Job) }
	m, lines := managed(t)
	prepareJobs(t, m, job("runs", logged)).Commit()
	before := runsWith(m, "runs")

	if _, err := m.Prepare(Config{Jobs: []JobConfig{job("new", logged), job("runs", func(c *JobConfig) { logged(c); missingCA(c) })}}); err == nil {
		t.Error("a running job whose CA is missing is not refused")
	}
	if _, err := m.Prepare(Config{Jobs: []JobConfig{
		job("new", logged), job("runs", logged), job("nowhere", func(c *JobConfig) { c.FailureLogFile = filepath.Join(dir, "missing", "file") }),
	}}); err == nil {
		t.Error("a failure log that cannot be opened is not refused")
	}
	prepareJobs(t, m, job("new", logged), job("runs", func(c *JobConfig) { logged(c); c.HonorLabels = true }), job("tls", missingCA)).Drop()
	if n := openIn(t, dir); n != 1 {
		t.Errorf("%d failure logs are open, want that of the job that runs", n)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("there are failure logs %v, %v; want that of the job that runs", files, err)
	}
	if runsWith(m, "runs") != before || len(m.all()) != 1 {
		t.Error("the jobs have changed")
	}
	if n := testutil.ToFloat64(m.env.metrics.poolsFailed); n != 0 || lines.Len() > 0 {
		t.Errorf("%v jobs are counted as left out, and the log says %q", n, lines)
	}

	late := prepareJobs(t, m, job("new", logged), job("runs", logged))
	m.stop()
	late.Commit()
	if n := openIn(t, dir); n != 0 || len(m.all()) != 0 {
		t.Errorf("after the end: %d failure logs are open, %d jobs run", n, len(m.all()))
	}
}

func TestNewJobThatCannotBeMadeIsLeftOutByTheCommit(t *testing.T) {
	m, lines := managed(t)
	prepareJobs(t, m, job("good", nil), job("tls", missingCA)).Commit()
	if runsWith(m, "good") == nil || runsWith(m, "tls") != nil {
		t.Error("not the good job alone runs")
	}
	if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "exist.pem") || !strings.Contains(got, "scrape_pool=tls") {
		t.Errorf("the log says %q", got)
	}
	if n, all := testutil.ToFloat64(m.env.metrics.poolsFailed), testutil.ToFloat64(m.env.metrics.pools); n != 1 || all != 2 {
		t.Errorf("%v jobs of %v are counted as left out", n, all)
	}
}

// Whatever was prepared before, what is committed last is in force as a whole.
func TestJobsPreparedTogetherAreThoseOfTheLastCommit(t *testing.T) {
	logged := func(c *JobConfig) { c.FailureLogFile = filepath.Join(t.TempDir(), "failures") }
	first := []JobConfig{job("a", logged), job("b", nil)}
	for name, second := range map[string][]JobConfig{
		"changed":                 {job("a", func(c *JobConfig) { c.HonorLabels = true }), job("b", logged)},
		"removed":                 {job("b", logged)},
		"the same, and a new one": {first[0], first[1], job("c", nil)},
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := managed(t)
			prepareJobs(t, m, first...).Commit()
			again, other := prepareJobs(t, m, first...), prepareJobs(t, m, second...)
			for _, step := range []struct {
				change *Change
				want   []JobConfig
			}{{other, second}, {again, first}} {
				step.change.Commit()
				if n := len(m.all()); n != len(step.want) {
					t.Errorf("%d jobs run, want %d", n, len(step.want))
				}
				for i := range step.want {
					if c := runsWith(m, step.want[i].Job); c == nil || !c.equal(&step.want[i]) {
						t.Errorf("job %s runs with %+v", step.want[i].Job, c)
					}
				}
			}
		})
	}
}

// Of jobs that are committed from several goroutines one set is in force.
func TestJobsCommittedAtTheSameTimeAreOneSet(t *testing.T) {
	dir := t.TempDir()
	m, _ := managed(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 20 {
				c, err := m.Prepare(Config{Jobs: []JobConfig{
					job("all", func(c *JobConfig) { c.FailureLogFile, c.SampleLimit = filepath.Join(dir, "all"), i%2 }),
					job(fmt.Sprint("own ", i), func(c *JobConfig) { c.FailureLogFile = filepath.Join(dir, "own") }),
				}})
				if err != nil {
					t.Error(err)
					return
				}
				if n%3 == 0 {
					c.Drop()
				} else {
					c.Commit()
				}
			}
		})
	}
	wg.Wait()
	if n := len(m.all()); n != 2 || runsWith(m, "all") == nil {
		t.Errorf("%d jobs run, want 2", n)
	}
	for _, p := range m.all() {
		p.closing.Wait() // old logs, which no scrape needs any more
	}
	if n := openIn(t, dir); n != 2 {
		t.Errorf("%d failure logs are open, want 2", n)
	}
	m.stop()
	if n := openIn(t, dir); n != 0 {
		t.Errorf("%d failure logs are open after the end", n)
	}
}

func TestJobThatDoesNotChangeIsNotMadeAgain(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	tls := job("tls", func(c *JobConfig) { c.HTTP.TLSConfig.CAFile = ca })
	m, _ := managed(t)
	prepareJobs(t, m, tls).Commit()
	before := m.all()[0].inForce()
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	prepareJobs(t, m, tls, job("new", nil)).Commit()
	for _, p := range m.all() {
		if p.job() == "tls" && p.inForce() != before {
			t.Error("it was made again")
		}
	}
	if len(m.all()) != 2 {
		t.Errorf("%d jobs run, want 2", len(m.all()))
	}
}

func TestCheckSaysWhatTheAgentWouldMakeOfJobs(t *testing.T) {
	dir := t.TempDir()
	logged := func(name string) func(c *JobConfig) {
		return func(c *JobConfig) { c.FailureLogFile = filepath.Join(dir, name) }
	}
	leftOut, err := Check([]JobConfig{job("good", logged("failures")), job("tls", missingCA)})
	if err != nil || len(leftOut) != 1 || leftOut[0].Job != "tls" || !strings.Contains(leftOut[0].Err.Error(), "exist.pem") {
		t.Errorf("left out: %+v, %v", leftOut, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("it has made %v, %v", files, err)
	}
	for _, name := range []string{"missing/failures", "."} {
		if _, err := Check([]JobConfig{job("a", logged(name))}); err == nil || !strings.Contains(err.Error(), `job "a": open scrape failure log`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

//go:build rollback

// What make rollback runs: the binary of an earlier release on what this one writes.

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fromEnvironment is a variable that make sets.
func fromEnvironment(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set; make rollback sets it", name)
	}
	return v
}

// scraped is a target that writes the page of its n-th scrape.
type scraped struct {
	*httptest.Server
	page func(n int, now time.Time) (contentType, body string)

	mu     sync.Mutex
	served int
	stop   int           // the scrape that stays half done; 0: none
	half   chan struct{} // closed when half of it is out
}

func newScraped(t testing.TB, page func(n int, now time.Time) (contentType, body string)) *scraped {
	s := &scraped{page: page}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *scraped) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.served++
	n, stop, half := s.served, s.stop, s.half
	s.mu.Unlock()
	typ, body := s.page(n, time.Now())
	w.Header().Set("Content-Type", typ)
	if n != stop {
		w.Write([]byte(body))
		return
	}
	w.Write([]byte(body[:len(body)/2]))
	w.(http.Flusher).Flush()
	close(half)
	<-r.Context().Done()
}

// scrapes waits until so many scrapes more have begun.
func (s *scraped) scrapes(t testing.TB, more int) {
	t.Helper()
	s.mu.Lock()
	want := s.served + more
	s.mu.Unlock()
	until(t, "the target is scraped", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.served >= want
	})
}

// killDuringScrape kills the agent when half of a scrape is there.
func (s *scraped) killDuringScrape(a *agentProcess) {
	a.t.Helper()
	half := make(chan struct{})
	s.mu.Lock()
	s.stop, s.half = s.served+1, half
	s.mu.Unlock()
	select {
	case <-half:
	case <-time.After(patience):
		a.t.Fatal("no scrape begins")
	}
	a.signal(syscall.SIGKILL)
	<-a.done
}

// openMetrics has every type, exemplars, start timestamps, values of every
// kind, and a series for two scrapes.
func openMetrics(n int, now time.Time) (contentType, body string) {
	var b bytes.Buffer
	family := func(name, typ, unit, help string) {
		fmt.Fprintf(&b, "# TYPE %s %s\n", name, typ)
		if unit != "" {
			fmt.Fprintf(&b, "# UNIT %s %s\n", name, unit)
		}
		fmt.Fprintf(&b, "# HELP %s %s\n", name, help)
	}
	at := float64(now.UnixMilli()) / 1000
	family("app_requests", "counter", "", "Requests, by code.")
	fmt.Fprintf(&b, "app_requests_total{code=\"200\"} %d # {trace_id=\"t%d\"} %g %.3f\n", 17*n, n, float64(n)/8, at)
	fmt.Fprintf(&b, "app_requests_created{code=\"200\"} 1700000000.5\n")
	fmt.Fprintf(&b, "app_requests_total{code=\"500\"} %d\n", n/3)
	fmt.Fprintf(&b, "app_requests_created{code=\"500\"} %d\n", 1700000000+n/4)
	family("app_temperature_celsius", "gauge", "celsius", "How warm it is, in \\\"rooms\\\".")
	for room, v := range []string{fmt.Sprintf("%.1f", 20.5+float64(n)/10), fmt.Sprint(float64(n) / 3), "NaN", "+Inf", "-Inf", "-0"} {
		fmt.Fprintf(&b, "app_temperature_celsius{room=\"%d\"} %s\n", room, v)
	}
	family("app_size", "gauge", "", "Sizes from the least to the largest.")
	for i, v := range []string{"9007199254740992", "18014398509481984", "1e300", "5e-324", fmt.Sprint(n % 2), fmt.Sprint(-1000 * n)} {
		fmt.Fprintf(&b, "app_size{i=\"%d\"} %s\n", i, v)
	}
	family("app_duration_seconds", "histogram", "seconds", "How long it took.")
	for i, le := range []string{"0.1", "1.0", "+Inf"} {
		fmt.Fprintf(&b, "app_duration_seconds_bucket{le=%q} %d # {trace_id=\"d%d\",span_id=\"s\"} %g\n", le, (i+1)*n, n, 0.05+float64(i))
	}
	fmt.Fprintf(&b, "app_duration_seconds_count %d\napp_duration_seconds_sum %.2f\napp_duration_seconds_created 1690000000\n", 3*n, 1.25*float64(n))
	family("app_payload_bytes", "summary", "bytes", "What came.")
	fmt.Fprintf(&b, "app_payload_bytes{quantile=\"0.5\"} %d\napp_payload_bytes_count %d\napp_payload_bytes_sum %d\n", 512+n, n, 512*n)
	family("app_build", "info", "", "The version.")
	fmt.Fprintf(&b, "app_build_info{version=\"1.%d\"} 1\n", n/5) // series that come and go
	family("app_mode", "stateset", "", "On or off.")
	fmt.Fprintf(&b, "app_mode{app_mode=\"on\"} 1\napp_mode{app_mode=\"off\"} 0\n")
	family("app_thing", "unknown", "", "Who knows, äöü.")
	fmt.Fprintf(&b, "app_thing %d\n", 7*n)
	if n == 2 || n == 3 {
		family("app_short", "gauge", "", "There for two scrapes.")
		fmt.Fprintf(&b, "app_short %d\n", n)
	}
	b.WriteString("# EOF\n")
	return "application/openmetrics-text; version=1.0.0; charset=utf-8", b.String()
}

// plainText has timestamps of its own, two for one series, and a metric without a type.
func plainText(n int, now time.Time) (contentType, body string) {
	ms := now.UnixMilli()
	var b bytes.Buffer
	b.WriteString("# TYPE node_sensor gauge\n")
	fmt.Fprintf(&b, "node_sensor{chip=\"a\"} %d %d\n", n, ms-1500)
	fmt.Fprintf(&b, "node_sensor{chip=\"b\"} %d.25 %d\nnode_sensor{chip=\"b\"} %d.75 %d\n", n, ms-400, n, ms-100)
	b.WriteString("# TYPE node_cpu_seconds_total counter\n")
	for cpu := range 4 {
		fmt.Fprintf(&b, "node_cpu_seconds_total{cpu=\"%d\"} %.2f\n", cpu, 100+float64(n*(cpu+1))/4)
	}
	fmt.Fprintf(&b, "node_untyped %d\n", n)
	return "text/plain; version=0.0.4; charset=utf-8", b.String()
}

// outage is longer than what makes newest_first begin a backlog.
const outage = 130 * time.Second

// writeRelease has a release write a directory: three processes, two of them
// killed while they scrape, and three remotes at different positions.
//
//	central  has all of the first scrapes, misses an outage, and is killed
//	         while it gets the backlog, with requests in flight
//	cloud    has never answered anything but 503
//	newest   as central, and gets the newest data first
func writeRelease(t *testing.T, binary, data string) {
	t.Helper()
	app, node, leaves := newScraped(t, openMetrics), newScraped(t, plainText), newScraped(t, plainText)
	address := func(s *scraped) string { return s.Listener.Addr().String() }
	list := filepath.Join(t.TempDir(), "leaves.json")
	writeFile(t, list, fmt.Sprintf(`[{"targets": [%q], "labels": {"instance": "leaves"}}]`, address(leaves)))
	jobs := fmt.Sprintf(`scrape_configs:
- job_name: app
  static_configs: [{targets: [%q], labels: {instance: app}}]
- job_name: node
  static_configs: [{targets: [%q], labels: {instance: node}}, {targets: ['127.0.0.1:1'], labels: {instance: down}}]
- job_name: leaves
  file_sd_configs: [{files: [%s], refresh_interval: 1s}]
`, address(app), address(node), list)

	rs := newReleaseReceivers(t)
	var failing, limited atomic.Bool
	hanging := make(chan struct{}, 1000) // has one for each request that waits for ever
	gate := func() func(*http.Request) int {
		var taken atomic.Int64 // while there is a limit
		return func(r *http.Request) int {
			switch {
			case failing.Load():
				return http.StatusServiceUnavailable
			case limited.Load() && taken.Add(1) > 15:
				hanging <- struct{}{}
				<-r.Context().Done()
				return http.StatusServiceUnavailable
			}
			return http.StatusNoContent
		}
	}
	rs["central"].gate, rs["newest"].gate = gate(), gate()
	rs["cloud"].gate = func(*http.Request) int { return http.StatusServiceUnavailable }
	run := func() *agentProcess {
		return startOn(t, binary, data, rs.config(jobs, "end"), "--enable-feature=st-storage")
	}

	a := run()
	app.scrapes(t, 4)
	failing.Store(true)
	app.scrapes(t, 1)
	if err := os.Remove(list); err != nil {
		t.Fatal(err)
	}
	writeFile(t, list, "[]")
	app.scrapes(t, 2)
	app.killDuringScrape(a)

	a = run()
	app.scrapes(t, 4)
	a.signal(syscall.SIGTERM)
	if code := a.end(); code != 0 {
		t.Fatalf("exit code %d", code)
	}

	time.Sleep(outage)
	limited.Store(true)
	a = run()
	app.scrapes(t, 3)
	failing.Store(false)
	until(t, "requests are in flight", func() bool { return len(hanging) >= 2 })
	app.scrapes(t, 4)
	app.killDuringScrape(a)
}

// What this release writes, the earlier one delivers whole, and from each
// remote's position on.
func TestEarlierReleaseGoesOnWithADirectoryOfThisOne(t *testing.T) {
	earlier := fromEnvironment(t, "PROM_AGENT_EARLIER")
	data := filepath.Join(t.TempDir(), "data")
	writeRelease(t, agentBinary, data)
	summary, _ := command(t, earlier, "wal", "inspect", data)
	t.Logf("the earlier release says of it:\n%s", summary)
	want, _ := command(t, agentBinary, "wal", "inspect", data, "--dump")
	dump, _ := command(t, earlier, "wal", "inspect", data, "--dump")
	wantSame(t, "dump", dump, want)
	ours, theirs := drain(t, agentBinary, copied(t, data), "end"), drain(t, earlier, copied(t, data), "end")
	for _, r := range releaseRemotes {
		wantSame(t, r.name, theirs.text[r.name], ours.text[r.name])
		if n := strings.Count(ours.text[r.name], "\n  "); n < 50 {
			t.Errorf("%s got %d samples only", r.name, n)
		}
	}
	if theirs.bad != "0" || len(theirs.lost) > 0 {
		t.Errorf("the earlier release found %s places damaged, lost: %v", theirs.bad, theirs.lost)
	}
}

func TestEarlierReleaseCountsWhatItCannotReadAndDeliversTheRest(t *testing.T) {
	goesBack(t, fromEnvironment(t, "PROM_AGENT_EARLIER"), map[string]map[string]delivery{
		laterState: butCloud(delivery{0, ""}), // 0.1.0 begins at the log's end, and counts nothing
	})
}

func TestEarlierReleaseDeliversTimesThatGoBack(t *testing.T) {
	deliversTimesThatGoBack(t, fromEnvironment(t, "PROM_AGENT_EARLIER"))
}

// Writes a directory for testdata with the binary that PROM_AGENT_EARLIER
// names, and what that delivers of it, into the directory PROM_AGENT_KEEP.
func TestKeepADirectoryOfARelease(t *testing.T) {
	binary, keep := fromEnvironment(t, "PROM_AGENT_EARLIER"), fromEnvironment(t, "PROM_AGENT_KEEP")
	data := filepath.Join(keep, "data")
	writeRelease(t, binary, data)
	dump, _ := command(t, binary, "wal", "inspect", data, "--dump")
	writeFile(t, filepath.Join(keep, "dump.txt"), dump)
	for name, text := range drain(t, binary, copied(t, data), "end").text {
		writeFile(t, filepath.Join(keep, name+".txt"), text)
	}
}

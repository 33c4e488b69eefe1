package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"promagent/test/hostile/parts"
)

// fullSize says that the inputs of test/hostile come as large as they were
// found, one after the other: `make hostile`.
var fullSize = os.Getenv("PROMAGENT_HOSTILE") == "full"

const (
	goodInterval = 300 * time.Millisecond // of the good target's scrapes
	fullLasts    = 40 * time.Second       // how long an input of full size is looked at
	podMiB       = 512                    // what a pod may take, to which an input of full size is held
	killMiB      = 3000                   // where an agent is killed, so that the machine goes on
)

// sized is what differs with the size of an input.
type sized struct {
	path     string        // of the hostile target, with its query
	copies   int           // of the hostile target; 0: one
	n, size  int           // of the API server
	interval time.Duration // of the hostile targets' scrapes; 0: goodInterval
}

// hostileInput is a row of the table in test/hostile/README.md.
type hostileInput struct {
	name        string
	notYet      string                     // what is seen in place of what is right; "": it is right
	fullNotYet  string                     // the same at full size only; "": as notYet
	config      string                     // in test/hostile/cfg; "": target.yml
	api         string                     // mode of the API server
	groups      string                     // targets in place of the hostile one
	remotes     func(h *hostileRun) string // further blocks of remote_write
	bodyLimit   string                     // "": none
	outage      bool                       // the good receiver takes nothing until the input is judged
	unlimited   bool                       // there is no sample_limit
	flags       []string                   // of the agent
	small, full sized                      // full may be left out: then it comes in one size
	look        func(h *hostileRun) verdict
}

// hostileRun is an agent beside a hostile part, a good target and a good receiver.
type hostileRun struct {
	*hostileInput
	sized
	t          *testing.T
	dir        string
	agent      *process
	target     *parts.Target
	targetAddr string
	hostile    *httptest.Server // the target's
	otherHost  *parts.Target    // where redirects go
	otherPort  *parts.Target
	good       *numbered
	rec        *recorder
	began      time.Time
	kills      int // each may have cost a scrape that was under way
}

// serve serves a part until the test ends.
func (h *hostileRun) serve(handler http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	h.t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// elsewhere serves a part on localhost, which is another host than 127.0.0.1.
func (h *hostileRun) elsewhere(handler http.Handler) string {
	_, port, err := net.SplitHostPort(h.serve(handler).Listener.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	return net.JoinHostPort("localhost", port)
}

// pack asks the hostile target once: what it sends packed is packed then.
func (h *hostileRun) pack() {
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.hostile.URL+h.path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip") // it stays packed
	if resp, err := h.hostile.Client().Do(req); err == nil {
		io.Copy(io.Discard, resp.Body) // some have no good answer
		resp.Body.Close()
	}
}

// newHostileRun makes the parts and the config file; the agent does not run yet.
func newHostileRun(t *testing.T, in *hostileInput) *hostileRun {
	h := &hostileRun{
		hostileInput: in, sized: in.small, t: t, dir: t.TempDir(), target: parts.NewTarget(), otherHost: parts.NewTarget(), otherPort: parts.NewTarget(),
		good: newNumbered(t, 5), rec: newRecorder(t, ""),
	}
	if fullSize && in.full != (sized{}) {
		h.sized = in.full
	}
	h.hostile = h.serve(h.target)
	h.targetAddr = h.hostile.Listener.Addr().String()
	path, query, _ := strings.Cut(h.path, "?")
	if h.path != "" {
		h.pack()
	}
	var params, groups []string
	for pair := range strings.SplitSeq(query, "&") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			params = append(params, fmt.Sprintf("%s: [%q]", k, v))
		}
	}
	for i := range max(1, h.copies) {
		groups = append(groups, fmt.Sprintf("{targets: [%q], labels: {n: '%d'}}", h.targetAddr, i))
	}
	remotes := ""
	if in.remotes != nil {
		remotes = in.remotes(h)
	}
	otherHost, otherPort := h.elsewhere(h.otherHost), h.serve(h.otherPort).Listener.Addr().String()
	redirects := func(to, via string) string {
		return h.serve(parts.Receiver("redirect", "http://"+to+"/show?via="+strings.ReplaceAll(via, " ", "+"))).Listener.Addr().String()
	}
	samples := "1000"
	if in.unlimited {
		samples = "0"
	}
	text, err := os.ReadFile(filepath.Join("../hostile/cfg", cmp.Or(in.config, "target.yml")))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(h.dir, "prometheus.yml"), strings.NewReplacer(
		"GOOD_INTERVAL", goodInterval.String(), "INTERVAL", cmp.Or(h.interval, goodInterval).String(),
		"PATH", cmp.Or(path, "/good"), "PARAMS", strings.Join(params, ", "), "BODY_LIMIT", cmp.Or(in.bodyLimit, "0"), "SAMPLE_LIMIT", samples,
		"HOSTILE", cmp.Or(strings.ReplaceAll(in.groups, "TARGET", h.targetAddr), strings.Join(groups, ", ")), "REMOTES", remotes,
		"TO_OTHER_HOST", redirects(otherHost, "remote to another host"), "TO_OTHER_PORT", redirects(otherPort, "remote to another port"),
		"OTHER_HOST", otherHost, "OTHER_PORT", otherPort, "TARGET", h.targetAddr, "GOOD", h.good.instance(),
		"RECEIVER", h.rec.addr(), "API", h.serve(parts.APIServer(in.api, h.n, h.size, "http://"+otherHost)).Listener.Addr().String(),
	).Replace(string(text)))
	return h
}

func (h *hostileRun) start() {
	h.t.Helper()
	h.agent = startBoth(h.t, false, h.dir, append([]string{"--storage.agent.retention.max-size=512MB"}, h.flags...)...)
	h.began = time.Now()
}

// run runs an input of small size: what must hold with any of them, and what its status says.
func (h *hostileRun) run() {
	h.rec.fault = map[string]answer{"/w": {Status: http.StatusServiceUnavailable}}
	h.rec.setFault(h.outage)
	h.start()
	before := h.good.scrapes()
	judge(h.t, h.notYet, 30*time.Second, func() verdict { return h.look(h) })
	h.rec.setFault(false)
	h.turns(5)
	share := 2
	if h.notYet != "" {
		share = 10 // what misbehaves may take a processor for a time
	}
	if took, got := time.Since(h.began), h.good.scrapes()-before; got < int(took/goodInterval)/share {
		h.t.Errorf("the good target was scraped %d times in %s", got, took)
	}
	if _, err := h.agent.get("/-/ready"); err != nil {
		h.t.Error(err)
	}
	h.arrived()
	limit := 8 * time.Second
	if h.notYet != "" {
		limit = 15 * time.Second // what is unpacked or parsed is not given up
	}
	h.end(limit)
}

// turns waits for scrapes of the good target.
func (h *hostileRun) turns(n int) {
	h.t.Helper()
	want := h.good.scrapes() + n
	eventually(h.t, 30*time.Second, "the good target is scraped", func() error {
		if got := h.good.scrapes(); got < want {
			return fmt.Errorf("%d times, want %d", got, want)
		}
		return nil
	})
}

// end ends the agent, in time.
func (h *hostileRun) end(limit time.Duration) {
	h.t.Helper()
	begin := time.Now()
	h.agent.end(syscall.SIGTERM)
	if took := time.Since(begin); took > limit || h.agent.cmd.ProcessState.ExitCode() != 0 {
		h.t.Errorf("SIGTERM took %s; exit code %d", took, h.agent.cmd.ProcessState.ExitCode())
	}
}

// arrived waits until the good receiver has all of the good target so far but
// what is said to have failed.
func (h *hostileRun) arrived() {
	h.t.Helper()
	n := h.good.scrapes() - 1 // one may be under way
	eventually(h.t, 10*time.Second, "what was scraped is with the receiver", func() error {
		want := h.good.series * (n - h.rec.failed(h.good.instance(), time.Now(), "/w") - h.kills)
		if got := h.rec.count("/w", h.good.name, n); got < want || got == 0 {
			return fmt.Errorf("%d samples of %d scrapes are, want %d", got, n, want)
		}
		return nil
	})
}

// runFull runs an input of full size in what a pod has, and says what it took.
// An input that is right is held to it.
func (h *hostileRun) runFull() {
	h.start()
	pid, before := h.agent.cmd.Process.Pid, h.good.scrapes()
	peak, killed := 0, ""
	for time.Since(h.began) < fullLasts && killed == "" {
		peak = max(peak, memory(pid, "VmHWM"))
		if now := memory(pid, "VmRSS"); now > killMiB {
			killed = fmt.Sprintf(", killed at %d MiB", now)
			h.agent.end(syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond) // bounds what it takes in between
	}
	got, took, begin := h.good.scrapes()-before, time.Since(h.began), time.Now()
	h.agent.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-h.agent.done:
	case <-time.After(time.Minute):
		killed = ", killed a minute after SIGTERM"
	}
	ended := time.Since(begin)
	h.t.Logf("%s: peak %d MiB, %d good scrapes in %.0f s, SIGTERM took %.1f s%s", h.name, peak, got, took.Seconds(), ended.Seconds(), killed)
	if well := peak <= podMiB && killed == "" && got >= int(took/goodInterval)*4/5 && ended < 10*time.Second; !well && h.notYet+h.fullNotYet == "" {
		h.t.Errorf("that is too much for a pod of %d MiB", podMiB)
	}
}

// memory is a line of a process's status, MiB; 0 when it has ended.
func memory(pid int, line string) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(line + `:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		return 0
	}
	kib, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return 0
	}
	return kib >> 10
}

// hostileTargets are the targets of the job hostile.
func (h *hostileRun) hostileTargets() (all []hostileTarget, err error) {
	text, err := h.agent.get("/api/v1/targets?state=active")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct{ ActiveTargets []hostileTarget }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(answer.Data.ActiveTargets, func(target hostileTarget) bool { return target.ScrapePool != "hostile" }), nil
}

// hostileTarget is a target as the API has it.
type hostileTarget struct {
	ScrapePool, Health, LastError string
	LastScrapeDuration            float64
}

// scraped says that each hostile target has been scraped.
func (h *hostileRun) scraped() error {
	all, err := h.hostileTargets()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(target hostileTarget) bool { return target.Health == "unknown" }) || len(all) == 0 {
		return errors.New("the hostile targets are not scraped yet")
	}
	return nil
}

// within makes a verdict of a figure: at most so much is right, at least so much is known.
func within(what string, got, right, seen float64) verdict {
	v := verdict{}
	if got > right {
		v.right = fmt.Errorf("%s: %.1f, want at most %v", what, got, right)
	}
	if got < seen {
		v.seen = fmt.Errorf("%s: %.1f, want at least %v", what, got, seen)
	}
	return v
}

// unless is the verdict when there is no error.
func unless(err error, look func() verdict) verdict {
	if err != nil {
		return verdict{err, err}
	}
	return look()
}

// held looks at the memory, MiB, that the agent cannot give back.
func held(right, seen float64) func(h *hostileRun) verdict {
	return func(h *hostileRun) verdict {
		return unless(h.settled(), func() verdict {
			if _, err := h.agent.get("/debug/pprof/heap?gc=1"); err != nil { // collects first
				return verdict{err, err}
			}
			return within("MiB held", h.agent.metric("go_memstats_heap_alloc_bytes")/(1<<20), right, seen)
		})
	}
}

// peak looks at the most memory, MiB, that the agent had.
func peak(right, seen float64) func(h *hostileRun) verdict {
	return func(h *hostileRun) verdict {
		return unless(h.settled(), func() verdict {
			return within("MiB at the peak", float64(memory(h.agent.cmd.Process.Pid, "VmHWM")), right, seen)
		})
	}
}

// settled says that the hostile part has been met, and a second has passed.
func (h *hostileRun) settled() error {
	if wait := time.Second - time.Since(h.began); wait > 0 {
		return fmt.Errorf("%s to wait", wait)
	}
	if h.api != "" {
		if h.agent.metric("prometheus_sd_discovered_targets") < 2 {
			return errors.New("no pod is discovered")
		}
		return nil
	}
	return h.scraped()
}

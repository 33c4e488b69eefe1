package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fieldCase is a case of test/field.
type fieldCase struct {
	name   string // its folder, and behind a slash what is varied
	notYet string // what is seen in place of what is right; "": it is right
	run    func(t *testing.T, c fieldCase)
}

var fieldCases = slices.Concat([]fieldCase{
	{"12-full-volume", "what was scraped before a restart is deleted", fullVolume}, // first, for it takes longest
	{"01-exemplar-repeat/1.x", "", equalToPrometheus("/1.x")},
	{"01-exemplar-repeat/2.0", "", equalToPrometheus("/2.0")},
	{"02-created-lines/created-timestamp-zero-ingestion", "the lines _created are series", equalToPrometheus("/2.0", "--enable-feature=created-timestamp-zero-ingestion")},
	{"02-created-lines/st-storage", "the lines _created are series", equalToPrometheus("/2.0", "--enable-feature=st-storage")},
	{"03-nhcb", "the buckets stay series of their own", equalToPrometheus("/2.0")},
	{"10-tracing", "there are no spans", tracing},
	{"11-auth-expired/w401", "refused for good", senderRefused},
	{"11-auth-expired/w403", "refused for good", senderRefused},
	{"11-auth-expired/w429", "refused for good", senderRefused},
	{"11-auth-expired/woauth", "", senderRefused},
	{"19-redirect/301", "refused for good, and the log does not say where to", redirected},
	{"19-redirect/302", "refused for good, and the log does not say where to", redirected},
	{"19-redirect/303", "refused for good, and the log does not say where to", redirected},
	{"19-redirect/307", "", redirected},
	{"19-redirect/308", "", redirected},
	{"19-redirect/loop", "", redirected},
	{"22-k8s", "", jsonOnly},
}, damageCases())

func (c fieldCase) folder() string {
	folder, _, _ := strings.Cut(c.name, "/")
	return filepath.Join("../field/cases", folder)
}

// variant is what is behind the slash of its name.
func (c fieldCase) variant() string {
	_, variant, _ := strings.Cut(c.name, "/")
	return variant
}

// file is a file of its folder; "" when it has none of that name.
func (c fieldCase) file(t testing.TB, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(c.folder(), pattern))
	if err != nil || len(found) > 1 {
		t.Fatalf("%s in %s is %v: %v", pattern, c.folder(), found, err)
	}
	return strings.Join(found, "")
}

// configure writes the case's config with the addresses in place of their
// names, and returns the folder that it is in.
func (c fieldCase) configure(t testing.TB, names ...string) string {
	t.Helper()
	text, err := os.ReadFile(c.file(t, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "prometheus.yml"), strings.NewReplacer(names...).Replace(string(text)))
	return dir
}

// Reports from the field: what the agent makes of them is what is right, which
// is mostly what Prometheus makes of them, or just what is known to be wrong.
func TestFieldCases(t *testing.T) {
	together(t, fieldCases, func(c fieldCase) string { return c.name }, func(t *testing.T, c fieldCase) { c.run(t, c) })
}

func TestFieldReadmeHasTheStatusOfEveryCase(t *testing.T) {
	notYet, folders := map[string]string{}, map[string]bool{}
	for _, c := range fieldCases {
		notYet[c.name] = c.notYet
		folders[c.folder()] = true
	}
	compareStatuses(t, "../field/README.md", notYet)
	found, err := filepath.Glob("../field/cases/*")
	if err != nil || len(found) != len(folders) {
		t.Errorf("the folders are %v (%v), the cases use %v", found, err, folders)
	}
}

// startBoth starts the agent or, as the oracle, the current Prometheus agent on the config in dir.
func startBoth(t testing.TB, oracle bool, dir string, flags ...string) *process {
	t.Helper()
	name, argv := "agent", []string{agentBinary}
	if oracle {
		if currentBinary == "" {
			t.Fatal("PROMETHEUS names no binary; run `make e2e`")
		}
		name, argv = "prometheus", []string{currentBinary, "--agent"}
	}
	addr := ownAddr(t)
	argv = append(argv, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.agent.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--scrape.discovery-reload-interval=100ms")
	return start(t, name, addr, "/-/ready", append(argv, flags...)...)
}

// warned holds that the agent says at its start that something does nothing;
// so does check config, when the config file has it.
func warned(t *testing.T, agent *process, what, config string) {
	t.Helper()
	text, err := os.ReadFile(agent.log)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return strings.Contains(line, "level=WARN") && strings.Contains(line, what)
	}) {
		t.Errorf("the log has no warning that names %s", what)
	}
	text, err = os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(what)) {
		return
	}
	if out, err := exec.Command(agentBinary, "check", "config", config).CombinedOutput(); err != nil || !strings.Contains(string(out), "WARNING") || !strings.Contains(string(out), what) {
		t.Errorf("check config does not warn of %s (%v):\n%s", what, err, out)
	}
}

// side is the agent or Prometheus, with a target and a receiver of its own.
type side struct {
	*process
	target *exposed
	rec    *recorder
	config string
}

func newSide(t *testing.T, c fieldCase, oracle bool, flags ...string) side {
	t.Helper()
	target, rec := newExposed(t, c.file(t, "metrics.*")), newRecorder(t, "")
	dir := c.configure(t, "TARGET", target.addr(), "RECEIVER", rec.addr())
	return side{startBoth(t, oracle, dir, flags...), target, rec, filepath.Join(dir, "prometheus.yml")}
}

// lines are what has come of the first n scrapes, on a path.
func (s side) lines(path string, n int) ([]string, error) {
	lines, err := s.rec.lines(path, n)
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], s.target.addr(), "TARGET")
	}
	return lines, err
}

// disturbed waits until n samples of each series have come on a path, and says
// whether a scrape has failed, as one may on a machine that has much to do.
func (s side) disturbed(t *testing.T, path string, n int) bool {
	t.Helper()
	failed := 0
	eventually(t, 20*time.Second, "samples have arrived from "+s.name, func() error {
		if failed = s.rec.failed(s.target.addr(), time.Now(), path); failed > 0 {
			return nil
		}
		_, err := s.lines(path, n)
		return err
	})
	return failed > 0
}

// equalToPrometheus says that what arrives on a path is what arrives there from
// Prometheus, but for the times of the scrapes. What is seen of a case that is
// not yet right is in its file today.txt; then the agent warns of the feature
// or key that makes the difference.
func equalToPrometheus(path string, flags ...string) func(*testing.T, fieldCase) {
	const samples = 6 // of each series
	return func(t *testing.T, c fieldCase) {
		var agent, oracle side
		for try := range 4 {
			agent, oracle = newSide(t, c, false, flags...), newSide(t, c, true, flags...)
			if !agent.disturbed(t, path, samples) && !oracle.disturbed(t, path, samples) {
				break
			}
			t.Logf("try %d: a scrape has failed", try)
			agent.end(syscall.SIGKILL)
			oracle.end(syscall.SIGKILL)
		}
		var today []string
		if c.notYet != "" {
			key := strings.TrimPrefix(strings.Join(flags, ""), "--enable-feature=")
			if key == "" {
				key = "convert_classic_histograms_to_nhcb"
			}
			warned(t, agent.process, key, agent.config)
			text, err := os.ReadFile(c.file(t, "today.txt"))
			if err != nil {
				t.Fatal(err)
			}
			today = strings.Split(strings.TrimSpace(string(text)), "\n")
		}
		judge(t, c.notYet, 3*time.Second, func() verdict {
			got, err := agent.lines(path, samples)
			if err != nil {
				return verdict{err, err}
			}
			want, err := oracle.lines(path, samples)
			if err != nil {
				return verdict{err, err}
			}
			return verdict{different("Prometheus", got, want), different("today.txt", got, today)}
		})
	}
}

// different is the error that the lines of one side are missing on the other.
func different(where string, got, want []string) error {
	var e []error
	for _, line := range want {
		if !slices.Contains(got, line) {
			e = append(e, fmt.Errorf("%s has, and the agent has not: %.500s", where, line))
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			e = append(e, fmt.Errorf("the agent has, and %s has not: %.500s", where, line))
		}
	}
	const shown = 10
	if len(e) > shown {
		e = append(e[:shown], fmt.Errorf("and %d more", len(e)-shown))
	}
	return errors.Join(e...)
}

// tracing compares which requests say that they are traced, and whether spans
// are there after the end, with Prometheus.
func tracing(t *testing.T, c fieldCase) {
	traced := func(oracle bool) string {
		var spans atomic.Int64
		collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { spans.Add(1) }))
		defer collector.Close()
		target, rec := newExposed(t, c.file(t, "metrics.*")), newRecorder(t, "")
		dir := c.configure(t, "TARGET", target.addr(), "RECEIVER", rec.addr(), "COLLECTOR", collector.Listener.Addr().String())
		p := startBoth(t, oracle, dir)
		if !oracle && c.notYet != "" {
			warned(t, p, "tracing", filepath.Join(dir, "prometheus.yml"))
		}
		n := target.scraped(t, 3)
		eventually(t, 10*time.Second, "a scrape has arrived", func() error {
			if rec.count("/1.x", "a", n) == 0 {
				return errors.New("none has")
			}
			return nil
		})
		p.end(syscall.SIGTERM)
		target.mu.Lock()
		defer target.mu.Unlock()
		scrapes := slices.ContainsFunc(target.headers, func(h http.Header) bool { return h.Get("traceparent") != "" })
		return fmt.Sprintf("scrapes %v, remote write %v, spans %v", scrapes, rec.sawHeader("traceparent"), spans.Load() > 0)
	}
	got, want := traced(false), traced(true)
	judge(t, c.notYet, 0, func() verdict {
		v := verdict{}
		if got != want {
			v.right = fmt.Errorf("traced are %s; of Prometheus %s", got, want)
		}
		if none := "scrapes false, remote write false, spans false"; got != none {
			v.seen = fmt.Errorf("traced are %s, want %s", got, none)
		}
		return v
	})
}

// outage is what a case with a fault of its receiver has gone through.
type outage struct {
	target *exposed
	rec    *recorder
	agent  *process
	last   int       // number of the last scrape
	at     time.Time // when that was
	during int       // scrapes that were made in the fault
}

// through runs a case through a fault of its receiver. ready is a path that
// gets samples, fault one that has met the fault.
func through(t *testing.T, c fieldCase, ready, fault string) outage {
	t.Helper()
	target, rec := newExposed(t, c.file(t, "metrics.*")), newRecorder(t, c.file(t, "receiver.json"))
	agent := startBoth(t, false, c.configure(t, "TARGET", target.addr(), "RECEIVER", rec.addr()))
	eventually(t, 10*time.Second, "the first scrapes have arrived", func() error {
		if got := rec.count(ready, "a", 2); got < 2 {
			return fmt.Errorf("%d of 2", got)
		}
		return nil
	})
	rec.setFault(true)
	before := target.scrapes()
	target.scraped(t, 5)
	eventually(t, 10*time.Second, "the fault is met", func() error {
		if got := rec.metFault(fault); got < 3 {
			return fmt.Errorf("by %d requests", got)
		}
		return nil
	})
	during := target.scrapes() - before
	rec.setFault(false)
	last := target.scraped(t, 3)
	return outage{target, rec, agent, last, time.Now(), during}
}

// senderRefused holds that what is refused because of the sender is kept, and
// sent when the sender is welcome again.
func senderRefused(t *testing.T, c fieldCase) {
	path := "/" + c.variant()
	fault := strings.Replace(path, "woauth", "oauth", 1)
	o := through(t, c, path, fault)
	judge(t, c.notYet, 10*time.Second, func() verdict { return o.kept(path) })
}

// kept says whether all scrapes have arrived on the paths, or about those that
// were made in a fault are missing. A scrape that is said to have failed has
// taken a number with it.
func (o outage) kept(paths ...string) verdict {
	missing, err := o.rec.missing(paths[0], "a", o.last), passed(o.rec, o.at, paths...)
	if err != nil {
		return verdict{err, err}
	}
	for _, path := range paths[1:] {
		also := o.rec.missing(path, "a", o.last)
		missing = slices.DeleteFunc(missing, func(v int) bool { return !slices.Contains(also, v) })
	}
	v, failed := verdict{}, o.rec.failed(o.target.addr(), time.Now(), paths...)
	if len(missing) > failed {
		v.right = fmt.Errorf("of %d scrapes %v are missing; %d failed", o.last, missing, failed)
	}
	if len(missing) < 3 || len(missing) > o.during+1+failed {
		v.seen = fmt.Errorf("of %d scrapes %v are missing, want about the %d of the fault; %d failed", o.last, missing, o.during, failed)
	}
	return v
}

// passed says whether a remote has got to what was scraped half a second after a
// time; what is older has then come or never will.
func passed(rec *recorder, at time.Time, paths ...string) error {
	var newest time.Time
	for _, path := range paths {
		if come := rec.newest(path); come.After(newest) {
			newest = come
		}
	}
	if newest.Before(at.Add(500 * time.Millisecond)) {
		return fmt.Errorf("the newest scrape that has arrived is of %s, want one after %s", newest.Format(time.StampMilli), at.Format(time.StampMilli))
	}
	return nil
}

// redirected holds that what a receiver redirects is not lost: it goes to the
// new place, or is kept while the agent says where that would be.
func redirected(t *testing.T, c fieldCase) {
	path := "/" + c.variant()
	o := through(t, c, path, path)
	judge(t, c.notYet, 10*time.Second, func() verdict {
		v := o.kept(path, "/final"+c.variant())
		followed := o.rec.count("/final"+c.variant(), "a", o.last) > 0
		text, err := os.ReadFile(o.agent.log)
		if err != nil {
			return verdict{err, err}
		}
		if said := bytes.Contains(text, []byte("/final"+c.variant())); !followed && !said && v.right == nil && path != "/loop" {
			v.right = errors.New("the log does not say where to")
		}
		return v
	})
}

// fullVolume has a log on a volume that others have filled to 93 percent. The
// agent is killed twice while its receiver is down.
func fullVolume(t *testing.T, c fieldCase) {
	const size, others = 200 << 20, 186 << 20
	target, rec := newExposed(t, c.file(t, "metrics.*")), newRecorder(t, c.file(t, "receiver.json"))
	rec.setFault(true)
	dir := c.configure(t, "TARGET", target.addr(), "RECEIVER", rec.addr())
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprint("size=", size), "tmpfs", data).CombinedOutput(); err != nil {
		t.Fatalf("a tmpfs cannot be mounted; run it under test/netns: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(data, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	f, err := os.Create(filepath.Join(data, "others"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, others); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		agent := startBoth(t, false, dir)
		target.scraped(t, 15)
		agent.end(syscall.SIGKILL)
	}
	startBoth(t, false, dir)
	target.scraped(t, 15)
	n := target.silence()
	rec.setFault(false)
	again := time.Now()
	judge(t, c.notYet, 10*time.Second, func() verdict {
		if err := passed(rec, again, "/1.x"); err != nil {
			return verdict{err, err}
		}
		const kills = 2 // what was being scraped then need not be there
		got, want, v := rec.count("/1.x", "s", n), 50*(n-kills-rec.failed(target.addr(), target.silent, "/1.x")), verdict{}
		if got < want {
			v.right = fmt.Errorf("%d of %d samples have arrived", got, want)
		}
		if got < want/5 || got > want*4/5 {
			v.seen = fmt.Errorf("%d of %d samples have arrived, want what the last start has scraped", got, want)
		}
		return v
	})
}

// jsonOnly compares the targets of every role, found at an API server that
// speaks JSON and no protobuf, with those of Prometheus.
func jsonOnly(t *testing.T, c fieldCase) {
	targets := func(oracle bool) func() ([]string, error) {
		api := newJSONServer(t, c.file(t, "objects.json"))
		p := startBoth(t, oracle, c.configure(t, "API", api.Listener.Addr().String()))
		return func() ([]string, error) { return discovered(p) }
	}
	got, want := targets(false), targets(true)
	judge(t, c.notYet, 15*time.Second, func() verdict {
		oracle, err := want()
		// A service comes with the second list, a pod with the watch: only then has Prometheus all.
		if text := strings.Join(oracle, "\n"); err == nil && !(strings.Contains(text, `"late"`) && strings.Contains(text, `"added"`) && !strings.Contains(text, `"plain"`)) {
			err = fmt.Errorf("Prometheus has %d targets so far", len(oracle))
		}
		if err != nil {
			return verdict{err, err}
		}
		have, err := got()
		if err != nil {
			return verdict{err, err}
		}
		v := verdict{right: different("Prometheus", have, oracle)}
		if len(have) > 0 {
			v.seen = fmt.Errorf("there are %d targets, want none", len(have))
		}
		return v
	})
}

// discovered are the targets of a process as the API has them: job, URL and labels.
func discovered(p *process) ([]string, error) {
	text, err := p.get("/api/v1/targets?state=active")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			ActiveTargets []struct {
				ScrapePool, ScrapeURL    string
				DiscoveredLabels, Labels map[string]string
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return nil, err
	}
	var all []string
	for _, target := range answer.Data.ActiveTargets {
		line, err := json.Marshal(target)
		if err != nil {
			return nil, err
		}
		all = append(all, string(line))
	}
	slices.Sort(all)
	return all, nil
}

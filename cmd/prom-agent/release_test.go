package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// releaseRemotes are the remotes of the directories that one release leaves to
// another; README.md in testdata/releases says what has become of each.
var releaseRemotes = []struct {
	name, message string
	newestFirst   bool
}{
	{"central", "prometheus.WriteRequest", false},
	{"cloud", "io.prometheus.write.v2.Request", false},
	{"newest", "io.prometheus.write.v2.Request", true},
}

// releaseReceivers is a receiver for each of them.
type releaseReceivers map[string]*collector

func newReleaseReceivers(t testing.TB) releaseReceivers {
	all := releaseReceivers{}
	for _, r := range releaseRemotes {
		all[r.name] = newCollector(t)
	}
	return all
}

// config is that of an agent with these receivers and these jobs.
func (rs releaseReceivers) config(jobs string) string {
	var b, own strings.Builder
	fmt.Fprintf(&b, "global: {scrape_interval: 1s, scrape_timeout: 1s, external_labels: {cluster: edge-1}}\n%sremote_write:\n", jobs)
	for _, r := range releaseRemotes {
		fmt.Fprintf(&b, "- name: %s\n  url: %s\n  protobuf_message: %s\n  send_exemplars: true\n", r.name, rs[r.name].URL, r.message)
		fmt.Fprintf(&b, "  queue_config: {batch_send_deadline: 100ms, min_backoff: 10ms, max_backoff: 100ms, max_samples_per_send: 25, max_shards: 4}\n")
		if r.newestFirst {
			fmt.Fprintf(&own, "prom_agent: {remotes: [{name: %s, newest_first: true}]}\n", r.name)
		}
	}
	return b.String() + own.String()
}

// collector is a receiver that keeps what it takes, by series and in the order of arrival.
type collector struct {
	*httptest.Server
	gate func(*http.Request) int // the status of a request, after a while if need be; nil: it is taken

	mu     sync.Mutex
	lines  map[string][]string
	faults []string
}

func newCollector(t testing.TB) *collector {
	c := &collector{lines: map[string][]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(func() {
		c.CloseClientConnections()
		c.Close()
	})
	return c
}

func (c *collector) serve(w http.ResponseWriter, r *http.Request) {
	packed, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed
	}
	status := http.StatusNoContent
	if c.gate != nil {
		status = c.gate(r)
	}
	if status == http.StatusNoContent {
		samples, exemplars, err := c.take(packed, strings.Contains(r.Header.Get("Content-Type"), "write.v2"))
		if err != nil {
			c.mu.Lock()
			c.faults = append(c.faults, err.Error())
			c.mu.Unlock()
		}
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(samples))
		w.Header().Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(exemplars))
		w.Header().Set("X-Prometheus-Remote-Write-Histograms-Written", "0")
	}
	w.WriteHeader(status)
}

func (c *collector) take(packed []byte, v2 bool) (samples, exemplars int, err error) {
	raw, err := snappy.Decode(nil, packed)
	if err != nil {
		return 0, 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v2 {
		return c.takeV2(raw)
	}
	var m prompb.WriteRequest
	if err := m.Unmarshal(raw); err != nil {
		return 0, 0, err
	}
	for _, md := range m.Metadata {
		c.keep("metadata of "+md.MetricFamilyName, "%s %q %q", md.Type, md.Help, md.Unit)
	}
	for _, ts := range m.Timeseries {
		series := pairsText(len(ts.Labels), func(i int) (string, string) { return ts.Labels[i].Name, ts.Labels[i].Value })
		for _, s := range ts.Samples {
			c.keep(series, "%d %s", s.Timestamp, bitsText(s.Value))
		}
		for _, x := range ts.Exemplars {
			c.keep("exemplars of "+series, "%d %s %s", x.Timestamp, bitsText(x.Value),
				pairsText(len(x.Labels), func(i int) (string, string) { return x.Labels[i].Name, x.Labels[i].Value }))
		}
		if len(ts.Histograms) > 0 {
			c.keep(series, "%d histograms", len(ts.Histograms))
		}
		samples, exemplars = samples+len(ts.Samples), exemplars+len(ts.Exemplars)
	}
	return samples, exemplars, nil
}

// takeV2 takes a 2.0 message. c.mu is held.
func (c *collector) takeV2(raw []byte) (samples, exemplars int, err error) {
	var m writev2.Request
	if err := m.Unmarshal(raw); err != nil {
		return 0, 0, err
	}
	pairs := func(refs []uint32) string {
		return pairsText(len(refs)/2, func(i int) (string, string) { return m.Symbols[refs[2*i]], m.Symbols[refs[2*i+1]] })
	}
	for _, ts := range m.Timeseries {
		series := pairs(ts.LabelsRefs)
		series += fmt.Sprintf(" %s %q %q", strings.TrimPrefix(ts.Metadata.Type.String(), "METRIC_TYPE_"), m.Symbols[ts.Metadata.HelpRef], m.Symbols[ts.Metadata.UnitRef])
		for _, s := range ts.Samples {
			start := ""
			if s.StartTimestamp != 0 {
				start = fmt.Sprintf(" start=%d", s.StartTimestamp)
			}
			c.keep(series, "%d %s%s", s.Timestamp, bitsText(s.Value), start)
		}
		for _, x := range ts.Exemplars {
			c.keep("exemplars of "+series, "%d %s %s", x.Timestamp, bitsText(x.Value), pairs(x.LabelsRefs))
		}
		if len(ts.Histograms) > 0 {
			c.keep(series, "%d histograms", len(ts.Histograms))
		}
		samples, exemplars = samples+len(ts.Samples), exemplars+len(ts.Exemplars)
	}
	return samples, exemplars, nil
}

// keep takes one thing in. c.mu is held.
func (c *collector) keep(series, format string, args ...any) {
	c.lines[series] = append(c.lines[series], fmt.Sprintf(format, args...))
}

func pairsText(n int, pair func(i int) (name, value string)) string {
	m := map[string]string{}
	for i := range n {
		name, v := pair(i)
		m[name] = v
	}
	return labels.FromMap(m).String()
}

// bitsText tells all values apart, also those that are not numbers.
func bitsText(v float64) string {
	switch {
	case value.IsStaleNaN(v):
		return "stale"
	case math.IsNaN(v):
		return fmt.Sprintf("NaN:%x", math.Float64bits(v))
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// text is all that has come: series in order of their names, and below each
// what came, in order; in any, sorted, where there is none to hold.
func (c *collector) text(anyOrder bool) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, series := range sortedKeys(c.lines) {
		fmt.Fprintln(&b, series)
		lines := c.lines[series]
		if anyOrder {
			lines = slices.Sorted(slices.Values(lines))
		}
		for _, l := range lines {
			fmt.Fprintln(&b, "  "+l)
		}
	}
	for _, f := range c.faults {
		fmt.Fprintln(&b, "a request that cannot be read:", f)
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// startOn runs an agent of any release on a data directory, and waits until it is ready.
func startOn(t testing.TB, binary, data, config string, args ...string) *agentProcess {
	t.Helper()
	a := &agentProcess{file: filepath.Join(t.TempDir(), "prometheus.yml"), data: data}
	writeFile(t, a.file, config)
	a.process = startCommand(t, exec.Command(binary, append([]string{"--config.file=" + a.file, "--storage.agent.path=" + data,
		"--web.listen-address=127.0.0.1:0", "--scrape.discovery-reload-interval=20ms"}, args...)...))
	a.url = "http://" + a.waitFor(`msg="Listening on" component=web address=(\S+)\n`)[1]
	a.waitFor(`Server is ready to receive web requests`)
	return a
}

// drained is what came of a directory that an agent has delivered.
type drained struct {
	text map[string]string // what each remote got
	lost map[string]string // the samples that each lost, by reason
	bad  string            // places of the log that were found damaged
	log  string            // what the agent logged
}

// drain has a release deliver what is in a directory, and ends it when nothing
// is left. It has no targets: nothing is added.
func drain(t testing.TB, binary, data string) drained {
	t.Helper()
	rs := newReleaseReceivers(t)
	a := startOn(t, binary, data, rs.config(""))
	until(t, "everything is delivered", func() bool {
		behind := a.behind()
		return len(behind) == len(releaseRemotes) && !slices.ContainsFunc(behind, func(n uint64) bool { return n > 0 })
	})
	d := drained{text: map[string]string{}, lost: map[string]string{}, bad: a.metric("prometheus_agent_corruptions_total")}
	_, metrics := a.request("GET", "/metrics")
	for _, l := range strings.Split(metrics, "\n") {
		for _, r := range releaseRemotes {
			if strings.HasPrefix(l, "prom_agent_remote_lost_samples_total{") && strings.Contains(l, `remote_name="`+r.name+`"`) {
				_, reason, _ := strings.Cut(l, `reason="`)
				reason, _, _ = strings.Cut(reason, `"`)
				if n := l[strings.LastIndexByte(l, ' ')+1:]; n != "0" {
					d.lost[r.name] += reason + " " + n
				}
			}
		}
	}
	a.signal(syscall.SIGTERM)
	if code := a.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	d.log = a.output()
	for _, r := range releaseRemotes {
		d.text[r.name] = rs[r.name].text(r.newestFirst)
	}
	return d
}

// behind is how many samples each remote lacks, as the agent shows it.
func (a *agentProcess) behind() (all []uint64) {
	a.t.Helper()
	_, body := a.request("GET", "/api/v1/status/remotes")
	var answer struct {
		Data []struct{ BehindSamples uint64 }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		a.t.Fatalf("%v: %s", err, body)
	}
	for _, r := range answer.Data {
		all = append(all, r.BehindSamples)
	}
	return all
}

// command runs a release's binary to its end.
func command(t testing.TB, binary string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s%s", args, err, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

// copied is a copy of a directory that an agent may work on.
func copied(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantSame says where two texts of lines differ first.
func wantSame(t testing.TB, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	i := 0
	for i < len(g) && i < len(w) && g[i] == w[i] {
		i++
	}
	part := func(l []string) string { return strings.Join(l[max(0, min(i, len(l))-3):min(i+3, len(l))], "\n") }
	t.Errorf("%s: %d lines, want %d; at line %d\n%s\nwant\n%s", what, len(g), len(w), i+1, part(g), part(w))
}

// Directories of releases stay in testdata for ever: each later release
// delivers them whole, and to each remote from its position on.
func TestDirectoriesOfEarlierReleasesAreDeliveredWhole(t *testing.T) {
	dirs, err := filepath.Glob("testdata/releases/*/data")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no directories: %v", err)
	}
	for _, dir := range dirs {
		of := filepath.Dir(dir)
		t.Run(filepath.Base(of), func(t *testing.T) {
			data := copied(t, dir)
			if verdict, _ := command(t, agentBinary, "wal", "verify", data); !strings.HasPrefix(verdict, "sound; ") {
				t.Error(verdict)
			}
			dump, _ := command(t, agentBinary, "wal", "inspect", data, "--dump")
			wantSame(t, "dump", dump, readFile(t, filepath.Join(of, "dump.txt")))
			d := drain(t, agentBinary, data)
			for _, r := range releaseRemotes {
				wantSame(t, r.name, d.text[r.name], readFile(t, filepath.Join(of, r.name+".txt")))
			}
			if d.bad != "0" || len(d.lost) > 0 {
				t.Errorf("%s places are damaged, lost: %v", d.bad, d.lost)
			}
			summary, _ := command(t, agentBinary, "wal", "inspect", data)
			if n := strings.Count(summary, " 0 pending;"); n != len(releaseRemotes) {
				t.Errorf("after the delivery:\n%s", summary)
			}
		})
	}
}

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
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

// config is that of an agent with these receivers and these jobs; start is
// where a remote without a position begins.
func (rs releaseReceivers) config(jobs, start string) string {
	var b, own strings.Builder
	fmt.Fprintf(&b, "global: {scrape_interval: 1s, scrape_timeout: 1s, external_labels: {cluster: edge-1}}\n%sremote_write:\n", jobs)
	for _, r := range releaseRemotes {
		fmt.Fprintf(&b, "- name: %s\n  url: %s\n  protobuf_message: %s\n  send_exemplars: true\n", r.name, rs[r.name].URL, r.message)
		fmt.Fprintf(&b, "  queue_config: {batch_send_deadline: 100ms, min_backoff: 10ms, max_backoff: 100ms, max_samples_per_send: 25, max_shards: 4}\n")
		fmt.Fprintf(&own, "  - {name: %s, start: %s, newest_first: %v}\n", r.name, start, r.newestFirst)
	}
	return b.String() + "prom_agent:\n  remotes:\n" + own.String()
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
// is left. It has no targets: nothing is added. A remote without a position
// begins at start.
func drain(t testing.TB, binary, data, start string) drained {
	t.Helper()
	rs := newReleaseReceivers(t)
	a := startOn(t, binary, data, rs.config("", start))
	until(t, "everything is delivered", func() bool {
		remotes := a.remotes()
		return len(remotes) == len(releaseRemotes) &&
			!slices.ContainsFunc(remotes, func(r remoteStatus) bool { return r.Shards == 0 || r.BehindSamples > 0 })
	})
	d := drained{text: map[string]string{}, lost: map[string]string{}, bad: a.metric("prometheus_agent_corruptions_total")}
	_, metrics := a.request("GET", "/metrics")
	for _, l := range strings.Split(metrics, "\n") {
		for _, r := range releaseRemotes {
			if strings.HasPrefix(l, "prom_agent_remote_lost_samples_total{") && strings.Contains(l, `remote_name="`+r.name+`"`) {
				_, reason, _ := strings.Cut(l, `reason="`)
				reason, _, _ = strings.Cut(reason, `"`)
				if n := l[strings.LastIndexByte(l, ' ')+1:]; n != "0" {
					d.lost[r.name] = strings.TrimPrefix(d.lost[r.name]+", "+n+" "+reason, ", ")
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

// remoteStatus is a remote as the API shows it: without shards it has not begun.
type remoteStatus struct {
	Shards        int
	BehindSamples uint64
}

func (a *agentProcess) remotes() []remoteStatus {
	a.t.Helper()
	_, body := a.request("GET", "/api/v1/status/remotes")
	var answer struct{ Data []remoteStatus }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		a.t.Fatalf("%v: %s", err, body)
	}
	return answer.Data
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
			d := drain(t, agentBinary, data, "end")
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

// frameAt finds the n-th frame of a kind, from 0, in a segment's bytes.
func frameAt(t testing.TB, segment []byte, kind wal.Kind, n int) (header, body []byte) {
	t.Helper()
	for rest := segment[48:]; len(rest) >= 28; {
		size := 28 + int(binary.LittleEndian.Uint32(rest))
		if wal.Kind(rest[4]&0x0f) == kind {
			if n == 0 {
				return rest[:28], rest[28:size]
			}
			n--
		}
		rest = rest[size:]
	}
	t.Fatalf("no such frame of kind %d", kind)
	return nil, nil
}

// checked makes a frame's checksums right.
func checked(header, body []byte) {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(header[20:], crc32.Checksum(body, castagnoli))
	binary.LittleEndian.PutUint32(header[24:], crc32.Checksum(header[:24], castagnoli))
}

// delivery is what a remote got of testdata's directory of 0.1.0, and what it
// is said to have lost.
type delivery struct {
	got  int
	lost string
}

// Of the directory, whole: from each remote's position on.
var wholeDelivery = map[string]delivery{"central": {467, ""}, "cloud": {1048, ""}, "newest": {467, ""}}

// butCloud is the whole delivery, but for one remote.
func butCloud(d delivery) map[string]delivery {
	return map[string]delivery{"central": wholeDelivery["central"], "cloud": d, "newest": wholeDelivery["newest"]}
}

// laterFormats are what a later release might write that this one cannot read:
// changes of the bytes of a file of testdata's directory of 0.1.0. What is left
// arrives; the rest is counted, in samples where somebody knows how many, and
// said by a line of the log.
var laterFormats = []struct {
	what, file string
	change     func(t testing.TB, b []byte)
	want       map[string]delivery
	says       string
}{
	{"a segment of a newer format", "log/00000000000000000002.seg",
		func(_ testing.TB, b []byte) { b[8]++ },
		// Some of the samples that central and newest lose had come before the kill.
		map[string]delivery{"central": {378, "137 retention"}, "cloud": {839, "209 retention"}, "newest": {378, "137 retention"}},
		`level=ERROR .*Skipping a file of the log.*0002.seg.*written by a newer version: format 2, this one reads 1`},
	{"the newest segment of a newer format", "log/00000000000000000003.seg",
		func(_ testing.TB, b []byte) { b[8]++ },
		// No later segment says how many samples it has.
		map[string]delivery{"central": {89, ""}, "cloud": {670, ""}, "newest": {89, ""}},
		`level=ERROR .*Skipping a file of the log.*0003.seg.*written by a newer version: format 2, this one reads 1`},
	{"a record of a newer version", "log/00000000000000000003.seg",
		func(t testing.TB, b []byte) {
			header, body := frameAt(t, b, wal.Record, 9)
			body[0]++
			checked(header, body)
		},
		map[string]delivery{"central": {437, "30 corrupt"}, "cloud": {1018, "30 corrupt"}, "newest": {437, "30 corrupt"}},
		`level=ERROR .*Records of the log cannot be read.*unknown version`},
	{"a record with a flag that is not known", "log/00000000000000000001.seg",
		func(t testing.TB, b []byte) {
			header, body := frameAt(t, b, wal.Record, 9)
			body[1] |= 0x40
			checked(header, body)
		},
		butCloud(delivery{1013, "35 corrupt"}),
		`level=ERROR .*Records of the log cannot be read.*record flags 0x40`},
	{"a frame of a kind that is not known", "log/00000000000000000001.seg",
		func(t testing.TB, b []byte) {
			header, body := frameAt(t, b, wal.Record, 9)
			header[4] += 2
			checked(header, body)
		},
		butCloud(delivery{1013, "30 corrupt, 5 retention"}), // the frame itself, and what leans on it
		`level=ERROR .*Records of the log cannot be read.*leans on one of another block`},
	{"an anchor of a newer version", "log/00000000000000000001.seg",
		func(t testing.TB, b []byte) {
			header, body := frameAt(t, b, wal.Anchor, 4)
			raw, err := s2.Decode(nil, body)
			if err != nil {
				t.Fatal(err)
			}
			raw[0]++
			packed := s2.EncodeBetter(nil, raw)
			if len(packed) != len(body) {
				t.Fatalf("%d bytes became %d", len(body), len(packed))
			}
			copy(body, packed)
			checked(header, body)
		},
		butCloud(delivery{1018, "30 corrupt"}),
		`level=ERROR .*Records of the log cannot be read.*anchor of an unknown version`},
	{"a position whose file is of a newer format", "log/cursors/" + cursorOf("cloud"),
		func(_ testing.TB, b []byte) { b[8], b[4096+8] = b[8]+1, b[4096+8]+1 },
		butCloud(delivery{0, ""}), // it is as a new remote: from start on
		`level=ERROR .*A remote's position cannot be read; its file is kept aside.*written by a newer version: format 2`},
	{laterState, "log/cursors/" + cursorOf("cloud"),
		func(_ testing.TB, b []byte) {
			for _, slot := range [][]byte{b[:4096], b[4096:]} {
				size := int(binary.LittleEndian.Uint32(slot[20:]))
				slot[24+1+len("name:cloud")+12] = 99
				binary.LittleEndian.PutUint32(slot[24+size:], crc32.Checksum(slot[:24+size], crc32.MakeTable(crc32.Castagnoli)))
			}
		},
		wholeDelivery,
		`level=ERROR .*The stored position cannot be read.*remote_name=cloud.*version 99 is not known`},
}

const laterState = "a position of a newer version"

// cursorOf is the name of the file of a remote's position.
func cursorOf(remote string) string {
	return fmt.Sprintf("%016x.cur", xxhash.Sum64String("name:"+remote))
}

// samplesOf counts the samples in a text of what has come.
func samplesOf(text string) (n int) {
	exemplars := false
	for l := range strings.Lines(text) {
		switch {
		case !strings.HasPrefix(l, "  "):
			exemplars = strings.HasPrefix(l, "exemplars of ")
		case !exemplars:
			n++
		}
	}
	return n
}

// bySeries takes a text of what has come apart.
func bySeries(text string) map[string][]string {
	all, series := map[string][]string{}, ""
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, "  ") {
			all[series] = append(all[series], l)
		} else {
			series = l
		}
	}
	return all
}

// goesBack has a release deliver testdata's directory of 0.1.0 with something
// of a later release in it. butWant is what is wanted otherwise than
// laterFormats says, by what was changed.
func goesBack(t *testing.T, binary string, butWant map[string]map[string]delivery) {
	const of = "testdata/releases/0.1.0-72d730c"
	for _, c := range laterFormats {
		t.Run(c.what, func(t *testing.T) {
			data := copied(t, filepath.Join(of, "data"))
			path := filepath.Join(data, c.file)
			b := []byte(readFile(t, path))
			c.change(t, b)
			writeFile(t, path, string(b))
			d := drain(t, binary, data, "end")
			want := c.want
			if other := butWant[c.what]; other != nil {
				want = other
			}
			for _, r := range releaseRemotes {
				if got := (delivery{samplesOf(d.text[r.name]), d.lost[r.name]}); got != want[r.name] {
					t.Errorf("%s: got and lost %v, want %v", r.name, got, want[r.name])
				}
				whole := bySeries(readFile(t, filepath.Join(of, r.name+".txt")))
				for series, lines := range bySeries(d.text[r.name]) {
					rest := whole[series]
					for _, l := range lines {
						i := slices.Index(rest, l)
						if i < 0 {
							t.Fatalf("%s: %s%s comes out of order, twice, or was never logged", r.name, series, l)
						}
						rest = rest[i+1:]
					}
				}
			}
			if !regexp.MustCompile(c.says).MatchString(d.log) {
				t.Errorf("the log does not say %q:\n%s", c.says, d.log)
			}
		})
	}
}

func TestWhatALaterReleaseHasWrittenIsCountedAndTheRestDelivered(t *testing.T) {
	goesBack(t, agentBinary, nil)
}

// writeTimesThatGoBack fills a log with samples that are older than those of
// their series before them: whole scrapes, single slots, and further samples of a slot.
func writeTimesThatGoBack(t testing.TB, dir string) (want map[string]string) {
	t.Helper()
	const begin = 1_795_000_000_000
	b := template.NewBuilder(labels.FromStrings("instance", "a", "job", "back"))
	for slot := range 3 {
		b.Add(template.Intern(template.Schema{Name: "back", Labels: []string{"slot"}, Family: "back", Type: "gauge"}), []string{strconv.Itoa(slot)})
	}
	block := b.Block()
	var lines [3][]string
	writeLog(t, dir, func(store *record.Store) {
		v := 0.0
		for i, batch := range []struct {
			time  int64
			times []int64
			extra []template.Extra
		}{
			{time: 0},
			{time: 1000},
			{time: -5000},
			{time: 2000, times: []int64{begin - 9000, template.NoTime, begin + 500}},
			{time: 3000, extra: []template.Extra{{Slot: 0, Kind: template.Sample, Time: begin - 20_000, Value: 99}}},
			{time: 4000},
			{time: 60_000}, // what is before it is a backlog
			{time: 55_000},
		} {
			p := template.Part{Block: block, Values: make([]float64, 3), Times: batch.times, Extra: batch.extra}
			for slot := range p.Values {
				v++
				p.Values[slot] = v
				at := begin + batch.time
				if batch.times != nil && batch.times[slot] != template.NoTime {
					at = batch.times[slot]
				}
				lines[slot] = append(lines[slot], fmt.Sprintf("  %d %s\n", at, bitsText(v)))
			}
			for _, x := range batch.extra {
				lines[x.Slot] = append(lines[x.Slot], fmt.Sprintf("  %d %s\n", x.Time, bitsText(x.Value)))
			}
			if err := store.Append(&template.Batch{Time: begin + batch.time, Parts: []template.Part{p}}); err != nil {
				t.Fatalf("batch %d: %v", i, err)
			}
		}
	})
	want = map[string]string{}
	for _, r := range releaseRemotes {
		metadata := ""
		if strings.HasPrefix(r.message, "io.") {
			metadata = ` GAUGE "" ""`
		}
		for slot, l := range lines {
			if r.newestFirst {
				l = slices.Sorted(slices.Values(l))
			}
			want[r.name] += fmt.Sprintf("{__name__=\"back\", cluster=\"edge-1\", instance=\"a\", job=\"back\", slot=\"%d\"}%s\n%s", slot, metadata, strings.Join(l, ""))
		}
	}
	return want
}

// deliversTimesThatGoBack has a release deliver a log in which times go back: in its order.
func deliversTimesThatGoBack(t *testing.T, binary string) (data string) {
	data = filepath.Join(t.TempDir(), "data")
	want := writeTimesThatGoBack(t, data)
	if verdict, _ := command(t, binary, "wal", "verify", data); !strings.HasPrefix(verdict, "sound; ") {
		t.Error(verdict)
	}
	d := drain(t, binary, data, "oldest")
	for _, r := range releaseRemotes {
		wantSame(t, r.name, d.text[r.name], want[r.name])
	}
	if len(d.lost) > 0 {
		t.Errorf("lost: %v", d.lost)
	}
	return data
}

func TestTimesThatGoBackInTheLogAreDeliveredInItsOrder(t *testing.T) {
	data := deliversTimesThatGoBack(t, agentBinary)
	if verdict, _ := command(t, agentBinary, "wal", "verify", data); !strings.HasPrefix(verdict, "sound; ") {
		t.Error(verdict) // positions at the end of a backlog included
	}
}

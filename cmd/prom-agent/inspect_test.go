package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// writtenLog runs an agent for a few scrapes, ends it, and returns its data directory.
func writtenLog(t testing.TB) string {
	t.Helper()
	target, scrapes := exporter(t)
	a := startAgent(t, "scrape_configs:\n"+job("a", target)+"remote_write: [{url: 'http://"+closedPort(t)+"/', name: central}]\n")
	until(t, "five scrapes", func() bool { return scrapes.Load() >= 5 })
	a.signal(syscall.SIGTERM)
	if code := a.end(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	return a.data
}

// segmentFile is the log's first segment.
func segmentFile(t testing.TB, data string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(data, "log", "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("segments: %v %v", files, err)
	}
	return files[0]
}

// contents is all that a directory holds, by path.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// total is the number of samples in a summary's last row.
func total(t testing.TB, summary string) int {
	t.Helper()
	found := regexp.MustCompile(`(?m)^ *in all +(\d+) `).FindStringSubmatch(summary)
	if found == nil {
		t.Fatalf("no row of the whole in\n%s", summary)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestInspectOfALogThatIsWhole(t *testing.T) {
	data := writtenLog(t)
	before := contents(t, data)
	summary := executed(t, "wal", "inspect", data)
	if summary.code != 0 || summary.stderr != "" || !regexp.MustCompile(`(?m) none *$`).MatchString(summary.stdout) {
		t.Errorf("%+v", summary)
	}
	told := regexp.MustCompile(`(?m)^remote \S*central: 0 samples final, (\d+) pending, the oldest \d+m?\d*s old; keeps segment 1 from offset \d+ on$`).FindStringSubmatch(summary.stdout)
	if told == nil || told[1] != strconv.Itoa(total(t, summary.stdout)) {
		t.Errorf("the remote's position is not told, or not all is pending:\n%s", summary.stdout)
	}
	dump := executed(t, "wal", "inspect", data, "--dump")
	if dump.code != 0 || dump.stderr != "" {
		t.Errorf("dump: code %d, stderr %q", dump.code, dump.stderr)
	}
	if lines, n := strings.Count(dump.stdout, "\n"), total(t, summary.stdout); lines != n || n < 5*7 {
		t.Errorf("%d lines for %d samples of at least 5 scrapes", lines, n)
	}
	for i := 1; i <= 5; i++ {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^\S+Z \{__name__="some_total", a="b c", instance="\S+", job="a"\} %d$`, i)).MatchString(dump.stdout) {
			t.Errorf("some_total of scrape %d is not in the dump", i)
		}
	}
	if after := contents(t, data); len(after) != len(before) {
		t.Errorf("%d files before, %d after", len(before), len(after))
	} else {
		for path, b := range before {
			if after[path] != b {
				t.Errorf("%s was changed", path)
			}
		}
	}
}

func TestInspectOfALogInUse(t *testing.T) {
	target, scrapes := exporter(t)
	a := startAgent(t, "scrape_configs:\n"+job("a", target))
	until(t, "three scrapes", func() bool { return scrapes.Load() >= 3 })
	for _, args := range [][]string{{"wal", "inspect", a.data}, {"wal", "inspect", "--dump", a.data}} {
		if got := executed(t, args...); got.code != 0 || strings.Count(got.stdout, "\n") < 2 {
			t.Errorf("%v: %+v", args, got)
		}
	}
	seen := scrapes.Load()
	until(t, "the agent goes on", func() bool { return scrapes.Load() > seen+1 })
	a.signal(syscall.SIGTERM)
	if code := a.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestInspectTellsDamage(t *testing.T) {
	whole := writtenLog(t)
	samples := total(t, executed(t, "wal", "inspect", whole).stdout)
	const fileHeader, frameHeader = 48, 28
	flip := func(at func(size int) int) func(t *testing.T, data string) {
		return func(t *testing.T, data string) {
			file := segmentFile(t, data)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b[at(len(b))] ^= 0x10
			writeFile(t, file, string(b))
		}
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, data string)
		table  string // in the summary
		told   string // on stderr
		dumped string // in the dump
		left   bool   // samples can still be dumped
	}{
		{name: "a block's body", damage: flip(func(int) int { return fileHeader + frameHeader + 10 }),
			table: "6 frames with 10 samples", told: " at 48: the series of a block: ", dumped: "# ", left: true},
		{name: "the last record's body", damage: flip(func(size int) int { return size - 1 }),
			table: "1 frames with", told: ": samples of a block: ", dumped: "# ", left: true},
		{name: "the first frame's header", damage: flip(func(int) int { return fileHeader + 5 }),
			table: "torn end", told: " at 48: a frame's header does not check; lost: "},
		{name: "the segment's header", damage: flip(func(int) int { return 3 }), told: " at 0: not a segment of the log; lost: "},
		{name: "a file that is no segment", damage: func(t *testing.T, data string) {
			writeFile(t, filepath.Join(data, "log", fmt.Sprintf("%020d.seg", 77)), "short")
		}, told: " at 0: not a segment of the log: shorter than a header; lost: 5 bytes, an unknown number of samples after ", left: true},
		{name: "a remote's position", damage: func(t *testing.T, data string) {
			files, err := filepath.Glob(filepath.Join(data, "log", "cursors", "*.cur"))
			if err != nil || len(files) != 1 {
				t.Fatalf("positions: %v %v", files, err)
			}
			writeFile(t, files[0], strings.Repeat("x", 4096))
		}, told: " at 0: a position cannot be read: ", left: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(data, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			c.damage(t, data)
			got := executed(t, "wal", "inspect", data)
			if got.code != 1 || !strings.Contains(got.stdout, c.table) || !strings.Contains(got.stderr, c.told) {
				t.Errorf("summary: %+v; want code 1, %q in the table and %q told", got, c.table, c.told)
			}
			dump := executed(t, "wal", "inspect", "--dump", data)
			if dump.code != 1 || dump.stderr == "" || !strings.Contains(dump.stdout, c.dumped) {
				t.Errorf("dump: code %d, stderr %q; want code 1, a reason and %q in\n%.2000s", dump.code, dump.stderr, c.dumped, dump.stdout)
			}
			lines := strings.Count(dump.stdout, "Z {")
			if c.left != (lines > 0) || lines > samples {
				t.Errorf("%d samples of %d are dumped", lines, samples)
			}
		})
	}
}

func TestInspectWithoutALog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "")
	empty := t.TempDir()
	prometheus := t.TempDir()
	if err := os.MkdirAll(filepath.Join(prometheus, "wal"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(prometheus, "wal", "00000000"), "")
	const none, foreign = "no prom-agent log in ", "it holds a Prometheus WAL"
	for path, want := range map[string]string{
		filepath.Join(empty, "none"): none, empty: none, file: "not a directory", filepath.Join(empty, "log"): "the directory above",
		prometheus: foreign, filepath.Join(prometheus, "wal"): foreign,
	} {
		got := executed(t, "wal", "inspect", path)
		if got.code != 1 || !strings.Contains(got.stderr, path) || !strings.Contains(got.stderr, want) || got.stdout != "" {
			t.Errorf("%s: %+v, want %q", path, got, want)
		}
		if strings.Contains(got.stderr, foreign) != (want == foreign) {
			t.Errorf("%s: %s", path, got.stderr)
		}
	}
	if left := contents(t, empty); len(left) != 0 {
		t.Errorf("files were made: %v", left)
	}
}

func TestInspectTellsWhatARemoteHas(t *testing.T) {
	target, scrapes := exporter(t)
	var refuse atomic.Bool
	remote := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if refuse.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer remote.Close()
	a := startAgent(t, "scrape_configs:\n"+job("a", target)+"remote_write: [{url: '"+remote.URL+"', name: central, queue_config: {batch_send_deadline: 50ms}}]\n")
	line := regexp.MustCompile(`(?m)^remote \S*central: (\d+) samples final, (\d+) pending(?:, the oldest (\S+) old)?; keeps`)
	inspect := func() (final, pending, samples int, age time.Duration) {
		t.Helper()
		got := executed(t, "wal", "inspect", a.data)
		if got.code != 0 {
			t.Fatalf("%+v", got)
		}
		found := line.FindStringSubmatch(got.stdout)
		if found == nil { // a position is stored a moment after the start
			return 0, 0, total(t, got.stdout), 0
		}
		final, _ = strconv.Atoi(found[1])
		pending, _ = strconv.Atoi(found[2])
		if found[3] != "" {
			var err error
			if age, err = time.ParseDuration(found[3]); err != nil {
				t.Fatal(err)
			}
		}
		return final, pending, total(t, got.stdout), age
	}
	until(t, "samples are final", func() bool { final, _, _, _ := inspect(); return final > 0 })
	refuse.Store(true)
	seen := scrapes.Load()
	until(t, "a backlog", func() bool { return scrapes.Load() > seen+15 })
	a.signal(syscall.SIGTERM)
	if code := a.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	final, pending, samples, age := inspect()
	if final == 0 || pending < 14*7 || final+pending != samples {
		t.Errorf("%d final and %d pending of %d samples", final, pending, samples)
	}
	if age < time.Second || age > patience {
		t.Errorf("the oldest pending sample is %s old, of a backlog of 1.5 s", age)
	}
}

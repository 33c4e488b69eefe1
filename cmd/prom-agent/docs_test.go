package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"

	"promagent/remotewrite"
	"promagent/wal"
)

// Every metric that the documentation names is there, and every one that
// Prometheus agent does not have is named in docs/compatibility.md.
func TestDocumentedMetricsAreThoseOfTheAgent(t *testing.T) {
	a := startAgent(t, `{scrape_configs: [{job_name: j, static_configs: [{targets: ['127.0.0.1:1']}]}], remote_write: [{url: 'http://127.0.0.1:1/'}]}`)
	families := map[string]bool{}
	for range 100 { // the remote's appear when its delivery begins
		code, body := a.request("GET", "/metrics")
		if code != 200 {
			t.Fatalf("/metrics: %d %s", code, body)
		}
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(body, -1) {
			families[m[1]] = true
		}
		if families["prom_agent_remote_behind_samples"] {
			break
		}
	}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	compatibility := ""
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) == "compatibility.md" {
			compatibility = string(text)
		}
		for _, name := range regexp.MustCompile("`(?:prometheus|prom_agent)_[a-z0-9_]+[`{]").FindAllString(string(text), -1) {
			if name = name[1 : len(name)-1]; !families[name] && !strings.HasSuffix(name, "_") {
				t.Errorf("%s names %s, which the agent does not have", file, name)
			}
		}
	}
	for name := range families {
		if strings.HasPrefix(name, "prom_agent_") && !strings.Contains(compatibility, "`"+name+"`") {
			t.Errorf("docs/compatibility.md does not name %s", name)
		}
	}
}

// The tests that docs/guarantees.md names are there.
func TestGuaranteesNameTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	exist := map[string]bool{}
	err = filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(code, -1) {
			exist[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1)
	if len(named) < 30 {
		t.Errorf("%d tests are named", len(named))
	}
	for _, m := range named {
		if !exist[string(m[1])] {
			t.Errorf("docs/guarantees.md names %s, which there is not", m[1])
		}
	}
}

// The last line of the table of releases in docs/deploy.md is this release's:
// what it says is written is what is written.
func TestTheTableOfReleasesTellsTheFormatsThatAreWritten(t *testing.T) {
	text, err := os.ReadFile("../../docs/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	var row []string
	for l := range strings.Lines(string(text)) {
		if cells := strings.Split(l, "|"); len(cells) == 9 {
			row = cells[1:8]
		}
	}
	own, err := os.ReadFile("../../VERSION")
	if err != nil {
		t.Fatal(err)
	}
	if len(row) == 0 || !strings.HasPrefix(strings.TrimSpace(row[0]), strings.TrimSpace(string(own))) {
		t.Fatalf("the last line is of %q, not of %s", row, own)
	}

	data := filepath.Join(t.TempDir(), "data")
	writeTimesThatGoBack(t, data)
	segment := []byte(readFile(t, filepath.Join(data, "log/00000000000000000001.seg")))
	_, record := frameAt(t, segment, wal.Record, 0)
	_, anchor := frameAt(t, segment, wal.Anchor, 0)
	drain(t, agentBinary, data, "oldest")
	cursor := []byte(readFile(t, filepath.Join(data, "log/cursors", cursorOf("cloud"))))
	raw, err := s2.Decode(nil, anchor)
	if err != nil {
		t.Fatal(err)
	}
	if record[0] != raw[0] {
		t.Errorf("records are of version %d, anchors of %d: they need columns of their own", record[0], raw[0])
	}

	at := wal.Pos{Segment: 1, Offset: 48}
	state := func(kind remotewrite.Kind) remotewrite.State {
		first := remotewrite.At{Segment: 1, Span: 48}
		return remotewrite.State{Spans: []remotewrite.Span{{Kind: kind, Start: at, End: at}}, Ats: []remotewrite.At{first}, Reader: first}
	}
	inWork := state(remotewrite.Run)
	inWork.Sent = [][]remotewrite.At{{{Segment: 1, Span: 48, Step: 1}}}
	two := remotewrite.Progress{{State: state(remotewrite.Run), Bound: remotewrite.Bound{Until: at, Total: 1}}, {State: state(remotewrite.Run)}}
	states := map[string]bool{}
	for _, p := range []remotewrite.Progress{{{State: state(remotewrite.Run)}}, {{State: inWork}}, {{State: state(remotewrite.Window)}}, two} {
		states[fmt.Sprint(p.AppendTo(nil)[0])] = true
	}
	format := func(file []byte) string { return fmt.Sprint(binary.LittleEndian.Uint32(file[8:])) }
	for i, want := range []string{format(segment), fmt.Sprint(record[0]), format(cursor), strings.Join(sortedKeys(states), ", ")} {
		if got := strings.TrimSpace(row[i+1]); got != want {
			t.Errorf("docs/deploy.md says %q of this release, which writes %q: %q", got, want, row)
		}
	}
}

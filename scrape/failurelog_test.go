package scrape

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/util/logging"
)

// fields are those of a JSON line in their order, as name and value; times and sources as their form alone.
func fields(t *testing.T, line []byte) (out []string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(line)))
	for d.More() {
		token, err := d.Token()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if text, ok := token.(string); ok {
			text = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:\d\d)$`).ReplaceAllString(text, "TIME")
			out = append(out, regexp.MustCompile(`^\w+\.go:\d+$`).ReplaceAllString(text, "SOURCE"))
		}
	}
	return out
}

func TestFailureLogHasTheLinesOfPrometheus(t *testing.T) {
	dir := t.TempDir()
	theirs, ours := filepath.Join(dir, "theirs"), filepath.Join(dir, "ours")
	const address = "http://t:1/metrics?a=b"
	failed := errors.New(`server returned "HTTP status 503"`)

	p, err := logging.NewJSONFileLogger(theirs)
	if err != nil {
		t.Fatal(err)
	}
	// As its scrape manager does.
	slog.New(slog.New(p).With("job_name", "job").With("target", address).Handler()).Error(failed.Error())
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	f, _, err := openFailureLog(ours)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	l := newFailureLog(f)
	l.write("job", &target{url: u}, failed)
	l.close()

	want, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(ours)
	if err != nil {
		t.Fatal(err)
	}
	w, g := strings.Join(fields(t, want), " "), strings.Join(fields(t, got), " ")
	if g != w || !strings.Contains(w, "time TIME level ERROR source SOURCE msg") {
		t.Errorf("got %s\n%s\nwant %s\n%s", g, got, w, want)
	}
}

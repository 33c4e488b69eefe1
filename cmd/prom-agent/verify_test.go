package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

func TestVerifyOfALogThatIsWhole(t *testing.T) {
	data := writtenLog(t)
	before := contents(t, data)
	got := executed(t, "wal", "verify", data)
	if got.code != 0 || got.stderr != "" || !regexp.MustCompile(`^sound; read 1 segments of \d+ bytes with \d\d+ samples, 1 positions\n$`).MatchString(got.stdout) {
		t.Errorf("%+v", got)
	}
	after := contents(t, data)
	for path, b := range before {
		if after[path] != b || len(after) != len(before) {
			t.Errorf("%s was changed, or files were made", path)
		}
	}
}

func TestVerifyOfALogInUse(t *testing.T) {
	target, scrapes := exporter(t)
	a := startAgent(t, "scrape_configs:\n"+job("a", target)+job("b", target)+"remote_write: [{url: 'http://"+closedPort(t)+"/'}]\n")
	until(t, "three scrapes", func() bool { return scrapes.Load() >= 3 })
	for range 20 {
		if got := executed(t, "wal", "verify", a.data); got.code != 0 || !strings.HasPrefix(got.stdout, "sound; ") {
			t.Fatalf("%+v", got)
		}
	}
	// What an agent has not written whole is no damage while it runs.
	cut := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(cut, os.DirFS(a.data)); err != nil {
		t.Fatal(err)
	}
	end := segmentFile(t, cut)
	fi, err := os.Stat(end)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(end, fi.Size()-3); err != nil {
		t.Fatal(err)
	}
	if got := executed(t, "wal", "verify", cut); got.code != 1 || !strings.Contains(got.stdout, end+" at ") {
		t.Errorf("a torn end that nobody writes to: %+v", got)
	}
	lock, err := os.OpenFile(filepath.Join(cut, "lock"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got := executed(t, "wal", "verify", cut); got.code != 0 || !strings.HasSuffix(got.stdout, "; the newest segment is being written\n") {
		t.Errorf("a torn end of a log that is in use: %+v", got)
	}
	a.signal(syscall.SIGTERM)
	if code := a.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := executed(t, "wal", "verify", a.data); got.code != 0 {
		t.Errorf("after the end: %+v", got)
	}
}

func TestVerifyTellsWhatIsLost(t *testing.T) {
	data := writtenLog(t)
	file := segmentFile(t, data)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	b[44] = 1
	writeFile(t, file, string(b))
	got := executed(t, "wal", "verify", data)
	stamp := `\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}`
	want := `^` + regexp.QuoteMeta(file) + ` at 44: the header's last four bytes are not zero; lost: nothing of the log
` + regexp.QuoteMeta(file) + ` at \d+: samples of a block: frame at 1/\d+: checksum differs: wal: corrupt; lost: \d+ bytes, \d samples of ` + stamp + `
damaged places: 2; lost: \d+ bytes, \d samples of ` + stamp + `; read 1 segments of \d+ bytes with \d+ samples, 1 positions
$`
	if got.code != 1 || got.stderr != "" || !regexp.MustCompile(want).MatchString(got.stdout) {
		t.Errorf("code %d, %q:\n%s, want\n%s", got.code, got.stderr, got.stdout, want)
	}
}

func TestVerifyWithoutALog(t *testing.T) {
	empty := t.TempDir()
	noCursors := t.TempDir()
	if err := os.MkdirAll(filepath.Join(noCursors, "log"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(noCursors, "log", "cursors"), "a file")
	for _, dir := range []string{empty, filepath.Join(empty, "none"), noCursors} {
		if got := executed(t, "wal", "verify", dir); got.code != 2 || got.stdout != "" || !strings.Contains(got.stderr, dir) {
			t.Errorf("%+v", got)
		}
	}
}

func TestVerifyAndInspectNameAnyFlippedBit(t *testing.T) {
	whole := writtenLog(t)
	synctest.Test(t, func(t *testing.T) { // looking twice at what may be being written takes no time
		data := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(data, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(1, 30))
		for path, text := range contents(t, data) {
			for range 300 {
				if len(text) == 0 {
					continue // the lock
				}
				b := []byte(text)
				bit := r.IntN(len(b) * 8)
				b[bit/8] ^= 1 << (bit % 8)
				writeFile(t, path, string(b))
				var verified, table, messages bytes.Buffer
				var exit exitError
				if err := verifyLog(&verified, data); !errors.As(err, &exit) || exit.code != 1 || !strings.HasPrefix(verified.String(), path+" at ") {
					t.Fatalf("bit %d of %s: %v\n%s", bit, path, err, verified.String())
				}
				if err := inspectLog(&table, &messages, data, false); !errors.As(err, &exit) || exit.code != 1 || !strings.HasPrefix(messages.String(), path+" at ") {
					t.Fatalf("inspect: bit %d of %s: %v\n%s", bit, path, err, messages.String())
				}
			}
			writeFile(t, path, text)
		}
		if err := verifyLog(new(bytes.Buffer), data); err != nil {
			t.Error(err)
		}
	})
}

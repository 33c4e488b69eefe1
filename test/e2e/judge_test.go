package e2e

import (
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// verdict is what a look at a case of test/field or test/hostile finds.
type verdict struct {
	right error // nil: all is as it should be
	seen  error // nil: the known shortcoming is there, within its bounds
}

// judge looks at a case until it shows what its status says. notYet is what is
// seen in place of what is right; "" when the case is right. A case that has
// been mended, and still is right when the time is up, fails until its status
// says so.
func judge(t *testing.T, notYet string, limit time.Duration, look func() verdict) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) { // real processes: nothing to wait on
		v, late := look(), time.Now().After(deadline)
		switch {
		case notYet == "" && v.right == nil:
			return
		case notYet == "" && late:
			t.Errorf("not within %s: %v", limit, v.right)
			return
		case notYet != "" && v.seen == nil && v.right != nil:
			t.Logf("not yet right: %s: %.300v", notYet, v.right)
			return
		case notYet != "" && late && v.seen == nil:
			t.Logf("too much failed on a busy machine to tell what is right from what is known: %s", notYet)
			return
		case notYet != "" && late && v.right == nil:
			t.Errorf("the case is right now: change its status, here and in the README, from %q", notYet)
			return
		case notYet != "" && late:
			t.Errorf("neither right: %v\nnor what is known, %q: %v", v.right, notYet, v.seen)
			return
		}
	}
}

// together runs subtests at the same time. They mostly wait for processes, so
// that there may be more of them than there are processors.
func together[C any](t *testing.T, cases []C, name func(C) string, test func(*testing.T, C)) {
	t.Helper()
	const atATime = 8
	places := make(chan struct{}, atATime)
	var wg sync.WaitGroup
	for _, c := range cases {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			t.Run(name(c), func(t *testing.T) { test(t, c) })
		})
	}
	wg.Wait()
}

// statuses reads the rows of a README's tables that begin with a name and end
// with a status.
func statuses(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (.+?) \| .* \| (right|not yet) \|$`).FindAllStringSubmatch(string(text), -1) {
		rows[strings.ReplaceAll(m[1], "`", "")] = m[2]
	}
	return rows
}

// compareStatuses holds that a README says of each case what its table here says.
func compareStatuses(t *testing.T, file string, notYet map[string]string) {
	t.Helper()
	rows := statuses(t, file)
	for name, text := range notYet {
		want := "not yet"
		if text == "" {
			want = "right"
		}
		if got := rows[name]; got != want {
			t.Errorf("%s says %q of %s, want %q", file, got, name, want)
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("%s has %s, of which there is no case", file, name)
	}
}

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// damage is what happens to the files of a log between a kill and the next start.
type damage struct {
	name     string
	notYet   string
	segment  func([]byte) []byte // what becomes of the oldest segment's file
	position func([]byte) []byte // what becomes of the position's file
	newer    bool                // there is a newer segment behind the damaged one
	costs    bool                // samples are gone for good, and are to be counted
}

// flip changes one bit.
func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= 4
		return b
	}
}

const (
	allLost    = "nothing of the log is sent, and nothing is counted"
	countedOld = "the segment is lost, and counted as if its age had cost it"
)

var damages = []damage{
	{name: "segment's magic", notYet: allLost, segment: flip(3)},
	{name: "segment's number", notYet: allLost, segment: flip(16)},
	{name: "segment's magic before a newer one", notYet: countedOld, segment: flip(3), newer: true},
	{name: "segment of zeros", notYet: allLost, segment: func(b []byte) []byte { return make([]byte, len(b)) }, costs: true},
	{name: "segment cut in half", notYet: "what is cut off is not counted", segment: func(b []byte) []byte { return b[:len(b)/2] }, costs: true},
	{name: "empty position", notYet: allLost, position: func([]byte) []byte { return nil }},
	{name: "position of junk", notYet: allLost, position: func([]byte) []byte {
		b := make([]byte, 9000)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}},
	{name: "both copies of the position", notYet: allLost, position: func(b []byte) []byte { return flip(len(b)/2 + 30)(flip(30)(b)) }},
}

func damageCases() (cases []fieldCase) {
	for _, d := range damages {
		cases = append(cases, fieldCase{"09-log-damage/" + d.name, d.notYet, d.run})
	}
	return cases
}

// run kills an agent whose receiver is down, damages its log, and starts it
// again with the receiver up.
func (d damage) run(t *testing.T, c fieldCase) {
	target, rec := newExposed(t, c.file(t, "metrics.*")), newRecorder(t, c.file(t, "receiver.json"))
	rec.setFault(true)
	dir := c.configure(t, "TARGET", target.addr(), "RECEIVER", rec.addr())
	kills := 1
	if d.newer {
		kills = 2
	}
	for range kills {
		agent := startBoth(t, false, dir)
		target.scraped(t, 8)
		agent.end(syscall.SIGKILL)
	}
	n := target.silence()
	if d.segment != nil {
		spoil(t, filepath.Join(dir, "data/log/*.seg"), d.segment)
	} else {
		spoil(t, filepath.Join(dir, "data/log/cursors/*.cur"), d.position)
	}
	agent := startBoth(t, false, dir)
	rec.setFault(false)
	again := time.Now()
	judge(t, c.notYet, 10*time.Second, func() verdict {
		if err := passed(rec, again, "/1.x"); err != nil {
			return verdict{err, err}
		}
		want := 50 * (n - kills - rec.failed(target.addr(), target.silent, "/1.x")) // what was being scraped at a kill need not be there
		got, lost := rec.count("/1.x", "s", n), int(agent.metric("prom_agent_remote_lost_samples_total"))
		state, v := fmt.Errorf("%d of %d samples have arrived, %d are counted as lost", got, want, lost), verdict{}
		if d.costs && (lost == 0 || got+lost < want) || !d.costs && (lost > 0 || got < want) {
			v.right = state
		}
		switch some := 0 < got && got < want; {
		case d.notYet == allLost && (got > 0 || lost > 0):
			v.seen = state
		case d.notYet == countedOld && (!some || lost == 0):
			v.seen = state
		case d.notYet != allLost && d.notYet != countedOld && (!some || lost > 0):
			v.seen = state
		}
		return v
	})
}

// spoil changes the oldest of the files.
func spoil(t *testing.T, pattern string, change func([]byte) []byte) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	b, err := os.ReadFile(slices.Min(files))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(slices.Min(files), change(b), 0o644); err != nil {
		t.Fatal(err)
	}
}

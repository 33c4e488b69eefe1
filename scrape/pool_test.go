package scrape

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/model"
)

func TestStatusDoesNotWaitForTheScrapesThatAReloadWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", nil))
		defer w.end()
		w.discover("job", at("t:1"))
		time.Sleep(15 * time.Second)
		asked, answer := make(chan struct{}), make(chan struct{})
		w.answer(func(rw http.ResponseWriter, _ *http.Request) {
			close(asked)
			<-answer
			io.WriteString(rw, "a 1\n")
		})
		<-asked
		reloaded := make(chan struct{})
		go func() {
			w.apply(job("job", func(c *JobConfig) { c.Interval = 30 * time.Second }))
			close(reloaded)
		}()
		synctest.Wait()
		p := w.m.all()[0]
		if !p.mu.TryLock() { // Pools would hang, and the test with it
			t.Error("a reload that waits for a scrape keeps others from the pool's status")
		} else {
			p.mu.Unlock()
			s := w.m.Pools()[0]
			if len(s.Targets) != 1 || s.Targets[0].Interval != "15s" || s.Targets[0].Health != HealthUp {
				t.Errorf("during the reload the status is %+v, want it as before", s)
			}
			if n := len(p.running()); n != 1 || p.job() != "job" {
				t.Errorf("%d loops of job %q during the reload", n, p.job())
			}
		}
		select {
		case <-reloaded:
			t.Error("the reload did not wait for the scrape")
		default:
		}
		w.answer(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "a 1\n") })
		close(answer)
		<-reloaded
		if s := w.m.Pools()[0]; len(s.Targets) != 1 || s.Targets[0].Interval != "30s" || s.Targets[0].Health != HealthUp {
			t.Errorf("after the reload the status is %+v", s)
		}
	})
}

func TestFailureLogIsReopenedOnReload(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*JobConfig)
	}{
		{"same configuration", func(*JobConfig) {}},
		{"one that keeps what is known", func(c *JobConfig) { c.SampleLimit = 7 }},
		{"one that does not", func(c *JobConfig) { c.HonorLabels = true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				file, moved := filepath.Join(dir, "failures"), filepath.Join(dir, "moved")
				before := func(c *JobConfig) { c.FailureLogFile = file }
				w := newWorld(t, job("job", before))
				lines := func(name string) int {
					b, err := os.ReadFile(name)
					if err != nil {
						t.Fatal(err)
					}
					return bytes.Count(b, []byte("\n"))
				}
				w.answer(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(503) })
				w.discover("job", at("t:1"))
				time.Sleep(30 * time.Second)
				if err := os.Rename(file, moved); err != nil {
					t.Fatal(err)
				}
				old := lines(moved)
				time.Sleep(30 * time.Second)
				if n := lines(moved); n != old+2 {
					t.Errorf("%d lines in the file that was moved, want %d", n, old+2)
				}
				w.apply(job("job", func(c *JobConfig) { before(c); tc.change(c) }))
				old = lines(moved)
				time.Sleep(time.Minute)
				if n := lines(moved); n != old {
					t.Errorf("%d lines were added to the old file after a reload", n-old)
				}
				if n := lines(file); n != 4 {
					t.Errorf("%d lines in the new file after 4 intervals", n)
				}
				w.end()
			})
		})
	}
}

func TestScrapeThatOutlivesAReloadStillSaysHowItFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
		w := newWorld(t, job("job", func(c *JobConfig) { c.FailureLogFile = first }))
		asked, answer := make(chan struct{}), make(chan struct{})
		w.answer(func(rw http.ResponseWriter, _ *http.Request) {
			select {
			case asked <- struct{}{}:
				<-answer
			default:
			}
			rw.WriteHeader(503)
		})
		go w.discover("job", at("t:1"))
		<-asked
		w.apply(job("job", func(c *JobConfig) { c.FailureLogFile = second }))
		close(answer)
		time.Sleep(20 * time.Second)
		w.end()
		for _, name := range []string{first, second} {
			if b, err := os.ReadFile(name); err != nil || !strings.Contains(string(b), "503 Service Unavailable") {
				t.Errorf("%s has %q (%v), want the failure", filepath.Base(name), b, err)
			}
		}
	})
}

func TestFailureLogThatCannotBeOpenedFailsTheReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", nil))
		defer w.end()
		w.discover("job", at("t:1"))
		nowhere := func(c *JobConfig) { c.FailureLogFile = filepath.Join(t.TempDir(), "missing", "failures") }
		for name, jobs := range map[string][]JobConfig{
			"of a job that runs": {job("job", nowhere)},
			"of a new job":       {job("job", nil), job("new", nowhere)},
		} {
			if _, err := w.m.Prepare(Config{Jobs: jobs}); err == nil || !strings.Contains(err.Error(), "open scrape failure log") {
				t.Errorf("%s: got error %v", name, err)
			}
		}
		time.Sleep(20 * time.Second)
		if n := len(w.of(seriesA)); n == 0 {
			t.Error("the job does not run on")
		}
	})
}

func TestStatusHasIntervalAndTimeoutAsTheLabelsHaveThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, job("job", nil))
		defer w.end()
		w.discover("job", model.LabelSet{"__address__": "t:1", "__scrape_interval__": "60000ms", "__scrape_timeout__": "1000ms"})
		s := w.m.Pools()[0].Targets
		if len(s) != 1 || s[0].Interval != "60000ms" || s[0].Timeout != "1000ms" {
			t.Errorf("the targets are %+v", s)
		}
	})
}

package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// reload asks for a reload and holds its answer to want.
func (s *site) reload(want int) {
	s.t.Helper()
	if code, err := s.post("/-/reload"); err != nil || code != want {
		s.t.Errorf("/-/reload answers %d, %v; want %d", code, err, want)
	}
}

// reloads goes through every kind of reload. Each is applied, or refused,
// before the next; the config is the site's own at the end.
func (s *site) reloads() {
	s.t.Helper()
	for _, edits := range []string{"remote_timeout: 7s", "headers: {X-Site: edge-1}", "send_exemplars: true", "follow_redirects: false"} {
		s.configure(edits, "")
		s.reload(http.StatusOK)
	}
	s.write(s.remote("renamed", s.centralAddr, ""))
	s.reload(http.StatusOK)

	s.write(s.remote("central", s.centralAddr, "remote_timeout: never"))
	s.reload(http.StatusInternalServerError)
	failed := s.agent.metric("prometheus_config_last_reload_successful")
	if failed != 0 {
		s.t.Errorf("prometheus_config_last_reload_successful is %v after a broken config", failed)
	}

	s.configure("remote_timeout: 9s", "")
	before := s.agent.metric("prometheus_config_last_reload_success_timestamp_seconds")
	s.agent.cmd.Process.Signal(syscall.SIGHUP)
	eventually(s.t, 10*time.Second, "SIGHUP reloads the config", func() error {
		if s.agent.metric("prometheus_config_last_reload_successful") != 1 || s.agent.metric("prometheus_config_last_reload_success_timestamp_seconds") == before {
			return fmt.Errorf("not yet")
		}
		return nil
	})

	s.configure("", "")
	var both sync.WaitGroup
	codes := make(chan string, 2)
	for range cap(codes) {
		both.Go(func() {
			code, err := s.post("/-/reload")
			codes <- fmt.Sprint(code, err)
		})
	}
	s.agent.cmd.Process.Signal(syscall.SIGHUP)
	both.Wait()
	for range cap(codes) {
		if got := <-codes; got != "200 <nil>" {
			s.t.Errorf("one of two reloads at once answers %s", got)
		}
	}
}

func TestPrometheusGetsAllThroughReloadsInAnOutage(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		s.startCentral()
		s.startAgent()
		s.scraped(3)
		s.central.end(syscall.SIGKILL)
		s.scraped(2)
		s.reloads()
		s.scraped(2)
		s.startCentral()
		s.arrives(s.central, "", 20*time.Second)
		s.liked(s.central)
	})
}

// A limit makes the catch-up last; the reloads come while it does.
func TestPrometheusGetsAllThroughReloadsInTheCatchUp(t *testing.T) {
	t.Parallel()
	inEveryReceiver(t, func(t *testing.T, s *site) {
		const slow = "\nprom_agent:\n  remotes: [{name: central, max_bytes_per_second: 2KB}]\n"
		s.configure("", slow)
		s.startAgent()
		s.scraped(20)
		s.startCentral()
		eventually(t, 10*time.Second, "the backlog begins to arrive", func() error {
			if s.central.metric("prometheus_tsdb_head_samples_appended_total") == 0 {
				return fmt.Errorf("nothing has come")
			}
			return nil
		})
		for _, edits := range []string{"remote_timeout: 7s", "headers: {X-Site: edge-1}"} {
			s.configure(edits, slow)
			s.reload(http.StatusOK)
		}
		if behind := s.agent.metric("prom_agent_remote_behind_samples"); behind < siteTargets*siteSeries*10 {
			t.Errorf("%v samples are left when the reloads begin", behind)
		}
		s.reloads()
		s.arrives(s.central, "", 20*time.Second)
		s.liked(s.central)
	})
}

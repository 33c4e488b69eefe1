package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"promagent/test/hostile/parts"
)

var hostileInputs = slices.Concat([]*hostileInput{
	{
		name: "H1 one HELP, many shapes", notYet: "the text is held once for each shape", bodyLimit: "10MB",
		small: sized{path: "/help?kb=100&n=250"}, full: sized{path: "/help?kb=1000&n=500", interval: 5 * time.Second}, look: held(16, 26),
	},
	{
		name: "H1 its log after a kill", notYet: "reading a log of some KB takes 65 MiB and more", bodyLimit: "10MB", outage: true,
		small: sized{path: "/help?kb=100&n=400"}, look: afterAKill,
	},
	{
		name: "H2 new HELP lines in scrapes that fail", notYet: "they are held for ever", bodyLimit: "10MB",
		small: sized{path: "/helpleak?n=200&len=100", interval: 100 * time.Millisecond}, full: sized{path: "/helpleak?n=5000&len=900", interval: time.Second}, look: families,
	},
	{
		name: "H3 HELP lines without end", notYet: "the scrape's timeout does not end it",
		small: sized{path: "/slowparse?mb=72", interval: 300 * time.Millisecond}, full: sized{path: "/slowparse?mb=1000", copies: 4, interval: 5 * time.Second}, look: longScrape,
	},
	{
		name: "H3 comments without end", notYet: "the scrape's timeout does not end it",
		small: sized{path: "/comment?mb=28", interval: 300 * time.Millisecond}, full: sized{path: "/comment?mb=1000", copies: 2, interval: 5 * time.Second}, look: longScrape,
	},
	{
		name: "H4 status text", notYet: "all of it is shown", bodyLimit: "10MB",
		small: sized{path: "/reason?kb=300"}, full: sized{path: "/reason?kb=9000", copies: 100, interval: 10 * time.Second}, look: longText,
	},
	{
		name: "H4 content type", notYet: "all of it is shown and logged", bodyLimit: "10MB",
		small: sized{path: "/ctype?kb=300"}, full: sized{path: "/ctype?kb=9000", copies: 40, interval: 20 * time.Second}, look: longText,
	},
	{
		name: "M1 series beyond the limit", notYet: "all of them are held for a moment",
		small: sized{path: "/series?n=100000", interval: time.Second}, full: sized{path: "/series?n=3000000", interval: 15 * time.Second}, look: peak(55, 60),
	},
	{
		name: "M1 names beyond the limit", notYet: "all of them are held for a moment",
		small: sized{path: "/names?n=50000", interval: time.Second}, full: sized{path: "/names?n=1000000", interval: 15 * time.Second}, look: peak(55, 60),
	},
	{
		name: "M1 one series again and again", notYet: "all of them are held for a moment",
		small: sized{path: "/dup?mb=4", interval: time.Second}, full: sized{path: "/dup?mb=64", interval: 10 * time.Second}, look: peak(55, 60),
	},
	{
		name: "M1 a large body", fullNotYet: "some times its bytes are held for a moment",
		small: sized{path: "/raw?mb=4"}, full: sized{path: "/raw?mb=300", interval: 10 * time.Second}, look: peak(80, 0),
	},
	{name: "M2 half requests", notYet: "/-/healthy does not answer", small: sized{path: "/good"}, flags: []string{"--web.max-connections=10"}, look: halfRequests},
	{
		name: "M4 large annotations", notYet: "they are held", config: "kube.yml", api: "pods",
		small: sized{n: 150, size: 200000, interval: 15 * time.Second}, full: sized{n: 1500, size: 250000, interval: 15 * time.Second}, look: held(12, 25),
	},
	{
		name: "M4 a pod with many ports", notYet: "some KiB are held for each", config: "kube.yml", api: "ports",
		small: sized{n: 2000, interval: 15 * time.Second}, full: sized{n: 30000, interval: 15 * time.Second}, look: held(8, 11),
	},
	{
		name: "L1 redirects", notYet: "secrets follow", config: "redirect.yml", look: secretsStay,
	},
	{name: "L2 secrets in pages", notYet: "some are shown", config: "secrets.yml", look: masked},
	{
		name: "L4 one ID for many containers", notYet: "a copy for each container", config: "kube.yml", api: "amp",
		small: sized{n: 100, size: 100000, interval: 15 * time.Second}, full: sized{n: 1000, size: 500000, interval: 15 * time.Second}, look: held(12, 30),
	},
	{name: "L6 a second answer", notYet: "a line that is not the log's", config: "remotes.yml", remotes: remoteOf("204body"), look: foreignLines},
	{name: "L8 modes of files", notYet: "everybody may read the log", small: sized{path: "/good"}, look: fileModes},
	{name: "churn", unlimited: true, small: sized{path: "/churn?n=500"}, full: sized{path: "/churn?n=50000", interval: time.Second}, look: peak(100, 0)},
	{name: "answers", groups: answerGroups(), look: peak(100, 0)},
	{name: "receivers", config: "remotes.yml", remotes: remoteOf(slices.Sorted(maps.Keys(parts.ReceiverModes))...), look: receiversMet},
}, apiServerInputs())

// apiServerInputs are the API servers that nothing was found with.
func apiServerInputs() (inputs []*hostileInput) {
	for mode, pods := range map[string]int{"flood": 1, "floodnew": 2000, "endlesserror": 0, "redirect": 0} {
		inputs = append(inputs, &hostileInput{name: "API server " + mode, config: "kube.yml", api: mode, small: sized{n: 2000, size: 100, interval: 15 * time.Second}, look: func(h *hostileRun) verdict {
			if err := h.waited(2 * time.Second); err != nil {
				return verdict{err, err}
			}
			v := within("MiB at the peak", float64(memory(h.agent.cmd.Process.Pid, "VmHWM")), 100, 0)
			if got := h.agent.metric("prometheus_sd_discovered_targets"); got < float64(pods+1) {
				v.right = fmt.Errorf("%v targets are discovered, want %d pods and the good target", got, pods)
			}
			if n := h.otherHost.Authorized(); n > 0 {
				v.right = fmt.Errorf("%d requests elsewhere have the token", n)
			}
			file, err := os.Stat(h.agent.log)
			if err != nil {
				return verdict{err, err}
			}
			if file.Size() > 32<<10 {
				v.right = fmt.Errorf("the log has %d bytes", file.Size())
			}
			return v
		}})
	}
	return inputs
}

// Parts that misbehave cost neither the agent nor what it has to do with others.
func TestHostileParts(t *testing.T) {
	if fullSize {
		t.Setenv("GOMEMLIMIT", "460MiB") // of a pod with podMiB
		for _, in := range hostileInputs {
			if in.full != (sized{}) {
				t.Run(in.name, func(t *testing.T) { newHostileRun(t, in).runFull() })
			}
		}
		return
	}
	together(t, hostileInputs, func(in *hostileInput) string { return in.name }, func(t *testing.T, in *hostileInput) { newHostileRun(t, in).run() })
}

func TestHostileReadmeHasTheStatusOfEveryInput(t *testing.T) {
	notYet := map[string]string{}
	for _, in := range hostileInputs {
		notYet[in.name] = in.notYet
	}
	compareStatuses(t, "../hostile/README.md", notYet)
}

// waited says that the agent has run for so long.
func (h *hostileRun) waited(d time.Duration) error {
	if wait := d - time.Since(h.began); wait > 0 {
		return fmt.Errorf("%s to wait", wait)
	}
	return nil
}

// afterAKill reads the log of a target with a long HELP again, without the target.
func afterAKill(h *hostileRun) verdict {
	if err := h.scraped(); err != nil {
		return verdict{err, err}
	}
	h.turns(3)
	h.agent.end(syscall.SIGKILL)
	h.kills++
	h.hostile.CloseClientConnections()
	h.hostile.Listener.Close()
	h.start()
	h.turns(5)
	return within("MiB at the peak", float64(memory(h.agent.cmd.Process.Pid, "VmHWM")), 55, 65)
}

// families looks at what is held of 200 new families in each scrape.
// Prometheus keeps those of ten scrapes.
func families(h *hostileRun) verdict {
	return unless(h.waited(3500*time.Millisecond), func() verdict {
		return within("families", h.agent.metric("prometheus_target_metadata_cache_entries"), 13*200, 20*200)
	})
}

// longScrape looks at how long a scrape takes that has 300 ms.
func longScrape(h *hostileRun) verdict {
	return unless(h.scraped(), func() verdict {
		all, err := h.hostileTargets()
		return unless(err, func() verdict {
			v := within("seconds of a scrape", all[0].LastScrapeDuration, 0.5, 0.6)
			if v.right == nil && all[0].Health == "up" {
				v.right = errors.New("it is up in time: the body is too small to tell")
			}
			return v
		})
	})
}

// longText looks at how much of a peer's text is passed on.
func longText(h *hostileRun) verdict {
	return unless(h.scraped(), func() verdict {
		all, err := h.hostileTargets()
		return unless(err, func() verdict {
			v := within("bytes of lastError", float64(len(all[0].LastError)), 2<<10, 100<<10)
			file, err := os.Stat(h.agent.log)
			if err != nil {
				return verdict{err, err}
			}
			if v.right == nil && file.Size() > 32<<10 {
				v.right = fmt.Errorf("the log has %d bytes", file.Size())
			}
			return v
		})
	})
}

// halfRequests holds more connections than the agent's server has places.
func halfRequests(h *hostileRun) verdict {
	conns, err := parts.Slots(h.agent.addr, "partial", 12)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
		eventually(h.t, 10*time.Second, "the server is free again", func() error {
			_, err := h.agent.get("/-/healthy")
			return err
		})
	}()
	if err != nil {
		return verdict{err, err}
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.agent.addr+"/-/healthy", nil)
	if err != nil {
		return verdict{err, err}
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return verdict{right: err}
	}
	resp.Body.Close()
	return verdict{seen: fmt.Errorf("/-/healthy answers %s", resp.Status)}
}

// secretsStay looks at what goes with redirects to other hosts and ports.
func secretsStay(h *hostileRun) verdict {
	leaks, vias := map[string]bool{}, map[string]bool{}
	for _, request := range append(h.otherHost.Shown(), h.otherPort.Shown()...) {
		vias[request.Via] = true
		for _, name := range []string{"Authorization", "Authorization2", "X-Api-Key", "X-Secret"} {
			if request.Header.Get(name) != "" && request.Via != "user in the location" {
				leaks[request.Via+": "+name] = true
			}
		}
	}
	const ways = 8
	if len(vias) < ways {
		err := fmt.Errorf("%d of %d redirects have come: %v", len(vias), ways, slices.Sorted(maps.Keys(vias)))
		return verdict{err, err}
	}
	return exactly(leaks, "authorization to another port: Authorization", "headers to another host: Authorization2", "headers to another host: X-Api-Key",
		"remote to another host: X-Api-Key", "remote to another port: Authorization", "remote to another port: X-Api-Key")
}

// exactly makes a verdict of what was found: nothing is right, just this is known.
func exactly(found map[string]bool, known ...string) verdict {
	got, v := slices.Sorted(maps.Keys(found)), verdict{}
	if len(got) > 0 {
		v.right = fmt.Errorf("%q", got)
	}
	slices.Sort(known)
	if !slices.Equal(got, known) {
		v.seen = fmt.Errorf("%q, want %q", got, known)
	}
	return v
}

// masked looks for the secrets of the config in all that the agent says.
func masked(h *hostileRun) verdict {
	if err := h.waited(time.Second); err != nil {
		return verdict{err, err}
	}
	found := map[string]bool{}
	look := func(place string, text []byte) {
		for _, secret := range regexp.MustCompile(`SECRET(\w+)`).FindAllSubmatch(text, -1) {
			found[place+": "+string(secret[1])] = true
		}
	}
	for _, page := range []string{"/api/v1/status/config", "/api/v1/targets", "/api/v1/status/remotes", "/api/v1/status/flags", "/api/v1/scrape_pools", "/agent", "/metrics"} {
		text, err := h.agent.get(page)
		if err != nil {
			return verdict{err, err}
		}
		look(page, []byte(text))
	}
	text, err := os.ReadFile(h.agent.log)
	if err != nil {
		return verdict{err, err}
	}
	look("log", text)
	known := []string{"/api/v1/status/remotes: query", "/api/v1/targets: param", "/metrics: query", "log: sdquery"}
	for _, page := range []string{"/agent", "/api/v1/status/config"} {
		for _, secret := range []string{"header", "param", "query", "sdquery", "token"} {
			known = append(known, page+": "+secret)
		}
	}
	return exactly(found, known...)
}

// foreignLines looks for lines of the log that are not written as the others.
func foreignLines(h *hostileRun) verdict {
	return unless(h.waited(time.Second), func() verdict {
		text, err := os.ReadFile(h.agent.log)
		return unless(err, func() verdict {
			found := map[string]bool{}
			for line := range bytes.Lines(text) {
				if !bytes.HasPrefix(line, []byte("time=")) {
					found[regexp.MustCompile(`^.*(Unsolicited response).*\n`).ReplaceAllString(string(line), "$1")] = true
				}
			}
			return exactly(found, "Unsolicited response")
		})
	})
}

// fileModes looks at who may read the log.
func fileModes(h *hostileRun) verdict {
	return unless(h.waited(time.Second), func() verdict {
		found := map[string]bool{}
		err := filepath.WalkDir(filepath.Join(h.dir, "data"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() == "lock" {
				return err
			}
			info, err := d.Info()
			if err == nil && info.Mode()&0o007 != 0 {
				kind := cmp.Or(filepath.Ext(path), "directory")
				found[fmt.Sprintf("%s %#o", kind, info.Mode().Perm())] = true
			}
			return err
		})
		return unless(err, func() verdict { return exactly(found, ".cur 0644", ".seg 0644", "directory 0755") })
	})
}

// remoteOf makes a remote for each mode of a receiver.
func remoteOf(modes ...string) func(*hostileRun) string {
	return func(h *hostileRun) string {
		var b strings.Builder
		for _, mode := range modes {
			addr := h.serve(parts.Receiver(mode, parts.ReceiverModes[mode])).Listener.Addr()
			fmt.Fprintf(&b, "- {name: %q, url: 'http://%s/w', remote_timeout: 1s, queue_config: {batch_send_deadline: 100ms, max_backoff: 200ms}}\n", mode, addr)
		}
		return b.String()
	}
}

// receiversMet says that every remote has tried to send, and what that took.
func receiversMet(h *hostileRun) verdict {
	return unless(h.waited(2*time.Second), func() verdict {
		return within("MiB at the peak", float64(memory(h.agent.cmd.Process.Pid, "VmHWM")), 120, 0)
	})
}

// answerGroups are targets of the modes that nothing was found with.
func answerGroups() string {
	modes := append(parts.RawModes(), "xss", "xssok", "xssreason", "xssctype", "slowbody", "slowheaders", "headerflood", "continueflood", "labels?n=3000", "bigvalues?n=10&len=10000",
		"bigrandom?n=10&len=10000", "timed?n=1000", "churnnames?n=100", "helpgood?n=100", "helprandom?n=10&kb=10")
	var groups []string
	for _, mode := range modes {
		path, query, _ := strings.Cut(mode, "?")
		labels := fmt.Sprintf("__metrics_path__: /%s, mode: %s", path, path)
		for pair := range strings.SplitSeq(query, "&") {
			if k, v, ok := strings.Cut(pair, "="); ok {
				labels += fmt.Sprintf(", __param_%s: '%s'", k, v)
			}
		}
		groups = append(groups, fmt.Sprintf("{targets: [TARGET], labels: {%s}}", labels))
	}
	return strings.Join(groups, ", ")
}

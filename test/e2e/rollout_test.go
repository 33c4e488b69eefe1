package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// rollout is deploy/kubernetes in a cluster with controllers, by an overlay as
// docs/deploy.md has it, with numbered targets and a Prometheus as receiver.
type rollout struct {
	t       *testing.T
	c       *cluster
	nodes   []*kubeNode
	targets []*numbered
	dir     string // the receiver's
	central *process

	mu   sync.Mutex
	cuts []map[*numbered]int // by process that has ended: each target's last scrape before
}

func startRollout(t *testing.T) *rollout {
	t.Helper()
	r := &rollout{t: t, c: startCluster(t), dir: t.TempDir()}
	var targets []string
	for range 3 {
		n := newNumbered(t, 20)
		r.targets = append(r.targets, n)
		targets = append(targets, n.instance())
	}
	r.central = startReceiver(t, receiver{binary: currentBinary}, r.dir, freeAddr(t))

	overlay := t.TempDir()
	base, err := filepath.Abs("../../deploy/kubernetes")
	if err == nil {
		base, err = filepath.Rel(overlay, base)
	}
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(overlay, "kustomization.yaml"), `
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [`+base+`]
configMapGenerator:
- {name: prom-agent-config, namespace: monitoring, behavior: merge, files: [prometheus.yml]}
`)
	writeFile(t, filepath.Join(overlay, "prometheus.yml"), fmt.Sprintf(`
global: {scrape_interval: 250ms, scrape_timeout: 250ms, external_labels: {cluster: edge-1}}
scrape_configs:
- job_name: numbered
  static_configs: [{targets: ["%s"]}]
remote_write:
- name: central
  url: http://%s/api/v1/write
  queue_config: {batch_send_deadline: 500ms, max_backoff: 1s}
`, strings.Join(targets, `", "`), r.central.addr))
	r.c.applyFolder(overlay)
	startControllers(t, r.c)
	r.join("edge-1", "10.42.1.1")
	r.rolledOut()
	return r
}

// join adds a node, which takes the pods from now on.
func (r *rollout) join(name, ip string) {
	r.t.Helper()
	r.nodes = append(r.nodes, startNode(r.c, name, ip, "monitoring", filepath.Join(r.c.dir, "volumes"), func(*containerRun) {
		r.mu.Lock()
		defer r.mu.Unlock()
		cut := map[*numbered]int{}
		for _, n := range r.targets {
			cut[n] = n.scrapes()
		}
		r.cuts = append(r.cuts, cut)
	}))
}

// runs are all processes that the nodes have started, the oldest first.
func (r *rollout) runs() []*containerRun {
	var all []*containerRun
	for _, n := range r.nodes {
		all = append(all, n.all()...)
	}
	slices.SortFunc(all, func(a, b *containerRun) int { return a.started.Compare(b.started) })
	return all
}

func (r *rollout) newest() *containerRun {
	all := r.runs()
	return all[len(all)-1]
}

// kubectl runs kubectl in the agent's namespace.
func (r *rollout) kubectl(args ...string) {
	r.t.Helper()
	r.c.kubectl("", append([]string{"-n", "monitoring"}, args...)...)
}

// image is an upgrade to another tag.
func (r *rollout) image(tag string) {
	r.t.Helper()
	r.kubectl("set", "image", "deployment/prom-agent", "prom-agent=prom-agent:"+tag)
}

// restart is `kubectl rollout restart`, which refuses two within a second.
func (r *rollout) restart() {
	r.t.Helper()
	eventually(r.t, 5*time.Second, "a restart is taken", func() error {
		_, err := r.c.tryKubectl("", "-n", "monitoring", "rollout", "restart", "deployment/prom-agent")
		return err
	})
}

// rolledOut waits until the Deployment's newest pod is ready.
func (r *rollout) rolledOut() {
	r.t.Helper()
	r.kubectl("rollout", "status", "deployment/prom-agent", "--timeout=40s")
}

// outage ends the receiver, in good order.
func (r *rollout) outage() {
	r.t.Helper()
	refused(r.t, r.central)
	r.central.end(syscall.SIGTERM)
}

func (r *rollout) outageEnds() {
	r.t.Helper()
	// Of the whole test, for the next parts need it.
	r.central = startReceiver(r.c.t, receiver{binary: currentBinary}, r.dir, r.central.addr)
}

// scraped waits until every target has been asked so many times more.
func (r *rollout) scraped(more int) {
	r.t.Helper()
	want := map[*numbered]int{}
	for _, n := range r.targets {
		want[n] = n.scrapes() + more
	}
	eventually(r.t, 20*time.Second, "targets are scraped", func() error {
		for n, number := range want {
			if have := n.scrapes(); have < number {
				return fmt.Errorf("%s: %d scrapes, want %d", n.instance(), have, number)
			}
		}
		return nil
	})
}

// nothingLost waits until the receiver has what the targets have been asked
// for until now. A scrape under way when a process ended need not have come;
// but they have turns at different times, so that it is never all of them.
func (r *rollout) nothingLost() {
	r.t.Helper()
	r.mu.Lock()
	cuts := slices.Clone(r.cuts)
	r.mu.Unlock()
	excused := make([]int, len(cuts)) // targets whose last scrape has not come
	for _, n := range r.targets {
		want := n.scrapes() + 1
		var got tally
		eventually(r.t, 20*time.Second, "the receiver has all", func() error {
			var err error
			got, err = n.tally(r.central, `job="numbered"`)
			if err == nil && got.last < want {
				err = fmt.Errorf("the newest is %d, want %d", got.last, want)
			}
			if err == nil && slices.ContainsFunc(got.wrong, func(s string) bool { return strings.HasPrefix(s, fmt.Sprintf("of scrape %d,", got.last)) }) {
				err = fmt.Errorf("%v", got.wrong) // the newest has come in part so far
			}
			return err
		})
		lost := slices.DeleteFunc(got.missing, func(v int) bool {
			i := slices.IndexFunc(cuts, func(cut map[*numbered]int) bool { return cut[n] == v })
			if i >= 0 {
				excused[i]++
			}
			return i >= 0
		})
		if len(lost) > 0 {
			r.t.Errorf("%s: of %d scrapes, %d are lost: %v", n.instance(), got.last, len(lost), lost)
		}
		if len(got.wrong) > 0 {
			r.t.Errorf("%s: %q", n.instance(), got.wrong)
		}
		r.t.Logf("%s: %d scrapes, %d samples", n.instance(), got.last, got.samples)
	}
	for i, missing := range excused {
		if missing == len(r.targets) {
			r.t.Errorf("of no target has the last scrape before the end of process %d come: %v", i+1, cuts[i])
		}
	}
	refused(r.t, r.central)
}

// said waits until the process's log has a line with all the words.
func (r *rollout) said(run *containerRun, words ...string) {
	r.t.Helper()
	eventually(r.t, 10*time.Second, fmt.Sprintf("%s says %q", run.pod, words), func() error {
		b, err := os.ReadFile(run.log)
		if err != nil {
			return err
		}
		for line := range strings.SplitSeq(string(b), "\n") {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return nil
			}
		}
		return fmt.Errorf("no such line")
	})
}

// endedWell complains when a process that was told to end did not do so by itself.
func (r *rollout) endedWell(run *containerRun) {
	r.t.Helper()
	if run.running() || run.forced.Load() || run.cmd.ProcessState.ExitCode() != 0 {
		r.t.Errorf("%s with image %s: running %v, killed %v: %v", run.pod, run.image, run.running(), run.forced.Load(), run.cmd.ProcessState)
	}
}

// prometheusOn runs Prometheus as an agent on a directory in use, of which it
// must keep away as we do of its own, and is what it said.
func (r *rollout) prometheusOn(dir string) string {
	r.t.Helper()
	config := filepath.Join(r.t.TempDir(), "prometheus.yml")
	writeFile(r.t, config, "global: {}\n")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, currentBinary, "--agent", "--config.file="+config, "--storage.agent.path="+dir, "--web.listen-address="+freeAddr(r.t)).CombinedOutput()
	if err == nil || ctx.Err() != nil {
		r.t.Errorf("Prometheus on %s: %v, %v", dir, err, ctx.Err())
	}
	return string(out)
}

// aloneOnTheLog complains when two processes had the claim mounted at the same time.
func (r *rollout) aloneOnTheLog() {
	r.t.Helper()
	var last *containerRun
	for _, run := range r.runs() {
		if len(run.claims) != 1 {
			r.t.Errorf("%s has the claims %q", run.pod, run.claims)
		}
		switch {
		case last == nil:
		case last.running() || last.ended.After(run.started):
			r.t.Errorf("%s is started while %s runs", run.pod, last.pod)
		default:
			r.t.Logf("no agent for %v between %s and %s", run.started.Sub(last.ended).Round(time.Millisecond), last.pod, run.pod)
		}
		last = run
	}
}

// The Deployment of deploy/kubernetes is upgraded by the controllers of
// Kubernetes, in every way and at every bad moment: the new pod goes on where
// the old one was, and nothing is lost.
func TestRollingUpgradeHandsTheLogOver(t *testing.T) {
	r := startRollout(t)
	r.scraped(4)

	t.Run("the receiver answers", func(t *testing.T) {
		r.t = t
		old := r.newest()
		r.image("0.2.0")
		r.rolledOut()
		if now := r.newest(); now == old || now.image != "prom-agent:0.2.0" || !now.running() {
			t.Fatalf("%s runs %s", now.pod, now.image)
		}
		r.endedWell(old)
		r.scraped(4)
		old = r.newest()
		r.kubectl("rollout", "undo", "deployment/prom-agent")
		r.rolledOut()
		if now := r.newest(); now == old || now.image != "prom-agent:0.1.0" || !now.running() {
			t.Fatalf("%s runs %s", now.pod, now.image)
		}
		r.endedWell(old)
		r.scraped(4)
		r.nothingLost()
	})

	t.Run("the receiver is down", func(t *testing.T) {
		r.t = t
		old := r.newest()
		r.outage()
		r.scraped(6)
		const args = "/spec/template/spec/containers/0/args/3"
		r.kubectl("patch", "deployment/prom-agent", "--type=json", "-p", `[
			{"op": "test", "path": "`+args+`", "value": "--storage.agent.retention.max-size=8GB"},
			{"op": "replace", "path": "`+args+`", "value": "--storage.agent.retention.max-size=4GB"}]`)
		r.rolledOut()
		if now := r.newest(); now == old || !slices.Contains(now.cmd.Args, "--storage.agent.retention.max-size=4GB") {
			t.Fatalf("%s runs with %q", now.pod, now.cmd.Args)
		}
		r.endedWell(old)
		r.scraped(4)
		r.outageEnds()
		r.nothingLost()
	})

	t.Run("twice in a row while the receiver is down", func(t *testing.T) {
		r.t = t
		r.outage()
		r.scraped(4)
		before := r.runs()
		r.restart()
		eventually(t, 20*time.Second, "the next pod's process is started", func() error {
			if len(r.runs()) == len(before) {
				return fmt.Errorf("%d processes", len(before))
			}
			return nil
		})
		r.restart() // before or just after that pod is ready
		r.rolledOut()
		all := r.runs()
		if n := len(all) - len(before); n != 2 {
			t.Errorf("%d processes were started, want 2", n)
		}
		for _, run := range all[len(before)-1 : len(all)-1] {
			r.endedWell(run)
		}
		r.scraped(4)
		r.outageEnds()
		r.nothingLost()
	})

	t.Run("the old process does not end in time", func(t *testing.T) {
		r.t = t
		r.kubectl("patch", "deployment/prom-agent", "-p", `{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":2}}}}`)
		r.rolledOut()
		r.scraped(4)
		r.outage()
		r.scraped(6)
		old := r.newest()
		if err := old.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		r.image("0.4.0")
		r.rolledOut()
		if old.running() || !old.forced.Load() {
			t.Errorf("the stopped process was not killed: %v", old.cmd.ProcessState)
		}
		r.said(r.newest(), "A lockfile from a previous execution already existed")
		r.scraped(4)
		r.outageEnds()
		r.nothingLost()
	})

	r.t = t
	r.aloneOnTheLog() // until here: of what comes now the platform says that it must not be

	t.Run("the old pod is forgotten while it runs", func(t *testing.T) {
		r.t = t
		old := r.newest()
		r.nodes[0].lose()
		r.join("edge-2", "10.42.2.1")
		r.kubectl("delete", "pod", old.pod, "--force", "--grace-period=0")
		var second *containerRun
		eventually(t, 20*time.Second, "the new pod is started again and again", func() error {
			runs := r.nodes[1].all()
			if len(runs) < 3 {
				return fmt.Errorf("%d processes", len(runs))
			}
			second = runs[0]
			return nil
		})
		if second.cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("an agent on a log in use: %v", second.cmd.ProcessState)
		}
		r.said(second, "lock DB directory", "/var/lib/prom-agent/lock is held by another process")
		if out := r.prometheusOn(old.claims[0]); !strings.Contains(out, "lock DB directory") {
			t.Errorf("Prometheus as an agent on a log in use says %s", out)
		}
		if !old.running() {
			t.Errorf("the old process has ended: %v", old.cmd.ProcessState)
		}
		r.scraped(4)
		r.nothingLost() // by the old one
		// While the receiver is down, for what it takes just before a kill comes twice.
		r.outage()
		r.scraped(4)
		if err := old.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		r.rolledOut()
		r.scraped(4)
		r.outageEnds()
		r.nothingLost()
	})
}

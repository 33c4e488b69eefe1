package discovery

import (
	"encoding/pem"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/discovery/file"
	sdhttp "github.com/prometheus/prometheus/discovery/http"

	"promagent/discovery/kubernetes"
)

// The files that a change was made with may go at any time after, and other
// changes may come before it: it is put into force whole, with what it has.
func TestCommitOfDiscoveriesAppliesThoughTheirFilesHaveVanished(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	dir := t.TempDir()
	ca, kubeconfig := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "kubeconfig")
	for name, text := range map[string]string{
		ca: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})),
		kubeconfig: "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: '" + srv.URL + "', certificate-authority: " + ca + "}}]\n" +
			"contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	web := sdhttp.DefaultSDConfig
	web.HTTPClientConfig = commonconfig.DefaultHTTPClientConfig
	web.HTTPClientConfig.TLSConfig.CAFile = ca
	web.URL = srv.URL
	cluster := kubernetes.SDConfig{Role: kubernetes.RolePod, KubeConfig: kubeconfig, HTTPClientConfig: commonconfig.DefaultHTTPClientConfig}

	r := newRig(t)
	change := r.prepareConfigs(map[string]Configs{"web": {&web}, "cluster": {&cluster}})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	r.prepareConfigs(map[string]Configs{"web": {}}).Commit()
	change.Commit()
	for _, job := range []string{"web", "cluster"} {
		if n := len(r.inForce(job)); n != 1 {
			t.Errorf("job %s has %d providers, want 1", job, n)
		}
	}
	r.wantMetrics("prometheus_sd_failed_configs", "0")
}

// inForce are the providers of a job.
func (r *rig) inForce(job string) []*provider {
	r.Manager.mu.Lock()
	defer r.Manager.mu.Unlock()
	return slices.Clone(r.Manager.jobs[job])
}

func TestChangesPreparedTogetherTakeEffectInTheOrderOfTheirCommits(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		r.only(t, "x").finds(made("s", "1:80"))
		r.settle()
		first, second := r.prepare("a", "x", "b", "x"), r.prepare("c", "y")
		r.fail["x"], r.fail["y"] = true, true // nothing is made again
		second.Commit()
		r.settle()
		r.wantState("c:")
		first.Commit()
		r.settle()
		r.wantState("a: 1:80; b: 1:80")
		r.only(t, "x").finds(made("s", "2:80"))
		r.settle()
		r.wantState("a: 2:80; b: 2:80")
		if _, ended := r.only(t, "y").state(); !ended {
			t.Error("the provider of the change before still runs")
		}
	})
}

func TestProviderRunsAsLongAsAnUndecidedChangeCountsOnIt(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x", "b", "y")
		counts, none := r.prepare("a", "x"), r.prepare()
		none.Commit()
		r.settle()
		if _, ended := r.only(t, "x").state(); ended {
			t.Error("it has ended, and the change could not be committed any more")
		}
		if _, ended := r.only(t, "y").state(); !ended {
			t.Error("another one runs that nobody counts on")
		}
		counts.Drop()
		r.settle()
		if _, ended := r.only(t, "x").state(); !ended {
			t.Error("it runs, though the change was dropped")
		}
		r.wantState("")
	})
}

func TestGroupsThatReturnBeforeTheyHaveLeftStay(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		r.only(t, "x").finds(made("s", "1:80"))
		r.settle()
		again := r.prepare("a", "x,z")
		r.commit("a", "y") // x's targets stay until y has spoken
		r.settle()
		r.wantState("a: 1:80")
		again.Commit()
		time.Sleep(2 * leaveAtMost)
		r.settle()
		r.wantState("a: 1:80")
	})
}

func TestConfigThatCannotBeMadeIsToldByTheCommit(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.fail["x"] = true
		r.prepare("a", "x").Drop()
		r.wantMetrics("prometheus_sd_failed_configs", "0")
		r.commit("a", "x")
		r.wantMetrics("prometheus_sd_failed_configs", "1")
	})
}

func TestDroppedChangeLetsGoOfItsDiscoveries(t *testing.T) {
	r := newRig(t)
	defer r.start()()
	c := file.DefaultSDConfig
	c.Files = []string{filepath.Join(t.TempDir(), "*.json")}
	var dropped []weak.Pointer[file.Discovery]
	for range 10 {
		change := r.prepareConfigs(map[string]Configs{"a": {&c}})
		dropped = append(dropped, weak.Make(change.made[0].discoverer.(upstream).Discoverer.(*file.Discovery)))
		change.Drop()
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		kept := 0
		for _, d := range dropped {
			if d.Value() != nil {
				kept++
			}
		}
		stacks := make([]byte, 1<<20)
		watching := strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "fsnotify.")
		if kept == 0 && !watching {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d discoveries are kept; files are watched: %v", kept, len(dropped), watching)
		}
	}
}

// Any sequence of changes, prepared, committed and dropped in any order: the
// reader ends with the groups of what was committed last, and nothing else runs.
func TestReaderEndsWithTheJobsOfTheLastCommit(t *testing.T) {
	for seed := range uint64(30) {
		inBubble(t, func(r *rig) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			var open []*Change
			var ids [][]string // of the jobs of each
			var last []string
			for range 100 {
				switch op := rnd.IntN(8); {
				case op < 3 && len(open) < 4:
					var jobs []string
					for _, job := range []string{"a", "b"} {
						var with []string
						for _, id := range []string{"x", "y", "z"} {
							if rnd.IntN(2) == 0 {
								with = append(with, id)
							}
						}
						jobs = append(jobs, job, strings.Join(with, ","))
					}
					open, ids = append(open, r.prepare(jobs...)), append(ids, jobs)
				case op < 5 && len(open) > 0:
					i := rnd.IntN(len(open))
					if rnd.IntN(3) == 0 {
						open[i].Drop()
					} else {
						open[i].Commit()
						last = ids[i]
					}
					open, ids = slices.Delete(open, i, i+1), slices.Delete(ids, i, i+1)
				case op < 7:
					for _, d := range r.running() {
						if rnd.IntN(2) == 0 {
							d.finds(made("s", string(rune('1'+rnd.IntN(9)))+":80"))
						}
					}
				default:
					time.Sleep(time.Duration(rnd.Int64N(int64(2 * time.Second))))
				}
				synctest.Wait()
			}
			for _, c := range open {
				c.Drop()
			}
			time.Sleep(leaveAtMost) // for discoveries that say nothing
			r.settle()
			var want []string
			for i := 0; i < len(last); i += 2 {
				var kinds, found []string
				for _, pr := range r.inForce(last[i]) {
					kinds = append(kinds, pr.config.(fakeConfig).ID)
					for _, g := range pr.groups {
						found = append(found, addresses(g)...)
					}
				}
				slices.Sort(found)
				if got := strings.Join(kinds, ","); got != last[i+1] {
					t.Errorf("seed %d: job %s has %q, want %q", seed, last[i], got, last[i+1])
				}
				want = append(want, strings.TrimSpace(last[i]+": "+strings.Join(found, " ")))
			}
			r.wantState(strings.Join(want, "; "))
			inForce := map[string]bool{}
			for i := 1; i < len(last); i += 2 {
				for id := range strings.SplitSeq(last[i], ",") {
					if id != "" {
						inForce[id] = true
					}
				}
			}
			if n := len(r.running()); n != len(inForce) {
				t.Errorf("seed %d: %d discoveries run, want %d", seed, n, len(inForce))
			}
		})
	}
}

// running are the discoveries that run.
func (h *hub) running() (all []*fake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range []string{"x", "y", "z"} {
		for _, d := range h.all[id] {
			if starts, ended := d.state(); starts > 0 && !ended {
				all = append(all, d)
			}
		}
	}
	return all
}

package discovery

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	sd "github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"promagent/discovery/group"
)

func TestEqualConfigsShareOneProvider(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x", "b", "x", "c", "x,x")
		d := r.only(t, "x")
		d.finds(made("s", "1:80"))
		r.settle()
		r.wantState("a: 1:80; b: 1:80; c: 1:80")
		if starts, _ := d.state(); starts != 1 {
			t.Errorf("the provider was started %d times, want once", starts)
		}
		if d.set != "a" {
			t.Errorf("the provider was made for job %q, want the first, \"a\"", d.set)
		}
	})
}

func TestReloadKeepsAnUnchangedProviderAndTellsNothing(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		d := r.only(t, "x")
		d.finds(made("s", "1:80"))
		r.settle()
		before := r.deliveries()
		r.commit("a", "x")
		r.settle()
		if got := r.deliveries(); got != before {
			t.Errorf("a reload that changes nothing was delivered: %v", r.batches[before:])
		}
		r.only(t, "x") // no other was made
		if starts, ended := d.state(); starts != 1 || ended {
			t.Errorf("the provider: %d starts, ended %v; want one start, still running", starts, ended)
		}
		r.wantState("a: 1:80")
	})
}

func TestNewJobOfARunningProviderGetsItsGroupsAtOnce(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		r.only(t, "x").finds(made("s", "1:80"), made("t", "2:80"))
		r.settle()
		r.commit("a", "x", "b", "x")
		r.soon()
		r.wantState("a: 1:80 2:80; b: 1:80 2:80")
	})
}

func TestRenamedJobKeepsTheProvidersTargets(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		d := r.only(t, "x")
		d.finds(made("s", "1:80"))
		r.settle()
		r.commit("b", "x")
		r.soon()
		r.wantState("b: 1:80")
		d.finds(made("s", "2:80"))
		r.settle()
		r.wantState("b: 2:80")
		r.only(t, "x")
	})
}

func TestRemovedProviderIsStoppedAndItsGroupsEndPromptly(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x,y")
		x, y := r.only(t, "x"), r.only(t, "y")
		x.finds(made("s", "1:80"))
		y.finds(made("s", "2:80")) // the same source of another provider
		r.settle()
		r.wantState("a: 1:80 2:80")
		r.commit("a", "y")
		if _, ended := x.state(); !ended {
			t.Error("the removed provider still runs")
		}
		if _, ended := y.state(); ended {
			t.Error("the provider that stays was stopped")
		}
		r.soon()
		r.wantState("a: 2:80")
	})
}

// A reload that edits a discovery must not stop the scrapes until its server
// has answered.
func TestGroupsOfAReplacedProviderStayUntilItsSuccessorSpeaks(t *testing.T) {
	for name, tc := range map[string]struct {
		after func(r *rig)
		want  string
	}{
		"speaks": {func(r *rig) {
			r.only(t, "y").finds(made("s", "2:80"))
			r.settle()
		}, "a: 2:80"},
		"speaks of nothing": {func(r *rig) {
			r.only(t, "y").finds()
			r.settle()
		}, "a:"},
		"is silent":  {func(r *rig) { time.Sleep(leaveAtMost); r.settle() }, "a:"},
		"is removed": {func(r *rig) { r.commit("a", ""); r.settle() }, "a:"},
		"is replaced, too": {func(r *rig) {
			r.commit("a", "z")
			r.settle()
			r.wantState("a: 1:80")
			r.only(t, "z").finds(made("s", "3:80"))
			r.settle()
		}, "a: 3:80"},
		"loses its job": {func(r *rig) { r.commit("b", "y"); r.settle() }, "b:"},
		"comes to a job that has gone on": {func(r *rig) {
			r.commit("a", "y", "b", "y")
			r.only(t, "y").finds(made("s", "2:80"))
			r.settle()
		}, "a: 2:80; b: 2:80"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(r *rig) {
				r.commit("a", "x")
				r.only(t, "x").finds(made("s", "1:80"), made("t"))
				r.settle()
				r.commit("a", "y")
				r.settle()
				r.wantState("a: 1:80")
				tc.after(r)
				r.wantState(tc.want)
				r.wantMetrics("prometheus_sd_discovered_targets", strings.Split(map[string]string{
					"a: 2:80": "a 1", "a:": "a 0", "a: 3:80": "a 1", "b:": "b 0", "a: 2:80; b: 2:80": "a 1,b 1"}[tc.want], ",")...)
			})
		})
	}
}

func TestRemovalInTheMiddleOfABurstIsNotThrottled(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x", "b", "y")
		r.only(t, "y").finds(made("s", "1:80"))
		x := r.only(t, "x")
		for i := range 6000 { // for a minute: the pauses are the longest
			x.finds(made("s", fmt.Sprintf("%d:80", i)))
			time.Sleep(10 * time.Millisecond)
		}
		r.commit("a", "x", "b", "")
		r.soon()
		if got := r.String(); !strings.HasSuffix(got, "; b:") {
			t.Errorf("after a reload without the targets of b: %q", got)
		}
	})
}

func TestRemovingAllConfigsOfAJobEndsItsGroups(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		r.only(t, "x").finds(made("s", "1:80"))
		r.settle()
		r.commit("a", "")
		r.soon()
		r.wantState("a:")
		r.commit()
		r.soon()
		r.wantState("")
		r.wantMetrics("prometheus_sd_discovered_targets")
		r.wantMetrics("prometheus_sd_last_update_timestamp_seconds")
	})
}

func TestEmptyStaticConfigsEndTheGroups(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commitConfigs(map[string]Configs{"a": {sd.StaticConfig{made("0", "1:80"), made("1", "2:80", "3:80")}}})
		r.soon()
		r.wantState("a: 1:80 2:80 3:80")
		r.wantMetrics("prometheus_sd_discovered_targets", "a 3")
		r.commitConfigs(map[string]Configs{"a": {}})
		r.soon()
		r.wantState("a:")
		r.wantMetrics("prometheus_sd_discovered_targets", "a 0")
	})
}

func TestStaticGroupsAreNotWrittenTo(t *testing.T) {
	inBubble(t, func(r *rig) {
		static := sd.StaticConfig{made("0", "1:80")}
		for range 2 {
			r.commitConfigs(map[string]Configs{"a": {static}, "b": {static}})
			r.settle()
		}
		if want := (sd.StaticConfig{made("0", "1:80")}); !reflect.DeepEqual(static, want) {
			t.Errorf("the config's group became %v", static[0])
		}
		r.wantState("a: 1:80; b: 1:80")
	})
}

func TestUpdateReplacesOnlyTheSourcesThatItNames(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		d := r.only(t, "x")
		d.finds(made("s", "1:80"), made("t", "2:80"))
		r.settle()
		d.finds(nil, made("t", "3:80"))
		r.settle()
		r.wantState("a: 1:80 3:80")
		d.finds(made("s"), made("unknown"))
		r.settle()
		r.wantState("a: 3:80")
		last := r.batches[len(r.batches)-1]
		want := []Update{{Job: "a", Groups: []group.Group{{Source: "fake/1:s"}}}}
		if !reflect.DeepEqual(last, want) {
			t.Errorf("the last update: got %v, want %v", last, want)
		}
	})
}

func TestGroupThatIsFoundUnchangedIsNotSent(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		d := r.only(t, "x")
		d.finds(made("s", "1:80", "2:80", "2:80"), made("t", "4:80"))
		r.settle()
		n, received := r.deliveries(), counter(t, r.metrics.ReceivedUpdates)
		d.finds(made("s", "2:80", "1:80", "2:80"), made("t", "4:80")) // in another order
		r.settle()
		if r.deliveries() != n {
			t.Errorf("unchanged groups were sent: %v", r.batches[n])
		}
		if got := counter(t, r.metrics.ReceivedUpdates); got != received+1 {
			t.Errorf("received updates: got %v, want %v", got, received+1)
		}
		updated := counter(t, r.metrics.LastUpdated.WithLabelValues("a"))
		if want := float64(time.Now().Add(-2 * maxPause).Unix()); updated != want {
			t.Errorf("last update of a: got %v, want %v, when the groups were found unchanged", updated, want)
		}

		for _, g := range []*targetgroup.Group{
			made("s", "1:80", "1:80", "2:80"), // the same addresses, another number of each
			made("s", "1:80", "1:80"),
			{Source: "s", Targets: made("", "1:80", "1:80").Targets, Labels: model.LabelSet{"l": "v"}},
			made("s", "2:80", "1:80"),
			made("s", "1:80", "1:80"),
		} {
			n = r.deliveries()
			d.finds(g, made("t", "4:80"))
			r.settle()
			if r.deliveries() != n+1 {
				t.Errorf("%v: deliveries got %d, want 1", g, r.deliveries()-n)
				continue
			}
			if u := r.batches[n][0]; len(u.Groups) != 1 || u.Groups[0].Source != "fake/1:s" {
				t.Errorf("%v: sent %v, want the changed group alone", g, u.Groups)
			}
		}
	})
}

func TestJobsWithoutTargetsExist(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.fail["bad"] = true
		r.commit("none", "", "failed", "bad", "silent", "x", "half", "bad,y")
		r.only(t, "y").finds(made("s", "1:80"))
		r.settle()
		r.wantState("failed:; half: 1:80; none:; silent:")
	})
}

func TestConfigThatCannotBeMadeIsCountedAndTriedAtTheNextCommit(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.fail["bad"] = true
		r.commit("a", "bad", "b", "bad,x")
		r.settle()
		r.wantMetrics("prometheus_sd_failed_configs", "2")
		r.hub.mu.Lock()
		r.fail["bad"] = false
		r.hub.mu.Unlock()
		r.settle()
		if n := len(r.all["bad"]); n != 0 {
			t.Errorf("made %d times without a commit", n)
		}
		r.commit("a", "bad", "b", "bad,x")
		r.wantMetrics("prometheus_sd_failed_configs", "0")
		r.only(t, "bad").finds(made("s", "1:80"))
		r.settle()
		r.wantState("a: 1:80; b: 1:80")
	})
}

func TestWhatIsFoundBeforeRunIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.commitConfigs(map[string]Configs{"a": {sd.StaticConfig{made("0", "1:80")}, r.config("x")}})
		time.Sleep(time.Hour)
		stop := r.start()
		r.only(t, "x").finds(made("s", "2:80"))
		r.settle()
		r.wantState("a: 1:80 2:80")
		stop()
	})
}

func TestRemovingOneOfTwoJobsKeepsTheSharedProvider(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x", "b", "x")
		d := r.only(t, "x")
		d.finds(made("s", "1:80"))
		r.settle()
		r.commit("b", "x", "c", "x")
		r.soon()
		r.wantState("b: 1:80; c: 1:80")
		d.finds(made("s", "2:80"))
		r.settle()
		r.wantState("b: 2:80; c: 2:80")
		r.wantMetrics("prometheus_sd_discovered_targets", "b 1", "c 1")
	})
}

func TestJobThatReturnsBeforeTheReaderHeardKeepsNothingOld(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		r.only(t, "x").finds(made("s", "1:80"))
		r.settle()
		r.commit()
		r.commit("a", "x")
		if n := len(r.all["x"]); n != 2 {
			t.Fatalf("providers made: got %d, want 2", n)
		}
		r.newest("x").finds(made("s", "2:80"))
		r.settle()
		r.wantState("a: 2:80")
	})
}

func TestPreparedChangeThatIsDroppedChangesNothing(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		r.only(t, "x").finds(made("s", "1:80"))
		r.settle()
		n := r.deliveries()
		r.prepare("b", "y").Drop()
		r.settle()
		if r.deliveries() != n {
			t.Errorf("a dropped change was delivered: %v", r.batches[n:])
		}
		if starts, _ := r.only(t, "y").state(); starts != 0 {
			t.Error("a provider of a dropped change was started")
		}
		r.wantState("a: 1:80")
	})
}

func TestNilConfigIsRefused(t *testing.T) {
	r := newRig(t)
	if _, err := r.Prepare(map[string]Configs{"a": {nil}}); err == nil || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("got %v, want an error that names the job", err)
	}
}

func TestChangesThatComeTogetherArriveTogether(t *testing.T) {
	inBubble(t, func(r *rig) {
		start := time.Now()
		r.commit("a", "x", "b", "y")
		r.only(t, "x").finds(made("s", "1:80"))
		r.only(t, "y").finds(made("s", "2:80"))
		r.soon()
		if r.deliveries() != 1 {
			t.Fatalf("deliveries: got %d, want 1", r.deliveries())
		}
		if got := r.times[0].Sub(start); got != minPause {
			t.Errorf("delivered after %v, want %v", got, minPause)
		}
		r.wantState("a: 1:80; b: 2:80")
		r.wantMetrics("prometheus_sd_updates_total", "1")
	})
}

func TestBusyDiscoveryIsThrottled(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.commit("a", "x")
		d := r.only(t, "x")
		for i := range 6000 { // for a minute
			d.finds(made("s", fmt.Sprintf("%d:80", i)))
			time.Sleep(10 * time.Millisecond)
		}
		r.settle()
		r.wantState("a: 5999:80")
		for i := 1; i < len(r.times); i++ {
			pause := r.times[i].Sub(r.times[i-1])
			if pause < minPause || pause > maxPause+10*time.Millisecond {
				t.Errorf("pause %d: %v, want %v to %v", i, pause, minPause, maxPause)
			}
			if i > 12 && i < len(r.times)-1 && pause < maxPause {
				t.Errorf("pause %d: %v, want %v by then", i, pause, maxPause)
			}
		}
		if n := len(r.times); n < 110 || n > 130 {
			t.Errorf("deliveries in a minute: got %d, want about 120", n)
		}
		// After some quiet the next change is prompt again.
		d.finds(made("s", "last:80"))
		r.soon()
		r.wantState("a: last:80")
		d.finds(made("s", "next:80"))
		time.Sleep(2 * minPause)
		synctest.Wait()
		r.wantState("a: next:80")
	})
}

func TestBusyReaderMissesNothingAndIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = r.Run(ctx) })
		r.commit("a", "x")
		d := r.only(t, "x")
		for i := range 10 {
			d.finds(made(fmt.Sprint(i), fmt.Sprintf("%d:80", i)))
			time.Sleep(time.Second)
		}
		r.wantMetrics("prometheus_sd_updates_delayed_total", "1")
		r.wantMetrics("prometheus_sd_updates_total", "0")
		for range 2 {
			r.read(<-r.Updates())
			time.Sleep(maxPause)
		}
		r.wantState("a: 0:80 1:80 2:80 3:80 4:80 5:80 6:80 7:80 8:80 9:80")
		cancel()
		wg.Wait()
		if _, open := <-r.Updates(); open {
			t.Error("the channel is open after Run returned")
		}
	})
}

// brokenDiscoverer closes the channel, does not look at ctx while it sends,
// and ends by itself.
type brokenDiscoverer struct{ closes bool }

func (d brokenDiscoverer) Run(ctx context.Context, up chan<- []*targetgroup.Group) {
	up <- []*targetgroup.Group{made("s", "1:80")}
	if d.closes {
		close(up)
		return
	}
	<-ctx.Done()
	up <- []*targetgroup.Group{made("s", "late:80")}
}

type brokenConfig struct {
	fakeConfig
	Closes bool
}

func (c brokenConfig) NewDiscoverer(sd.DiscovererOptions) (sd.Discoverer, error) {
	return brokenDiscoverer{c.Closes}, nil
}

func TestDiscovererThatKeepsNoRulesHarmsNothing(t *testing.T) {
	for _, closes := range []bool{true, false} {
		t.Run(fmt.Sprintf("closes=%v", closes), func(t *testing.T) {
			inBubble(t, func(r *rig) {
				r.commitConfigs(map[string]Configs{"a": {brokenConfig{fakeConfig{r.hub, "x"}, closes}}})
				r.settle()
				r.wantState("a: 1:80")
				r.commit("a", "")
				r.settle()
				r.wantState("a:")
			})
		})
	}
}

// refreshConfig counts as refreshing discoveries do.
type refreshConfig struct{ fakeConfig }

type refreshMetrics struct {
	sd.NoopDiscovererMetrics
	inst sd.RefreshMetricsInstantiator
}

func (c refreshConfig) Name() string { return "refreshing" }

func (c refreshConfig) NewDiscoverer(o sd.DiscovererOptions) (sd.Discoverer, error) {
	o.Metrics.(*refreshMetrics).inst.Instantiate("refreshing", o.SetName).Failures.Inc()
	return c.fakeConfig.NewDiscoverer(o)
}

func TestRefreshMetricsLiveAsLongAsTheirProvider(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.mechanisms.MechanismMetrics["refreshing"] = &refreshMetrics{inst: r.mechanisms.RefreshManager}
		config := func(id string) Configs { return Configs{refreshConfig{fakeConfig{r.hub, id}}} }
		const failures = "prometheus_sd_refresh_failures_total"
		r.commitConfigs(map[string]Configs{"a": config("x"), "b": config("x"), "c": config("y")})
		r.wantMetrics(failures, "a refreshing 1", "c refreshing 1")
		// The shared provider goes on, and so does its count.
		r.commitConfigs(map[string]Configs{"b": config("x"), "c": config("y")})
		r.wantMetrics(failures, "a refreshing 1", "c refreshing 1")
		// The provider of c is replaced by another one that counts under the same labels.
		r.commitConfigs(map[string]Configs{"b": config("x"), "c": config("z")})
		r.wantMetrics(failures, "a refreshing 1", "c refreshing 2")
		// What is dropped leaves nothing behind.
		change, err := r.Prepare(map[string]Configs{"d": config("w")})
		if err != nil {
			t.Fatal(err)
		}
		r.commitConfigs(map[string]Configs{"c": config("z")})
		r.wantMetrics(failures, "c refreshing 2", "d refreshing 1")
		change.Drop()
		r.wantMetrics(failures, "c refreshing 2")
	})
}

func TestMetricsOfAllCompiledDiscoveriesAreRegistered(t *testing.T) {
	r := newRig(t)
	r.mechanisms.RefreshManager.Instantiate("file", "a")
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range families {
		got[f.GetName()] = true
	}
	for _, name := range []string{
		"prometheus_sd_failed_configs", "prometheus_sd_received_updates_total", "prometheus_sd_updates_total",
		"prometheus_sd_updates_delayed_total", "prometheus_sd_refresh_failures_total",
		"prometheus_sd_refresh_duration_seconds", "prometheus_sd_refresh_duration_histogram_seconds",
		"prometheus_sd_file_read_errors_total", "prometheus_sd_file_scan_duration_seconds",
		"prometheus_sd_file_watcher_errors_total", "prometheus_sd_http_failures_total",
		"prometheus_sd_dns_lookups_total", "prometheus_sd_dns_lookup_failures_total",
	} {
		if !got[name] {
			t.Errorf("%s is missing", name)
		}
	}
	if _, err := New(Options{Registerer: r.reg}); err == nil {
		t.Error("a second manager on the same registry: got no error")
	}
}

func TestReaderEndsWithTheStateOfAllJobs(t *testing.T) {
	// Any sequence of commits and findings, with the reader told at any
	// moment, against a model that knows nothing of increments.
	for seed := range uint64(30) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			inBubble(t, func(r *rig) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				jobs := map[string][]string{}           // configs by job
				found := map[string]map[string]string{} // address by source, by config
				for range 200 {
					switch op := rnd.IntN(10); {
					case op < 3:
						next := map[string][]string{}
						var args []string
						for _, job := range []string{"a", "b", "c"} {
							if rnd.IntN(4) == 0 {
								continue
							}
							for _, id := range []string{"x", "y", "z"} {
								if rnd.IntN(2) == 0 {
									next[job] = append(next[job], id)
								}
							}
							args = append(args, job, strings.Join(next[job], ","))
							if next[job] == nil {
								next[job] = []string{}
							}
						}
						r.commit(args...)
						jobs = next
						used := map[string]bool{}
						for _, ids := range jobs {
							for _, id := range ids {
								used[id] = true
							}
						}
						maps.DeleteFunc(found, func(id string, _ map[string]string) bool { return !used[id] })
						for id := range used {
							if found[id] == nil {
								found[id] = map[string]string{}
							}
						}
					case op < 9:
						ids := slices.Sorted(maps.Keys(found))
						if len(ids) == 0 {
							continue
						}
						id := ids[rnd.IntN(len(ids))]
						source := fmt.Sprint(rnd.IntN(3))
						if rnd.IntN(3) == 0 {
							delete(found[id], source)
							r.newest(id).finds(made(source))
						} else {
							found[id][source] = fmt.Sprintf("%s-%s-%d", id, source, rnd.IntN(3))
							r.newest(id).finds(made(source, found[id][source]))
						}
					default:
						time.Sleep(time.Duration(rnd.Int64N(int64(2 * time.Second))))
					}
				}
				time.Sleep(leaveAtMost) // for discoveries that say nothing
				r.settle()
				var want []string
				var counts []string
				for _, job := range slices.Sorted(maps.Keys(jobs)) {
					var as []string
					for _, id := range jobs[job] {
						as = slices.AppendSeq(as, maps.Values(found[id]))
					}
					slices.Sort(as)
					want = append(want, strings.TrimSpace(job+": "+strings.Join(as, " ")))
					counts = append(counts, fmt.Sprintf("%s %d", job, len(as)))
				}
				r.wantState(strings.Join(want, "; "))
				r.wantMetrics("prometheus_sd_discovered_targets", counts...)
			})
		})
	}
}

func TestCommitsAndFindingsAtTheSameTime(t *testing.T) {
	m, err := New(Options{Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	static := func(i int) Configs { return Configs{sd.StaticConfig{made("0", fmt.Sprintf("%d:80", i))}} }
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var running, committing sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	last := &reader{jobs: map[string]map[string]group.Group{}}
	arrived := make(chan struct{})
	running.Go(func() {
		for batch := range m.Updates() {
			last.read(batch)
			if last.String() == "end: 0:80" {
				close(arrived)
				return
			}
		}
	})
	for worker := range 4 {
		committing.Go(func() {
			for i := range 50 {
				change, err := m.Prepare(map[string]Configs{"a": static(i % 3), fmt.Sprint(worker): static(i)})
				if err != nil {
					t.Error(err)
					return
				}
				change.Commit()
			}
		})
	}
	committing.Wait()
	change, err := m.Prepare(map[string]Configs{"end": static(0)})
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	<-arrived
	cancel()
	running.Wait()
}

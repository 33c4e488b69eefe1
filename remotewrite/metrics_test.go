package remotewrite

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	promrelabel "github.com/prometheus/prometheus/model/relabel"

	"promagent/template"

	"promagent/wal"
)

// families are the metrics of remote storage as dashboards and alerts of
// Prometheus know them: type and labels, c counter, g gauge, h histogram.
const families = `
prometheus_remote_storage_samples_total c remote_name url
prometheus_remote_storage_exemplars_total c remote_name url
prometheus_remote_storage_histograms_total c remote_name url
prometheus_remote_storage_metadata_total c remote_name url
prometheus_remote_storage_samples_failed_total c remote_name url
prometheus_remote_storage_exemplars_failed_total c remote_name url
prometheus_remote_storage_histograms_failed_total c remote_name url
prometheus_remote_storage_metadata_failed_total c remote_name url
prometheus_remote_storage_samples_retried_total c remote_name url
prometheus_remote_storage_exemplars_retried_total c remote_name url
prometheus_remote_storage_histograms_retried_total c remote_name url
prometheus_remote_storage_metadata_retried_total c remote_name url
prometheus_remote_storage_samples_dropped_total c reason remote_name url
prometheus_remote_storage_exemplars_dropped_total c reason remote_name url
prometheus_remote_storage_histograms_dropped_total c reason remote_name url
prometheus_remote_storage_enqueue_retries_total c remote_name url
prometheus_remote_storage_sent_batch_duration_seconds h remote_name url
prometheus_remote_storage_bytes_total c remote_name url
prometheus_remote_storage_metadata_bytes_total c remote_name url
prometheus_remote_storage_max_samples_per_send g remote_name url
prometheus_remote_storage_queue_highest_timestamp_seconds g remote_name url
prometheus_remote_storage_queue_highest_sent_timestamp_seconds g remote_name url
prometheus_remote_storage_samples_pending g remote_name url
prometheus_remote_storage_exemplars_pending g remote_name url
prometheus_remote_storage_histograms_pending g remote_name url
prometheus_remote_storage_shard_capacity g remote_name url
prometheus_remote_storage_shards g remote_name url
prometheus_remote_storage_shards_min g remote_name url
prometheus_remote_storage_shards_max g remote_name url
prometheus_remote_storage_shards_desired g remote_name url
prometheus_remote_storage_samples_in_total c
prometheus_remote_storage_exemplars_in_total c
prometheus_remote_storage_histograms_in_total c
prometheus_remote_storage_highest_timestamp_in_seconds g
prometheus_remote_storage_string_interner_zero_reference_releases_total c
prometheus_wal_watcher_records_read_total c consumer type
prometheus_wal_watcher_record_decode_failures_total c consumer
prometheus_wal_watcher_samples_sent_pre_tailing_total c consumer
prometheus_wal_watcher_notifications_skipped_total c consumer
prometheus_wal_watcher_current_segment g consumer
prom_agent_remote_behind_seconds g remote_name url
prom_agent_remote_behind_samples g remote_name url
prom_agent_remote_behind_bytes g remote_name url
prom_agent_remote_rate_limited_seconds_total c remote_name url
prom_agent_remote_lost_samples_total c reason remote_name url
`

func TestMetricsAreThoseOfPrometheus(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	cfg := remoteConfig(t, strings.Replace(r.srv.URL, "://", "://me:secret@", 1)+"/w")
	m := startManager(l, patience, cfg)
	got := gather(t, m.registry)
	types := map[string]string{"COUNTER": "c", "GAUGE": "g", "HISTOGRAM": "h"}
	for line := range strings.Lines(strings.TrimSpace(families)) {
		fields := strings.Fields(line)
		name, typ, want := fields[0], fields[1], fields[2:]
		f, ok := got[name]
		if !ok {
			t.Errorf("there is no %s", name)
			continue
		}
		delete(got, name)
		if types[f.typ] != typ || f.help == "" {
			t.Errorf("%s: type %s, help %q", name, f.typ, f.help)
		}
		reasons := map[string]bool{}
		for _, x := range f.series {
			for label, v := range x.labels {
				switch label {
				case "remote_name", "consumer":
					if v != "test" {
						t.Errorf("%s: %s is %q", name, label, v)
					}
				case "url":
					if v != strings.Replace(r.srv.URL, "://", "://me:xxxxx@", 1)+"/w" {
						t.Errorf("%s: url is %q", name, v)
					}
				case "reason":
					reasons[v] = true
				}
			}
			if !slices.Equal(x.names, want) {
				t.Errorf("%s: labels %v, want %v", name, x.names, want)
			}
			if typ == "c" && x.value != 0 {
				t.Errorf("%s begins at %v", name, x.value)
			}
		}
		if strings.HasSuffix(name, "_dropped_total") {
			for _, reason := range []string{"too_old", "dropped_series", "unintentionally_dropped_series"} {
				if !reasons[reason] {
					t.Errorf("%s: there is no reason %s", name, reason)
				}
			}
			if strings.Contains(name, "histograms") != reasons["nhcb_in_rw1_not_supported"] {
				t.Errorf("%s: reasons %v", name, reasons)
			}
		}
	}
	if len(got) > 0 {
		t.Errorf("not expected: %v", slices.Collect(maps.Keys(got)))
	}
	m.stop()
	for name := range gather(t, m.registry) {
		if !strings.HasPrefix(name, "prometheus_remote_storage_") || !slices.Contains([]string{"samples_in_total", "exemplars_in_total", "histograms_in_total", "highest_timestamp_in_seconds", "string_interner_zero_reference_releases_total"}, strings.TrimPrefix(name, "prometheus_remote_storage_")) {
			t.Errorf("%s is there after the end", name)
		}
	}
}

// Prometheus 3.16 has them for 1.x alone.
func TestMetricsOfMetadataAreThoseOfTheMessage(t *testing.T) {
	l := openLog(t, t.TempDir())
	r := newReceiver(t, nil)
	first, second := remoteConfig(t, r.srv.URL+"/1"), remoteConfig(t, r.srv.URL+"/2")
	first.RemoteName, second.RemoteName, second.ProtobufMessage = "first", "second", MessageV2
	m := startManager(l, patience, first, second)
	found := 0
	for name, f := range gather(t, m.registry) {
		if !strings.HasPrefix(name, "prometheus_remote_storage_metadata_") {
			continue
		}
		found++
		if len(f.series) != 1 || f.series[0].labels["remote_name"] != "first" {
			t.Errorf("%s: series %v, want one of the remote that is sent 1.x", name, f.series)
		}
	}
	if found != 4 {
		t.Errorf("%d metrics of metadata, want 4", found)
	}
	m.stop()
}

func TestGaugesSayHowItStands(t *testing.T) {
	l := openLog(t, t.TempDir())
	g := newGate(503)
	r := newReceiver(t, g.answer)
	cfg := remoteConfig(t, r.srv.URL)
	cfg.Queue.MinShards, cfg.Queue.MaxShards = 2, 8
	cfg.Queue.MaxBackoff = 20 * time.Millisecond
	m := startManager(l, patience, cfg)
	a := testTarget("a", 10)
	l.scrape(a)
	eventually(t, "ten are pending", func() bool { return m.remoteMetric("samples_pending") == 10 })
	for name, want := range map[string]int{
		"max_samples_per_send": 100, "shard_capacity": 1000, "shards": 2, "shards_min": 2, "shards_max": 8, "samples_in_total": 10,
		"queue_highest_timestamp_seconds": int(l.clock / 1000), "queue_highest_sent_timestamp_seconds": 0, "highest_timestamp_in_seconds": int(l.clock / 1000),
		"samples_failed_total": 0, "exemplars_pending": 0,
	} {
		if got := m.remoteMetric(name); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
	if got := metric(t, m.registry, "prom_agent_remote_behind_samples"); got != 10 {
		t.Errorf("behind by %v samples, want 10", got)
	}
	held := l.store.Log().BytesFrom(wal.Pos{})
	// The record, but not its block's anchor before it.
	if got := metric(t, m.registry, "prom_agent_remote_behind_bytes"); got < 10 || got >= float64(held) || got != float64(m.Status()[0].BehindBytes) {
		t.Errorf("behind by %v bytes, the API says %d, of %d", got, m.Status()[0].BehindBytes, held)
	}
	g.set(204)
	eventually(t, "none is pending", func() bool {
		return m.remoteMetric("samples_pending") == 0 && m.remoteMetric("queue_highest_sent_timestamp_seconds") == int(l.clock/1000) &&
			metric(t, m.registry, "prom_agent_remote_behind_samples") == 0 &&
			metric(t, m.registry, "prom_agent_remote_behind_bytes") == 0 && m.Status()[0].BehindBytes == 0 && metric(t, m.registry, "prom_agent_remote_behind_seconds") == 0
	})
	if got, most := m.remoteMetric("samples_retried_total"), m.remoteMetric("samples_total"); got == 0 || most != got+10 {
		t.Errorf("%d retried, %d sent, want 10 more", got, most)
	}
	if m.remoteMetric("bytes_total") == 0 {
		t.Error("no bytes are counted")
	}
	f := gather(t, m.registry)["prometheus_remote_storage_sent_batch_duration_seconds"]
	if n, _ := r.counts(); f.series[0].count != uint64(n) {
		t.Errorf("%d durations of %d requests", f.series[0].count, n)
	}
}

// TestCountersAddUp: what was logged has been delivered, refused, dropped or
// waits; and what was sent was delivered, refused or sent again.
func TestCountersAddUp(t *testing.T) {
	for _, message := range bothMessages {
		t.Run(message, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			var mu sync.Mutex
			rnd := rand.New(rand.NewPCG(1, 2))
			r := newReceiver(t, func(w http.ResponseWriter, q *request) int {
				mu.Lock()
				defer mu.Unlock()
				// A request that has been refused in part counts for what it
				// says: the receiver of this test takes all or nothing.
				switch n := rnd.IntN(10); {
				case n < 2:
					return 500
				case n < 3:
					return 400
				case n < 4:
					return 403
				case n < 5 && q.samples > 3:
					return 413
				}
				return 204
			})
			cfg := remoteConfig(t, r.srv.URL)
			cfg.ProtobufMessage = message
			cfg.Queue.MinShards, cfg.Queue.MaxShards = 4, 4
			cfg.Queue.SampleAgeLimit = time.Hour
			cfg.WriteRelabel = []*promrelabel.Config{dropSeries("m3_total")}
			m := startManager(l, patience, cfg)
			a := testTarget("a", 50)
			old := testTarget("old", 20)
			for i := range 60 {
				if i%10 == 0 {
					now := l.clock
					l.clock = now - 2*time.Hour.Milliseconds()
					l.scrape(old)
					l.clock = now
				}
				l.scrape(a)
			}
			m.delivered()
			_, written := r.counts()
			failed, retried := m.remoteMetric("samples_failed_total"), m.remoteMetric("samples_retried_total")
			dropped := m.remoteMetric("samples_dropped_total", "reason=dropped_series")
			tooOld := m.remoteMetric("samples_dropped_total", "reason=too_old")
			in := m.remoteMetric("samples_in_total")
			if in != l.count || in != written+failed+dropped+tooOld {
				t.Errorf("%d samples in, want %d; %d delivered, %d failed, %d dropped, %d too old make %d", in, l.count, written, failed, dropped, tooOld, written+failed+dropped+tooOld)
			}
			if failed == 0 || retried == 0 || dropped == 0 || tooOld == 0 {
				t.Errorf("failed %d, retried %d, dropped %d, too old %d: nothing is tested", failed, retried, dropped, tooOld)
			}
			if sent := m.remoteMetric("samples_total"); sent < written+failed+retried {
				t.Errorf("%d samples sent, want at least %d", sent, written+failed+retried)
			}
			for _, pending := range []string{"samples_pending", "exemplars_pending", "histograms_pending"} {
				eventually(t, pending+" is 0", func() bool { return m.remoteMetric(pending) == 0 })
			}
		})
	}
}

func TestExemplarsAreCountedWhateverBecomesOfThem(t *testing.T) {
	for _, tc := range []struct {
		status                         int
		sent, failed, retried, dropped int
	}{{204, 3, 0, 0, 0}, {403, 3, 3, 0, 0}, {503, 6, 0, 3, 0}, {200, 0, 0, 0, 3}} {
		t.Run(fmt.Sprint(tc.status), func(t *testing.T) {
			l := openLog(t, t.TempDir())
			r := newReceiver(t, answers(tc.status))
			cfg := remoteConfig(t, r.srv.URL)
			if tc.dropped > 0 {
				cfg.WriteRelabel = []*promrelabel.Config{dropSeries(".*")}
			}
			m := startManager(l, patience, cfg)
			b := testTarget("a", 3)
			part := template.Part{Block: b, Values: make([]float64, 3)}
			for i := range 3 {
				part.Extra = append(part.Extra, template.Extra{Slot: i, Kind: template.Exemplar, Time: l.clock, Value: 1, Labels: []string{"id", "x"}})
			}
			if err := l.store.Append(&template.Batch{Time: l.clock, Parts: []template.Part{part}}); err != nil {
				t.Fatal(err)
			}
			m.delivered()
			got := [5]int{m.remoteMetric("exemplars_in_total"), m.remoteMetric("exemplars_total"), m.remoteMetric("exemplars_failed_total"),
				m.remoteMetric("exemplars_retried_total"), m.remoteMetric("exemplars_dropped_total")}
			if want := [5]int{3, tc.sent, tc.failed, tc.retried, tc.dropped}; got != want {
				t.Errorf("in, sent, failed, retried, dropped: got %v, want %v", got, want)
			}
		})
	}
}

package main

import (
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/version"

	"promagent/wal"
	"promagent/wal/record"
)

// buildInfoMetric is prometheus_build_info, which dashboards join on.
func buildInfoMetric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "prometheus_build_info",
		Help: "A constant 1, with what the agent was built from as labels.",
		ConstLabels: prometheus.Labels{
			"version": fullVersion(), "revision": version.GetRevision(), "branch": version.Branch, "goversion": runtime.Version(),
			"goos": runtime.GOOS, "goarch": runtime.GOARCH, "tags": version.GetTags(),
		},
	}, func() float64 { return 1 })
}

// syncMetrics are the runtime's waits for locks, which Prometheus shows, too.
var syncMetrics = collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/sync/mutex/wait/total:seconds$`)}

// connections gathers net_conntrack_*: the library that counts connections of
// HTTP clients and listeners knows the default registry only.
var connections = prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
	all, err := prometheus.DefaultGatherer.Gather()
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "net_conntrack_") }), err
})

// newDurationMetric returns the observer of a summary of durations.
func newDurationMetric(r prometheus.Registerer, name, help string) func(time.Duration) {
	s := prometheus.NewSummary(prometheus.SummaryOpts{Name: name, Help: help, Objectives: map[float64]float64{0.5: 0.05, 0.9: 0.01, 0.99: 0.001}})
	r.MustRegister(s)
	return func(d time.Duration) { s.Observe(d.Seconds()) }
}

// logMetrics shows the log's numbers under the names that Prometheus gives
// its write-ahead log, and under ours where it has none.
type logMetrics struct {
	log   *wal.Log
	store *record.Store
	list  []logMetric
}

var (
	samplesAppended   = prometheus.NewDesc("prometheus_agent_samples_appended_total", "Samples committed to the log.", []string{"type"}, nil)
	recordsWritten    = prometheus.NewDesc("prometheus_tsdb_wal_record_part_writes_total", "Scrapes appended to the log.", nil, nil)
	exemplarsAppended = prometheus.NewDesc("prometheus_agent_exemplars_appended_total", "Exemplars committed to the log.", nil, nil)
)

type logMetric struct {
	desc  *prometheus.Desc
	typ   prometheus.ValueType
	value func(wal.Stats) float64
}

func newLogMetrics(l *wal.Log, s *record.Store) *logMetrics {
	m := &logMetrics{log: l, store: s}
	add := func(typ prometheus.ValueType, name, help string, value func(wal.Stats) float64) {
		m.list = append(m.list, logMetric{prometheus.NewDesc(name, help, nil, nil), typ, value})
	}
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	add(gauge, "prometheus_tsdb_wal_segment_current", "Segment that is appended to.", func(s wal.Stats) float64 { return float64(s.Current) })
	add(gauge, "prometheus_tsdb_wal_storage_size_bytes", "Size of the log on disk and in memory.", func(s wal.Stats) float64 { return float64(s.Bytes) })
	add(counter, "prometheus_tsdb_wal_writes_failed_total", "Writes to the log that failed.", func(s wal.Stats) float64 { return float64(s.WritesFailed) })
	add(counter, "prometheus_tsdb_wal_truncations_total", "Segments of the log that were deleted.", func(s wal.Stats) float64 { return float64(s.Truncations) })
	add(counter, "prometheus_tsdb_wal_truncations_failed_total", "Segments of the log that could not be deleted.", func(s wal.Stats) float64 { return float64(s.TruncationsFailed) })
	add(counter, "prometheus_tsdb_wal_record_parts_bytes_written_total", "Bytes written to the log.", func(s wal.Stats) float64 { return float64(s.WrittenBytes) })
	add(counter, "prometheus_agent_corruptions_total", "Places of the log that were found damaged.", func(s wal.Stats) float64 { return float64(s.Corruptions) })
	add(gauge, "prometheus_agent_clean_start", "-1: no lock file, 0: one of a process that did not end cleanly was replaced, 1: clean.", func(s wal.Stats) float64 { return float64(s.CleanStart) })
	add(gauge, "prometheus_agent_data_replay_duration_seconds", "Always 0: nothing is replayed at the start.", func(wal.Stats) float64 { return 0 })
	for name, help := range map[string]string{
		"prometheus_agent_checkpoint_creations_total":        "Always 0: the log needs no checkpoints.",
		"prometheus_agent_checkpoint_creations_failed_total": "Always 0: the log needs no checkpoints.",
		"prometheus_agent_checkpoint_deletions_total":        "Always 0: the log needs no checkpoints.",
		"prometheus_agent_checkpoint_deletions_failed_total": "Always 0: the log needs no checkpoints.",
		"prometheus_tsdb_wal_page_flushes_total":             "Always 0: the log has no pages.",
		"prometheus_tsdb_wal_completed_pages_total":          "Always 0: the log has no pages.",
	} {
		add(counter, name, help, func(wal.Stats) float64 { return 0 })
	}
	add(gauge, "prometheus_agent_deleted_series", "Always 0: a series that ends leaves the memory at once.", func(wal.Stats) float64 { return 0 })
	add(gauge, "prom_agent_log_limit_bytes", "Size at which the oldest data is deleted.", func(s wal.Stats) float64 { return float64(s.LimitBytes) })
	add(gauge, "prom_agent_log_full_seconds", "Time until the log reaches its limit, or the volume's reserve, at the growth of the last minutes; +Inf while it does not grow.", func(s wal.Stats) float64 { return s.FullSeconds })
	add(gauge, "prom_agent_log_memory_bytes", "Bytes of the log that are not on disk.", func(s wal.Stats) float64 { return float64(s.MemoryBytes) })
	add(gauge, "prom_agent_log_disk_failing", "1 while the disk does not take the log's data.", func(s wal.Stats) float64 {
		if s.NotOnDisk {
			return 1
		}
		return 0
	})
	add(counter, "prom_agent_log_syncs_failed_total", "Syncs of the log that failed.", func(s wal.Stats) float64 { return float64(s.SyncsFailed) })
	add(counter, "prom_agent_log_dropped_samples_total", "Samples dropped because neither disk nor memory had room.", func(s wal.Stats) float64 { return float64(s.DroppedUnwritten) })
	return m
}

func (m *logMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- samplesAppended
	ch <- exemplarsAppended
	ch <- recordsWritten
	for _, l := range m.list {
		ch <- l.desc
	}
}

func (m *logMetrics) Collect(ch chan<- prometheus.Metric) {
	st := m.log.Stats()
	ch <- prometheus.MustNewConstMetric(samplesAppended, prometheus.CounterValue, float64(st.Appended), "float")
	ch <- prometheus.MustNewConstMetric(samplesAppended, prometheus.CounterValue, 0, "histogram")
	ch <- prometheus.MustNewConstMetric(exemplarsAppended, prometheus.CounterValue, float64(m.store.Stats().Exemplars))
	ch <- prometheus.MustNewConstMetric(recordsWritten, prometheus.CounterValue, float64(m.store.Stats().Batches))
	for _, l := range m.list {
		ch <- prometheus.MustNewConstMetric(l.desc, l.typ, l.value(st))
	}
}

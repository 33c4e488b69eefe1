package scrape

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the stage's, named as Prometheus names its own.
type metrics struct {
	pools, poolsFailed, reloads, reloadsFailed                   prometheus.Counter
	targetLimit, labelLimit, bodyLimit, sampleLimit, bucketLimit prometheus.Counter
	duplicates, outOfOrder, outOfBounds, exemplarsOutOfOrder     prometheus.Counter
	cacheFlushes, agentOutOfOrder                                prometheus.Counter
	exemplarsTooLong, exemplarsAmbiguous                         prometheus.Counter
	poolTargets, poolTargetLimit, poolSymbols                    *prometheus.GaugeVec
	poolSyncs, syncFailed                                        *prometheus.CounterVec
	syncLength, intervalLength, reloadLength                     *prometheus.SummaryVec
	syncLengths, intervalLengths                                 *prometheus.HistogramVec
	scrapeDuration                                               prometheus.Histogram
	memory                                                       *memoryCollector
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{memory: &memoryCollector{}}
	var errs []error
	add := func(c prometheus.Collector) { errs = append(errs, r.Register(c)) }
	const prefix = "prometheus_target_"
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
		add(c)
		return c
	}
	perJob := []string{"scrape_job"}
	gauges := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, perJob)
		add(g)
		return g
	}
	counters := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, perJob)
		add(c)
		return c
	}
	quantiles := map[float64]float64{0.01: 0.001, 0.05: 0.005, 0.5: 0.05, 0.90: 0.01, 0.99: 0.001}
	summaries := func(name, help string, label []string) *prometheus.SummaryVec {
		s := prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: prefix + name, Help: help, Objectives: quantiles}, label)
		add(s)
		return s
	}
	histograms := func(name, help string, label []string, buckets []float64) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + name, Help: help, Buckets: buckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, label)
		add(h)
		return h
	}
	m.pools = counter("scrape_pools_total", "Scrape pools made.")
	m.poolsFailed = counter("scrape_pools_failed_total", "Scrape pools that could not be made.")
	m.reloads = counter("scrape_pool_reloads_total", "Reloads of scrape pools.")
	m.reloadsFailed = counter("scrape_pool_reloads_failed_total", "Reloads of scrape pools that failed.")
	m.targetLimit = counter("scrape_pool_exceeded_target_limit_total", "Syncs of pools with more targets than their limit.")
	m.labelLimit = counter("scrape_pool_exceeded_label_limits_total", "Scrapes with a series beyond a label limit.")
	m.bodyLimit = counter("scrapes_exceeded_body_size_limit_total", "Scrapes with a body beyond the limit.")
	m.sampleLimit = counter("scrapes_exceeded_sample_limit_total", "Scrapes with more samples than the limit.")
	m.bucketLimit = counter("scrapes_exceeded_native_histogram_bucket_limit_total", "Scrapes with a native histogram beyond the bucket limit.")
	m.duplicates = counter("scrapes_sample_duplicate_timestamp_total", "Samples of a series that the same scrape has already.")
	m.outOfOrder = counter("scrapes_sample_out_of_order_total", "Samples not newer than their series' last one.")
	m.outOfBounds = counter("scrapes_sample_out_of_bounds_total", "Samples too far in the future.")
	m.exemplarsOutOfOrder = counter("scrapes_exemplar_out_of_order_total", "Always 0: exemplars are taken in any order, as by Prometheus's agent.")
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "prom_agent_scrape_exemplars_refused_total", Help: "Exemplars that were not logged, by reason.",
	}, []string{"reason"})
	add(refused)
	m.exemplarsTooLong, m.exemplarsAmbiguous = refused.WithLabelValues("label_length"), refused.WithLabelValues("duplicate_label")
	m.cacheFlushes = counter("scrapes_cache_flush_forced_total", "Times that what is known of a failing target was forgotten because it had grown too much.")
	m.agentOutOfOrder = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "prometheus_agent_out_of_order_samples_total", Help: "Samples that were not logged because they were not newer than their series' last one.",
	})
	add(m.agentOutOfOrder)
	m.poolTargets = gauges("scrape_pool_targets", "Targets of the pool.")
	m.poolTargetLimit = gauges("scrape_pool_target_limit", "Most targets of the pool, 0 for no limit.")
	m.poolSymbols = gauges("scrape_pool_symboltable_items", "Always 0: strings are shared per block.")
	m.poolSyncs = counters("scrape_pool_sync_total", "Syncs of the pool.")
	m.syncFailed = counters("sync_failed_total", "Targets that could not be made.")
	m.syncLength = summaries("sync_length_seconds", "Time that a sync of the pool took.", perJob)
	m.syncLengths = histograms("sync_length_histogram_seconds", "Time that a sync of the pool took.", perJob, []float64{.01, .1, 1, 10})
	perInterval := []string{"interval"}
	m.intervalLength = summaries("interval_length_seconds", "Time between two scrapes of a target.", perInterval)
	m.intervalLengths = histograms("interval_length_histogram_seconds", "Time between two scrapes of a target.", perInterval, []float64{.01, .1, 1, 10})
	m.reloadLength = summaries("reload_length_seconds", "Time that a reload of a pool took.", perInterval)
	m.scrapeDuration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: prefix + "scrape_duration_seconds", Help: "Time that scrapes took; with extra scrape metrics only.",
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	})
	add(m.scrapeDuration)
	add(m.memory)
	return m, errors.Join(errs...)
}

// count adds up what a scrape refused.
func (m *metrics) count(c *counts) {
	add := func(to prometheus.Counter, n int) {
		if n > 0 {
			to.Add(float64(n))
		}
	}
	add(m.duplicates, c.duplicates)
	add(m.outOfOrder, c.outOfOrder)
	add(m.agentOutOfOrder, c.outOfOrder+c.reportsOutOfOrder)
	add(m.outOfBounds, c.outOfBounds)
	add(m.exemplarsTooLong, c.exemplarsTooLong)
	add(m.exemplarsAmbiguous, c.exemplarsAmbiguous)
	for _, limit := range []struct {
		hit bool
		to  prometheus.Counter
	}{{c.sampleLimit, m.sampleLimit}, {c.labelLimit, m.labelLimit}, {c.bodyLimit, m.bodyLimit}} {
		if limit.hit {
			limit.to.Inc()
		}
	}
}

// forget takes a job's metrics away.
func (m *metrics) forget(job string) {
	for _, v := range []interface{ DeleteLabelValues(...string) bool }{
		m.poolTargets, m.poolTargetLimit, m.poolSymbols, m.poolSyncs, m.syncFailed, m.syncLength, m.syncLengths,
	} {
		v.DeleteLabelValues(job)
	}
}

// memoryCollector counts what the targets' memories hold.
type memoryCollector struct{ pools func() []*pool }

var (
	metadataEntries = prometheus.NewDesc("prometheus_target_metadata_cache_entries", "Metric families whose metadata is kept.", []string{"scrape_job"}, nil)
	activeSeries    = prometheus.NewDesc("prometheus_agent_active_series", "Series of the targets' last good scrapes, and those that report on them.", nil, nil)
	metadataBytes   = prometheus.NewDesc("prometheus_target_metadata_cache_bytes", "Bytes of the metadata that is kept.", []string{"scrape_job"}, nil)
)

func (c *memoryCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- metadataEntries
	ch <- metadataBytes
	ch <- activeSeries
}

func (c *memoryCollector) Collect(ch chan<- prometheus.Metric) {
	if c.pools == nil {
		return
	}
	active := int64(0)
	for _, p := range c.pools() {
		entries, bytes := 0, 0
		for _, l := range p.running() {
			n, b := l.memory.meta.size()
			entries += n
			bytes += b
			active += l.memory.active.Load() + l.reports.Load()
		}
		ch <- prometheus.MustNewConstMetric(metadataEntries, prometheus.GaugeValue, float64(entries), p.job())
		ch <- prometheus.MustNewConstMetric(metadataBytes, prometheus.GaugeValue, float64(bytes), p.job())
	}
	ch <- prometheus.MustNewConstMetric(activeSeries, prometheus.GaugeValue, float64(active))
}

// intervalText is an interval as Prometheus writes it in labels of its metrics: 1m0s.
func intervalText(d time.Duration) string { return d.String() }

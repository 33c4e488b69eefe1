package remotewrite

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"promagent/wal"
)

// Reasons for which data is dropped, as the metrics label them.
const (
	reasonTooOld        = "too_old"
	reasonDroppedSeries = "dropped_series"
	reasonUnknownSeries = "unintentionally_dropped_series"
)

// Reasons for which a remote lost samples that were in the log.
const (
	reasonRetention = "retention"
	reasonCorrupt   = "corrupt"
)

// metrics are one endpoint's, named as Prometheus names its queues'. They
// vanish when the endpoint ends.
type metrics struct {
	samples, exemplars, histograms, metadata                             prometheus.Counter // per attempt
	samplesFailed, exemplarsFailed, histogramsFailed, metadataFailed     prometheus.Counter
	samplesRetried, exemplarsRetried, histogramsRetried, metadataRetried prometheus.Counter
	samplesDropped, exemplarsDropped, histogramsDropped                  *prometheus.CounterVec // by reason
	enqueueRetries, bytes, metadataBytes                                 prometheus.Counter
	sendDuration                                                         prometheus.Histogram
	maxSamplesPerSend, highest, highestSent                              prometheus.Gauge
	samplesPending, exemplarsPending, histogramsPending                  prometheus.Gauge
	shardCapacity, shards, shardsMin, shardsMax, shardsDesired           prometheus.Gauge
	behindSeconds, behindSamples, behindBytes                            prometheus.Gauge
	rateLimited                                                          prometheus.Counter
	lost                                                                 *prometheus.CounterVec // by reason
	recordsRead                                                          *prometheus.CounterVec // by type
	decodeFailures, sentPreTailing, notificationsSkipped                 prometheus.Counter
	currentSegment                                                       prometheus.Gauge

	all []prometheus.Collector
}

// shown are the metrics of the endpoints that there are. They are one collector,
// registered once: an endpoint that begins has nothing to register that could be
// refused.
type shown struct {
	mu  sync.Mutex
	all map[*metrics]bool
}

func (s *shown) add(m *metrics) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[m] = true
}

func (s *shown) remove(m *metrics) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, m)
}

// Describe says nothing: endpoints come and go.
func (s *shown) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics of all endpoints.
func (s *shown) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range s.all {
		for _, c := range m.all {
			c.Collect(ch)
		}
	}
}

// newMetrics returns an endpoint's metrics under its name and URL, which
// must hold no password. With 2.0 there are none of metadata, which goes with the samples.
func newMetrics(remoteName, url string, v2 bool) *metrics {
	labels := prometheus.Labels{"remote_name": remoteName, "url": url}
	consumer := prometheus.Labels{"consumer": remoteName}
	m := &metrics{}
	add := func(c prometheus.Collector) { m.all = append(m.all, c) }
	const prefix = "prometheus_remote_storage_"
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help, ConstLabels: labels})
		add(c)
		return c
	}
	ofMetadata := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help, ConstLabels: labels})
		if !v2 {
			add(c)
		}
		return c
	}
	vec := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help, ConstLabels: labels}, []string{"reason"})
		add(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
		add(g)
		return g
	}
	watcher := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "prometheus_wal_watcher_" + name, Help: help, ConstLabels: consumer})
		add(c)
		return c
	}

	m.samples = counter("samples_total", "Samples in requests, attempts that failed included.")
	m.exemplars = counter("exemplars_total", "Exemplars in requests, attempts that failed included.")
	m.histograms = counter("histograms_total", "Histograms in requests, attempts that failed included.")
	m.metadata = ofMetadata("metadata_total", "Metadata entries in requests, attempts that failed included.")
	m.samplesFailed = counter("samples_failed_total", "Samples that the remote refused for good.")
	m.exemplarsFailed = counter("exemplars_failed_total", "Exemplars that the remote refused for good.")
	m.histogramsFailed = counter("histograms_failed_total", "Histograms that the remote refused for good.")
	m.metadataFailed = ofMetadata("metadata_failed_total", "Metadata entries that the remote refused for good.")
	m.samplesRetried = counter("samples_retried_total", "Samples of attempts that failed and were made again.")
	m.exemplarsRetried = counter("exemplars_retried_total", "Exemplars of attempts that failed and were made again.")
	m.histogramsRetried = counter("histograms_retried_total", "Histograms of attempts that failed and were made again.")
	m.metadataRetried = ofMetadata("metadata_retried_total", "Metadata entries of attempts that failed and were made again.")
	m.samplesDropped = vec("samples_dropped_total", "Samples that were not sent, by reason.")
	m.exemplarsDropped = vec("exemplars_dropped_total", "Exemplars that were not sent, by reason.")
	m.histogramsDropped = vec("histograms_dropped_total", "Histograms that were not sent, by reason.")
	for _, reason := range []string{reasonTooOld, reasonDroppedSeries, reasonUnknownSeries} {
		m.samplesDropped.WithLabelValues(reason)
		m.exemplarsDropped.WithLabelValues(reason)
		m.histogramsDropped.WithLabelValues(reason)
	}
	m.histogramsDropped.WithLabelValues("nhcb_in_rw1_not_supported")
	m.enqueueRetries = counter("enqueue_retries_total", "Times that reading waited because a shard's queue was full.")
	m.bytes = counter("bytes_total", "Compressed bytes of data sent.")
	m.metadataBytes = ofMetadata("metadata_bytes_total", "Compressed bytes of metadata sent.")
	m.sendDuration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: prefix + "sent_batch_duration_seconds", Help: "Time that one attempt took.", ConstLabels: labels,
		Buckets:                        append(append([]float64(nil), prometheus.DefBuckets...), 25, 60, 120, 300),
		NativeHistogramBucketFactor:    1.1,
		NativeHistogramMaxBucketNumber: 100,
	})
	add(m.sendDuration)
	m.maxSamplesPerSend = gauge(prefix+"max_samples_per_send", "Most samples in one request.")
	m.highest = gauge(prefix+"queue_highest_timestamp_seconds", "Time of the newest sample that was read to be sent.")
	m.highestSent = gauge(prefix+"queue_highest_sent_timestamp_seconds", "Time of the newest sample with a final answer.")
	m.samplesPending = gauge(prefix+"samples_pending", "Samples in the shards.")
	m.exemplarsPending = gauge(prefix+"exemplars_pending", "Exemplars in the shards.")
	m.histogramsPending = gauge(prefix+"histograms_pending", "Histograms in the shards.")
	m.shardCapacity = gauge(prefix+"shard_capacity", "Samples that a shard may hold, as configured; the log holds what waits.")
	m.shards = gauge(prefix+"shards", "Shards now.")
	m.shardsMin = gauge(prefix+"shards_min", "Fewest shards.")
	m.shardsMax = gauge(prefix+"shards_max", "Most shards.")
	m.shardsDesired = gauge(prefix+"shards_desired", "Shards that the measurements ask for.")

	const own = "prom_agent_remote_"
	m.behindSeconds = gauge(own+"behind_seconds", "Age of the oldest sample in the log that the remote does not have, 0 when it has all.")
	m.behindSamples = gauge(own+"behind_samples", "Samples in the log that the remote does not have.")
	m.rateLimited = prometheus.NewCounter(prometheus.CounterOpts{
		Name: own + "rate_limited_seconds_total", Help: "Time that requests waited because of max_bytes_per_second, of all shards together.", ConstLabels: labels,
	})
	add(m.rateLimited)
	m.behindBytes = gauge(own+"behind_bytes", "Bytes of the log that the remote does not have; of a backlog, from the window on that is under way.")
	m.lost = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: own + "lost_samples_total", Help: "Samples that were in the log and cannot reach the remote any more, by reason.", ConstLabels: labels,
	}, []string{"reason"})
	add(m.lost)
	m.lost.WithLabelValues(reasonRetention)
	m.lost.WithLabelValues(reasonCorrupt)

	m.recordsRead = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "prometheus_wal_watcher_records_read_total", Help: "Records read from the log.", ConstLabels: consumer,
	}, []string{"type"})
	add(m.recordsRead)
	m.recordsRead.WithLabelValues("samples")
	m.decodeFailures = watcher("record_decode_failures_total", "Records that could not be read.")
	m.sentPreTailing = watcher("samples_sent_pre_tailing_total", "Samples of a backlog, sent after a start.")
	m.notificationsSkipped = watcher("notifications_skipped_total", "Always 0: none is needed.")
	m.currentSegment = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "prometheus_wal_watcher_current_segment", Help: "Segment that is being read.", ConstLabels: consumer,
	})
	add(m.currentSegment)
	return m
}

// behindBytes is how much of the log the remote does not have, when it does
// not have so many samples.
func (e *Endpoint) behindBytes(samples uint64) int64 {
	if samples == 0 {
		return 0
	}
	e.mu.Lock()
	low, bound := e.led.lowest(), e.bound
	e.mu.Unlock()
	n := e.store.Log().BytesFrom(low)
	if bound != (Bound{}) {
		n -= e.store.Log().BytesFrom(bound.Until)
	}
	return max(0, n)
}

// lowest is the position before which everything is final: in a window, in
// whose order positions do not rise, its start.
func (l *ledger) lowest() wal.Pos {
	low := l.at(0)
	for i := range l.lanes {
		if a := l.at(i); a.Before(low) {
			low = a
		}
	}
	for _, s := range l.spans {
		if s.holds(low) && s.Kind == Run {
			return wal.Pos{Segment: low.Segment, Offset: max(low.Step, low.Span)}
		}
	}
	return wal.Pos{Segment: low.Segment, Offset: low.Span}
}

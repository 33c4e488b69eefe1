package kubernetes

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sd "github.com/prometheus/prometheus/discovery"
)

// metrics are those of all discoverers of Kubernetes, named as Prometheus
// names its own.
type metrics struct {
	events    *prometheus.CounterVec // role, event
	failures  prometheus.Counter
	requests  *prometheus.CounterVec // status_code
	durations *prometheus.SummaryVec // endpoint
	queue     queueMetrics
	sd.MetricRegisterer
}

// queueMetrics are of the groups to build, by role. Those that say how long
// something has been under way are always 0: it is done in milliseconds.
type queueMetrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	items                      *prometheus.CounterVec
	latency, work              *prometheus.SummaryVec
}

// begin makes the series of a role, which are there before the first group.
func (q *queueMetrics) begin(role string) {
	for _, g := range []*prometheus.GaugeVec{q.depth, q.unfinished, q.longest} {
		g.WithLabelValues(role)
	}
	q.items.WithLabelValues(role)
	q.latency.WithLabelValues(role)
	q.work.WithLabelValues(role)
}

func newMetrics(r prometheus.Registerer) *metrics {
	const prefix = sd.KubernetesMetricsNamespace + "_"
	queue := []string{"queue_name"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, queue)
	}
	summary := func(name, help string, label []string) *prometheus.SummaryVec {
		return prometheus.NewSummaryVec(prometheus.SummaryOpts{Name: prefix + name, Help: help}, label)
	}
	counter := func(name, help string, label ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, label)
	}
	m := &metrics{
		events:    counter("events_total", "Changes of objects, by the role that they are of.", "role", "event"),
		failures:  prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "failures_total", Help: "Lists and watches that failed."}),
		requests:  counter("http_request_total", "Requests to API servers by status code; <error> when there was no answer.", "status_code"),
		durations: summary("http_request_duration_seconds", "Time until an API server answered, by path.", []string{"endpoint"}),
		queue: queueMetrics{
			depth:      gauge("workqueue_depth", "Groups that are to be built."),
			unfinished: gauge("workqueue_unfinished_work_seconds", "Always 0: groups are built in microseconds."),
			longest:    gauge("workqueue_longest_running_processor_seconds", "Always 0: groups are built in microseconds."),
			items:      counter("workqueue_items_total", "Groups that were to be built.", queue...),
			latency:    summary("workqueue_latency_seconds", "Time from a change until its groups are built.", queue),
			work:       summary("workqueue_work_duration_seconds", "Time that building the groups of some changes took.", queue),
		},
	}
	for role := range selectable {
		for _, event := range []string{"add", "update", "delete"} {
			m.events.WithLabelValues(string(role), event)
		}
	}
	m.MetricRegisterer = sd.NewMetricRegisterer(r, []prometheus.Collector{
		m.events, m.failures, m.requests, m.durations,
		m.queue.depth, m.queue.unfinished, m.queue.longest, m.queue.items, m.queue.latency, m.queue.work,
	})
	return m
}

// Register registers the metrics.
func (m *metrics) Register() error { return m.RegisterMetrics() }

// Unregister takes them away.
func (m *metrics) Unregister() { m.UnregisterMetrics() }

// timed counts and times the requests that rt makes.
func (m *metrics) timed(rt http.RoundTripper) http.RoundTripper { return &timed{rt, m} }

type timed struct {
	http.RoundTripper
	m *metrics
}

// WrappedRoundTripper is what makes the requests, whose connections can be
// closed.
func (t *timed) WrappedRoundTripper() http.RoundTripper { return t.RoundTripper }

func (t *timed) RoundTrip(r *http.Request) (*http.Response, error) {
	begin := time.Now()
	res, err := t.RoundTripper.RoundTrip(r)
	code := "<error>"
	if err == nil {
		code = strconv.Itoa(res.StatusCode)
		t.m.durations.WithLabelValues(r.URL.EscapedPath()).Observe(time.Since(begin).Seconds())
	} else if r.Context().Err() == context.Canceled {
		return res, err // nobody wanted the answer any more
	}
	t.m.requests.WithLabelValues(code).Inc()
	return res, err
}

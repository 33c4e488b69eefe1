package web

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	size     *prometheus.HistogramVec
}

// newMetrics registers the server's metrics; isReady is asked at each scrape.
func newMetrics(r prometheus.Registerer, isReady func() bool) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prometheus_http_requests_total", Help: "HTTP requests answered.",
		}, []string{"handler", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "prometheus_http_request_duration_seconds", Help: "Time to answer an HTTP request.",
			Buckets: []float64{.1, .2, .4, 1, 3, 8, 20, 60, 120},
		}, []string{"handler"}),
		size: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "prometheus_http_response_size_bytes", Help: "Size of the answers.",
			Buckets: prometheus.ExponentialBuckets(100, 10, 8),
		}, []string{"handler"}),
	}
	readiness := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "prometheus_ready", Help: "1 between the end of the start and the beginning of the shutdown."}, func() float64 {
		if isReady() {
			return 1
		}
		return 0
	})
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.size, readiness} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// instrument counts and times the requests of one route.
func (m *metrics) instrument(handler string, next http.Handler) http.Handler {
	m.requests.WithLabelValues(handler, "200")
	l := prometheus.Labels{"handler": handler}
	return promhttp.InstrumentHandlerCounter(m.requests.MustCurryWith(l),
		promhttp.InstrumentHandlerDuration(m.duration.MustCurryWith(l),
			promhttp.InstrumentHandlerResponseSize(m.size.MustCurryWith(l), next)))
}

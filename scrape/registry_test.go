package scrape

import (
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	promscrape "github.com/prometheus/prometheus/scrape"

	"promagent/discovery"
)

// twoJobs has a job with a target and one without any.
const twoJobs = `
scrape_configs:
- {job_name: some, scrape_interval: 1m, scrape_timeout: 10s, target_limit: 3}
- {job_name: none, scrape_interval: 1500ms, scrape_timeout: 1s, target_limit: 7}
`

func answerSome(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", textType)
	io.WriteString(w, "# HELP a Some.\n# TYPE a gauge\na 1\n# HELP empty No series.\n# TYPE empty counter\n# TYPE alone gauge\n# HELP hint Of unknown type.\n")
}

// metricsOf are the series of scraping in a registry, with the values that do not go by the clock.
func metricsOf(t *testing.T, r prometheus.Gatherer) (out []string) {
	t.Helper()
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if !strings.HasPrefix(f.GetName(), "prometheus_target_") {
			continue
		}
		for _, m := range f.GetMetric() {
			s := fmt.Sprint(f.GetType(), " ", f.GetName())
			for _, l := range m.GetLabel() {
				s += fmt.Sprintf(" %s=%q", l.GetName(), l.GetValue())
			}
			switch f.GetName() {
			case "prometheus_target_scrape_pool_symboltable_items", "prometheus_target_scrape_pool_reloads_total", "prometheus_target_metadata_cache_bytes":
				// What is counted is not the same.
			default:
				if g, c := m.GetGauge(), m.GetCounter(); g != nil || c != nil {
					s += fmt.Sprint(" ", g.GetValue()+c.GetValue())
				}
			}
			for _, q := range m.GetSummary().GetQuantile() {
				s += fmt.Sprint(" q", q.GetQuantile())
			}
			for _, b := range m.GetHistogram().GetBucket() {
				s += fmt.Sprint(" le", b.GetUpperBound())
			}
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// prometheusMetrics are the metrics and the targets' metadata.
func prometheusMetrics(t *testing.T) (out, metadata []string) {
	synctest.Test(t, func(t *testing.T) {
		n := newPipeNet(http.HandlerFunc(answerSome))
		defer n.shut()
		cfg, err := promconfig.Load(twoJobs, nil)
		if err != nil {
			t.Fatal(err)
		}
		o := &promscrape.Options{DiscoveryReloadOnStartup: true, HTTPClientOptions: []commonconfig.HTTPClientOption{commonconfig.WithDialContextFunc(n.dial)}}
		*(*bool)(unsafe.Pointer(reflect.ValueOf(o).Elem().FieldByName("skipJitterOffsetting").UnsafeAddr())) = true
		r := prometheus.NewRegistry()
		store := newOracle(t, newLogged(1000), 0, nil)
		m, err := promscrape.NewManager(o, nil, nil, nil, store, r)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.ApplyConfig(cfg); err != nil {
			t.Fatal(err)
		}
		sets := make(chan map[string][]*targetgroup.Group)
		go m.Run(sets)
		sets <- map[string][]*targetgroup.Group{"some": {{Source: "s", Targets: []model.LabelSet{{"__address__": "t:1"}}}}, "none": {}}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		out = metricsOf(t, r)
		for _, md := range m.TargetsActive()["some"][0].ListMetadata() {
			metadata = append(metadata, fmt.Sprintf("%s %s %q %q", md.MetricFamily, md.Type, md.Help, md.Unit))
		}
		m.Stop()
		store.close(t)
	})
	return out, metadata
}

func TestMetricsAndMetadataOfScrapingAreThoseOfPrometheus(t *testing.T) {
	want, wantMetadata := prometheusMetrics(t)
	var got, metadata []string
	synctest.Test(t, func(t *testing.T) {
		r := prometheus.NewRegistry()
		cfg, err := promconfig.Load(twoJobs, nil)
		if err != nil {
			t.Fatal(err)
		}
		jobs, err := cfg.GetScrapeConfigs()
		if err != nil {
			t.Fatal(err)
		}
		w := newWorldWith(t, Options{Registerer: r}, resolvedJob(jobs[0]), resolvedJob(jobs[1]))
		defer w.end()
		w.answer(answerSome)
		w.updates <- []discovery.Update{{Job: "none"}}
		w.discover("some", at("t:1"))
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		got = metricsOf(t, r)
		w.m.Metadata(func(md Metadata) bool {
			metadata = append(metadata, fmt.Sprintf("%s %s %q %q", md.Family, md.Type, md.Help, md.Unit))
			return true
		})
	})
	slices.Sort(metadata)
	slices.Sort(wantMetadata)
	if len(wantMetadata) != 4 || !slices.Equal(metadata, wantMetadata) {
		t.Errorf("metadata: got %q, want %q", metadata, wantMetadata)
	}
	for _, s := range want {
		if !slices.Contains(got, s) {
			t.Errorf("missing: %s", s)
		}
	}
	for _, s := range got {
		if !slices.Contains(want, s) {
			t.Errorf("Prometheus does not have: %s", s)
		}
	}
}

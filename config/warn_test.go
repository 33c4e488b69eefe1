package config

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"promagent/config/settings"
)

// examples are configs that give a setting that does nothing, by the setting's
// name. A job or remote is named a.
var examples = map[string]string{
	"scrape_native_histograms":                                      "global: {scrape_native_histograms: true}\nscrape_configs: [{job_name: a}]",
	"convert_classic_histograms_to_nhcb":                            "scrape_configs: [{job_name: a, convert_classic_histograms_to_nhcb: true}]",
	"always_scrape_classic_histograms":                              "scrape_configs: [{job_name: a, always_scrape_classic_histograms: yes}]",
	"scrape_protocols: PrometheusProto":                             "scrape_configs: [{job_name: a, scrape_protocols: [PrometheusProto, PrometheusText0.0.4]}]",
	"scrape_protocols: OpenMetricsText2.0.0":                        "global: {scrape_protocols: [OpenMetricsText2.0.0]}\nscrape_configs: [{job_name: a}]",
	"scrape_configs.native_histogram_bucket_limit":                  "scrape_configs: [{job_name: a, native_histogram_bucket_limit: 7}]",
	"scrape_configs.native_histogram_min_bucket_factor":             "scrape_configs: [{job_name: a, native_histogram_min_bucket_factor: 1.5}]",
	"scrape_configs.fallback_scrape_protocol: PrometheusProto":      "scrape_configs: [{job_name: a, fallback_scrape_protocol: PrometheusProto}]",
	"scrape_configs.fallback_scrape_protocol: OpenMetricsText2.0.0": "scrape_configs: [{job_name: a, fallback_scrape_protocol: OpenMetricsText2.0.0}]",
	"__scrape_native_histograms__":                                  "scrape_configs: [{job_name: a, static_configs: [{targets: [x], labels: {__scrape_native_histograms__: 'true'}}]}]",
	"__convert_classic_histograms_to_nhcb__":                        "scrape_configs: [{job_name: a, relabel_configs: [{source_labels: [x], target_label: __convert_classic_histograms_to_nhcb__}]}]",
	"__always_scrape_classic_histograms__":                          "scrape_configs: [{job_name: a, relabel_configs: [{replacement: 'true', target_label: __always_scrape_classic_histograms__}]}]",
	"remote_write.send_native_histograms":                           "remote_write: [{url: 'http://a/', name: a, send_native_histograms: true}]",
	"remote_write.convert_nhcb_to_classic":                          "remote_write: [{url: 'http://a/', name: a, convert_nhcb_to_classic: true}]",
	"remote_write.failed_request_logging":                           "remote_write: [{url: 'http://a/', name: a, failed_request_logging: true}]",
	"remote_write.queue_config.capacity":                            "remote_write: [{url: 'http://a/', name: a, queue_config: {capacity: 2500}}]",
	"tracing":                                                       "tracing: {endpoint: 'h:4317'}",
	"otlp":                                                          "otlp: {promote_resource_attributes: [a]}",

	"global.evaluation_interval":                     "global: {evaluation_interval: 15s}",
	"global.rule_query_offset":                       "global: {rule_query_offset: 1m}",
	"global.query_log_file":                          "global: {query_log_file: queries}",
	"global.query_max_series":                        "global: {query_max_series: 5}",
	"global.query_max_samples_read":                  "global: {query_max_samples_read: 5}",
	"global.query_max_duration":                      "global: {query_max_duration: 5s}",
	"storage.exemplars.max_exemplars":                "storage: {exemplars: {max_exemplars: 5}}",
	"storage.tsdb.retention.time":                    "storage: {tsdb: {retention: {time: 5d}}}",
	"storage.tsdb.retention.size":                    "storage: {tsdb: {retention: {size: 5GB}}}",
	"storage.tsdb.retention.percentage":              "storage: {tsdb: {retention: {percentage: 5}}}",
	"storage.tsdb.chunk_encoding.floats":             "storage: {tsdb: {chunk_encoding: {floats: xor2}}}",
	"storage.tsdb.stale_series_compaction_threshold": "storage: {tsdb: {stale_series_compaction_threshold: 0.5}}",
	"storage.tsdb.outofordertimewindow":              "storage: {tsdb: {outofordertimewindow: 5}}",
}

// logged is what is logged of a config.
func logged(t *testing.T, content string) string {
	t.Helper()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	c, err := load(t, content, Options{Logger: logger})
	if err != nil {
		t.Fatalf("%s\n%v", content, err)
	}
	settings.Log(logger, c.Idle)
	return log.String()
}

func TestEverySettingThatDoesNothingIsWarnedOf(t *testing.T) {
	rows := 0
	for _, s := range settings.All() {
		if s.Kind != settings.Key && s.Kind != settings.Label || s.Status != settings.NotYet && s.Status != settings.NoMeaning {
			continue
		}
		rows++
		content, ok := examples[s.String()]
		if !ok {
			t.Errorf("%s does nothing, and there is no example of it", s)
			continue
		}
		log := logged(t, content)
		want := fmt.Sprintf("level=WARN msg=%q setting=", "This setting is not implemented yet and has no effect: "+s.Says)
		if s.Status == settings.NoMeaning {
			want = "level=INFO"
		}
		if !strings.Contains(log, want) || !strings.Contains(log, s.String()) || strings.Count(log, "\n") != 1 {
			t.Errorf("%s\nlogged %q, want %s with %s, in one line", content, log, want, s)
		}
	}
	if rows != len(examples) {
		t.Errorf("%d examples of %d settings", len(examples), rows)
	}
}

func TestWarningsNameJobsAndRemotesAndAreFew(t *testing.T) {
	var many strings.Builder
	for i := range 500 {
		fmt.Fprintf(&many, "- {job_name: job%d, convert_classic_histograms_to_nhcb: true}\n", i)
	}
	const nhcb = "setting=convert_classic_histograms_to_nhcb in="
	for content, want := range map[string]string{
		"global: {convert_classic_histograms_to_nhcb: true}\nscrape_configs: [{job_name: a}]":                                           nhcb + "global\n",
		"global: {convert_classic_histograms_to_nhcb: true}\nscrape_configs:\n- {job_name: a}\n" + many.String():                        nhcb + `"global, job job0, job job1, job job2 and 497 more"` + "\n",
		"scrape_configs: [{job_name: a}, {job_name: b c, convert_classic_histograms_to_nhcb: true}]":                                    nhcb + `"job b c"` + "\n",
		"x: &x {convert_classic_histograms_to_nhcb: true}\nscrape_configs: [{job_name: a, <<: *x}]":                                     "", // refused
		"scrape_configs: [&x {job_name: a, convert_classic_histograms_to_nhcb: true}, {<<: *x, job_name: b}]":                           nhcb + `"job a, job b"` + "\n",
		"remote_write: [{url: 'http://u:secret@h/w?token=secret', send_native_histograms: true}]":                                       `setting=remote_write.send_native_histograms in="remote http://h/w"` + "\n",
		"remote_write: [{url: 'http://h/w', name: on, send_native_histograms: true}]":                                                   `setting=remote_write.send_native_histograms in="remote on"` + "\n",
		"scrape_configs: [{job_name: 010, convert_classic_histograms_to_nhcb: true}]":                                                   nhcb + `"job 010"` + "\n",
		"scrape_configs: [{job_name: y, convert_classic_histograms_to_nhcb: on}]":                                                       nhcb + `"job y"` + "\n",
		"scrape_configs: [{job_name: a, relabel_configs: [{action: labelmap, regex: (x), replacement: __scrape_native_histograms__}]}]": `setting=__scrape_native_histograms__ in="job a"` + "\n",
		"global: {evaluation_interval: 15s, query_log_file: q}\nremote_write: [{url: 'http://h/', queue_config: {capacity: 1}}]":        `settings="remote_write.queue_config.capacity, global.evaluation_interval, global.query_log_file"` + "\n",
	} {
		if want == "" {
			if _, err := load(t, content, Options{}); err == nil {
				t.Errorf("%s\nis taken", content)
			}
			continue
		}
		if log := logged(t, content); !strings.HasSuffix(log, want) || strings.Count(log, "\n") != 1 {
			t.Errorf("%.200s\nlogged %q, want one line with %q", content, log, want)
		}
	}
}

func TestWhatIsAsByDefaultIsNotWarnedOf(t *testing.T) {
	for _, content := range []string{
		"scrape_configs: [{job_name: a}]",
		"global: {scrape_native_histograms: true}\nscrape_configs: [{job_name: a, scrape_native_histograms: false}]",
		"global: {scrape_native_histograms: true}", // nothing is scraped
		"global: {evaluation_interval: 60s, query_max_duration: 0s, query_max_series: 0, convert_classic_histograms_to_nhcb: false}\nscrape_configs: [{job_name: a}]",
		"remote_write: [{url: 'http://a/', send_native_histograms: false, queue_config: {capacity: 10000}}]",
		"storage: {tsdb: {retention: {time: 15d}, out_of_order_time_window: 1h}, exemplars: {}}",
		"tracing:\notlp:\n", "otlp: {}",
		"scrape_configs: [{job_name: a, scrape_protocols: [OpenMetricsText1.0.0], fallback_scrape_protocol: PrometheusText0.0.4}]",
		"scrape_configs: [{job_name: a, relabel_configs: [{target_label: __scrape_native_histograms__, replacement: 'false'}]}]",
		"scrape_configs: [{job_name: a, relabel_configs: [{target_label: __scrape_native_histograms__, replacement: false}]}]",
		"scrape_configs: [{job_name: a, convert_classic_histograms_to_nhcb: no, static_configs: [{targets: [x], labels: {__scrape_native_histograms__: '0'}}]}]",
	} {
		if log := logged(t, content); log != "" {
			t.Errorf("%s\nlogged %s", content, log)
		}
	}
}

func TestJobsOfOtherFilesAreWarnedOfToo(t *testing.T) {
	dir := write(t, map[string]string{
		"prometheus.yml": "global: {scrape_native_histograms: true}\nscrape_config_files: [jobs/*.yml]\nscrape_configs: [{job_name: a, scrape_native_histograms: false}]",
		"jobs/b.yml":     "scrape_configs: [{job_name: b}]",
		"jobs/c.yml":     "scrape_configs: [{job_name: c, convert_classic_histograms_to_nhcb: true}]",
	})
	var log bytes.Buffer
	c, err := Load(filepath.Join(dir, "prometheus.yml"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	settings.Log(slog.New(slog.NewTextHandler(&log, nil)), c.Idle)
	for _, want := range []string{"setting=scrape_native_histograms in=global\n", `setting=convert_classic_histograms_to_nhcb in="job c"` + "\n"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in %s", want, log.String())
		}
	}
}

package config

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestSettingsThatNeedProtobufAreWarnedAbout(t *testing.T) {
	const histograms, protocols = "scrape_native_histograms does nothing yet", "scrape_protocols has PrometheusProto alone"
	for content, want := range map[string][]string{
		"scrape_configs: [{job_name: a}]": nil,
		"global: {scrape_native_histograms: true}\nscrape_configs: [{job_name: a}, {job_name: b}]":                       {histograms, "jobs=a,b\n"},
		"scrape_configs: [{job_name: a}, {job_name: b, scrape_native_histograms: true}]":                                 {histograms, "jobs=b\n"},
		"global: {scrape_native_histograms: true}\nscrape_configs: [{job_name: a, scrape_native_histograms: false}]":     nil,
		"global: {scrape_native_histograms: true}":                                                                       nil,
		"scrape_configs: [{job_name: a, scrape_protocols: [PrometheusProto]}]":                                           {protocols, "jobs=a\n"},
		"scrape_configs: [{job_name: a, scrape_protocols: [PrometheusProto, PrometheusText0.0.4]}]":                      nil,
		"global: {scrape_protocols: [PrometheusProto]}\nscrape_configs: [{job_name: a, scrape_native_histograms: true}]": {protocols, histograms, "jobs=a\n"},
	} {
		var log bytes.Buffer
		if _, err := load(t, content, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !strings.Contains(log.String(), text) {
				t.Errorf("%s\nno %q in %s", content, text, log.String())
			}
		}
		if len(want) == 0 && log.Len() > 0 {
			t.Errorf("%s\nlogs %s", content, log.String())
		}
	}
}

func TestFeatureForNativeHistogramsPointsToNothingThatDoesNothing(t *testing.T) {
	var log bytes.Buffer
	ParseFeatures([]string{"native-histograms"}, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "not read yet") || strings.Contains(log.String(), "scrape_native_histograms") {
		t.Errorf("got %s", log.String())
	}
}

package expfmt

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/textparse"
)

func TestContentTypeDecides(t *testing.T) {
	f := func(contentType, fallback string, want Format, wantErr string) {
		t.Helper()
		got, err := FormatOf(contentType, fallback)
		if got != want || (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("%q or %q: got %v, %v; want %v, %s", contentType, fallback, got, err, want, wantErr)
		}
		if err != nil && !strings.Contains(err.Error(), "fallback_scrape_protocol") {
			t.Errorf("%q or %q: %v does not tell of fallback_scrape_protocol", contentType, fallback, err)
		}
		p, oracle := textparse.New([]byte("x"), contentType, nil, textparse.ParserOptions{FallbackContentType: fallback})
		if (p != nil) != (got != Unknown) || (oracle != nil) != (err != nil) {
			t.Errorf("%q or %q: got %v, %v; Prometheus: %T, %v", contentType, fallback, got, err, p, oracle)
			return
		}
		theirs := Unknown
		switch p.(type) {
		case *textparse.PromParser:
			theirs = Text004
		case *textparse.OpenMetricsParser:
			theirs = OpenMetrics100
		case *textparse.ProtobufParser:
			theirs = Protobuf
		}
		if theirs == Text004 != got.Text() || theirs == OpenMetrics100 != got.OpenMetrics() || (theirs == Protobuf) != (got == Protobuf) {
			t.Errorf("%q or %q: got %v; Prometheus: %T", contentType, fallback, got, p)
		}
	}
	f("text/plain", "", Text004, "")
	f("text/plain; version=0.0.4; charset=utf-8", "", Text004, "")
	f("text/plain; version=0.0.4; charset=utf-8; escaping=underscores", "", Text004, "")
	f("Text/Plain; version=1.0.0; escaping=allow-utf-8", "", Text100, "")
	f("text/plain; version=7", "", Text004, "")
	f("application/openmetrics-text", "", OpenMetrics100, "")
	f("application/openmetrics-text; version=1.0.0; charset=utf-8", "", OpenMetrics100, "")
	f("application/openmetrics-text; version=0.0.1", "text/plain", OpenMetrics001, "")
	f("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", "", Protobuf, "")
	f("", "", Unknown, "blank Content-Type")
	f("", "text/plain", Text004, "blank Content-Type")
	f("", "application/openmetrics-text", OpenMetrics100, "blank Content-Type")
	f("", "application/vnd.google.protobuf", Protobuf, "blank Content-Type")
	f("", "image/png", Unknown, "blank Content-Type")
	f("text/html", "", Unknown, `unsupported Content-Type "text/html"`)
	f("application/json; x=y", "text/plain", Text004, "unsupported Content-Type")
	f("text/plain; =", "", Unknown, "parse")
	f("text/plain; version", "application/openmetrics-text", OpenMetrics100, "parse")
	f("application/openmetrics-text; version=2.0.0", "", Unknown, "openmetrics2")
	f("application/openmetrics-text; version=2.0.0", "text/plain", Text004, "openmetrics2")
}

func TestFormatsNameTheirContentType(t *testing.T) {
	for f := Text004; f <= Protobuf; f++ {
		if got, err := FormatOf(f.String(), ""); got != f || err != nil {
			t.Errorf("%v reads back as %v, %v", f, got, err)
		}
	}
	if got := Unknown.String(); got != "unknown" {
		t.Errorf("got %q", got)
	}
}

package remotewrite

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestEachMessageHasItsOwnMinute(t *testing.T) {
	var l lines
	begin := time.Now()
	for _, step := range []struct {
		after   time.Duration
		message string
		samples int
		total   int
		ok      bool
	}{
		{0, "retry", 0, 0, true},
		{0, "lost", 5, 5, true},
		{time.Second, "retry", 0, 0, false},
		{time.Second, "lost", 3, 0, false},
		{logEvery, "lost", 4, 0, false},
		{logEvery, "other", 1, 1, true},
		{logEvery + 1, "lost", 2, 9, true},
		{logEvery + 1, "retry", 0, 0, true},
		{2*logEvery + 2, "lost", 6, 6, true},
	} {
		if total, ok := l.due(step.message, step.samples, begin.Add(step.after)); total != step.total || ok != step.ok {
			t.Errorf("%q after %v: got %d, %v, want %d, %v", step.message, step.after, total, ok, step.total, step.ok)
		}
	}
}

// TestRetriesDoNotHideWhatIsLost: a failure that passes is logged first, then
// what means that samples do not arrive.
func TestRetriesDoNotHideWhatIsLost(t *testing.T) {
	for _, tc := range []struct {
		name    string
		message string
		final   func(w http.ResponseWriter) int
		want    string
	}{
		{"refused", MessageV1, func(http.ResponseWriter) int { return 403 }, `level=ERROR msg="Samples were refused by the remote and are dropped" remote_name=test url=URL samples=20 err=`},
		{"too large alone", MessageV1, func(http.ResponseWriter) int { return 413 }, `level=ERROR msg="Samples were refused by the remote and are dropped" remote_name=test url=URL samples=20 err=`},
		{"not confirmed", MessageV2, func(http.ResponseWriter) int { return 204 }, `level=ERROR msg="The remote wrote nothing of a request; one that takes 1.x only does not confirm 2.0" remote_name=test url=URL samples=20 err=`},
		{"a part", MessageV2, func(w http.ResponseWriter) int {
			w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", "15")
			return 204
		}, `level=ERROR msg="The remote wrote only a part of a request" remote_name=test url=URL samples=5 err=`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := openLog(t, t.TempDir())
			r := newReceiver(t, func(w http.ResponseWriter, q *request) int {
				if q.number == 0 {
					return 503
				}
				return tc.final(w)
			})
			r.silent = true
			cfg := remoteConfig(t, r.srv.URL)
			cfg.ProtobufMessage = tc.message
			var text logged
			stop := runEndpoint(t, loggedEndpoint(t, l, cfg, slog.New(slog.NewTextHandler(&text, nil))))
			l.scrape(testTarget("a", 20))
			eventually(t, "samples are lost", func() bool { return text.count("level=ERROR") > 0 })
			stop()
			for _, want := range []string{`level=WARN msg="Failed to send batch, retrying"`, tc.want} {
				if n := text.count(strings.Replace(want, "URL", r.srv.URL, 1)); n != 1 {
					t.Errorf("%d lines are %s\n%s", n, want, text.buf.String())
				}
			}
		})
	}
}

// loggedEndpoint is an endpoint that does not run yet.
func loggedEndpoint(t *testing.T, l *testLog, cfg Config, log *slog.Logger) *Endpoint {
	t.Helper()
	cursor := l.store.Log().Cursor("x")
	made, err := prepare(&cfg, "x")
	if err != nil {
		t.Fatal(err)
	}
	return newDelivery(made, l.store, cursor, newMetrics("test", "u", cfg.V2()), log).main()
}

func TestMetadataSettingThatIsIgnoredIsNamed(t *testing.T) {
	for _, tc := range []struct {
		message string
		send    bool
		lines   int
	}{{MessageV1, true, 0}, {MessageV2, true, 1}, {MessageV2, false, 0}} {
		cfg := remoteConfig(t, newReceiver(t, nil).srv.URL)
		cfg.ProtobufMessage, cfg.Metadata.Send = tc.message, tc.send
		var text logged
		e := loggedEndpoint(t, openLog(t, t.TempDir()), cfg, slog.New(slog.NewTextHandler(&text, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e.delivery.Run(ctx)
		if n := text.count(`level=INFO msg="'metadata_config.send' is ignored when using Remote Write 2.0; `); n != tc.lines {
			t.Errorf("%+v: %d lines\n%s", tc, n, text.buf.String())
		}
	}
}

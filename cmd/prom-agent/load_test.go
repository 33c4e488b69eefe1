package main

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"promagent/config"
	"promagent/discovery"
	"promagent/remotewrite"
	"promagent/scrape"
	"promagent/wal"
	"promagent/wal/record"
)

// loading is the stages of an agent, none of which runs, and the directory of
// the files that its configs name.
type loading struct {
	*agent
	t        *testing.T
	dir      string
	registry *prometheus.Registry
}

func newLoading(t *testing.T) *loading {
	t.Helper()
	gogc := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(gogc) })
	t.Setenv("GOGC", "100")
	l := &loading{t: t, dir: t.TempDir(), registry: prometheus.NewRegistry()}
	f := &flags{values: map[string]string{"log.level": "info"}, log: promslog.Config{Level: promslog.NewLevel()}}
	l.agent = &agent{flags: f, log: slog.New(slog.DiscardHandler)}
	journal, err := wal.Open(t.TempDir(), wal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { journal.Close() })
	l.store = record.NewStore(journal, record.Options{})
	if l.finder, err = discovery.New(discovery.Options{Registerer: l.registry}); err != nil {
		t.Fatal(err)
	}
	if l.scraper, err = scrape.New(scrape.Options{Sink: l.store, Registerer: l.registry, Hostname: func() (string, error) { return "host", nil }}); err != nil {
		t.Fatal(err)
	}
	if l.sender, err = remotewrite.NewManager(l.store, remotewrite.Options{Registerer: l.registry}); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(nil)
	t.Cleanup(srv.Close)
	writeFile(t, filepath.Join(l.dir, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	return l
}

// config is a config that is different in every stage for each name.
func (l *loading) config(name, level string) *config.Config {
	l.t.Helper()
	file := filepath.Join(l.dir, "prometheus.yml")
	writeFile(l.t, file, fmt.Sprintf(`
runtime: {gogc: %d, log_level: %s}
scrape_configs:
- job_name: kept
  honor_labels: %t
  scrape_failure_log_file: %s/kept
  tls_config: {ca_file: %[4]s/ca.pem}
  static_configs: [{targets: ['a:1']}]
- job_name: %[5]s
  scrape_failure_log_file: %[4]s/%[5]s
  tls_config: {ca_file: %[4]s/ca.pem}
  http_sd_configs: [{url: 'https://%[5]s/', tls_config: {ca_file: %[4]s/ca.pem}}]
remote_write:
- {name: kept, url: 'https://a/', tls_config: {ca_file: %[4]s/ca.pem}, queue_config: {capacity: 1%[1]d}}
- {name: %[5]s, url: 'https://%[5]s/', tls_config: {ca_file: %[4]s/ca.pem}}
`, 100+len(name), level, len(name)%2 == 0, l.dir, name))
	cfg, err := config.Load(file, config.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	return cfg
}

// state is what is seen of the stages.
func (l *loading) state() string {
	l.t.Helper()
	var all []string
	for _, p := range l.scraper.Pools() {
		all = append(all, "job "+p.Job)
	}
	for _, s := range l.sender.Status() {
		all = append(all, "remote "+s.Name)
	}
	families, err := l.registry.Gather()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "prometheus_sd_discovered_targets" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				if label.GetName() == "config" {
					all = append(all, "discovery of "+label.GetValue())
				}
			}
		}
	}
	gogc := debug.SetGCPercent(100)
	debug.SetGCPercent(gogc)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, fd := range open {
		if file, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil && strings.HasPrefix(file, l.dir) {
			all = append(all, "open "+strings.TrimSuffix(filepath.Base(file), " (deleted)"))
		}
	}
	all = append(all, fmt.Sprint("GOGC ", gogc), fmt.Sprint("level ", l.flags.log.Level))
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// stateWith is the state with the config of that name, which has five letters.
func stateWith(name string) string {
	all := []string{"GOGC 105", "level debug"}
	for _, job := range []string{"kept", name} {
		all = append(all, "job "+job, "remote "+job, "discovery of "+job, "open "+job)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

func TestConfigThatOneStageRefusesChangesNoStage(t *testing.T) {
	for name, spoil := range map[string]func(*config.Config){
		"remote write": func(c *config.Config) { c.RemoteWrite[1].HTTP.TLSConfig.CAFile = "/does/not/exist" },
		"scrape":       func(c *config.Config) { c.Scrape.Jobs[0].HTTP.TLSConfig.CAFile = "/does/not/exist" },
		"discovery":    func(c *config.Config) { c.Discovery["second"] = discovery.Configs{nil} },
		"log level":    func(c *config.Config) { c.Runtime.LogLevel = "loud" },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoading(t)
			commit, err := l.load(l.config("first", "debug"))
			if err != nil {
				t.Fatal(err)
			}
			commit()
			if got := l.state(); got != stateWith("first") {
				t.Fatalf("at first it is %s", got)
			}
			cfg := l.config("second", "error")
			spoil(cfg)
			goroutines := runtime.NumGoroutine()
			for range 20 {
				if _, err := l.load(cfg); err == nil {
					t.Error("it is not refused")
				}
			}
			if n := runtime.NumGoroutine(); n > goroutines+5 {
				t.Errorf("%d goroutines after 20 configs that were refused, %d before", n, goroutines)
			}
			if got := l.state(); got != stateWith("first") {
				t.Errorf("after a config that was refused it is %s", got)
			}
		})
	}
}

func TestConfigIsTakenWholeThoughItsFilesHaveVanished(t *testing.T) {
	l := newLoading(t)
	certificate, err := os.ReadFile(filepath.Join(l.dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"other", "first"} {
		writeFile(t, filepath.Join(l.dir, "ca.pem"), string(certificate))
		commit, err := l.load(l.config(name, "debug"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"ca.pem", "kept", name} {
			if err := os.Remove(filepath.Join(l.dir, file)); err != nil {
				t.Fatal(err)
			}
		}
		commit()
		if got := l.state(); got != stateWith(name) {
			t.Errorf("it is %s, want %s", got, stateWith(name))
		}
	}
}

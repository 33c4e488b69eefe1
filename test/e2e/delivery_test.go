package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// receiver is a kind of central Prometheus and the message that it is sent.
type receiver struct {
	name    string
	binary  string
	message string
}

func receivers(t testing.TB) []receiver {
	if currentBinary == "" {
		t.Fatal("PROMETHEUS names no binary; run `make e2e`")
	}
	return []receiver{
		{"debian/1.x", debianBinary, "prometheus.WriteRequest"},
		{"current/1.x", currentBinary, "prometheus.WriteRequest"},
		{"current/2.0", currentBinary, "io.prometheus.write.v2.Request"},
	}
}

func startReceiver(t testing.TB, r receiver, dir, addr string) *process {
	t.Helper()
	config := filepath.Join(dir, "receiver.yml")
	writeFile(t, config, "global: {}\n")
	return start(t, "receiver", addr, "/-/ready", r.binary,
		"--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		"--web.listen-address="+addr, "--web.enable-remote-write-receiver")
}

func startAgent(t testing.TB, dir, addr string) *process {
	t.Helper()
	return start(t, "agent", addr, "/-/ready", agentBinary,
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.agent.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--web.enable-lifecycle", "--scrape.discovery-reload-interval=100ms")
}

func startNodeExporter(t testing.TB, addr string) *process {
	t.Helper()
	return start(t, "node_exporter", addr, "/metrics", nodeExporterName, "--web.listen-address="+addr)
}

func agentConfig(exporter, receiver, message string) string {
	return fmt.Sprintf(`
global:
  scrape_interval: 1s
  external_labels: {cluster: edge-1}
scrape_configs:
- job_name: node
  static_configs:
  - targets: [%q]
remote_write:
- url: http://%s/api/v1/write
  protobuf_message: %s
  queue_config: {batch_send_deadline: 500ms}
`, exporter, receiver, message)
}

// appendedLate is what a Prometheus receiver with an out-of-order window has
// taken behind newer samples of the series.
const appendedLate = "prometheus_tsdb_head_out_of_order_samples_appended_total"

// refusals are what a Prometheus receiver counts of samples it did not like.
var refusals = []string{
	"prometheus_tsdb_out_of_order_samples_total", "prometheus_tsdb_out_of_bound_samples_total", "prometheus_tsdb_too_old_samples_total",
	appendedLate, "prometheus_target_scrapes_sample_duplicate_timestamp_total",
	"prometheus_api_remote_write_invalid_labels_samples_total",
}

// refused complains about samples that a Prometheus receiver did not like, but
// for these metrics.
func refused(t testing.TB, p *process, but ...string) {
	t.Helper()
	for _, m := range refusals {
		if n := p.metric(m); n != 0 && !slices.Contains(but, m) {
			t.Errorf("the receiver's %s is %v", m, n)
		}
	}
}

func TestNodeExporterArrivesInEveryKindOfReceiver(t *testing.T) {
	t.Parallel()
	for _, r := range receivers(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			exporterAddr, receiverAddr, agentAddr := ownAddr(t), ownAddr(t), ownAddr(t)
			exporter := startNodeExporter(t, exporterAddr)
			central := startReceiver(t, r, dir, receiverAddr)
			writeFile(t, filepath.Join(dir, "prometheus.yml"), agentConfig(exporterAddr, receiverAddr, r.message))
			agent := startAgent(t, dir, agentAddr)

			eventually(t, 20*time.Second, "node_cpu_seconds_total is in the receiver", func() error {
				got, err := central.query(fmt.Sprintf(`node_cpu_seconds_total{cluster="edge-1",job="node",instance=%q}`, exporterAddr))
				if err == nil && len(got) == 0 {
					err = fmt.Errorf("no series")
				}
				return err
			})
			up := func(want float64) {
				t.Helper()
				eventually(t, 20*time.Second, fmt.Sprintf("up is %v", want), func() error {
					got, err := central.query(`up{cluster="edge-1",job="node"}`)
					if err == nil && (len(got) != 1 || got[0].value() != want) {
						err = fmt.Errorf("%v", got)
					}
					return err
				})
			}
			up(1)

			exporter.end(syscall.SIGKILL)
			up(0)
			eventually(t, 10*time.Second, "the series of a stopped exporter are stale", func() error {
				got, err := central.query(`{__name__=~"node_.+",cluster="edge-1"}`)
				if err == nil && len(got) != 0 {
					err = fmt.Errorf("%d series live, such as %v", len(got), got[0].Metric)
				}
				return err
			})

			startNodeExporter(t, exporterAddr)
			up(1)
			agent.end(syscall.SIGTERM)
			if code := agent.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("the agent ended with %d on SIGTERM", code)
			}
			refused(t, central)
			if n := agent.cmd.ProcessState.ExitCode(); n != 0 {
				t.Errorf("exit code %d", n)
			}
		})
	}
}

// The receiver is down while the agent is killed and started again; what was
// scraped before the kill arrives all the same.
func TestOutageAndKillLoseNothing(t *testing.T) {
	t.Parallel()
	for _, r := range receivers(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			exporterAddr, receiverAddr, agentAddr := ownAddr(t), ownAddr(t), ownAddr(t)
			startNodeExporter(t, exporterAddr)
			writeFile(t, filepath.Join(dir, "prometheus.yml"), agentConfig(exporterAddr, receiverAddr, r.message))

			agent := startAgent(t, dir, agentAddr) // no receiver yet
			eventually(t, 20*time.Second, "five scrapes in the log", func() error {
				if n := agent.metric("prometheus_target_interval_length_seconds_count"); n < 5 {
					return fmt.Errorf("%v intervals", n)
				}
				return nil
			})
			before := time.Now()
			agent.end(syscall.SIGKILL)
			agent = startAgent(t, dir, agentAddr)
			eventually(t, 20*time.Second, "two more scrapes", func() error {
				if n := agent.metric("prometheus_target_interval_length_seconds_count"); n < 2 {
					return fmt.Errorf("%v intervals", n)
				}
				return nil
			})
			central := startReceiver(t, r, dir, receiverAddr)
			eventually(t, 30*time.Second, "the scrapes before the kill are in the receiver", func() error {
				got, err := central.query(`up{cluster="edge-1"}[5m]`)
				if err != nil {
					return err
				}
				n := 0
				for _, s := range got {
					for _, v := range s.Values {
						if v[0].(float64) < float64(before.Unix()) {
							n++
						}
					}
				}
				if n < 5 {
					return fmt.Errorf("%d samples of up from before the kill", n)
				}
				return nil
			})
			agent.end(syscall.SIGTERM)
			refused(t, central)
		})
	}
}

// Command drain measures how an agent delivers what has piled up in an outage:
//
//	go run ./test/drain -bin ./prom-agent -outage 5m
//
// It serves targets, runs the agent (Prometheus agent's flags) with a receiver
// that first refuses everything and then takes everything, slowly, and says how
// long the backlog took, how many bytes, and what the agent used.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
)

func main() {
	log.SetFlags(0)
	bin := flag.String("bin", "./prom-agent", "the agent")
	targets := flag.Int("targets", 20, "targets")
	series := flag.Int("series", 1000, "series per target")
	interval := flag.Duration("interval", time.Second, "scrape interval")
	outage := flag.Duration("outage", 5*time.Minute, "how long the receiver answers 503")
	delay := flag.Duration("delay", 50*time.Millisecond, "how long the receiver takes for a request after that")
	verbose := flag.Bool("v", false, "print the agent's log")
	flag.Parse()
	if err := run(*bin, *targets, *series, *interval, *outage, *delay, *verbose); err != nil {
		log.Fatal(err)
	}
}

func run(bin string, targets, series int, interval, outage, delay time.Duration, verbose bool) error {
	dir, err := os.MkdirTemp("", "drain")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // in a directory for such things
	e := &exporter{series: series}
	var addresses []string
	for range targets {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses = append(addresses, l.Addr().String())
		go serve(l, e)
	}
	r := &receiver{delay: delay}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(l, r)
	config := fmt.Sprintf("global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}\nscrape_configs:\n- job_name: drain\n  static_configs: [{targets: ['%[2]s']}]\nremote_write:\n- url: http://%[3]s/api/v1/write\n",
		interval, strings.Join(addresses, "','"), l.Addr())
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(bin, "--agent", "--config.file="+file, "--storage.agent.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if verbose {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
	}()
	u := usage{pid: cmd.Process.Pid}

	r.up.Store(true)
	for r.samples.Load() == 0 {
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(10 * time.Second)
	before := u.read()
	r.up.Store(false)
	start := e.served.Load()
	log.Printf("%s: outage of %s begins; RSS %.0f MiB", bin, outage, before.rss)
	var most float64
	for end := time.Now().Add(outage); time.Now().Before(end); time.Sleep(time.Second) {
		most = max(most, u.read().rss)
	}
	backlog := e.served.Load() - start
	had, bytes, cpu := r.samples.Load(), r.bytes.Load(), u.read().cpu
	r.up.Store(true)
	begin := time.Now()
	log.Printf("outage ends: %d samples wait; RSS at most %.0f MiB", backlog, most)
	first := time.Time{}
	for r.samples.Load()-had < backlog {
		time.Sleep(10 * time.Millisecond)
		if first.IsZero() && r.samples.Load() > had {
			first = time.Now()
		}
		if time.Since(begin) > 30*time.Minute {
			return fmt.Errorf("given up after %d of %d samples", r.samples.Load()-had, backlog)
		}
		most = max(most, u.read().rss)
	}
	took, got := time.Since(first), r.samples.Load()-had
	log.Printf("as many have come %.1f s after the first of them (%.1f s after the outage): %.0f samples/s, %.1f bytes per sample, %.2f CPU s per million samples, RSS at most %.0f MiB",
		took.Seconds(), time.Since(begin).Seconds(), float64(got)/took.Seconds(), float64(r.bytes.Load()-bytes)/float64(got), (u.read().cpu-cpu)/float64(got)*1e6, most)
	return nil
}

func serve(l net.Listener, h http.Handler) { log.Fatal(http.Serve(l, h)) }

// exporter serves counters and gauges that move.
type exporter struct {
	series int
	served atomic.Int64 // samples
}

func (e *exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	now := time.Now()
	for i := range e.series {
		switch n := i / 20; n % 4 { // metrics of 20 series each
		case 0:
			fmt.Fprintf(&b, "drain_%d_requests_total{path=\"/api/v1/%d\",method=\"GET\",code=\"200\"} %d\n", n, i, now.Unix()*int64(i+1))
		case 1:
			fmt.Fprintf(&b, "drain_%d_seconds_total{path=\"/api/v1/%d\",method=\"GET\"} %.3f\n", n, i, float64(now.UnixMilli())/1000*float64(i))
		default:
			fmt.Fprintf(&b, "drain_%d_level{path=\"/api/v1/%d\",kind=\"constant\"} %d\n", n, i, i)
		}
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return // the agent has given the scrape up
	}
	e.served.Add(int64(e.series))
}

// receiver takes remote write 1.x.
type receiver struct {
	delay          time.Duration
	up             atomic.Bool
	samples, bytes atomic.Int64
	decoding       sync.Pool
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	packed, err := io.ReadAll(q.Body)
	if err != nil || !r.up.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	time.Sleep(r.delay)
	raw, err := snappy.Decode(nil, packed)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	m, _ := r.decoding.Get().(*prompb.WriteRequest)
	if m == nil {
		m = &prompb.WriteRequest{}
	}
	m.Reset()
	if err := m.Unmarshal(raw); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	n := int64(0)
	for i := range m.Timeseries {
		for _, l := range m.Timeseries[i].Labels {
			if l.Name == "__name__" && strings.HasPrefix(l.Value, "drain_") {
				n += int64(len(m.Timeseries[i].Samples))
			}
		}
	}
	r.samples.Add(n)
	r.bytes.Add(int64(len(packed)))
	r.decoding.Put(m)
	w.WriteHeader(http.StatusNoContent)
}

// usage reads what a process uses.
type usage struct{ pid int }

type used struct{ rss, cpu float64 } // MiB, seconds

func (u usage) read() used {
	var out used
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", u.pid)); err == nil {
		if _, rest, ok := strings.Cut(string(b), "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			out.rss = kb / 1024
		}
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", u.pid)); err == nil {
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		user, _ := strconv.ParseFloat(f[11], 64)
		system, _ := strconv.ParseFloat(f[12], 64)
		out.cpu = (user + system) / 100
	}
	return out
}

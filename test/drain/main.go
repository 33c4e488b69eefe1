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
	"log"
	"math"
	"math/rand/v2"
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
	"google.golang.org/protobuf/encoding/protowire"
)

func main() {
	log.SetFlags(0)
	bin := flag.String("bin", "./prom-agent", "the agent")
	targets := flag.Int("targets", 20, "targets")
	series := flag.Int("series", 1000, "series per target")
	interval := flag.Duration("interval", time.Second, "scrape interval")
	outage := flag.Duration("outage", 5*time.Minute, "how long the receiver answers 503")
	delay := flag.Duration("delay", 50*time.Millisecond, "how long the receiver takes for a request after that")
	queue := flag.String("queue", "", "what queue_config has, such as 'max_shards: 4'")
	verbose := flag.Bool("v", false, "print the agent's log")
	flag.Parse()
	if err := run(*bin, *targets, *series, *interval, *outage, *delay, *queue, *verbose); err != nil {
		log.Fatal(err)
	}
}

func run(bin string, targets, series int, interval, outage, delay time.Duration, queue string, verbose bool) error {
	dir, err := os.MkdirTemp("", "drain")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // in a directory for such things
	e := newExporter(series)
	var addresses []string
	for range targets {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses = append(addresses, l.Addr().String())
		go serve(l, &target{exporter: e})
	}
	r := &receiver{delay: delay}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go serve(l, r)
	config := fmt.Sprintf("global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}\nscrape_configs:\n- job_name: drain\n  static_configs: [{targets: ['%[2]s']}]\nremote_write:\n- url: http://%[3]s/api/v1/write\n  queue_config: {%[4]s}\n",
		interval, strings.Join(addresses, "','"), l.Addr(), queue)
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

// exporter is what all targets serve: series as an edge cluster has them. A
// quarter each is the state of objects (0 or 1, and still), what containers
// use (most of it moving), an application's histograms (whole numbers, half of
// them moving), and a machine's metrics (fractions, half of them moving).
type exporter struct {
	lines  []line
	served atomic.Int64 // samples
}

type line struct {
	text        string // up to the value
	value, step float64
	fraction    bool
}

func newExporter(series int) *exporter {
	e := &exporter{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range series {
		var l line
		switch k := i / 4; i % 4 {
		case 0:
			pod, phase := k/5, []string{"Running", "Pending", "Succeeded", "Failed", "Unknown"}[k%5]
			l.text = fmt.Sprintf(`drain_pod_status_phase{namespace="team-%d",pod="checkout-%08x",phase=%q}`, pod%8, pod*0x9e3779b1, phase)
			if k%5 == 0 {
				l.value = 1
			}
		case 1:
			metric := []string{"cpu_usage_seconds_total", "memory_working_set_bytes", "network_receive_bytes_total", "memory_failcnt", "start_time_seconds"}[k%5]
			l.text = fmt.Sprintf(`drain_container_%s{namespace="team-%d",pod="cart-%08x",container="main"}`, metric, k%8, k/5*0x9e3779b1)
			l.value, l.step, l.fraction = rnd.Float64()*1e4, []float64{0.37, 4096, 1500, 0, 0}[k%5], k%5 == 0
		case 2:
			le := []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf"}[k%10]
			l.text = fmt.Sprintf(`drain_http_request_duration_seconds_bucket{handler="/api/v1/resource/%d",method="GET",le=%q}`, k/10, le)
			l.value, l.step = float64(100*(k%10)), float64(k/10%2*(k%10))
		case 3:
			l.text = fmt.Sprintf(`drain_cpu_seconds_total{cpu="%d",mode=%q}`, k/8, []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"}[k%8])
			l.value, l.step, l.fraction = rnd.Float64()*1e5, float64(k%2)*0.31, true
		}
		if !l.fraction {
			l.value = math.Floor(l.value)
		}
		e.lines = append(e.lines, l)
	}
	return e
}

// ServeHTTP exposes the series of a target, which have moved on by one step since its last scrape.
func (t *target) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	t.turn++
	b := t.text[:0]
	for i := range t.exporter.lines {
		l := &t.exporter.lines[i]
		v := l.value + l.step*float64(t.turn)
		decimals := 0
		if l.fraction {
			decimals = 2
		}
		b = append(append(b, l.text...), ' ')
		b = append(strconv.AppendFloat(b, v, 'f', decimals, 64), '\n')
	}
	t.text = b
	if _, err := w.Write(b); err != nil {
		return // the agent has given the scrape up
	}
	t.exporter.served.Add(int64(len(t.exporter.lines)))
}

// target is scraped by one agent, one scrape after the other.
type target struct {
	exporter *exporter
	turn     int
	text     []byte
}

// receiver takes remote write 1.x.
type receiver struct {
	delay          time.Duration
	up             atomic.Bool
	samples, bytes atomic.Int64
	buffers        sync.Pool // of *[2][]byte: packed, raw
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	b, _ := r.buffers.Get().(*[2][]byte)
	if b == nil {
		b = &[2][]byte{}
	}
	defer r.buffers.Put(b)
	packed := bytes.NewBuffer(b[0][:0])
	_, err := packed.ReadFrom(q.Body)
	b[0] = packed.Bytes()
	if err != nil || !r.up.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	time.Sleep(r.delay)
	raw, err := snappy.Decode(b[1][:cap(b[1])], b[0])
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b[1] = raw
	n, ok := count(raw)
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.samples.Add(n)
	r.bytes.Add(int64(len(b[0])))
	w.WriteHeader(http.StatusNoContent)
}

// count is the number of samples of the exporters' series in a 1.x message. It
// makes nothing of them, to leave the machine to the agent.
func count(message []byte) (n int64, ok bool) {
	ok = fields(message, func(field protowire.Number, series []byte) {
		own, samples := false, int64(0)
		_ = fields(series, func(field protowire.Number, b []byte) { // what is in it has been written by an agent
			switch field {
			case 1:
				own = own || bytes.Contains(b, []byte("\x08__name__\x12")) && bytes.Contains(b, []byte("drain_"))
			case 2:
				samples++
			}
		})
		if field == 1 && own {
			n += samples
		}
	})
	return n, ok
}

// fields calls f with the fields of a message that have a length. It is false
// when there is anything else.
func fields(b []byte, f func(protowire.Number, []byte)) bool {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 || kind != protowire.BytesType {
			return false
		}
		v, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return false
		}
		f(field, v)
		b = b[n+m:]
	}
	return true
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

// Command rig loads a metrics agent with many targets, receives what it
// forwards, and accounts for every sample and for what the agent spent.
//
//	go run ./test/rig -bin ./prom-agent -targets 100 -series 1000 -interval 5s -for 60s
//	go run ./test/rig -bin ./prom-agent -script '20s sink 503; 30s kill; 32s start; 45s sink ok'
//	go run ./test/rig -bin ./prom-agent -vs OLDER -pairs 7 -for 30s
//
// With -vs it runs two agents in turn and prints, for each figure, the mean
// ratio of the first to the second and its 95% interval.
//
// A script is a list of "AT ACTION" steps, AT counted from the start:
//
//	sink CODE|ok      the receiver answers CODE, or accepts again
//	sink down|up      the receiver's listener closes, or opens again
//	sink delay D      the receiver waits D before it answers
//	retry-after N     the receiver sends Retry-After: N with its refusals
//	kill | term       SIGKILL or SIGTERM to the agent (term waits 60 s for it)
//	start             starts the agent again on the same data
//	reload            POST /-/reload
//	relabel           changes the remote_write block, then reloads
//	stop N | cont N   SIGSTOP, SIGCONT to the agent
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type result struct {
	Agent        string  `json:"agent"`
	Targets      int     `json:"targets"`
	Series       int     `json:"series"`
	SamplesPerS  float64 `json:"samples_per_second"`
	CPUPerM      float64 `json:"cpu_s_per_million_samples"`
	RSSMedian    float64 `json:"rss_median_mib"`
	RSSPeak      float64 `json:"rss_peak_mib"`
	AnonMedian   float64 `json:"anon_median_mib"`
	WireBytes    float64 `json:"wire_bytes_per_sample"`
	DiskBytes    float64 `json:"disk_bytes_written_per_sample"`
	DataMiB      float64 `json:"data_dir_mib"`
	Requests     int64   `json:"requests"`
	Versions     map[string]int64
	Refused      int64   `json:"refused_requests"`
	Unsorted     int64   `json:"unsorted_labels"`
	BadLabels    int64   `json:"empty_labels"`
	DrainSeconds float64 `json:"drain_s"`
	account
	Errors []string `json:"errors,omitempty"`
}

func main() {
	log.SetFlags(log.Ltime)
	style := flag.String("style", "prometheus", "whose flags the agent takes: prometheus or vmagent")
	bin := flag.String("bin", "", "the agent's binary")
	name := flag.String("name", "", "the agent's name in the report")
	targets := flag.Int("targets", 100, "number of targets")
	perTarget := flag.Int("series", 1000, "series per target")
	interval := flag.Duration("interval", 5*time.Second, "scrape interval")
	warm := flag.Duration("warm", 0, "warm-up before the measured window; 0: three intervals")
	dur := flag.Duration("for", 60*time.Second, "measured window")
	drain := flag.Duration("drain", 60*time.Second, "longest wait for the backlog after the targets freeze")
	churn := flag.Float64("churn", 0, "share of series renamed on every scrape")
	script := flag.String("script", "", "steps, see the command's doc")
	tail := flag.String("remote-write", "", "lines added to the remote_write block; \\n for a new line")
	extra := flag.String("args", "", "more arguments for the agent, split at spaces")
	keep := flag.String("dir", "", "working directory to keep; empty: a temporary one")
	flag.BoolVar(&noZstd, "no-zstd", false, "targets answer gzip only, as exporters of older client libraries do")
	flag.BoolVar(&shuffle, "shuffle", false, "targets expose their series in a new order on every scrape")
	port := flag.Int("port", 9500, "first port used: the targets'; the sink takes the next, the agent the one after")
	asJSON := flag.Bool("json", false, "print JSON")
	vs := flag.String("vs", "", "another agent's binary: run both in turn and print ratios")
	pairs := flag.Int("pairs", 7, "with -vs: pairs of runs, after one that does not count")
	flag.Parse()
	if *bin == "" {
		log.Fatal("-bin is needed")
	}
	if *vs != "" {
		if err := compare(*bin, *vs, *pairs); err != nil {
			log.Fatal(err)
		}
		return
	}
	if *name == "" {
		*name = filepath.Base(*bin)
	}
	if *warm == 0 {
		*warm = 3 * *interval
	}
	dir := *keep
	if dir == "" {
		d, err := os.MkdirTemp("", "rig")
		if err != nil {
			log.Fatal(err)
		}
		defer func() {
			if err := os.RemoveAll(d); err != nil {
				log.Print(err)
			}
		}()
		dir = d
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		log.Fatal(err)
	}
	f, err := startFleet(*targets, *perTarget, *port, *churn)
	if err != nil {
		log.Fatal(err)
	}
	sk := newSink()
	sinkAddr := fmt.Sprintf("127.0.0.1:%d", *port+1)
	if err := sk.start(sinkAddr); err != nil {
		log.Fatal(err)
	}
	sinkURL := "http://" + sinkAddr + "/api/v1/write"
	rw := strings.ReplaceAll(*tail, `\n`, "\n")
	if rw != "" && !strings.HasSuffix(rw, "\n") {
		rw += "\n"
	}
	s := &sut{style: *style, bin: *bin, extra: strings.Fields(*extra), dir: dir, port: *port + 2}
	if err := s.writeConfig(f, interval.String(), sinkURL, rw); err != nil {
		log.Fatal(err)
	}
	if err := s.start(sinkURL); err != nil {
		log.Fatal(err)
	}
	var problems []string
	problem := func(format string, a ...any) {
		p := fmt.Sprintf(format, a...)
		log.Print(p)
		problems = append(problems, p)
	}
	steps, err := parseScript(*script)
	if err != nil {
		log.Fatal(err)
	}
	begin := time.Now()
	go func() {
		for _, st := range steps {
			time.Sleep(time.Until(begin.Add(st.at)))
			log.Printf("%s", strings.Join(st.words, " "))
			if err := perform(st.words, s, sk, f, sinkAddr, sinkURL, interval.String(), rw); err != nil {
				problem("%s: %v", strings.Join(st.words, " "), err)
			}
		}
	}()

	time.Sleep(*warm)
	type mark struct {
		cpu, wire, disk float64
		samples         int64
	}
	take := func() mark {
		sk.mu.Lock()
		defer sk.mu.Unlock()
		return mark{s.cpu(), float64(sk.wireBytes), float64(s.diskWritten()), sk.samples}
	}
	m0, t0 := take(), time.Now()
	var rss, anon []float64
	var peak float64
	for time.Since(t0) < *dur {
		time.Sleep(500 * time.Millisecond)
		if r := float64(s.rss()) / (1 << 20); r > 0 {
			rss = append(rss, r)
			anon = append(anon, float64(s.anon())/(1<<20))
			peak = max(peak, r)
		} else if len(steps) == 0 {
			tail, _ := os.ReadFile(filepath.Join(dir, "log"))
			log.Fatalf("the agent ended:\n%s", tail[max(0, len(tail)-3000):])
		}
	}
	m1, window := take(), time.Since(t0)
	dataMiB := float64(s.dataSize()) / (1 << 20)

	f.frozen.Store(true)
	frozen := time.Now()
	for time.Since(frozen) < *drain {
		sk.mu.Lock()
		idle := time.Since(sk.lastNew)
		sk.mu.Unlock()
		if a := sk.account(f); a.Missing == 0 && time.Since(frozen) > *interval {
			break
		}
		if idle > *drain {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	drained := time.Since(frozen)
	if err := s.end(syscall.SIGTERM, 60*time.Second); err != nil {
		problem("shutdown: %v", err)
	}
	acc := sk.account(f)
	got := float64(m1.samples - m0.samples)
	r := result{
		Agent: *name, Targets: *targets, Series: *targets * *perTarget,
		SamplesPerS: got / window.Seconds(), CPUPerM: (m1.cpu - m0.cpu) / got * 1e6,
		WireBytes: (m1.wire - m0.wire) / got, DiskBytes: (m1.disk - m0.disk) / got, DataMiB: dataMiB,
		RSSPeak: peak, Requests: sk.requests, Versions: sk.versions, Refused: sk.refused,
		Unsorted: sk.unsorted, BadLabels: sk.badLabels, DrainSeconds: drained.Seconds(),
		account: acc, Errors: append(problems, sk.errs...),
	}
	if len(rss) > 0 {
		slices.Sort(rss)
		slices.Sort(anon)
		r.RSSMedian, r.AnonMedian = rss[len(rss)/2], anon[len(anon)/2]
	}
	if *asJSON {
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			log.Fatal(err)
		}
		return
	}
	fmt.Printf("%s: %d targets x %d series every %s\n", r.Agent, *targets, *perTarget, *interval)
	fmt.Printf("  %.0f samples/s, %.2f CPU s per million samples, RSS median %.0f peak %.0f MiB (anon %.0f), %.2f wire and %.2f disk bytes per sample, data %.1f MiB, %d requests %v\n",
		r.SamplesPerS, r.CPUPerM, r.RSSMedian, r.RSSPeak, r.AnonMedian, r.WireBytes, r.DiskBytes, r.DataMiB, r.Requests, r.Versions)
	fmt.Printf("  served %d, missing %d (%d scrapes lost whole), duplicate %d, out of order %d, stale %d, unsorted %d, empty labels %d, refused %d, freshness p50 %.2f p99 %.2f s, drained in %.1f s\n",
		acc.Served, acc.Missing, acc.LostScr, acc.Dups, acc.OutOfOrder, acc.Stale, r.Unsorted, r.BadLabels, r.Refused, acc.FreshP50, acc.FreshP99, r.DrainSeconds)
	for _, e := range r.Errors {
		fmt.Println("  problem:", e)
	}
}

type step struct {
	at    time.Duration
	words []string
}

func parseScript(text string) (steps []step, err error) {
	for _, part := range strings.Split(text, ";") {
		w := strings.Fields(part)
		if len(w) == 0 {
			continue
		}
		at, err := time.ParseDuration(w[0])
		if err != nil || len(w) < 2 {
			return nil, fmt.Errorf("script step %q: want AT ACTION", part)
		}
		steps = append(steps, step{at, w[1:]})
	}
	return steps, nil
}

func perform(w []string, s *sut, sk *sink, f *fleet, sinkAddr, sinkURL, interval, rw string) error {
	arg := ""
	if len(w) > 1 {
		arg = w[1]
	}
	switch w[0] {
	case "sink":
		switch arg {
		case "ok":
			sk.status.Store(0)
			sk.delay.Store(0)
		case "down":
			sk.stop()
		case "up":
			return sk.start(sinkAddr)
		case "delay":
			d, err := time.ParseDuration(w[2])
			sk.delay.Store(int64(d))
			return err
		default:
			code, err := strconv.Atoi(arg)
			sk.status.Store(int64(code))
			return err
		}
	case "retry-after":
		n, err := strconv.Atoi(arg)
		sk.retryAfter.Store(int64(n))
		return err
	case "kill":
		return s.end(syscall.SIGKILL, 10*time.Second)
	case "term":
		return s.end(syscall.SIGTERM, 90*time.Second)
	case "start":
		return s.start(sinkURL)
	case "reload":
		return s.reload()
	case "relabel":
		if err := s.writeConfig(f, interval, sinkURL, rw+"  write_relabel_configs:\n  - {target_label: rig_relabelled, replacement: 'yes'}\n"); err != nil {
			return err
		}
		return s.reload()
	case "stop":
		return s.cmd.Process.Signal(syscall.SIGSTOP)
	case "cont":
		return s.cmd.Process.Signal(syscall.SIGCONT)
	default:
		return fmt.Errorf("unknown action")
	}
	return nil
}

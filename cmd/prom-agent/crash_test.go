package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
)

const (
	crashTargets  = 6
	crashSeries   = 100
	crashInterval = 100 * time.Millisecond
)

// numbered is a target whose series all have the number of the scrape as value.
type numbered struct {
	*httptest.Server
	mu     sync.Mutex
	served int // scrapes; the last one's number
	atKill map[int]bool
}

func newNumbered(t testing.TB) *numbered {
	n := &numbered{atKill: map[int]bool{}}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.mu.Lock()
		n.served++
		number := n.served
		n.mu.Unlock()
		var b bytes.Buffer
		for i := range crashSeries {
			fmt.Fprintf(&b, "crash_value{series=\"%d\"} %d\n", i, number)
		}
		w.Write(b.Bytes())
	}))
	t.Cleanup(n.Close)
	return n
}

// accountant is a receiver that knows what it should get.
type accountant struct {
	*httptest.Server
	t       testing.TB
	targets map[string]*numbered

	mu     sync.Mutex
	status int
	delay  time.Duration
	got    map[string]map[string][]int // numbers by target and series, in order of arrival
	failed map[string]int              // scrapes that failed, by target: on a busy machine they time out
	count  int                         // samples
	after  int                         // at which count news is closed
	news   chan struct{}
}

func newAccountant(t testing.TB, targets []*numbered) *accountant {
	a := &accountant{t: t, targets: map[string]*numbered{}, got: map[string]map[string][]int{}, failed: map[string]int{}}
	for _, n := range targets {
		a.targets[n.Listener.Addr().String()] = n
		a.got[n.Listener.Addr().String()] = map[string][]int{}
	}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

func (a *accountant) serve(w http.ResponseWriter, r *http.Request) {
	packed, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed
	}
	a.mu.Lock()
	status, delay := a.status, a.delay
	a.mu.Unlock()
	time.Sleep(delay) // a receiver that is slow
	raw, err := snappy.Decode(nil, packed)
	var m prompb.WriteRequest
	if err == nil {
		err = m.Unmarshal(raw)
	}
	if err != nil {
		a.t.Errorf("a request cannot be read: %v", err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if status != 204 {
		w.WriteHeader(status)
	} else {
		a.take(&m)
		w.WriteHeader(204)
	}
	if a.news != nil && a.count >= a.after {
		close(a.news)
		a.news = nil
	}
}

func (a *accountant) take(m *prompb.WriteRequest) {
	for _, ts := range m.Timeseries {
		var name, instance, series string
		for _, l := range ts.Labels {
			switch l.Name {
			case "__name__":
				name = l.Value
			case "instance":
				instance = l.Value
			case "series":
				series = l.Value
			}
		}
		if name == "up" {
			for _, s := range ts.Samples {
				if s.Value == 0 {
					a.failed[instance]++
				}
			}
		}
		if name != "crash_value" {
			continue
		}
		for _, s := range ts.Samples {
			if !value.IsStaleNaN(s.Value) {
				a.got[instance][series] = append(a.got[instance][series], int(s.Value))
				a.count++
			}
		}
	}
}

// mood sets how the next requests are answered.
func (a *accountant) mood(status int, delay time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status, a.delay = status, delay
}

// more waits until so many more samples have come, or a time has passed.
func (a *accountant) more(samples int, atMost time.Duration) {
	a.mu.Lock()
	news := make(chan struct{})
	a.after, a.news = a.count+samples, news
	a.mu.Unlock()
	select {
	case <-news:
	case <-time.After(atMost):
	}
}

// settle goes through what has come. A scrape that was under way when the agent
// was killed need not have come; any other must have, whole and in order.
func (a *accountant) settle() (samples, repeated, inFlight int, complaints []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for instance, n := range a.targets {
		n.mu.Lock()
		whole := map[int]int{} // series that have the number
		for series, numbers := range a.got[instance] {
			seen := map[int]bool{}
			newest := 0
			for _, v := range numbers {
				samples++
				switch {
				case seen[v]:
					repeated++
				case v < newest:
					complaints = append(complaints, fmt.Sprintf("%s series %s: %d comes after %d, for the first time", instance, series, v, newest))
				default:
					newest, seen[v] = v, true
					whole[v]++
				}
			}
		}
		newest, failed := 0, a.failed[instance]
		for v := range whole {
			newest = max(newest, v)
		}
		for v := 1; v <= newest; v++ {
			switch {
			case whole[v] == crashSeries:
			case whole[v] == 0 && n.atKill[v]:
				inFlight++
			case whole[v] == 0 && failed > 0:
				failed--
			default:
				complaints = append(complaints, fmt.Sprintf("%s: of scrape %d, %d of %d series came; under way at a kill: %v", instance, v, whole[v], crashSeries, n.atKill[v]))
			}
		}
		n.mu.Unlock()
	}
	slices.Sort(complaints)
	return samples, repeated, inFlight, complaints
}

// caughtUp says whether every target's scrape so and so has come.
func (a *accountant) caughtUp(want map[string]int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for instance, number := range want {
		if len(a.got[instance]) < crashSeries {
			return false
		}
		for _, numbers := range a.got[instance] {
			if numbers[len(numbers)-1] < number {
				return false
			}
		}
	}
	return true
}

// The agent is killed at random moments under load, its receiver up, down or
// slow. PROMAGENT_CRASH_ROUNDS and _SEED make it longer, or the same again as
// far as the machine lets it be.
func TestKillsAtRandomMomentsLoseNothing(t *testing.T) {
	number := func(name string, otherwise int) int {
		s := os.Getenv(name)
		if s == "" {
			return otherwise
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	rounds, seed := number("PROMAGENT_CRASH_ROUNDS", 12), number("PROMAGENT_CRASH_SEED", int(time.Now().UnixNano()))
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	var targets []*numbered
	var addresses []string
	for range crashTargets {
		n := newNumbered(t)
		targets, addresses = append(targets, n), append(addresses, "'"+n.Listener.Addr().String()+"'")
	}
	a := newAccountant(t, targets)
	a.mood(204, 0)
	dir := t.TempDir()
	file := dir + "/prometheus.yml"
	writeFile(t, file, fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}
scrape_configs:
- job_name: crash
  static_configs: [{targets: [%[2]s]}]
remote_write:
- url: %[3]s
  queue_config: {batch_send_deadline: 100ms, min_backoff: 10ms, max_backoff: 100ms, max_samples_per_send: 500}
`, crashInterval, strings.Join(addresses, ", "), a.URL))
	run := func() *process {
		p := start(t, "--config.file="+file, "--storage.agent.path="+dir+"/data", "--web.listen-address=127.0.0.1:0", "--scrape.discovery-reload-interval=10ms")
		p.waitFor(`Server is ready to receive web requests`)
		return p
	}
	for round := range rounds {
		switch m := rng.IntN(10); {
		case m < 2:
			a.mood(503, 0)
		case m < 4:
			a.mood(204, time.Duration(rng.IntN(50))*time.Millisecond)
		default:
			a.mood(204, 0)
		}
		p := run()
		a.more(rng.IntN(4*crashTargets*crashSeries), time.Duration(rng.IntN(1500))*time.Millisecond)
		// What is being scraped while the signal is on its way may be lost.
		before := map[*numbered]int{}
		for _, n := range targets {
			n.mu.Lock()
			before[n] = n.served
			n.mu.Unlock()
		}
		p.signal(syscall.SIGKILL)
		<-p.done
		for _, n := range targets {
			n.mu.Lock()
			for v := max(1, before[n]); v <= n.served; v++ {
				n.atKill[v] = true
			}
			n.mu.Unlock()
		}
		if round%20 == 19 {
			t.Logf("%d kills", round+1)
		}
	}
	a.mood(204, 0)
	p := run()
	want := map[string]int{}
	for instance, n := range a.targets {
		n.mu.Lock()
		want[instance] = n.served + 2
		n.mu.Unlock()
	}
	until(t, "everything has come", func() bool { return a.caughtUp(want) })
	p.signal(syscall.SIGTERM)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	samples, repeated, inFlight, complaints := a.settle()
	for i, c := range complaints {
		if i == 20 {
			t.Errorf("and %d more", len(complaints)-i)
			break
		}
		t.Error(c)
	}
	second := int(time.Second/crashInterval) * crashTargets * crashSeries
	if repeated >= rounds*second {
		t.Errorf("%d samples came twice: a second of data per kill or more", repeated)
	}
	t.Logf("seed %d: %d kills, %d samples, %d twice (%.2f s of data per kill), %d scrapes under way at a kill did not come, %d complaints",
		seed, rounds, samples, repeated, float64(repeated)/float64(rounds*second), inFlight, len(complaints))
}

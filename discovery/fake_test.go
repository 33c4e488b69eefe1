package discovery

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	sd "github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"

	"promagent/discovery/group"
)

// hub makes fake discoveries and keeps what was made, by id.
type hub struct {
	mu   sync.Mutex
	all  map[string][]*fake
	fail map[string]bool // ids whose discoverer cannot be made
}

func newHub() *hub { return &hub{all: map[string][]*fake{}, fail: map[string]bool{}} }

// config returns the discovery config with id; equal ids are equal configs.
func (h *hub) config(id string) sd.Config { return fakeConfig{Hub: h, ID: id} }

// only returns the one discoverer that was made for id.
func (h *hub) only(t *testing.T, id string) *fake {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all[id]) != 1 {
		t.Fatalf("discoverers made for %q: got %d, want 1", id, len(h.all[id]))
	}
	return h.all[id][0]
}

// newest returns the discoverer made last for id.
func (h *hub) newest(id string) *fake {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[id][len(h.all[id])-1]
}

type fakeConfig struct {
	Hub *hub
	ID  string
}

func (fakeConfig) Name() string { return "fake" }

func (c fakeConfig) NewDiscoverer(o sd.DiscovererOptions) (sd.Discoverer, error) {
	c.Hub.mu.Lock()
	defer c.Hub.mu.Unlock()
	if c.Hub.fail[c.ID] {
		return nil, errors.New("cannot be made")
	}
	d := &fake{in: make(chan []*targetgroup.Group), set: o.SetName}
	c.Hub.all[c.ID] = append(c.Hub.all[c.ID], d)
	return d, nil
}

func (fakeConfig) NewDiscovererMetrics(prometheus.Registerer, sd.RefreshMetricsInstantiator) sd.DiscovererMetrics {
	return &sd.NoopDiscovererMetrics{}
}

// fake is a discoverer that finds what the test sends.
type fake struct {
	in  chan []*targetgroup.Group
	set string

	mu     sync.Mutex
	starts int
	ended  bool
}

func (d *fake) Run(ctx context.Context, up chan<- []*targetgroup.Group) {
	d.mu.Lock()
	d.starts++
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ended = true
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case g := <-d.in:
			select {
			case up <- g:
			case <-ctx.Done():
				return
			}
		}
	}
}

// finds makes d send groups.
func (d *fake) finds(groups ...*targetgroup.Group) { d.in <- groups }

func (d *fake) state() (starts int, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.starts, d.ended
}

// made returns a group of source with targets at these addresses.
func made(source string, addresses ...string) *targetgroup.Group {
	g := &targetgroup.Group{Source: source, Labels: model.LabelSet{"source": model.LabelValue(source)}}
	for _, a := range addresses {
		g.Targets = append(g.Targets, model.LabelSet{model.AddressLabel: model.LabelValue(a)})
	}
	return g
}

// reader applies Updates as a scraper would.
type reader struct {
	mu      sync.Mutex
	batches [][]Update
	times   []time.Time
	jobs    map[string]map[string]group.Group
}

func (r *reader) read(batch []Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.batches = append(r.batches, batch)
	r.times = append(r.times, time.Now())
	for _, u := range batch {
		if u.Gone {
			delete(r.jobs, u.Job)
			continue
		}
		if r.jobs[u.Job] == nil {
			r.jobs[u.Job] = map[string]group.Group{}
		}
		for _, g := range u.Groups {
			if g.Len() == 0 {
				delete(r.jobs[u.Job], g.Source)
			} else {
				r.jobs[u.Job][g.Source] = g
			}
		}
	}
}

// String gives the state as "job: address address; job:", all sorted.
func (r *reader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, job := range slices.Sorted(maps.Keys(r.jobs)) {
		var as []string
		for _, g := range r.jobs[job] {
			as = append(as, addresses(g)...)
		}
		slices.Sort(as)
		all = append(all, strings.TrimSpace(job+": "+strings.Join(as, " ")))
	}
	return strings.Join(all, "; ")
}

// addresses are those of a group's targets.
func addresses(g group.Group) (as []string) {
	for i := range g.Len() {
		var l group.Set
		g.Targets.Labels(i, &l)
		as = append(as, l.Labels().Get(model.AddressLabel))
	}
	return as
}

func (r *reader) deliveries() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.batches)
}

// rig is a Manager that runs within a synctest bubble, and its reader.
type rig struct {
	t *testing.T
	*Manager
	reg *prometheus.Registry
	*reader
	*hub
}

// inBubble runs f with a running Manager; all ends with f.
func inBubble(t *testing.T, f func(*rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stop := r.start()
		f(r)
		stop()
	})
}

func newRig(t *testing.T) *rig {
	reg := prometheus.NewRegistry()
	m, err := New(Options{Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t, m, reg, &reader{jobs: map[string]map[string]group.Group{}}, newHub()}
}

// start runs manager and reader; stop ends both and returns when they have.
func (r *rig) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	wg.Go(func() {
		for batch := range r.Updates() {
			r.read(batch)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// commit puts jobs, given as "job", "config,config" pairs, into force.
func (r *rig) commit(jobs ...string) {
	r.t.Helper()
	r.prepare(jobs...).Commit()
	synctest.Wait()
}

// prepare makes what such jobs need.
func (r *rig) prepare(jobs ...string) *Change {
	r.t.Helper()
	c := map[string]Configs{}
	for i := 0; i < len(jobs); i += 2 {
		c[jobs[i]] = Configs{}
		for id := range strings.SplitSeq(jobs[i+1], ",") {
			if id != "" {
				c[jobs[i]] = append(c[jobs[i]], r.config(id))
			}
		}
	}
	return r.prepareConfigs(c)
}

func (r *rig) prepareConfigs(c map[string]Configs) *Change {
	r.t.Helper()
	change, err := r.Prepare(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return change
}

func (r *rig) commitConfigs(c map[string]Configs) {
	r.t.Helper()
	r.prepareConfigs(c).Commit()
	synctest.Wait()
}

// settle lets everything that is pending arrive, and the throttle rest.
func (r *rig) settle() {
	time.Sleep(2 * maxPause)
	synctest.Wait()
}

// soon lets pass what the shortest pause takes.
func (r *rig) soon() {
	time.Sleep(minPause)
	synctest.Wait()
}

func (r *rig) wantState(want string) {
	r.t.Helper()
	if got := r.String(); got != want {
		r.t.Errorf("the reader's state: got %q, want %q", got, want)
	}
}

// wantMetrics compares the metrics called names with lines "name{labels} value".
func (r *rig) wantMetrics(name string, want ...string) {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var ls []string
			for _, l := range m.GetLabel() {
				if l.GetName() != "name" {
					ls = append(ls, l.GetValue())
				}
			}
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			got = append(got, strings.Join(append(ls, strconv.FormatFloat(v, 'g', -1, 64)), " "))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		r.t.Errorf("%s: got %q, want %q", name, got, want)
	}
}

func counter(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	return testutil.ToFloat64(c)
}

package record

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/template"
)

// shape is a target as an edge cluster shows it: its block, and how its values
// move from scrape to scrape.
type shape struct {
	name   string
	block  *template.Block
	values []float64
	steps  []float64 // the mean of what a scrape adds
	whole  []bool    // that is rounded to a whole number
	r      *rand.Rand
}

// next moves the values on by a scrape.
func (s *shape) next() {
	for i, step := range s.steps {
		if step == 0 {
			continue
		}
		d := step * (0.5 + s.r.Float64())
		if s.whole[i] {
			d = float64(int64(d))
		}
		s.values[i] += d
	}
}

// columns are the values of n scrapes.
func (s *shape) columns(n int) [][]float64 {
	out := make([][]float64, n)
	for i := range out {
		s.next()
		out[i] = append([]float64(nil), s.values...)
	}
	return out
}

// shapeBuilder collects a shape's series.
type shapeBuilder struct {
	shape
	b *template.Builder
}

// add takes a series: names are those of its labels, separated by spaces.
func (s *shapeBuilder) add(value, step float64, whole bool, typ, metric, names string, values ...string) {
	s.b.Add(template.Intern(template.Schema{
		Name: metric, Labels: strings.Fields(names), Family: metric, Type: typ, Help: "A series of the shape " + s.name + ".",
	}), values)
	s.values, s.steps, s.whole = append(s.values, value), append(s.steps, step), append(s.whole, whole)
}

// hex is an identifier of n digits.
func (s *shapeBuilder) hex(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdef"[s.r.IntN(16)]
	}
	return string(b)
}

// shapes are the four kinds of targets that the load rig has, with n series each:
// kube-state-metrics, cAdvisor, an application with histograms, node_exporter.
func shapes(n int) []*shape {
	type pod struct{ ns, name, uid, container, id, image, node string }
	var all []*shape
	for i, fill := range []func(*shapeBuilder, []pod){
		func(s *shapeBuilder, pods []pod) { // nothing moves
			for k := 0; s.b.Len() < n; k++ {
				for _, p := range pods[:min(len(pods), n/24)] {
					if s.b.Len() == n {
						break
					}
					s.add(float64(k%2), 0, true, "gauge", fmt.Sprint("kube_pod_status_", k/5), "namespace pod uid phase", p.ns, p.name, p.uid, [...]string{"Running", "Pending", "Succeeded", "Failed", "Unknown"}[k%5])
				}
			}
		},
		func(s *shapeBuilder, pods []pod) { // long labels, most move
			for k := 0; s.b.Len() < n; k++ {
				step := 4096.0
				switch k % 20 {
				case 0, 1, 2:
					step = 0.37
				case 9, 12, 17, 18, 19:
					step = 0
				}
				for _, p := range pods[:n/20] {
					if s.b.Len() == n {
						break
					}
					s.add(s.r.Float64()*1e4, step, step > 1, "counter", fmt.Sprint("container_usage_", k), "container id image name namespace pod",
						p.container, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"+p.uid+".slice/cri-containerd-"+p.id+".scope", p.image, p.id, p.ns, p.name)
				}
			}
		},
		func(s *shapeBuilder, _ []pod) { // half of the histograms move
			for i := 0; s.b.Len() < n; i++ {
				values := []string{[...]string{"200", "404", "500"}[i%3], fmt.Sprint("/api/v1/resource/", i/6), [...]string{"GET", "POST"}[i/3%2]}
				moving := float64(i % 2)
				for b, le := range []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"} {
					if s.b.Len() < n {
						s.add(float64(100*b), moving*float64(b), true, "histogram", "http_request_duration_seconds_bucket", "code handler method le", append(values[:3:3], le)...)
					}
				}
				if s.b.Len()+2 <= n {
					s.add(12.5, moving*1.7, false, "histogram", "http_request_duration_seconds_sum", "code handler method", values...)
					s.add(1200, moving*11, true, "histogram", "http_request_duration_seconds_count", "code handler method", values...)
				}
			}
		},
		func(s *shapeBuilder, _ []pod) { // short labels, a mix
			for c := range n / 16 {
				for m, mode := range []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"} {
					s.add(s.r.Float64()*1e5, float64(m%2)*0.31, false, "counter", "node_cpu_seconds_total", "cpu mode", fmt.Sprint(c), mode)
				}
			}
			for k, name := range []string{"receive_bytes_total", "transmit_bytes_total", "receive_errs_total", "up"} {
				for range n / 16 {
					s.add(float64(s.r.IntN(1e6)), [...]float64{1500, 1500, 0, 0}[k], true, "counter", "node_network_"+name, "device", "veth"+s.hex(8))
				}
			}
			for i := 0; s.b.Len() < n; i++ {
				s.add(s.r.Float64()*1e11, 4096*float64(i%2), true, "gauge", "node_filesystem_avail_bytes", "device fstype mountpoint",
					fmt.Sprint("/dev/mapper/vg-lv", i), "ext4", fmt.Sprint("/var/lib/kubelet/pods/vol-", i))
			}
		},
	} {
		name := [...]string{"kube-state", "cadvisor", "application", "node"}[i]
		s := &shapeBuilder{b: template.NewBuilder(labels.FromStrings("instance", "10.0.0.1:8080", "job", name))}
		s.name, s.r = name, rand.New(rand.NewPCG(uint64(i), 1))
		pods := make([]pod, n/20)
		for j := range pods {
			app := [...]string{"checkout", "cart", "frontend", "payments", "search"}[s.r.IntN(5)]
			pods[j] = pod{fmt.Sprint("team-", s.r.IntN(8)), app + "-" + s.hex(9) + "-" + s.hex(5),
				s.hex(8) + "-" + s.hex(4) + "-" + s.hex(4) + "-" + s.hex(4) + "-" + s.hex(12), app, s.hex(64),
				"registry.local/edge/" + app + ":v1." + fmt.Sprint(s.r.IntN(30)), fmt.Sprint("node-", s.r.IntN(12))}
		}
		fill(s, pods)
		s.block = s.b.Block()
		all = append(all, &s.shape)
	}
	return all
}

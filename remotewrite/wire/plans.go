package wire

import (
	"sync"
	"weak"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/relabel"
	"promagent/template"
)

// maxPlanBytes bounds what a remote's plans take. It is enough for 10 million
// series, unless relabelling makes a shape for each.
const maxPlanBytes = 64 << 20

// Plans makes a remote's BlockPlans and keeps them for as long as their blocks
// live. It keeps no block alive: that is up to scrapes, to the log, and to
// those who still have a plan to use.
type Plans struct {
	rules    relabel.Rules
	external []labels.Label // without empty ones
	limit    int            // bytes

	mu     sync.Mutex // guards what follows
	views  map[weak.Pointer[template.Block]]*view
	shapes map[string]*shape // those of views, by id
	bytes  int               // that views and shapes take
	swept  weak.Pointer[canary]
}

// canary is of no use to anybody, so that it is gone after the next garbage
// collection: until then no block has gone either. A pointer in it has it
// allocated on its own.
type canary struct{ _ *canary }

// NewPlans returns the plans of a remote with the given write relabelling and
// external labels; external labels with an empty value are never attached.
func NewPlans(rules relabel.Rules, external labels.Labels) *Plans {
	p := &Plans{
		rules: rules, limit: maxPlanBytes,
		views: map[weak.Pointer[template.Block]]*view{}, shapes: map[string]*shape{},
	}
	external.Range(func(l labels.Label) {
		if l.Value != "" {
			p.external = append(p.external, l)
		}
	})
	return p
}

// Block returns the plan of a block.
func (p *Plans) Block(b *template.Block) BlockPlan {
	w := weak.Make(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.swept.Value() == nil {
		p.sweep()
	}
	if v := p.views[w]; v != nil {
		return BlockPlan{b, v}
	}
	plan := p.make(b)
	p.keep(w, plan.view)
	return plan
}

// keep remembers a view. When there are too many, any others go: all are of
// live blocks, which take turns, so that the one unused for longest is the one
// that is wanted next. p.mu is held.
func (p *Plans) keep(w weak.Pointer[template.Block], v *view) {
	p.bytes += v.size()
	for _, s := range v.shapes {
		if s.uses++; s.uses == 1 {
			p.bytes += s.size()
		}
	}
	if p.bytes > p.limit {
		for other := range p.views {
			if p.forget(other); p.bytes <= p.limit {
				break
			}
		}
	}
	p.views[w] = v
}

// forget drops a view and the shapes that no other has. p.mu is held.
func (p *Plans) forget(w weak.Pointer[template.Block]) {
	v := p.views[w]
	delete(p.views, w)
	p.bytes -= v.size()
	for _, s := range v.shapes {
		if s.uses--; s.uses == 0 {
			p.bytes -= s.size()
			delete(p.shapes, s.id)
		}
	}
}

// sweep drops the views of dead blocks. p.mu is held.
func (p *Plans) sweep() {
	p.swept = weak.Make(new(canary))
	for w := range p.views {
		if w.Value() == nil {
			p.forget(w)
		}
	}
}

// intern returns the one shape of that recipe. The view that it is for must be
// kept. p.mu is held.
func (p *Plans) intern(s *shape) *shape {
	key := s.key()
	if have := p.shapes[key]; have != nil {
		return have
	}
	s.prepare()
	s.id = key
	p.shapes[key] = s
	return s
}

package remotewrite

import "slices"

// lookInto looks into the books of an endpoint, in every fifth run. blocked says
// that its reader cannot go on before shards have finished something. m.mu is held.
func (m *model) lookInto(p *modelPart, blocked bool) {
	if !m.cruel {
		return
	}
	l := p.led
	for i, b := range l.unfinished {
		if slices.Contains(l.unfinished[:i], b) || slices.Contains(l.pool, b) {
			m.fail("portion %v is in the books twice", b.first)
		}
		if i > 0 && b.first.Before(l.unfinished[i-1].end) {
			m.fail("portion %v begins before the end of the one before", b.first)
		}
		for _, o := range b.after {
			if !slices.Contains(l.unfinished[:i], o) {
				m.fail("portion %v comes after one that is not before it", b.first)
			}
		}
	}
	for metric, a := range l.portions.metrics {
		for _, b := range slices.Concat(a.latest, a.before) {
			if !slices.Contains(l.unfinished, b) || !slices.Contains(b.metrics, metric) {
				m.fail("metric %d appears in portion %v, which is final or does not know", metric, b.first)
			}
		}
	}
	m.lookIntoOrder(l)
	idle := !slices.ContainsFunc(l.lanes, func(ln lane) bool { return ln.sending != nil })
	if blocked && idle && len(l.unfinished) > 0 && l.takeable() == 0 {
		m.fail("nobody can go on, and %d portions are not final", len(l.unfinished))
	}
	m.lookIntoState(l.state())
}

// lookIntoOrder compares all portions with each other: those that have a series
// in common must come one after the other, by themselves or by others.
func (m *model) lookIntoOrder(l *ledger) {
	series := map[*batch]map[string]bool{}
	earlier := map[*batch]map[*batch]bool{} // all that must be final before
	for i, b := range l.unfinished {
		series[b], earlier[b] = map[string]bool{}, map[*batch]bool{}
		for _, v := range b.values {
			series[b][m.log.samples[int(v)].series] = true
		}
		for _, o := range b.after {
			earlier[b][o] = true
			for x := range earlier[o] {
				earlier[b][x] = true
			}
		}
		for _, o := range l.unfinished[:i] {
			for s := range series[o] {
				if series[b][s] && !earlier[b][o] {
					m.fail("portions %v and %v may be sent at the same time, and both have %s", o.first, b.first, s)
				}
			}
		}
	}
}

// lookIntoState holds a state against what a restart takes for granted.
func (m *model) lookIntoState(s State) {
	within := func(a At) bool {
		return slices.ContainsFunc(s.Spans, func(sp Span) bool { return sp.holds(a) })
	}
	places := slices.Clone(s.Ats)
	for _, in := range s.Open {
		places = append(places, in.First, in.End)
		if in.First.Before(s.Ats[0]) {
			m.fail("an interval begins before what is not final: %+v", s)
		}
	}
	if s.hasWindow() {
		places = append(places, s.Reader)
	}
	for _, a := range places {
		if !within(a) {
			m.fail("%v is in no open span: %+v", a, s)
		}
	}
	var again State
	if err := again.Decode(s.AppendTo(nil)); err != nil { // which checks the order of the intervals
		m.fail("%v: %+v", err, s)
	}
}

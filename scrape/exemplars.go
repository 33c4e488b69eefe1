package scrape

import (
	"hash/maphash"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/scrape/expfmt"
	"promagent/template"
)

// maxExemplarRunes bounds the labels of an exemplar, as OpenMetrics does.
const maxExemplarRunes = 128

// exemplars are the newest exemplars of a target's series: targets expose the
// same one until a new one comes, which may be for days. Series without exemplars take no memory.
type exemplars struct {
	young, old map[uint64]lastExemplar // by the hash of the series' labels; old ones move to young when they are seen
}

// lastExemplar stands for an exemplar, in 24 bytes. That two of one series are
// taken for the same without being so is as likely as that two lines are.
type lastExemplar struct {
	hash uint64 // of labels and value
	time int64  // ms
	own  bool   // the time was exposed with it; else it is that of the sample
}

// same is Prometheus's: where neither has a time of its own, times do not count.
func (e lastExemplar) same(o lastExemplar) bool {
	return e.hash == o.hash && (e.time == o.time || !e.own && !o.own)
}

// exemplarChange is what a scrape that is being read has done to a series' newest exemplar.
type exemplarChange struct {
	slot   uint32
	series uint64
	before lastExemplar
	had    bool
}

func (e *exemplars) last(series uint64) (x lastExemplar, ok bool) {
	if x, ok = e.young[series]; ok {
		return x, true
	}
	if x, ok = e.old[series]; ok {
		e.set(series, x)
	}
	return x, ok
}

func (e *exemplars) set(series uint64, x lastExemplar) {
	if e.young == nil {
		e.young = map[uint64]lastExemplar{}
	}
	e.young[series] = x
}

// undo takes a change back.
func (e *exemplars) undo(c exemplarChange) {
	if c.had {
		e.set(c.series, c.before)
		return
	}
	delete(e.young, c.series)
}

// forget bounds the memory: alive, the number of series that live, is also about how many
// dead ones may have exemplars.
func (e *exemplars) forget(alive int) {
	if len(e.young) > 1000+alive {
		e.old, e.young = e.young, nil
	}
}

// exemplar keeps the exemplar of a sample, unless it is the series' last one
// or one that Prometheus refuses.
func (rd *reader) exemplar(slot uint32, x expfmt.Exemplar, hasTime bool, t int64) {
	ls := x.Labels.WithoutEmpty()
	if _, dup := ls.HasDuplicateLabelNames(); dup {
		rd.c.exemplarsAmbiguous++
		return
	}
	runes := 0
	ls.Range(func(l labels.Label) { runes += utf8.RuneCountInString(l.Name) + utf8.RuneCountInString(l.Value) })
	if runes > maxExemplarRunes {
		rd.c.exemplarsTooLong++
		return
	}
	e := template.Extra{Slot: int(slot), Kind: template.Exemplar, Time: rd.t, Value: x.Value}
	switch {
	case x.HasTime:
		e.Time = x.Time
	case hasTime && rd.r.cfg.HonorTimestamps:
		e.Time = t
	}
	value := x.Value
	if value == 0 {
		value = 0 // -0 is the same value
	}
	now := lastExemplar{maphash.Comparable(seed, [...]uint64{ls.Hash(), math.Float64bits(value)}), e.Time, x.HasTime}
	c := exemplarChange{slot: slot, series: rd.hash(slot)}
	if c.before, c.had = rd.m.exemplars.last(c.series); c.had && c.before.same(now) && !math.IsNaN(value) {
		return
	}
	rd.m.exemplars.set(c.series, now)
	rd.w.exemplars = append(rd.w.exemplars, c)
	ls.Range(func(l labels.Label) {
		e.Labels = append(e.Labels, strings.Clone(l.Name), strings.Clone(l.Value))
	})
	rd.w.extra = append(rd.w.extra, e)
}

// settleExemplars forgets the exemplars that are not logged, all of them when
// the scrape has failed: when they are exposed again, they are new.
func (rd *reader) settleExemplars(failed bool) {
	changes := rd.w.exemplars
	for i := len(changes) - 1; i >= 0; i-- {
		if failed || rd.w.states[changes[i].slot] == rejected {
			rd.m.exemplars.undo(changes[i])
		}
	}
	rd.w.exemplars = changes[:0]
	rd.m.exemplars.forget(rd.m.series.len())
}

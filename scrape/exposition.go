package scrape

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"promagent/relabel"
	"promagent/scrape/expfmt"
	"promagent/template"
)

// rules are what a job does with exposed series; all of its loops share them.
type rules struct {
	cfg    *JobConfig
	metric relabel.Rules
}

// memory is what a target's series are known by from one scrape to the next.
// It belongs to the target's loop.
type memory struct {
	series    series
	script    script
	meta      families
	exemplars exemplars
	lastTime  int64 // of the last scrape with a value, ms
	scrapes   int
	good      int          // slots after the last good scrape
	active    atomic.Int64 // series of the last scrape
}

// states of a slot in a scrape.
const (
	unseen   uint8 = iota
	tracked        // has a value, and staleness watches it
	free           // has a value, and staleness does not watch it: it brought its timestamp
	rejected       // was exposed, its sample was refused
)

// work is the memory of one exposition being read. It is used again by other targets.
type work struct {
	values       []float64 // by slot
	states       []uint8   // by slot
	times        []int64   // by slot; empty until a line brings a timestamp
	extra        []template.Extra
	further      map[furtherKey]bool // further samples in extra; nil: none
	exemplars    []exemplarChange
	seen         []bool
	stale        []bool // whose markers are logged, by slot as it was before settle
	parts        []template.Part
	columnValues []float64 // by slot, as appended
	columnStates []template.State

	builder  *labels.Builder
	clashing []string
}

type furtherKey struct {
	slot uint32
	time int64
}

var works = sync.Pool{New: func() any { return &work{builder: labels.NewBuilder(labels.EmptyLabels())} }}

// grow makes room for n slots.
func (w *work) grow(n int) {
	for len(w.states) < n {
		w.states = append(w.states, unseen)
		w.values = append(w.values, 0)
		if len(w.times) > 0 {
			w.times = append(w.times, template.NoTime)
		}
	}
}

func (w *work) begin(n int) {
	w.states, w.values, w.times, w.extra, w.exemplars = w.states[:0], w.values[:0], w.times[:0], w.extra[:0], w.exemplars[:0]
	w.further = nil
	w.grow(n)
}

// counts are what a scrape reports about itself, and what its job counts.
type counts struct {
	scraped, kept, added                int
	offered                             int // of kept: those that count for the sample limit, which duplicates do not
	duplicates, outOfOrder, outOfBounds int
	reportsOutOfOrder                   int // samples of the scrape's own
	exemplarsTooLong                    int // more characters than OpenMetrics allows
	exemplarsAmbiguous                  int // a label's name comes twice
	sampleLimit, labelLimit, bodyLimit  bool
	flushed                             bool  // the memory of a failing target was cut back
	bytes                               int64 // of the body, unpacked
}

var (
	errSampleLimit = errors.New("sample limit exceeded")
	errBodyLimit   = errors.New("body size limit exceeded")
	errAmbiguous   = errors.New("not unique: invalid sample")
)

// labelLimitError is a series that has too much of something.
type labelLimitError struct{ message string }

func (e labelLimitError) Error() string { return e.message }

// reader reads one exposition of a target into w.
type reader struct {
	r     *rules
	m     *memory
	w     *work
	guard *guard // nil: no other target shares the series
	t     int64  // of the scrape, ms
	late  int64  // by how much a sample may be older than its series' newest one, ms: less than this
	c     counts

	parser *expfmt.Parser
	format expfmt.Format
	timed  bool // a line brought a timestamp that counts
	empty  bool // the body has no bytes
	broken bool // the body could not be unpacked
}

// maxAhead is how far in the future a sample may lie.
const maxAhead = 10 * 60 * 1000

// read takes in a body. An error fails the scrape; what was seen before it
// stands in w and in the memory all the same.
func (rd *reader) read(body io.Reader, contentType string) error {
	if rd.m.scrapes++; rd.m.scrapes < 0 {
		rd.m.scrapes = 0
	}
	fallback := protocolType(rd.r.cfg.FallbackProtocol)
	format, formatErr := expfmt.FormatOf(contentType, fallback)
	rd.format = format
	asked := format
	if format == expfmt.Unknown {
		asked = expfmt.Text004 // to find out whether there is a body at all
	}
	lines := expfmt.NewLines(body, asked, 0)
	defer lines.Close()
	raw, err := lines.Next()
	if errors.Is(err, io.EOF) && lines.Bytes() == 0 {
		rd.m.script.begin()
		rd.empty = true
		return nil // nothing exposed is a good exposition in any format
	}
	if format == expfmt.Unknown {
		return contentTypeError{formatErr, contentType, fallback}
	}
	if rd.parser, err = newParser(format, rd.r.cfg.TypeAndUnitLabels, err); err != nil {
		return err
	}
	rd.m.meta.begin()
	rd.m.script.begin()
	for {
		done, err := rd.line(lines, raw)
		if err != nil {
			return err
		}
		if done {
			return rd.finish(lines)
		}
		if raw, err = lines.Next(); err != nil {
			if errors.Is(err, io.EOF) {
				return rd.finish(lines)
			}
			return err
		}
	}
}

// newParser returns a parser unless the first line could not be read.
func newParser(f expfmt.Format, typeAndUnit bool, first error) (*expfmt.Parser, error) {
	if first != nil && !errors.Is(first, io.EOF) {
		return nil, first
	}
	return expfmt.NewParser(f, expfmt.Options{TypeAndUnitLabels: typeAndUnit})
}

func (rd *reader) finish(lines *expfmt.Lines) error {
	if err := rd.parser.Finish(lines); err != nil {
		return err
	}
	if rd.c.sampleLimit {
		return errSampleLimit
	}
	return nil
}

// line takes in one line: by the script when it is known, else in full.
func (rd *reader) line(lines *expfmt.Lines, raw []byte) (done bool, err error) {
	if len(raw) > 0 && raw[0] != '#' {
		if text, value, ts, ok := expfmt.Split(raw); ok {
			h := maphash.Bytes(seed, text)
			// The number first: once found, the line has its place in the script.
			v, err := expfmt.ParseFloat(value)
			var t int64
			if err == nil && ts != nil {
				t, err = expfmt.ParseTimestamp(rd.format, ts)
			}
			if err == nil {
				if slot, ok := rd.m.script.find(h); ok {
					rd.sample(slot, v, ts != nil, t)
					return false, nil
				}
			}
		}
	}
	whole, err := lines.Whole()
	if err != nil {
		return false, err
	}
	e, err := rd.parser.Line(whole)
	if err != nil {
		return false, err
	}
	switch e.Kind {
	case expfmt.EOF:
		return true, nil
	case expfmt.Type:
		rd.m.meta.typ(e.Metric, string(e.MetricType))
	case expfmt.Help:
		rd.m.meta.help(e.Metric, e.Text)
	case expfmt.Unit:
		rd.m.meta.unit(e.Metric, e.Text)
	case expfmt.Series:
		h := maphash.Bytes(seed, e.Series)
		slot, ok := rd.m.script.find(h)
		if !ok {
			slot, err = rd.learn(h)
			switch {
			case errors.Is(err, errAmbiguous) && rd.refusedBefore(&e):
				rd.c.scraped++
				rd.c.kept++
				return false, nil
			case err != nil:
				rd.c.scraped++
				return false, err
			}
		}
		if rd.sample(slot, e.Value, e.HasTime, e.Time) && e.HasExemplar {
			rd.exemplar(slot, e.Exemplar, e.HasTime, e.Time)
		}
	}
	return false, nil
}

// learn gives a line that was not in the last exposition its slot.
func (rd *reader) learn(h uint64) (uint32, error) {
	exposed := rd.parser.Labels()
	final, ok, err := rd.finalLabels(exposed)
	if err != nil {
		return 0, err
	}
	slot := droppedLine
	if ok {
		hash := final.Hash()
		if slot, ok = rd.m.series.find(hash); !ok {
			f := template.Schema{}
			if family, ok := rd.parser.Family(exposed.Get(model.MetricNameLabel)); ok {
				f.Family, f.Help, f.Unit, f.Type = family.Name, family.Help, family.Unit, typeName(string(family.Type))
			}
			slot = rd.m.series.add(final, f, hash)
			rd.w.grow(rd.m.series.len())
		}
	}
	rd.m.script.learn(h, slot)
	return slot, nil
}

// typeName is the name of a type in OpenMetrics; "" for none.
func typeName(t string) string {
	if t == string(model.MetricTypeUnknown) {
		return ""
	}
	return t
}

// finalLabels puts a series' labels together as they are logged: the target's
// joined in, then metric relabelling. ok is false when that drops it.
func (rd *reader) finalLabels(exposed labels.Labels) (final labels.Labels, ok bool, err error) {
	cfg, lb := rd.r.cfg, rd.w.builder
	lb.Reset(exposed)
	if cfg.HonorLabels {
		rd.m.series.target.Range(func(l labels.Label) {
			if !exposed.Has(l.Name) {
				lb.Set(l.Name, l.Value)
			}
		})
	} else {
		clashing := rd.w.clashing[:0]
		rd.m.series.target.Range(func(l labels.Label) {
			if exposed.Get(l.Name) != "" {
				clashing = append(clashing, l.Name)
			}
			lb.Set(l.Name, l.Value)
		})
		slices.SortStableFunc(clashing, func(a, b string) int { return len(a) - len(b) })
		for _, name := range clashing {
			renamed := model.ExportedLabelPrefix + name
			for lb.Get(renamed) != "" {
				renamed = model.ExportedLabelPrefix + renamed
			}
			lb.Set(renamed, exposed.Get(name))
		}
		rd.w.clashing = clashing
	}
	if !rd.r.metric.Apply(lb) {
		return final, false, nil
	}
	final = lb.Labels()
	if final.IsEmpty() {
		return final, false, nil
	}
	if !final.Has(model.MetricNameLabel) {
		return final, false, errors.New("missing metric name (__name__ label)")
	}
	if !final.IsValid(cfg.ValidationScheme) {
		return final, false, fmt.Errorf("invalid metric name or label names: %s", final)
	}
	if err := checkLabels(final, cfg); err != nil {
		rd.c.labelLimit = true
		return final, false, err
	}
	if name, dup := final.HasDuplicateLabelNames(); dup { // relabelling may have taken them away
		return final, false, fmt.Errorf("label name %q is %w", name, errAmbiguous)
	}
	return final, true, nil
}

// checkLabels holds a series against the job's label limits.
func checkLabels(l labels.Labels, cfg *JobConfig) error {
	if n := l.Len(); cfg.LabelLimit > 0 && n > cfg.LabelLimit {
		return labelLimitError{fmt.Sprintf("label_limit exceeded (metric: %.50s, number of labels: %d, limit: %d)", l.Get(model.MetricNameLabel), n, cfg.LabelLimit)}
	}
	if cfg.LabelNameLengthLimit == 0 && cfg.LabelValueLengthLimit == 0 {
		return nil
	}
	return l.Validate(func(x labels.Label) error {
		if n := len(x.Name); cfg.LabelNameLengthLimit > 0 && n > cfg.LabelNameLengthLimit {
			return labelLimitError{fmt.Sprintf("label_name_length_limit exceeded (metric: %.50s, label name: %.50s, length: %d, limit: %d)", l.Get(model.MetricNameLabel), x.Name, n, cfg.LabelNameLengthLimit)}
		}
		if n := len(x.Value); cfg.LabelValueLengthLimit > 0 && n > cfg.LabelValueLengthLimit {
			return labelLimitError{fmt.Sprintf("label_value_length_limit exceeded (metric: %.50s, label name: %.50s, value: %.50q, length: %d, limit: %d)", l.Get(model.MetricNameLabel), x.Name, x.Value, n, cfg.LabelValueLengthLimit)}
		}
		return nil
	})
}

// sample takes in a value for a slot, and says whether it is to be logged.
func (rd *reader) sample(slot uint32, v float64, hasTime bool, t int64) bool {
	rd.c.scraped++
	if slot == droppedLine {
		return false
	}
	rd.c.kept++
	if hasTime && rd.r.cfg.HonorTimestamps {
		return rd.timedSample(slot, v, t)
	}
	w := rd.w
	if s := w.states[slot]; s != unseen && (s != rejected || !rd.isNew(slot)) {
		rd.c.duplicates++
		return false
	}
	w.states[slot] = tracked
	w.values[slot] = v
	if rd.beyondLimit() {
		w.states[slot] = rejected
		return false
	}
	if tooLate(rd.t, rd.m.lastTime, rd.late) || tooLate(rd.t, rd.last(slot), rd.late) {
		rd.c.outOfOrder++
		w.states[slot] = rejected
		return false
	}
	if rd.isNew(slot) {
		rd.c.added++
	}
	return true
}

// tooLate says whether a sample at t is refused for its order, where last is the time of its
// series' newest one. A sample may come late, within the window, but not at the newest one's time.
func tooLate(t, last, window int64) bool {
	return t == last || t < last && uint64(last-t) >= uint64(window) // the difference may have 64 bits
}

// refusedBefore says whether a sample whose labels are ambiguous is refused for another reason
// that Prometheus looks at first: then it does not fail the scrape.
func (rd *reader) refusedBefore(e *expfmt.Entry) bool {
	if rd.beyondLimit() {
		return true
	}
	if e.HasTime && rd.r.cfg.HonorTimestamps && e.Time > rd.t+maxAhead {
		rd.c.outOfBounds++
		return true
	}
	return false
}

// beyondLimit says whether this sample is one too many: it fails the scrape,
// which is read to its end all the same, to say how many samples there are.
func (rd *reader) beyondLimit() bool {
	limit := rd.r.cfg.SampleLimit
	if rd.c.offered++; limit == 0 || rd.c.offered <= limit {
		return false
	}
	rd.c.sampleLimit = true
	return true
}

// last is the time of the slot's newest sample, ms, as far as it is kept per series.
func (rd *reader) last(slot uint32) int64 {
	se := &rd.m.series
	switch {
	case se.last == nil:
		return math.MinInt64
	case int(slot) < len(se.hashes):
		return se.last[slot]
	}
	return se.dead.last(se.pending[int(slot)-len(se.hashes)].hash)
}

// isNew says whether the slot's series counts as one that the target did not have.
func (rd *reader) isNew(slot uint32) bool {
	return int(slot) >= len(rd.m.series.hashes) || !rd.m.series.exposed[slot]
}

// guarded says whether another target may have the slot's series, too.
func (rd *reader) guarded(slot uint32) bool {
	if rd.guard == nil {
		return false
	}
	se := &rd.m.series
	if int(slot) < len(se.hashes) {
		return rd.guard.shared || se.own != nil && se.own[slot]
	}
	return rd.guard.shared || se.pending[int(slot)-len(se.hashes)].own
}

func (rd *reader) hash(slot uint32) uint64 {
	se := &rd.m.series
	if int(slot) < len(se.hashes) {
		return se.hashes[slot]
	}
	return se.pending[int(slot)-len(se.hashes)].hash
}

// timedSample takes in a sample that brings its timestamp.
func (rd *reader) timedSample(slot uint32, v float64, t int64) bool {
	w, se := rd.w, &rd.m.series
	first := w.states[slot] == unseen
	state := free
	if rd.r.cfg.TrackTimestampsStaleness {
		state = tracked
	}
	rd.timed = true
	if rd.beyondLimit() {
		if first {
			w.states[slot] = rejected
		}
		return false
	}
	last := rd.last(slot)
	if se.last == nil && int(slot) < len(se.hashes) {
		last = rd.m.lastTime // until now all samples were at the times of scrapes
	}
	switch {
	case t > rd.t+maxAhead:
		rd.c.outOfBounds++
		if first {
			w.states[slot] = rejected
		}
		return false
	case tooLate(t, last, rd.late) || rd.guarded(slot) && !rd.guard.afterTimed(rd.hash(slot), t, rd.late):
		rd.c.outOfOrder++
		if first {
			w.states[slot] = rejected
		}
		return false
	}
	if !first && w.states[slot] != rejected {
		return rd.further(slot, v, t)
	}
	if len(w.times) == 0 {
		for range w.states {
			w.times = append(w.times, template.NoTime)
		}
	}
	w.states[slot], w.values[slot], w.times[slot] = state, v, t
	if rd.isNew(slot) {
		rd.c.added++
	}
	return true
}

// further adds a second sample of a series, unless its time is there already.
func (rd *reader) further(slot uint32, v float64, t int64) bool {
	w := rd.w
	same := len(w.times) > 0 && w.times[slot] == t || (len(w.times) == 0 || w.times[slot] == template.NoTime) && t == rd.t
	key := furtherKey{slot, t}
	if same = same || w.further[key]; same {
		rd.c.duplicates++
		return false
	}
	if w.further == nil {
		w.further = map[furtherKey]bool{}
	}
	w.further[key] = true
	w.extra = append(w.extra, template.Extra{Slot: int(slot), Kind: template.Sample, Time: t, Value: v})
	return true
}

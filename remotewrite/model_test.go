package remotewrite

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/remotewrite/wire"
	"promagent/template"
	"promagent/wal"
	"promagent/wal/record"
)

// The model of delivery: the production code that walks the log, deals samples
// and keeps the books runs against a log in memory, under schedules that a
// seed decides: shards of any speed, answers that get lost, kills at any
// moment with a cursor as of any earlier moment, restarts, reloads,
// resharding, segments deleted under the reader or cut off at the end, bodies
// that cannot be read, data that is live now and backlog then, and in every third run
// endpoints whose backlogs go on beside the newest data. A sample's value is
// its number in the log.
//
// What must hold is in check, in receive and in lookInto.

// modelSample is a sample and what became of it.
type modelSample struct {
	series    string
	delivered int  // times
	finalAt   int  // moment of the final answer; 0: none
	gone      bool // cut off by a power loss: not promised
}

type modelEntry struct {
	record.Entry
	part    template.Part
	numbers []int // of its samples
	bad     bool  // its body cannot be read
}

type modelSegment struct {
	id      uint64
	before  uint64
	size    uint32
	entries []modelEntry
	anchors map[*template.Block]uint32
	gone    bool
}

// modelLog is the log in memory. It implements source.
type modelLog struct {
	segments []*modelSegment
	samples  []*modelSample
	count    uint64 // of samples in the log, as segments count them
	perCall  int
	busy     int // loads that fail
}

func (l *modelLog) roll() {
	id := uint64(1)
	if n := len(l.segments); n > 0 {
		id = l.segments[n-1].id + 1
	}
	l.segments = append(l.segments, &modelSegment{id: id, before: l.count, size: 48, anchors: map[*template.Block]uint32{}})
}

func (l *modelLog) active() *modelSegment { return l.segments[len(l.segments)-1] }

func (l *modelLog) end() wal.Pos {
	s := l.active()
	return wal.Pos{Segment: s.id, Offset: s.size}
}

func (l *modelLog) Before(segment uint64) (uint64, bool) {
	for _, s := range l.segments {
		if s.id == segment && !s.gone {
			return s.before, true
		}
	}
	return 0, false
}

func (l *modelLog) Entries(out []record.Entry, from wal.Pos, max int) ([]record.Entry, wal.Pos, error) {
	for _, s := range l.segments {
		if s.gone || s.id < from.Segment {
			continue
		}
		i := 0
		if s.id == from.Segment {
			for i < len(s.entries) && s.entries[i].Pos.Offset < from.Offset {
				i++
			}
		}
		if i == len(s.entries) {
			continue
		}
		for n := min(max, l.perCall); i < len(s.entries) && n > 0; i, n = i+1, n-1 {
			out = append(out, s.entries[i].Entry)
		}
		next := wal.Pos{Segment: s.id, Offset: s.size}
		if i < len(s.entries) {
			next.Offset = s.entries[i].Pos.Offset
		}
		return out, next, nil
	}
	return out, l.end(), nil
}

func (l *modelLog) LoadEach(es []record.Entry, f func(int, *template.Part, int64) error, lost func(int, error)) error {
	for i, e := range es {
		if l.busy > 0 {
			l.busy--
			return errBusy
		}
		why := wal.ErrGone
		for _, s := range l.segments {
			if s.id != e.Pos.Segment || s.gone {
				continue
			}
			for j := range s.entries {
				me := &s.entries[j]
				if me.Pos != e.Pos {
					continue
				}
				if why = wal.ErrCorrupt; !me.bad {
					why = nil
					if err := f(i, &me.part, me.Time); err != nil {
						return err
					}
				}
			}
		}
		if why != nil {
			lost(i, why)
		}
	}
	return nil
}

var errBusy = errors.New("the disk is busy")

// modelTarget is a scrape loop: its living series and the blocks they are in.
type modelTarget struct {
	labels labels.Labels
	origin uint32
	shared bool // its series are those of another target
	slots  map[string]modelSlot
	blocks []*template.Block
	names  []string // of the series that it may expose
}

type modelSlot struct {
	block *template.Block
	slot  int
}

// model is one run.
type model struct {
	t       *testing.T
	rnd     *rand.Rand
	log     modelLog
	targets []*modelTarget
	clock   int64 // ms
	moment  int

	// The process under test.
	mu    sync.Mutex
	parts []*modelPart // in the order of the log
	plans map[*template.Block]wire.BlockPlan
	tally tally

	cruel    bool  // many shards, blocks and kills, almost all of it in windows; and the books are looked into
	branches bool  // the newest goes first, at times
	bounds   []int // numbers of the samples at which it did

	prompt bool // the cursor is written before each request: none mixes what has come with what has not

	// What is on disk.
	saved   []byte
	savedAt int

	newest    map[string]int // per series and stretch the number delivered last for the first time
	lost      uint64         // as counted
	kills     int            // and restarts
	corrupted bool
	trace     []string
}

// modelPart is one endpoint.
type modelPart struct {
	led     *ledger
	walk    *walk
	sheet   sheet
	dealing bool
	bound   Bound

	pressing *batch // its request is being made
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, cruel: seed%5 == 4, branches: seed%3 == 2, prompt: seed%2 == 1, rnd: rand.New(rand.NewPCG(seed, 7)), plans: map[*template.Block]wire.BlockPlan{}, newest: map[string]int{}, clock: 1_000_000}
	m.log.perCall = 1 + m.rnd.IntN(12)
	m.log.roll()
	for i := range 1 + m.rnd.IntN(4) {
		tg := &modelTarget{labels: labels.FromStrings("instance", strconv.Itoa(i), "job", "j"), origin: uint32(i), slots: map[string]modelSlot{}}
		if m.rnd.IntN(4) == 0 { // a pair with the first target
			tg.shared = m.rnd.IntN(2) == 0
			tg.labels = labels.FromStrings("instance", "0", "job", "j", "zone", strconv.Itoa(i))
		}
		if m.rnd.IntN(8) == 0 { // a twin of the first target
			tg.labels, tg.shared = m.firstLabels(), false
		}
		for n := range 1 + m.rnd.IntN(9) {
			tg.names = append(tg.names, fmt.Sprintf("%c%d", 'a'+n%3, n))
		}
		m.targets = append(m.targets, tg)
	}
	end := m.log.end()
	first := State{Spans: []Span{{Run, end, end, 0}}}
	for range 1 + m.rnd.IntN(m.lanes()) {
		first.Ats = append(first.Ats, first.Spans[0].begin())
	}
	m.saved = first.AppendTo(nil)
	m.start()
	return m
}

func (m *model) lanes() int {
	if m.cruel {
		return 20
	}
	return 4
}

func (m *model) firstLabels() labels.Labels {
	return labels.FromStrings("instance", "0", "job", "j")
}

func (m *model) logf(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

// start makes a process from what is on disk.
func (m *model) start() {
	var p Progress
	if err := p.Decode(m.saved); err != nil {
		m.fail("decode the saved progress: %v", err)
	}
	m.parts = nil
	for _, s := range p {
		m.add(s)
	}
	for _, s := range m.log.samples { // forgotten
		if s.finalAt > m.savedAt {
			s.finalAt = 0
		}
	}
	m.logf("start %+v", p)
}

// add makes an endpoint.
func (m *model) add(s Stretch) {
	most := 12
	if m.cruel {
		most = 1 + m.rnd.IntN(30)
	}
	lim := limits{batch: 1 + m.rnd.IntN(most), deadline: time.Duration(m.rnd.IntN(3)) * time.Second, ahead: m.rnd.IntN(2) == 0}
	p := &modelPart{bound: s.Bound}
	p.led = newLedger(s.State, lim, m.now())
	p.walk = newWalk(&m.log, p.led, &m.mu)
	p.walk.bound = s.Bound
	m.parts = append(m.parts, p)
}

// branch leaves what an endpoint has before it to a backlog.
func (m *model) branch() {
	if !m.branches || len(m.parts) > maxBacklogs {
		return
	}
	main := m.parts[len(m.parts)-1]
	at := m.log.end()
	main.bound = Bound{at, m.log.count}
	main.walk.bound = main.bound
	s := Stretch{State: State{Spans: []Span{{Run, at, at, m.log.count}}, Passed: m.log.count}}
	for range 1 + m.rnd.IntN(4) {
		s.Ats = append(s.Ats, s.Spans[0].begin())
	}
	m.bounds = append(m.bounds, len(m.log.samples))
	m.logf("branch at %v", main.bound)
	m.add(s)
}

// part is any of the endpoints.
func (m *model) part() *modelPart { return m.parts[m.rnd.IntN(len(m.parts))] }

func (m *model) now() time.Time { return time.UnixMilli(m.clock) }

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	if n := len(m.trace); n > 100 {
		m.trace = m.trace[n-100:]
	}
	for _, l := range m.trace {
		m.t.Log(l)
	}
	m.t.Fatalf(format, args...)
}

// scrape appends one scrape of one target.
func (m *model) scrape() {
	tg := m.targets[m.rnd.IntN(len(m.targets))]
	seg := m.log.active()
	if m.rnd.IntN(25) == 0 || m.cruel && m.rnd.IntN(4) == 0 { // the scrape loop begins anew: reload, restart, a target replaced by its like
		clear(tg.slots)
		tg.blocks = nil
	}
	if m.rnd.IntN(10) == 0 { // series lose their slots and will get new ones
		for _, name := range slices.Sorted(maps.Keys(tg.slots)) {
			if m.rnd.IntN(2) == 0 {
				delete(tg.slots, name)
			}
		}
	}
	if len(tg.blocks) > 1 && m.rnd.IntN(6) == 0 { // a merge: the living of two blocks move to a new one
		a, b := tg.blocks[len(tg.blocks)-2], tg.blocks[len(tg.blocks)-1]
		var names []string
		for name, sl := range tg.slots {
			if sl.block == a || sl.block == b {
				names = append(names, name)
				delete(tg.slots, name)
			}
		}
		tg.blocks = tg.blocks[:len(tg.blocks)-2]
		m.addBlock(tg, names)
	}
	var exposed, fresh []string
	for _, name := range tg.names {
		if m.rnd.IntN(5) == 0 {
			continue
		}
		exposed = append(exposed, name)
		if _, ok := tg.slots[name]; !ok {
			fresh = append(fresh, name)
		}
	}
	m.addBlock(tg, fresh)
	for _, b := range tg.blocks {
		m.appendPart(seg, tg, b, exposed)
	}
}

func (m *model) addBlock(tg *modelTarget, names []string) {
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	b := template.NewBuilder(tg.labels)
	b.Origin = tg.origin
	for _, name := range names {
		sc := template.Schema{Name: name[:1], Labels: []string{"n"}} // in a window they go to different shards, in a run to one
		values := []string{name}
		if tg.shared {
			sc.Whole, sc.Labels, values = true, append(sc.Labels, "instance", "job"), append(values, "0", "j")
		}
		b.Add(template.Intern(sc), values)
	}
	block := b.Block()
	tg.blocks = append(tg.blocks, block)
	for i, name := range names {
		tg.slots[name] = modelSlot{block, i}
	}
	m.plans[block] = modelPlan(m.t, block)
}

func (m *model) appendPart(seg *modelSegment, tg *modelTarget, b *template.Block, exposed []string) {
	part := template.Part{Block: b, States: make([]template.State, b.Len()), Values: make([]float64, b.Len())}
	for i := range part.States {
		part.States[i] = template.Absent
	}
	e := modelEntry{}
	number := func(name string) float64 {
		series := tg.labels.Get("instance") + "/" + name
		if !tg.shared { // the shared ones are those of the first target
			series += tg.labels.Get("zone")
		}
		n := len(m.log.samples)
		m.log.samples = append(m.log.samples, &modelSample{series: series})
		e.numbers = append(e.numbers, n)
		return float64(n)
	}
	for _, name := range tg.names {
		sl, ok := tg.slots[name]
		if !ok || sl.block != b || !slices.Contains(exposed, name) {
			continue
		}
		if m.rnd.IntN(12) > 0 {
			part.States[sl.slot] = template.Value
			part.Values[sl.slot] = number(name)
		}
		for m.rnd.IntN(12) == 0 {
			part.Extra = append(part.Extra, template.Extra{Slot: sl.slot, Kind: template.Sample, Time: m.clock, Value: number(name)})
		}
		if m.rnd.IntN(12) == 0 {
			part.Extra = append(part.Extra, template.Extra{Slot: sl.slot, Kind: template.Exemplar, Time: m.clock})
		}
	}
	if _, ok := seg.anchors[b]; !ok {
		seg.anchors[b] = seg.size
		seg.size += 20
	}
	slices.SortStableFunc(part.Extra, func(x, y template.Extra) int { return x.Slot - y.Slot })
	e.part = part
	e.Entry = modelHeader(wal.Pos{Segment: seg.id, Offset: seg.size}, m.clock, len(e.numbers), seg.anchors[b])
	seg.size += 30
	if m.corrupted && m.rnd.IntN(30) == 0 {
		e.bad = true
	}
	seg.entries = append(seg.entries, e)
	m.log.count += uint64(len(e.numbers))
}

// read is one move of an endpoint's reader.
func (m *model) read(p *modelPart) verdict {
	if !p.dealing {
		since := m.clock - 8000
		if m.cruel {
			since = m.clock - 500
		}
		if m.rnd.IntN(4) == 0 { // the deadline of batches has changed, or the clock was set back
			since -= int64(m.rnd.IntN(30_000))
		}
		if m.rnd.IntN(40) == 0 {
			m.log.busy = 1
		}
		st, v, gone, err := p.walk.advance(since)
		for errors.Is(err, errBusy) {
			m.lost += gone.samples
			st, v, gone, err = p.walk.advance(since)
		}
		if err != nil {
			m.fail("advance: %v", err)
		}
		if gone.samples > 0 {
			m.logf("lost %d", gone.samples)
			m.lost += gone.samples
		}
		if v == ended {
			m.mu.Lock()
			p.led.flush()
			n := p.led.outstanding()
			m.mu.Unlock()
			if n == 0 {
				m.logf("%v is delivered", p.bound)
				m.parts = slices.DeleteFunc(m.parts, func(q *modelPart) bool { return p == q })
			}
			return v
		}
		if v != stepped {
			m.mu.Lock()
			m.lookInto(p, true)
			m.mu.Unlock()
			return v
		}
		m.logf("step %d of %v, %d entries", st.number, p.walk.span, len(st.entries))
		if m.rnd.IntN(20) == 0 {
			m.log.busy = 1 + m.rnd.IntN(3)
		}
		for again := true; again; {
			gone, err := p.sheet.load(&m.log, st, st.place(p.walk.span), func(b *template.Block) wire.BlockPlan { return m.plans[b] })
			if again = errors.Is(err, errBusy); !again {
				if err != nil {
					m.fail("load: %v", err)
				}
				m.lost += gone.corrupt + gone.gone
			}
		}
		p.dealing = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.lookInto(p, false)
	if p.pressing != nil {
		p.pressing.press, p.pressing = wasPressed, nil
	}
	if !p.sheet.deal(p.led, m.now(), 0, true, &m.tally) {
		var full bool
		if p.pressing, full = p.led.toPress(); full {
			return stepped
		}
		m.lookInto(p, true)
		return blocked
	}
	p.walk.leave(p.sheet.step)
	p.dealing = false
	return stepped
}

// send is one move of a shard: it takes a batch, or gets an answer.
func (m *model) send(p *modelPart, shard int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.lookInto(p, false)
	ln := &p.led.lanes[shard]
	if ln.sending == nil {
		b, wait := p.led.take(shard, m.now())
		if b == nil && wait > 0 && m.rnd.IntN(3) == 0 {
			m.clock += wait.Milliseconds() + 1
		}
		if b != nil && m.prompt {
			m.write()
		}
		return b != nil
	}
	b := ln.sending
	answer := m.rnd.IntN(4)
	if answer > 0 { // it arrived
		m.receive(b, answer > 1)
	}
	if answer > 1 { // and so did the answer
		p.led.finished(shard, m.now())
	}
	return true
}

// receive is the receiver.
func (m *model) receive(b *batch, final bool) {
	m.moment++
	m.logf("moment %d: received from %v final %v: %v", m.moment, b.first, final, b.values)
	come := 0
	for _, v := range b.values {
		if m.log.samples[int(v)].delivered > 0 {
			come++
		}
	}
	if m.prompt && come > 0 && come < len(b.values) {
		m.fail("%d of the %d samples of a request have come before, and the others have not", come, len(b.values))
	}
	for _, v := range b.values {
		n := int(v)
		s := m.log.samples[n]
		if s.delivered == 0 && !s.gone {
			stretch, at := s.series, 0
			for ; at < len(m.bounds) && m.bounds[at] <= n; at++ {
			}
			stretch += "#" + strconv.Itoa(at)
			if last, ok := m.newest[stretch]; ok && last > n {
				m.fail("series %s: sample %d arrives for the first time after %d", s.series, n, last)
			}
			m.newest[stretch] = n
		}
		if s.finalAt > 0 && s.finalAt <= m.savedAt {
			m.fail("sample %d, final at %d, comes again after a cursor of moment %d", n, s.finalAt, m.savedAt)
		}
		s.delivered++
		if final && s.finalAt == 0 {
			s.finalAt = m.moment
		}
	}
}

// save writes the cursor.
func (m *model) save() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.write()
}

// write is save for who has the lock.
func (m *model) write() {
	var p Progress
	for _, part := range m.parts {
		s := part.led.state()
		if len(s.Spans) > 3 {
			m.fail("%d open spans: %v", len(s.Spans), s.Spans)
		}
		p = append(p, Stretch{s, part.bound})
	}
	m.logf("save %+v", p)
	m.saved, m.savedAt = p.AppendTo(nil), m.moment
}

// kill ends the process; a power loss takes the end of the log with it.
func (m *model) kill(power bool) {
	m.kills++
	if power {
		seg := m.log.active()
		for cut := m.rnd.IntN(6); cut > 0 && len(seg.entries) > 0; cut-- {
			last := seg.entries[len(seg.entries)-1]
			for _, n := range last.numbers {
				m.log.samples[n].gone = true
			}
			seg.entries = seg.entries[:len(seg.entries)-1]
			seg.size = last.Pos.Offset
			m.log.count -= uint64(len(last.numbers))
		}
	}
	m.log.roll()
	for _, tg := range m.targets {
		clear(tg.slots)
		tg.blocks = nil
	}
	m.start()
}

// retain deletes the oldest segment.
func (m *model) retain() {
	for _, s := range m.log.segments[:len(m.log.segments)-1] {
		if !s.gone {
			s.gone = true
			m.logf("segment %d is gone", s.id)
			return
		}
	}
}

// drain lets everything finish.
func (m *model) drain() {
	for range 1_000_000 {
		over := true
		for _, p := range slices.Clone(m.parts) {
			v := m.read(p)
			m.mu.Lock()
			p.led.flush()
			n := p.led.outstanding()
			m.mu.Unlock()
			busy := false
			for i := range p.led.lanes {
				busy = m.send(p, i) || busy
			}
			over = over && v == atEnd && n == 0 && !busy
		}
		if over {
			return
		}
	}
	m.fail("does not come to an end")
}

func (m *model) run(moves int) {
	mayKill, mayLose := m.rnd.IntN(3) > 0, m.rnd.IntN(3) == 0
	m.corrupted = m.rnd.IntN(5) == 0
	weights := [5]int{1 + m.rnd.IntN(8), 1 + m.rnd.IntN(8), 1 + m.rnd.IntN(8), 1 + m.rnd.IntN(3), 1}
	if m.cruel {
		weights[1] += m.rnd.IntN(10)
		weights[2] += m.rnd.IntN(20)
	}
	slow := m.rnd.IntN(8) // this shard rarely moves
	sum := 0
	for _, w := range weights {
		sum += w
	}
	for range moves {
		k := m.rnd.IntN(sum)
		i := 0
		for ; k >= weights[i]; i++ {
			k -= weights[i]
		}
		switch i {
		case 0:
			m.clock += int64(m.rnd.IntN(700))
			m.scrape()
		case 1:
			m.read(m.part())
		case 2:
			p := m.part()
			shard := m.rnd.IntN(len(p.led.lanes))
			if shard != slow || m.rnd.IntN(20) == 0 {
				m.send(p, shard)
			}
		case 3:
			m.save()
		default:
			switch m.rnd.IntN(9) {
			case 0:
				m.log.roll()
			case 1:
				if mayKill {
					m.kill(m.rnd.IntN(2) == 0)
					for m.cruel && m.rnd.IntN(3) > 0 { // once more
						for range m.rnd.IntN(30) {
							p := m.part()
							switch m.rnd.IntN(6) {
							case 0:
								m.save()
							case 1, 2:
								m.read(p)
							default:
								m.send(p, m.rnd.IntN(len(p.led.lanes)))
							}
						}
						m.kill(false)
					}
				}
			case 2:
				if mayLose {
					m.retain()
				}
			case 3:
				m.clock += int64(m.rnd.IntN(30_000)) // what has not been read is a backlog now
			case 4: // an orderly restart or a reload: the cursor is as of now, the log goes on
				m.save()
				m.kills++
				m.start()
			case 5:
				m.reshard(m.part())
			case 6:
				m.branch()
			default:
				p := m.part()
				m.mu.Lock()
				p.led.limits.batch = 1 + m.rnd.IntN(12)
				m.mu.Unlock()
			}
		}
	}
	for len(m.log.active().entries) == 0 { // what retention took is noticed at the next entry
		m.scrape()
	}
	m.drain()
	m.check()
}

func (m *model) reshard(p *modelPart) {
	for range 200 {
		m.mu.Lock()
		p.led.flush()
		may := p.led.mayReshard()
		if may {
			p.led.reshard(1+m.rnd.IntN(m.lanes()), m.now())
		}
		m.mu.Unlock()
		if may {
			m.save()
			return
		}
		for i := range p.led.lanes {
			m.send(p, i)
		}
	}
}

// check holds at the end: whatever is in the log was delivered, or was taken
// by retention or corruption and has been counted.
func (m *model) check() {
	var missing uint64
	for _, seg := range m.log.segments {
		for _, e := range seg.entries {
			for _, n := range e.numbers {
				if s := m.log.samples[n]; s.delivered == 0 {
					if !seg.gone && !e.bad {
						m.fail("sample %d of %s was not delivered: entry %v", n, s.series, e.Pos)
					}
					missing++
				}
			}
		}
	}
	if missing > m.lost || m.kills == 0 && missing != m.lost {
		m.fail("%d samples were lost, %d counted, %d kills", missing, m.lost, m.kills)
	}
	if len(m.parts) != 1 {
		m.fail("%d backlogs are left", len(m.parts)-1)
	}
	if st := m.parts[0].led.state(); m.kills == 0 && st.Passed != m.log.count {
		m.fail("passed %d of %d samples", st.Passed, m.log.count)
	}
}

// TestEverySampleIsDeliveredInOrder runs the model. PROMAGENT_MODEL_SEED
// repeats one run, PROMAGENT_MODEL_RUNS sets how many there are.
func TestEverySampleIsDeliveredInOrder(t *testing.T) {
	if s := os.Getenv("PROMAGENT_MODEL_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		newModel(t, seed).run(400)
		return
	}
	runs := 1000
	if s := os.Getenv("PROMAGENT_MODEL_RUNS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		runs = n
	}
	for seed := range runs {
		t.Run(strconv.Itoa(seed), func(t *testing.T) { newModel(t, uint64(seed)).run(400) })
		if t.Failed() {
			t.Fatalf("repeat with PROMAGENT_MODEL_SEED=%d", seed)
		}
	}
}

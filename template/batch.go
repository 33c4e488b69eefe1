package template

import "math"

// State says what a record has for a slot.
type State uint8

// The states of a slot in one scrape.
const (
	Value  State = iota // a sample, in Part.Values
	Stale               // the series has ended: a stale marker at the batch's time
	Absent              // nothing
)

// NoTime in Part.Times stands for a sample at the batch's time.
const NoTime = math.MinInt64

// StaleNaN is the bit pattern of a stale marker's value.
const StaleNaN uint64 = 0x7ff0000000000002

// Batch is one scrape's outcome. It is committed to the log all or nothing.
type Batch struct {
	Time  int64 // of the scrape, ms since the epoch
	Parts []Part
}

// Part is what a scrape has for one block. All columns are as long as the
// block; the sink does not keep them after Append has returned.
type Part struct {
	Block  *Block
	States []State   // nil: every slot has a value
	Values []float64 // defined where the state is Value
	Times  []int64   // nil: every sample is at the batch's time; else ms, or NoTime
	Starts []int64   // nil, or start timestamps in ms, 0 where unknown
	Extra  []Extra   // ascending by slot
}

// State is the state of a slot.
func (p *Part) State(slot int) State {
	if p.States == nil {
		return Value
	}
	return p.States[slot]
}

// Samples counts the samples of the part, stale markers and further samples included.
func (p *Part) Samples() int {
	n := p.Block.Len()
	for _, s := range p.States {
		if s == Absent {
			n--
		}
	}
	for i := range p.Extra {
		if p.Extra[i].Kind == Sample {
			n++
		}
	}
	return n
}

// ExtraKind is what an Extra is.
type ExtraKind uint8

// The kinds of extras. Native histograms will be one more.
const (
	Sample   ExtraKind = 1 // a further sample of the slot, with a timestamp of its own
	Exemplar ExtraKind = 2 // an exemplar of the slot's sample
)

// Extra is what does not fit a column.
type Extra struct {
	Slot   int
	Kind   ExtraKind
	Time   int64    // ms
	Value  float64  // of the further sample, or of the exemplar
	Labels []string // of the exemplar: name, value, name, value
}

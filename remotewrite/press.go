package remotewrite

import (
	"runtime"

	"github.com/klauspost/compress/s2"

	"promagent/remotewrite/wire"
	"promagent/template"
)

// press makes a request of a part of a batch. What it needs for that is several
// times the request; so shards share presses, and keep the requests.
type press struct {
	encoder   wire.Encoder
	thrifty   *wire.Snappy // nil: not needed yet
	packed    []byte
	exemplars []template.Extra
}

// encode encodes the part's samples that are not older than oldest, ms.
func (pr *press) encode(b *batch, p part, oldest int64) (samples, exemplars, tooOld int) {
	pr.encoder.Reset()
	at := 0 // part of the batch
	for at < len(b.parts) && b.parts[at].end <= p.from {
		at++
	}
	x := 0
	for x < len(b.exemplars) && b.exemplars[x].sample < p.from {
		x++
	}
	for i := p.from; i < p.to; {
		for b.parts[at].end <= i {
			at++
		}
		end := min(b.parts[at].end, p.to)
		j := i + 1
		for j < end && b.slots[j] == b.slots[i] && b.times[j] > b.times[j-1] {
			j++
		}
		from := i
		for from < j && b.times[from] < oldest {
			from++
		}
		tooOld += from - i
		sm := wire.Samples{Times: b.times[from:j], Values: b.values[from:j]}
		if len(b.starts) > 0 {
			sm.Starts = b.starts[from:j]
		}
		pr.exemplars = pr.exemplars[:0]
		for ; x < len(b.exemplars) && b.exemplars[x].sample < j; x++ {
			if b.exemplars[x].sample >= from {
				pr.exemplars = append(pr.exemplars, b.exemplars[x].Extra)
			}
		}
		if from < j {
			sm.Exemplars = pr.exemplars
			pr.encoder.Add(b.parts[at].plan, int(b.slots[i]), sm)
			samples += j - from
			exemplars += len(pr.exemplars)
		}
		i = j
	}
	return samples, exemplars, tooOld
}

// pack compresses what has been encoded. The bytes are the press's. thrifty takes
// twice the time for 6 to 10% less of a backlog, and next to nothing less of
// live data.
func (pr *press) pack(thrifty bool) []byte {
	raw := pr.encoder.Request()
	if thrifty {
		if pr.thrifty == nil {
			pr.thrifty = &wire.Snappy{}
		}
		pr.packed = pr.thrifty.Append(pr.packed[:0], raw)
		return pr.packed
	}
	if n := s2.MaxEncodedLen(len(raw)); cap(pr.packed) < n {
		pr.packed = make([]byte, n)
	}
	return s2.EncodeSnappy(pr.packed[:cap(pr.packed)], raw)
}

// presses are shared by shards, which take turns: a press makes requests of some
// ten million samples per second, and needs most of a megabyte for that.
type presses struct {
	v2   bool
	free chan *press // nil: one that has not been made yet
}

// pressShare is the number of processors for which there is a press.
const pressShare = 4

func newPresses(v2 bool) presses {
	n := max(1, runtime.GOMAXPROCS(0)/pressShare)
	ps := presses{v2, make(chan *press, n)}
	for range n {
		ps.free <- nil
	}
	return ps
}

// take waits for a press, which nobody keeps for more than a request.
func (ps *presses) take() *press {
	if pr := <-ps.free; pr != nil {
		return pr
	}
	return &press{encoder: wire.NewEncoder(ps.v2)}
}

// put gives a press back, which keeps no block alive.
func (ps *presses) put(pr *press) {
	pr.encoder.Reset()
	clear(pr.exemplars[:cap(pr.exemplars)])
	ps.free <- pr
}

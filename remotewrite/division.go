package remotewrite

const (
	// maxRequests bounds the requests that one refused batch may cost.
	maxRequests = 64
	// minRequests is that bound for a remote that refuses everything: the bound
	// is halved with every batch of which it takes nothing. That is enough to
	// notice that the remote takes something again.
	minRequests = 4
)

// division is the order in which a batch is sent: whole at first, and what is
// refused in halves. Parts are ranges of its samples.
type division struct {
	todo     []part // the first is next
	requests int    // that have had a final answer
	accepted bool   // some part
	bound    int    // of requests, until some part is accepted
}

type part struct{ from, to int }

func (p part) len() int { return p.to - p.from }

// divide begins with a batch of n samples. Of so many batches before nothing was
// accepted.
func divide(n, refused int) *division {
	return &division{todo: []part{{0, n}}, bound: max(minRequests, maxRequests>>refused)}
}

// next is the part to send; false: all is done.
func (d *division) next() (part, bool) {
	if len(d.todo) == 0 {
		return part{}, false
	}
	return d.todo[0], true
}

// probe takes the next sample for itself, to be sent before all others. False:
// there are no others.
func (d *division) probe() bool {
	if len(d.todo) == 0 || d.todo[0].len() < 2 {
		return false
	}
	p := d.todo[0]
	d.todo = append([]part{{p.from, p.from + 1}, {p.from + 1, p.to}}, d.todo[1:]...)
	return true
}

// rest ends the division and returns what is left of it.
func (d *division) rest() part {
	if len(d.todo) == 0 {
		return part{}
	}
	p := part{d.todo[0].from, d.todo[len(d.todo)-1].to}
	d.todo = nil
	return p
}

// done says that the part is final, accepted or not.
func (d *division) done(accepted bool) {
	d.requests++
	d.accepted = d.accepted || accepted
	d.todo = d.todo[1:]
}

// refused halves the part, whose samples are refused together although one
// may be to blame. False: it cannot be halved, or that might take too many
// requests; it is not done yet.
func (d *division) refused() bool {
	bound := maxRequests
	if !d.accepted {
		bound = d.bound
	}
	if d.requests+1+len(d.todo)+1 > bound {
		return false
	}
	return d.halve()
}

// tooLarge halves the part, which is too large for the receiver: as often as
// it takes.
func (d *division) tooLarge() bool { return d.halve() }

func (d *division) halve() bool {
	p := d.todo[0]
	if p.len() < 2 {
		return false
	}
	d.requests++
	mid := p.from + p.len()/2
	d.todo = append([]part{{p.from, mid}, {mid, p.to}}, d.todo[1:]...)
	return true
}

package object

import (
	"errors"
	"fmt"
	"strings"
)

// Decode decodes the protobuf message of an object, the bare one without the
// envelope that the API puts around it, and returns the object with its
// resource version. An error says which kind it was ("decode pod: ...").
//
// Unknown fields are skipped. b is only read during the call.
//
// An object is decoded twice: the first pass counts, so that the second one
// puts all strings into one piece of memory, and all elements of a type too.
func Decode(kind Kind, b []byte) (o Object, resourceVersion string, err error) {
	switch kind {
	case KindNode:
		o, resourceVersion, err = decodeNode(b)
	case KindPod:
		o, resourceVersion, err = decodePod(b)
	case KindService:
		o, resourceVersion, err = decodeService(b)
	case KindEndpoints:
		o, resourceVersion, err = decodeEndpoints(b)
	case KindEndpointSlice:
		o, resourceVersion, err = decodeEndpointSlice(b)
	case KindIngress:
		o, resourceVersion, err = decodeIngress(b)
	case KindNamespace, KindReplicaSet, KindJob:
		o, resourceVersion, err = decodeOther(b)
	default:
		err = errors.New("no such kind")
	}
	if err != nil {
		return nil, "", fmt.Errorf("decode %s: %w", kind, err)
	}
	return o, resourceVersion, nil
}

// decoder is what decoding an object of any kind needs.
type decoder struct {
	err     error // the first one
	filling bool  // this is the second pass

	size                int // bytes of strings, as counted by the first pass
	memory              strings.Builder
	labels, annotations arena[Pair]

	// Of the pass.
	version       []byte
	controlled    bool   // a controller was found
	namespace     []byte // of the object, once it is known
	namespaceText string // the same, as it is kept
}

// fill ends the first pass: what it counted is allocated.
func (d *decoder) fill() {
	d.memory.Grow(d.size)
	pairs := make([]Pair, d.labels.n+d.annotations.n)
	d.annotations.carve(d.labels.carve(pairs))
	d.filling, d.version, d.controlled, d.namespace, d.namespaceText = true, nil, false, nil, ""
}

// end ends the second pass: the object's pairs are put in order. It returns
// the object's version.
func (d *decoder) end(o *Meta) (version string, err error) {
	if d.err != nil {
		return "", d.err
	}
	o.Labels, o.Annotations = sorted(d.labels.since(0)), sorted(d.annotations.since(0))
	return string(d.version), nil
}

// keep is b as a string; the first pass counts it and returns something else.
// The strings share one piece of memory, but for well-known ones, which need
// none.
func (d *decoder) keep(b []byte) string {
	if s := wellKnown(b); s != "" {
		return s
	}
	if !d.filling {
		d.size += len(b)
		return ""
	}
	start := d.memory.Len()
	d.memory.Write(b)
	return d.memory.String()[start:]
}

// arena hands out elements of one allocation: the first pass counts, the
// second one gets them. Elements that follow each other are a list.
type arena[T any] struct {
	n       int // as counted by the first pass
	all     []T // handed out by the second one
	scratch T   // what the first one gets
}

// next is a new, zero element.
func (a *arena[T]) next() *T {
	if len(a.all) == cap(a.all) {
		a.n++
		var zero T
		a.scratch = zero
		return &a.scratch
	}
	a.all = a.all[:len(a.all)+1]
	return &a.all[len(a.all)-1]
}

// since is the list of the elements after the first n; nil if there are none.
func (a *arena[T]) since(n int) []T {
	if len(a.all) == n {
		return nil
	}
	return a.all[n:len(a.all):len(a.all)]
}

// carve takes what was counted from memory and returns the rest.
func (a *arena[T]) carve(memory []T) []T {
	a.all = memory[:0:a.n]
	return memory[a.n:]
}

// fill allocates what was counted.
func (a *arena[T]) fill() { a.carve(make([]T, a.n)) }

package group

import (
	"maps"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// Same says whether a and b are known to be the same targets. The order does
// not count: answers of DNS come in another order every time. Targets that make
// their labels themselves are the same when they are one.
func Same(a, b Targets) bool {
	if x, ok := a.(*static); ok {
		if y, ok := b.(*static); ok {
			return equal(x.made, y.made)
		}
	}
	return a == b
}

func equal(a, b *targetgroup.Group) bool {
	if len(a.Targets) != len(b.Targets) || !maps.Equal(a.Labels, b.Labels) {
		return false
	}
	i := 0
	for i < len(a.Targets) && maps.Equal(a.Targets[i], b.Targets[i]) {
		i++
	}
	return i == len(a.Targets) || sameElements(a.Targets[i:], b.Targets[i:])
}

// sameElements compares two lists of equal length as multisets.
func sameElements(a, b []model.LabelSet) bool {
	left := make(map[model.Fingerprint][]model.LabelSet, len(a))
	for _, t := range a {
		f := t.Fingerprint()
		left[f] = append(left[f], t)
	}
next:
	for _, t := range b {
		f := t.Fingerprint()
		for i, c := range left[f] {
			if maps.Equal(c, t) {
				left[f][i] = left[f][len(left[f])-1]
				left[f] = left[f][:len(left[f])-1]
				continue next
			}
		}
		return false
	}
	return true
}

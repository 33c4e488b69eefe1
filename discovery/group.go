package discovery

import (
	"maps"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// emptied returns the group that says that g's source has no targets any more.
func emptied(g *targetgroup.Group) *targetgroup.Group {
	return &targetgroup.Group{Source: g.Source}
}

// equal says whether a and b hold the same labels and targets. The order of
// targets does not count: answers of DNS come in another order every time.
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

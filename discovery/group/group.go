// Package group holds what discovery hands on: groups of targets by source.
//
// A group makes the labels of its targets when they are asked for. A cluster
// has tens of thousands of targets that relabelling drops; each of them costs
// a place in a list this way, not a label set.
package group

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
)

// Targets are those of a group. They never change, and any number of
// goroutines may read them.
type Targets interface {
	// Len is the number of targets.
	Len() int
	// Labels adds the labels of target i, counted from 0, to s.
	Labels(i int, s *Set)
}

// Group is the targets of one source.
type Group struct {
	Source  string  // unique within its discovery
	Targets Targets // nil: the source has none (any more)
}

// Len is the number of targets.
func (g Group) Len() int {
	if g.Targets == nil {
		return 0
	}
	return g.Targets.Len()
}

// Set collects the labels of one target. The zero value is empty.
type Set struct {
	list    []labels.Label
	builder labels.ScratchBuilder
}

// Reset empties the set.
func (s *Set) Reset() { s.list = s.list[:0] }

// Add adds a label. Of labels of one name the last counts; an empty value
// means that there is none.
func (s *Set) Add(name, value string) {
	s.list = append(s.list, labels.Label{Name: name, Value: value})
}

// Labels returns the labels as they are now.
func (s *Set) Labels() labels.Labels {
	s.build()
	return s.builder.Labels()
}

// Overwrite makes ls the labels as they are now, in memory that the next call
// uses again.
func (s *Set) Overwrite(ls *labels.Labels) {
	s.build()
	s.builder.Overwrite(ls)
}

func (s *Set) build() {
	slices.SortStableFunc(s.list, func(a, b labels.Label) int { return strings.Compare(a.Name, b.Name) })
	s.builder.Reset()
	for i, l := range s.list {
		if l.Value != "" && (i+1 == len(s.list) || s.list[i+1].Name != l.Name) {
			s.builder.Add(l.Name, l.Value)
		}
	}
}

// Of is the group that g, made by a discovery of Prometheus, stands for. g must
// not be written to any more.
func Of(g *targetgroup.Group) Group {
	if len(g.Targets) == 0 {
		return Group{Source: g.Source}
	}
	return Group{Source: g.Source, Targets: &static{g}}
}

// static is a group whose label sets are there.
type static struct{ made *targetgroup.Group }

func (g *static) Len() int { return len(g.made.Targets) }

func (g *static) Labels(i int, s *Set) {
	own := g.made.Targets[i]
	for n, v := range g.made.Labels {
		if _, ok := own[n]; !ok {
			s.Add(string(n), string(v))
		}
	}
	for n, v := range own {
		s.Add(string(n), string(v))
	}
}

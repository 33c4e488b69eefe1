package group

import (
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
)

func TestLastLabelOfANameCountsAndEmptyOnesAreNone(t *testing.T) {
	var s Set
	for range 2 {
		s.Reset()
		s.Add("b", "1")
		s.Add("a", "2")
		s.Add("b", "3")
		s.Add("c", "4")
		s.Add("c", "")
		s.Add("d", "")
		s.Add("d", "5")
		if got, want := s.Labels(), labels.FromStrings("a", "2", "b", "3", "d", "5"); !labels.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	first := s.Labels()
	s.Reset()
	s.Add("x", "y")
	s.Labels()
	if got := first.Get("a"); got != "2" {
		t.Errorf("a set that was reset changed what it had returned: %v", first)
	}
}

func TestLabelsOfATargetHideThoseOfItsGroup(t *testing.T) {
	g := Of(&targetgroup.Group{
		Source:  "s",
		Labels:  model.LabelSet{"a": "group", "b": "group", "c": "group"},
		Targets: []model.LabelSet{{"a": "target", "b": ""}, {"__address__": "x"}},
	})
	if g.Source != "s" || g.Len() != 2 {
		t.Fatalf("source %q, %d targets", g.Source, g.Len())
	}
	for i, want := range []labels.Labels{
		labels.FromStrings("a", "target", "c", "group"), // an empty label hides one, too
		labels.FromStrings("__address__", "x", "a", "group", "b", "group", "c", "group"),
	} {
		var s Set
		g.Targets.Labels(i, &s)
		if got := s.Labels(); !labels.Equal(got, want) {
			t.Errorf("target %d: got %v, want %v", i, got, want)
		}
	}
	if empty := Of(&targetgroup.Group{Source: "s", Labels: model.LabelSet{"a": "b"}}); empty.Targets != nil || empty.Len() != 0 || empty.Source != "s" {
		t.Errorf("a group without targets became %+v", empty)
	}
}

type counted int

func (c *counted) Len() int         { return int(*c) }
func (c *counted) Labels(int, *Set) {}

func TestSameKnowsGroupsByTheirLabelsAndOthersByThemselves(t *testing.T) {
	of := func(common string, addresses ...model.LabelValue) Targets {
		g := &targetgroup.Group{Labels: model.LabelSet{"l": model.LabelValue(common)}}
		for _, a := range addresses {
			g.Targets = append(g.Targets, model.LabelSet{"__address__": a})
		}
		return Of(g).Targets
	}
	one, other := counted(1), counted(1)
	for _, c := range []struct {
		a, b Targets
		want bool
	}{
		{of("x", "a", "b"), of("x", "b", "a"), true},
		{of("x", "a", "b", "b"), of("x", "b", "a", "b"), true},
		{of("x", "a", "a", "b"), of("x", "a", "b", "b"), false},
		{of("x", "a"), of("y", "a"), false},
		{of("x", "a"), of("x", "a", "a"), false},
		{of("x", "a"), nil, false},
		{nil, nil, true},
		{&one, &one, true},
		{&one, &other, false},
		{&one, of("x", "a"), false},
	} {
		if got := Same(c.a, c.b); got != c.want {
			t.Errorf("%v and %v: got %v", c.a, c.b, got)
		}
		if got := Same(c.b, c.a); got != c.want {
			t.Errorf("%v and %v: got %v", c.b, c.a, got)
		}
	}
}

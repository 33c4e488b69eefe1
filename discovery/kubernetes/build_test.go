package kubernetes

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"promagent/discovery/group"
	"promagent/discovery/kubernetes/object"
)

// held is a lookup of a fixed list.
type held map[[2]string]object.Object

func (h held) Get(namespace, name string) object.Object { return h[[2]string{namespace, name}] }

// holding finds the objects that are given.
func holding(objects ...object.Object) held {
	h := make(held)
	for _, o := range objects {
		h[[2]string{o.Base().Namespace, o.Base().Name}] = o
	}
	return h
}

// nilPointers is a lookup that has nothing and says so with a nil pointer.
type nilPointers[T any, P interface {
	*T
	object.Object
}] struct{}

func (nilPointers[T, P]) Get(string, string) object.Object { return P(nil) }

// lines is a logger that writes to the buffer.
func lines(to *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

// silent logs nowhere.
func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// set is a target's labels. Names that do not start with an underscore and are
// not "instance" are those of meta labels without what all start with.
type set map[string]string

// plus is the set with the others' labels, which win.
func (s set) plus(others ...set) set {
	all := maps.Clone(s)
	for _, o := range others {
		maps.Copy(all, o)
	}
	return all
}

func (s set) labels() labels.Labels {
	b := labels.NewScratchBuilder(len(s))
	for n, v := range s {
		if !strings.HasPrefix(n, "__") && n != "instance" {
			n = metaPrefix + n
		}
		b.Add(n, v)
	}
	b.Sort()
	return b.Labels()
}

// made are the labels of all of a group's targets.
func made(g group.Group) []labels.Labels {
	var all []labels.Labels
	var s group.Set
	for i := range g.Len() {
		s.Reset()
		g.Targets.Labels(i, &s)
		all = append(all, s.Labels())
	}
	return all
}

// check compares a group with what is wanted, in order.
func check(t *testing.T, g group.Group, source string, want ...set) {
	t.Helper()
	if g.Source != source {
		t.Errorf("source %q, want %q", g.Source, source)
	}
	if len(want) == 0 && g.Targets != nil {
		t.Errorf("an empty group has Targets: %d of them", g.Len())
	}
	var wanted []labels.Labels
	for _, w := range want {
		wanted = append(wanted, w.labels())
	}
	compare(t, made(g), wanted)
}

// compare says how lists of label sets differ.
func compare(t *testing.T, got, want []labels.Labels) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d targets, want %d", len(got), len(want))
	}
	for i := range max(len(got), len(want)) {
		var g, w labels.Labels
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if d := difference(g, w); d != "" {
			t.Errorf("target %d differs:\n%s", i, d)
		}
	}
}

// difference is a line for each label that is in one of the sets only.
func difference(got, want labels.Labels) string {
	var out []string
	got.Range(func(l labels.Label) {
		if want.Get(l.Name) != l.Value {
			out = append(out, fmt.Sprintf("  got  %s=%q", l.Name, l.Value))
		}
	})
	want.Range(func(l labels.Label) {
		if got.Get(l.Name) != l.Value {
			out = append(out, fmt.Sprintf("  want %s=%q", l.Name, l.Value))
		}
	})
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// pairs makes a list of names and values.
func pairs(namesAndValues ...string) []object.Pair {
	var p []object.Pair
	for i := 0; i < len(namesAndValues); i += 2 {
		p = append(p, object.Pair{Name: namesAndValues[i], Value: namesAndValues[i+1]})
	}
	return p
}

func given(s string) object.Optional { return object.Optional{Value: s, Set: true} }

// owned is a ReplicaSet or a Job of a namespace "shop" with an owner.
func owned(name, kind, by string) *object.Other {
	return &object.Other{Meta: object.Meta{Namespace: "shop", Name: name, Controller: object.Owner{Kind: kind, Name: by}}}
}

// shop is a namespace, and shopLabels what it adds.
func shop() *object.Other {
	return &object.Other{Meta: object.Meta{Name: "shop", Labels: pairs("team/x", "a"), Annotations: pairs("cost", "7")}}
}

var shopLabels = set{
	"namespace_label_team_x":        "a",
	"namespace_labelpresent_team_x": "true",
	"namespace_annotation_cost":     "7", "namespace_annotationpresent_cost": "true",
}

// worker is a node, and workerLabels what it adds to targets on it.
func worker() *object.Node {
	return &object.Node{Meta: object.Meta{Name: "w1", Labels: pairs("zone", "z1"), Annotations: pairs("rack", "")}}
}

var workerLabels = set{
	"node_name":       "w1",
	"node_label_zone": "z1", "node_labelpresent_zone": "true",
	"node_annotationpresent_rack": "true",
}

func TestSourceIsThatOfTheGroup(t *testing.T) {
	m := object.Meta{Namespace: "shop", Name: "web"}
	b := &builder{log: silent()}
	node, _ := b.node(&object.Node{Meta: object.Meta{Name: "web"}, Addresses: []object.Address{{Type: "Hostname", Address: "w"}}})
	for _, c := range []struct {
		kind  object.Kind
		group group.Group
		want  string
	}{
		{object.KindNode, node, "node/web"},
		{object.KindPod, b.pod(&object.Pod{Meta: m}), "pod/shop/web"},
		{object.KindService, b.service(&object.Service{Meta: m}), "svc/shop/web"},
		{object.KindEndpoints, b.endpoints(&object.Endpoints{Meta: m}), "endpoints/shop/web"},
		{object.KindEndpointSlice, b.endpointSlice(&object.EndpointSlice{Meta: m}), "endpointslice/shop/web"},
		{object.KindIngress, b.ingress(&object.Ingress{Meta: m}), "ingress/shop/web"},
	} {
		if got := source(c.kind, "shop", "web"); got != c.want || c.group.Source != c.want {
			t.Errorf("kind %d: source %q, that of the group %q, want %q", c.kind, got, c.group.Source, c.want)
		}
		if c.kind != object.KindNode && c.group.Targets != nil {
			t.Errorf("kind %d: an object without targets has a group with %d", c.kind, c.group.Len())
		}
	}
}

func TestSomethingSaidOfManySourcesIsForgottenAndSaidAgain(t *testing.T) {
	var s sources
	for i := range maxSources {
		if !s.first(fmt.Sprint(i), "x") {
			t.Fatalf("source %d: said before", i)
		}
	}
	if s.first("0", "x") {
		t.Error("the same was said twice")
	}
	if !s.first("0", "y") {
		t.Error("something else of a source was not said")
	}
	if !s.first("more", "x") || len(s.said) > maxSources {
		t.Errorf("%d sources are remembered, want no more than %d", len(s.said), maxSources)
	}
	s.forget("more")
	if !s.first("more", "x") {
		t.Error("what was forgotten is not said again")
	}
}

package kubernetes

import (
	"testing"

	"promagent/discovery/kubernetes/object"
)

func TestIngressHasATargetForEachPathOfEachRule(t *testing.T) {
	in := &object.Ingress{
		Meta:  object.Meta{Namespace: "shop", Name: "in", Labels: pairs("a", "1"), Annotations: pairs("b", "2")},
		Class: given("nginx"),
		Rules: []object.IngressRule{
			{Host: "a.example", HTTP: true, Paths: []string{"/x", "", "y"}},
			{Host: "b.example"},
			{Host: "nothing.example", HTTP: true},
			{Host: "c.tls.example", HTTP: true, Paths: []string{"/z"}},
			{},
		},
		TLSHosts: []string{"other.example", "*.tls.example"},
	}
	all := set{
		"namespace": "shop", "ingress_name": "in", "ingress_class_name": "nginx",
		"ingress_label_a": "1", "ingress_labelpresent_a": "true", "ingress_annotation_b": "2", "ingress_annotationpresent_b": "true",
	}
	target := func(host, path, scheme string, more ...set) set {
		return all.plus(set{"__address__": host, "ingress_host": host, "ingress_path": path, "ingress_scheme": scheme}).plus(more...)
	}
	want := func(more ...set) []set {
		return []set{
			target("a.example", "/x", "http", more...), target("a.example", "/", "http", more...), target("a.example", "y", "http", more...),
			target("b.example", "/", "http", more...), target("c.tls.example", "/z", "https", more...), target("", "/", "http", more...),
		}
	}
	check(t, (&builder{log: silent()}).ingress(in), "ingress/shop/in", want()...)
	b := &builder{attach: attach{namespace: true}, namespaces: holding(shop()), log: silent()}
	check(t, b.ingress(in), "ingress/shop/in", want(shopLabels)...)

	in.Class = object.Optional{}
	delete(all, "ingress_class_name")
	check(t, (&builder{log: silent()}).ingress(in), "ingress/shop/in", want()...)

	in.Rules = nil
	check(t, (&builder{log: silent()}).ingress(in), "ingress/shop/in")
}

func TestHostsOfTLSAndTheirWildcards(t *testing.T) {
	for _, c := range []struct {
		pattern, host, want string
	}{
		{"a.example", "a.example", "https"},
		{"a.example", "A.example", "http"},
		{"*.example", "a.example", "https"},
		{"*.example", "a.b.example", "http"},
		{"*.example", "example", "http"},
		{"*.example", "*.example", "https"},
		{"*.b.example", "a.c.example", "http"},
		{"*a.example", "a.example", "http"},
		{"a.*", "a.example", "http"},
		{"*", "localhost", "https"},
		{"*", "", "https"},
		{"*", "a.example", "http"},
		{"*.", "a.", "https"},
		{"", "", "https"},
		{"", "a", "http"},
	} {
		if got := scheme([]string{"no.match.at.all.", c.pattern}, c.host); got != c.want {
			t.Errorf("%q, %q: %s, want %s", c.pattern, c.host, got, c.want)
		}
	}
	if got := scheme(nil, ""); got != "http" {
		t.Errorf("without TLS: %s, want http", got)
	}
}

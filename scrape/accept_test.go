package scrape

import (
	"maps"
	"slices"
	"strings"
	"testing"
	_ "unsafe" // for go:linkname

	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
)

// prometheusAccept is Prometheus's own header.
//
//go:linkname prometheusAccept github.com/prometheus/prometheus/scrape.acceptHeader
func prometheusAccept([]promconfig.ScrapeProtocol, model.EscapingScheme) string

// orders calls f with every order of every choice of names.
func orders(chosen, left []string, f func([]string)) {
	f(chosen)
	for i, name := range left {
		rest := slices.Delete(slices.Clone(left), i, i+1)
		orders(append(slices.Clip(chosen), name), rest, f)
	}
}

func TestAcceptIsPrometheusesWithoutWhatIsNotRead(t *testing.T) {
	var names []string
	for p := range promconfig.ScrapeProtocolsHeaders {
		names = append(names, string(p))
	}
	slices.Sort(names)
	if own := slices.Sorted(maps.Keys(protocols)); !slices.Equal(own, names) {
		t.Fatalf("the protocols are %q, Prometheus's are %q", own, names)
	}
	for _, scheme := range []model.EscapingScheme{model.NoEscaping, model.UnderscoreEscaping, model.DotsEscaping, model.ValueEncodingEscaping} {
		n := 0
		orders(nil, names, func(order []string) {
			n++
			var all []promconfig.ScrapeProtocol
			for _, name := range order {
				all = append(all, promconfig.ScrapeProtocol(name))
			}
			want := slices.DeleteFunc(strings.Split(prometheusAccept(all, scheme), ","), func(item string) bool {
				return strings.HasPrefix(item, "application/vnd.google.protobuf;") || strings.HasPrefix(item, "application/openmetrics-text;version=2.0.0;")
			})
			if got := acceptHeader(order, scheme.String()); got != strings.Join(want, ",") {
				t.Errorf("%q: got %s, want %s", order, got, strings.Join(want, ","))
			}
		})
		if n != 1957 {
			t.Fatalf("%d orders, want all of six protocols", n)
		}
	}
}

func TestFallbackIsTheMediaTypeThatPrometheusTakes(t *testing.T) {
	for p := range promconfig.ScrapeProtocolsHeaders {
		if got, want := protocolType(string(p)), p.HeaderMediaType(); got != want {
			t.Errorf("%s: got %q, want %q", p, got, want)
		}
	}
}

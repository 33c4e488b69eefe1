package object

import (
	"os"
	"regexp"
	"testing"
)

func TestWellKnownStringsAreThemselves(t *testing.T) {
	source, err := os.ReadFile("wellknown.go")
	if err != nil {
		t.Fatal(err)
	}
	cases := regexp.MustCompile(`case "([^"]*)":`).FindAllSubmatch(source, -1)
	if len(cases) < 50 {
		t.Fatalf("%d strings were found in wellknown.go", len(cases))
	}
	for _, c := range cases {
		if got := wellKnown(c[1]); got != string(c[1]) {
			t.Errorf("%q becomes %q", c[1], got)
		}
	}
	for _, other := range []string{"", "tcp", "TCPx", "prometheus.io/"} {
		if got := wellKnown([]byte(other)); got != "" {
			t.Errorf("%q is well known as %q", other, got)
		}
	}
}

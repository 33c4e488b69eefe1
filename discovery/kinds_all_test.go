//go:build all_sd

package discovery

import "testing"

func TestEveryKindIsCompiledInWithTheTag(t *testing.T) {
	if n := len(Kinds()); n < 37 {
		t.Errorf("kinds: got %d %q, want the 37 of Prometheus", n, Kinds())
	}
	for _, kind := range Kinds() {
		if Missing(kind) {
			t.Errorf("%q counts as missing", kind)
		}
	}
	for _, kind := range tagged {
		if Missing(kind) {
			t.Errorf("%q does not come in with the tag", kind)
		}
	}
}

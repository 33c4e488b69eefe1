package record

import (
	"testing"

	"github.com/klauspost/compress/s2"

	"promagent/template"
)

// What the first release reads in a record, it reads for ever; what it refuses,
// it counts as lost, with what leans on it. So whatever is added here makes a
// release whose log the ones before cannot read: it needs a version, and a
// line in the table of releases in docs/deploy.md.
func TestRecordsKnowNothingThatTheFirstReleaseDoesNot(t *testing.T) {
	const firstFlags = 0x3f
	for flags := range 0x100 {
		for v := range 0x100 {
			_, err := parseLinks([]byte{byte(v), byte(flags), 0, 0, 0, 0, 0, 0, 0, 0})
			if known := v == 1 && flags&^firstFlags == 0; known != (err == nil) {
				t.Errorf("version %d, flags %#x: %v", v, flags, err)
			}
		}
	}
	block := testBlock("known", 1)
	decode := func(flags byte, body ...byte) error {
		var c column
		c.reset(block)
		head := []byte{version, flagKey | flags}
		l, err := parseLinks(head)
		if err != nil {
			t.Fatal(err)
		}
		return c.decode(append(head, body...), l, 1000)
	}
	for state := range byte(4) {
		body := []byte{1<<2 | state, changesNone}
		if err := decode(flagStates, body...); (err == nil) != (state <= 2) {
			t.Errorf("state %d: %v", state, err)
		}
	}
	for changes := range 0x100 {
		err := decode(0, byte(changes), 0, 0)
		if changes > 2 && err == nil {
			t.Errorf("changes %d are read", changes)
		}
	}
	for kind := range 0x100 {
		extra := []byte{changesNone, 1, 0, byte(kind), 0, 1, 2, 3, 4, 5, 6, 7, 8}
		if template.ExtraKind(kind) == template.Exemplar {
			extra = append(extra, 0)
		}
		if err := decode(flagExtras, extra...); (err == nil) != (kind == 1 || kind == 2) {
			t.Errorf("extra of kind %d: %v", kind, err)
		}
	}
	raw, err := s2.Decode(nil, AppendAnchor(nil, block))
	if err != nil {
		t.Fatal(err)
	}
	for v := range 0x100 {
		raw[0] = byte(v)
		if _, err := DecodeAnchor(s2.Encode(nil, raw)); (err == nil) != (v == 1) {
			t.Errorf("anchor of version %d: %v", v, err)
		}
	}
}

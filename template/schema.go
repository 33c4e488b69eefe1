package template

import (
	"runtime"
	"strings"
	"sync"
	"weak"
)

// Schema is what the series of one shape have in common: everything about a
// line but the values of its labels and of its sample. Schemas are interned
// (see Intern), so that equal schemas are one pointer, and are never changed.
type Schema struct {
	Name   string   // metric name, the value of __name__
	Labels []string // names of the slot's own labels in exposed order; without __name__, without duplicates
	Whole  bool     // the own labels are the complete set: the target's labels are not merged under them

	// Metadata as exposed. Family is the name that TYPE, HELP and UNIT carry
	// ("" when the target exposed none); Type is a name of the OpenMetrics
	// specification such as "counter", or "".
	Family, Type, Help, Unit string
}

// appendKey appends what tells the schema from all others: every string with
// its length before it, the labels last.
func (s *Schema) appendKey(dst []byte) []byte {
	whole := byte(0)
	if s.Whole {
		whole = 1
	}
	dst = append(dst, whole)
	for _, t := range [...]string{s.Name, s.Family, s.Type, s.Help, s.Unit} {
		dst = appendString(dst, t)
	}
	for _, l := range s.Labels {
		dst = appendString(dst, l)
	}
	return dst
}

// interned holds the live schemas. Entries go when the last user of a schema
// does: a process that has seen a million shapes keeps only those in use.
var interned = struct {
	sync.Mutex
	byKey map[string]weak.Pointer[Schema]
}{byKey: map[string]weak.Pointer[Schema]{}}

// Intern returns the process's one schema equal to s. It copies what it keeps:
// the strings of s may point into a buffer that is used again.
func Intern(s Schema) *Schema {
	var buf [512]byte
	look := s.appendKey(buf[:0])
	interned.Lock()
	defer interned.Unlock()
	if p := interned.byKey[string(look)].Value(); p != nil {
		return p
	}
	key := string(look)
	c := &Schema{
		Name: strings.Clone(s.Name), Whole: s.Whole, Family: strings.Clone(s.Family),
		Type: strings.Clone(s.Type), Help: strings.Clone(s.Help), Unit: strings.Clone(s.Unit),
	}
	if len(s.Labels) > 0 {
		c.Labels = make([]string, len(s.Labels))
		for i, l := range s.Labels {
			c.Labels[i] = strings.Clone(l)
		}
	}
	w := weak.Make(c)
	interned.byKey[key] = w
	runtime.AddCleanup(c, func(key string) {
		interned.Lock()
		defer interned.Unlock()
		if interned.byKey[key].Value() == nil { // not one interned since
			delete(interned.byKey, key)
		}
	}, key)
	return c
}

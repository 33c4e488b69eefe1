package template

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"unsafe"
)

func TestEqualSchemasAreOne(t *testing.T) {
	base := func() Schema {
		return Schema{Name: "m", Labels: []string{"a", "b"}, Family: "f", Type: "counter", Help: "h", Unit: "seconds"}
	}
	first := Intern(base())
	if Intern(base()) != first {
		t.Error("an equal schema is another one")
	}
	for name, change := range map[string]func(*Schema){
		"name":         func(s *Schema) { s.Name = "n" },
		"whole":        func(s *Schema) { s.Whole = true },
		"family":       func(s *Schema) { s.Family = "" },
		"type":         func(s *Schema) { s.Type = "gauge" },
		"help":         func(s *Schema) { s.Help = "H" },
		"unit":         func(s *Schema) { s.Unit = "" },
		"label order":  func(s *Schema) { s.Labels = []string{"b", "a"} },
		"fewer labels": func(s *Schema) { s.Labels = s.Labels[:1] },
		"joined":       func(s *Schema) { s.Labels = []string{"ab"} },
		"moved border": func(s *Schema) { s.Help, s.Unit = "hs", "econds" },
	} {
		s := base()
		change(&s)
		got := Intern(s)
		if got == first {
			t.Errorf("%s: the schema is the same one", name)
		}
		if got.Name != s.Name || got.Whole != s.Whole || got.Family != s.Family || got.Type != s.Type || got.Help != s.Help || got.Unit != s.Unit || !slices.Equal(got.Labels, s.Labels) {
			t.Errorf("%s: got %+v, want %+v", name, got, s)
		}
	}
}

func TestInternedSchemasKeepNoBuffer(t *testing.T) {
	buf := []byte("metriclabelhelp")
	cut := func(i, j int) string { return unsafe.String(&buf[i], j-i) }
	s := Intern(Schema{Name: cut(0, 6), Labels: []string{cut(6, 11)}, Help: cut(11, 15)})
	copy(buf, "xxxxxxxxxxxxxxx")
	if s.Name != "metric" || s.Labels[0] != "label" || s.Help != "help" {
		t.Errorf("got %+v: the buffer's later content", s)
	}
	if Intern(Schema{Name: "metric", Labels: []string{"label"}, Help: "help"}) != s {
		t.Error("the schema is not found any more")
	}
}

func TestUnusedSchemasAreGivenBack(t *testing.T) {
	kept := Intern(Schema{Name: "kept"})
	for i := range 1000 {
		Intern(Schema{Name: fmt.Sprint("unused", i)})
	}
	known := func() (n int) {
		interned.Lock()
		defer interned.Unlock()
		return len(interned.byKey)
	}
	for range 100 { // cleanups run some time after the collection
		runtime.GC()
		if known() < 500 {
			break
		}
		runtime.Gosched()
	}
	if n := known(); n >= 500 {
		t.Errorf("%d schemas are known though one is used", n)
	}
	if Intern(Schema{Name: "kept"}) != kept {
		t.Error("the schema in use is not known any more")
	}
}

func TestManyIntern(t *testing.T) {
	var wg sync.WaitGroup
	got := make([][]*Schema, 8)
	for g := range got {
		wg.Go(func() {
			for i := range 200 {
				got[g] = append(got[g], Intern(Schema{Name: fmt.Sprint("shared", i)}))
				Intern(Schema{Name: fmt.Sprint("own", g, i)})
			}
		})
	}
	wg.Wait()
	for g := range got {
		if !slices.Equal(got[g], got[0]) {
			t.Errorf("goroutine %d has other schemas", g)
		}
	}
}

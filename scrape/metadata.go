package scrape

import (
	"sync"

	"promagent/template"
)

// keepFamilies is how many good scrapes a family's metadata outlives it.
const keepFamilies = 10

// renewEvery is the least number of scrapes from one renewal of schemas to
// the next: a target whose HELP changes all the time costs that much only.
const renewEvery = 32

// families is a target's metadata as last exposed. The loop writes it, the
// API reads it.
type families struct {
	mu      sync.Mutex // guards byName
	byName  map[string]*family
	scrape  int // counts expositions
	changed bool
	renewed int // value of scrape at the last renewal
}

type family struct {
	typ, help, unit string
	scrape          int // that it was last seen in
}

func (f *families) begin() { f.scrape++ }

// get returns the entry of a family, a new one when there is none. f.mu is held.
func (f *families) get(name []byte) *family {
	e := f.byName[string(name)]
	if e == nil {
		if f.byName == nil {
			f.byName = map[string]*family{}
		}
		e = &family{}
		f.byName[string(name)] = e
	}
	e.scrape = f.scrape
	return e
}

func (f *families) typ(name []byte, typ string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.get(name); e.typ != typ {
		f.changed = f.changed || e.typ != ""
		e.typ = typ
	}
}

func (f *families) help(name, help []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.get(name); e.help != string(help) {
		f.changed = f.changed || e.help != ""
		e.help = string(help)
	}
}

func (f *families) unit(name, unit []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.get(name); e.unit != string(unit) {
		f.changed = f.changed || e.unit != ""
		e.unit = string(unit)
	}
}

// end closes a good exposition: families not seen for long go. When metadata
// has changed, and not for the second time within renewEvery scrapes, renew
// gives schemas as they are now; else it is nil.
func (f *families) end() (renew func(*template.Schema) *template.Schema) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, e := range f.byName {
		if f.scrape-e.scrape > keepFamilies {
			delete(f.byName, name)
		}
	}
	if !f.changed || f.renewed > 0 && f.scrape-f.renewed < renewEvery {
		return nil
	}
	f.changed, f.renewed = false, f.scrape
	return func(s *template.Schema) *template.Schema {
		f.mu.Lock()
		defer f.mu.Unlock()
		e := f.byName[s.Family]
		if s.Family == "" || e == nil || s.Type == typeName(e.typ) && s.Help == e.help && s.Unit == e.unit {
			return s
		}
		n := *s
		n.Type, n.Help, n.Unit = typeName(e.typ), e.help, e.unit
		return template.Intern(n)
	}
}

// Metadata is what a target says of a metric family.
type Metadata struct {
	Family, Type, Help, Unit string
}

// list returns the metadata there is, in no order.
func (f *families) list() []Metadata {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]Metadata, 0, len(f.byName))
	for name, e := range f.byName {
		typ := e.typ
		if typ == "" {
			typ = "unknown"
		}
		all = append(all, Metadata{name, typ, e.help, e.unit})
	}
	return all
}

// Metadata yields what each target says of each of its families, of those
// without series, too. Families of several targets come several times.
func (m *Manager) Metadata(yield func(Metadata) bool) {
	for _, p := range m.all() {
		for _, l := range p.running() {
			for _, md := range l.memory.meta.list() {
				if !yield(md) {
					return
				}
			}
		}
	}
}

// size is the number of families and the bytes of their texts.
func (f *families) size() (n, bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, e := range f.byName {
		bytes += len(name) + len(e.typ) + len(e.help) + len(e.unit)
	}
	return len(f.byName), bytes
}

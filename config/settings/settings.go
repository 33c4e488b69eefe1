// Package settings has one table of all settings of Prometheus agent: its
// flags, its features, the keys of its config, and the labels that steer a
// scrape. It says of each whether it does its work here, and what a user gets
// where it does not. The log, `check config` and docs/compatibility.md speak
// from it, and tests hold it against Prometheus.
package settings

import (
	"slices"
	"strings"
)

// Kind is where a setting is given.
type Kind int

// The kinds.
const (
	Flag    Kind = iota // --name
	Feature             // --enable-feature=name
	Key                 // of the config
	Label               // of a target, by relabelling or in its group
)

// Status is what becomes of a setting.
type Status int

// The statuses.
const (
	Works     Status = iota // it does its work
	Refused                 // it is an error, as in Prometheus agent
	NoMeaning               // it is accepted, and an agent has, or this one needs, nothing that it would change
	NotYet                  // it is accepted, and its work is not done yet
)

// Setting is a row of the table.
type Setting struct {
	Kind Kind

	// Name is that of a flag, feature or label, or the path of a key: such as
	// scrape_configs.params, whether a list or a mapping is on the way, with
	// <name> for what the user names. It may begin with the name of a block
	// that stands in several places; see Paths.
	Name string

	// Below: the row is about all keys below this one, too. Either none of them
	// does anything, or the block goes as it is to code of Prometheus's.
	Below bool

	Value string // the row is about this value of the key alone; "": about all that have no row

	Status Status

	// Default is a value by which nothing is asked for, of what does nothing;
	// of keys so are false, zero and "".
	Default string

	Own bool // Prometheus has no such setting

	// Says is what the user gets instead, and can do; of a feature that works,
	// why there is nothing to switch.
	Says string

	// Test is the test that shows the setting's effect, or that it is refused.
	// One test gives all settings of the other statuses and sees what is said.
	Test string
}

// blocks are the places of what stands in several.
var blocks = map[string][]string{
	"<scrape>":  {"global", "scrape_configs"},
	"<http>":    {"scrape_configs", "remote_write", "scrape_configs.http_sd_configs", "scrape_configs.kubernetes_sd_configs"},
	"<proxy>":   {"<http>", "<http>.oauth2"},
	"<tls>":     {"<http>.tls_config", "<http>.oauth2.tls_config"},
	"<relabel>": {"scrape_configs.relabel_configs", "scrape_configs.metric_relabel_configs", "remote_write.write_relabel_configs"},
}

// All is the table.
func All() []Setting { return slices.Clone(table) }

// Paths are those of the keys that the row is about.
func (s Setting) Paths() []string { return expand(s.Name) }

func expand(path string) (paths []string) {
	block, below, _ := strings.Cut(path, ".")
	places, ok := blocks[block]
	if !ok {
		return []string{path}
	}
	for _, place := range places {
		for _, p := range expand(place) {
			if below != "" {
				p += "." + below
			}
			paths = append(paths, p)
		}
	}
	return paths
}

// Of is the row of a flag, feature or label.
func Of(k Kind, name string) (Setting, bool) {
	for _, s := range table {
		if s.Kind == k && s.Name == name {
			return s, true
		}
	}
	return Setting{}, false
}

// Features are those that can be switched on.
func Features() (names []string) {
	for _, s := range table {
		if s.Kind == Feature && s.Status == Works && s.Says == "" {
			names = append(names, s.Name)
		}
	}
	return names
}

// String is the setting as a user writes it.
func (s Setting) String() string {
	switch s.Kind {
	case Flag:
		return "--" + s.Name
	case Feature:
		return "--enable-feature=" + s.Name
	case Label:
		return s.Name
	}
	name := strings.TrimPrefix(s.Name, "<scrape>.")
	if s.Value != "" {
		name += ": " + s.Value
	}
	return name
}

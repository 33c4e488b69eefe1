package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/units"
	yamlv2 "go.yaml.in/yaml/v2"
	"go.yaml.in/yaml/v3"

	"promagent/remotewrite"
)

// ownKey is the top-level key that holds what Prometheus has no setting for.
// Prometheus refuses a file with it, so that nobody relies on it by mistake.
const ownKey = "prom_agent"

// Key is a key in the file that Prometheus does not know.
type Key struct {
	Line int
	Path string // from the top, such as prom_agent.remotes[0].name
}

// own is the block, resolved.
type own struct {
	keys    []Key // in the order of the file
	remotes []ownRemote
}

// ownRemote is what the block says of one remote.
type ownRemote struct {
	line, index int // of its name; in the list
	name        string
	limit       units.Base2Bytes // bytes per second; 0: none
	start       string
	newestFirst bool
}

// Where a remote begins that has no position yet.
const (
	startEnd    = "end"
	startOldest = "oldest"
)

// readOwn reads the block that takeOut has found; key is nil when there is
// none. Errors name line, field and value.
func readOwn(key, value *yaml.Node) (own, error) {
	var o own
	if key == nil {
		return o, nil
	}
	if n := anchored(value); n != nil { // what refers to it could not be read
		return o, fmt.Errorf("line %d: %s must not have an anchor (&%s): the rest of the file is read without it", n.Line, ownKey, n.Anchor)
	}
	o.keys = append(o.keys, Key{key.Line, ownKey})
	err := o.fields(ownKey, value, map[string]func(path string, v *yaml.Node) error{
		"remotes": o.readRemotes,
	})
	return o, err
}

// anchored is a node at or below n that has an anchor, or nil.
func anchored(n *yaml.Node) *yaml.Node {
	if n.Anchor != "" {
		return n
	}
	for _, c := range n.Content {
		if found := anchored(c); found != nil {
			return found
		}
	}
	return nil
}

// fields reads a mapping by its keys. One that is null is empty, and so is a
// value: its key is as if it were not there.
func (o *own) fields(path string, n *yaml.Node, read map[string]func(path string, v *yaml.Node) error) error {
	n = meant(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s must be a mapping, is %s", n.Line, path, said(n))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		line, k := n.Content[i].Line, meant(n.Content[i])
		if k.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: %s: a key must be a text, is %s", line, path, said(k))
		}
		f := read[k.Value]
		switch {
		case f == nil:
			var known []string
			for name := range read {
				known = append(known, name)
			}
			slices.Sort(known)
			return fmt.Errorf("line %d: %s: unknown key %q; known are %s", line, path, k.Value, strings.Join(known, ", "))
		case seen[k.Value]:
			return fmt.Errorf("line %d: %s: key %q stands there twice", line, path, k.Value)
		}
		seen[k.Value] = true
		o.keys = append(o.keys, Key{line, path + "." + k.Value})
		if v := meant(n.Content[i+1]); !isNull(v) {
			if err := f(path+"."+k.Value, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *own) readRemotes(path string, v *yaml.Node) error {
	if v.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: %s must be a list, is %s", v.Line, path, said(v))
	}
	for i, n := range v.Content {
		path := fmt.Sprintf("%s[%d]", path, i)
		r := ownRemote{index: i, start: startEnd}
		err := o.fields(path, n, map[string]func(string, *yaml.Node) error{
			"name": func(path string, v *yaml.Node) (err error) {
				r.line = v.Line
				r.name, err = scalar(path, v)
				return err
			},
			"max_bytes_per_second": func(path string, v *yaml.Node) (err error) {
				r.limit, err = bytesOf(path, v)
				return err
			},
			"start": func(path string, v *yaml.Node) (err error) {
				if r.start, err = scalar(path, v); err == nil && r.start != startEnd && r.start != startOldest {
					err = fmt.Errorf("line %d: %s: %q is neither %s nor %s", v.Line, path, r.start, startEnd, startOldest)
				}
				return err
			},
			"newest_first": func(path string, v *yaml.Node) (err error) {
				r.newestFirst, err = boolean(path, v)
				return err
			},
		})
		switch {
		case err != nil:
			return err
		case r.name == "":
			return fmt.Errorf("line %d: %s.name is missing", n.Line, path)
		case slices.ContainsFunc(o.remotes, func(other ownRemote) bool { return other.name == r.name }):
			return fmt.Errorf("line %d: %s.name: %q stands there twice", r.line, path, r.name)
		}
		o.remotes = append(o.remotes, r)
	}
	return nil
}

// scalar is a scalar's text, as it stands there.
func scalar(path string, v *yaml.Node) (string, error) {
	if v.Kind != yaml.ScalarNode {
		return "", fmt.Errorf("line %d: %s must be a text, is %s", v.Line, path, said(v))
	}
	return v.Value, nil
}

// boolean is true or false.
func boolean(path string, v *yaml.Node) (b bool, err error) {
	if v.Kind != yaml.ScalarNode || v.ShortTag() != "!!bool" || v.Decode(&b) != nil {
		return false, fmt.Errorf("line %d: %s must be true or false, is %s", v.Line, path, said(v))
	}
	return b, nil
}

// bytesOf is a size such as 250KB, in units of 1024 as elsewhere in the file.
func bytesOf(path string, v *yaml.Node) (units.Base2Bytes, error) {
	if v.Kind != yaml.ScalarNode {
		return 0, fmt.Errorf("line %d: %s must be a size such as 250KB, is %s", v.Line, path, said(v))
	}
	n, err := units.ParseBase2Bytes(v.Value)
	switch {
	case err != nil:
		err = errors.New("not a size such as 250KB")
	case n < 0:
		err = errors.New("out of range")
	case n == 0 && strings.ContainsAny(v.Value, "123456789"):
		err = errors.New("less than a byte")
	}
	if err != nil {
		return 0, fmt.Errorf("line %d: %s: %q: %w", v.Line, path, v.Value, err)
	}
	return n, nil
}

// meant is the node that an alias stands for, or n itself.
func meant(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// said is a node as an error shows it.
func said(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return fmt.Sprintf("%q", n.Value)
}

// apply gives the remotes what the block says of them.
func (o *own) apply(remotes []remotewrite.Config) error {
	for _, r := range o.remotes {
		i := slices.IndexFunc(remotes, func(c remotewrite.Config) bool { return c.Name == r.name })
		if i < 0 {
			var names []string
			for _, c := range remotes {
				if c.Name != "" {
					names = append(names, fmt.Sprintf("%q", c.Name))
				}
			}
			known := "no remote_write block has a name"
			if len(names) > 0 {
				known = "the names are " + strings.Join(names, ", ")
			}
			return fmt.Errorf("line %d: %s.remotes[%d].name: no remote_write block is named %q; %s", r.line, ownKey, r.index, r.name, known)
		}
		remotes[i].MaxBytesPerSecond = int64(r.limit)
		remotes[i].FromOldest = r.start == startOldest
		remotes[i].NewestFirst = r.newestFirst
	}
	return nil
}

// yaml is the block as it is in force, with defaults filled in; "" for one
// that says nothing.
func (o *own) yaml() (string, error) {
	if len(o.remotes) == 0 {
		return "", nil
	}
	type remote struct {
		Name  string           `yaml:"name"`
		Limit units.Base2Bytes `yaml:"max_bytes_per_second"`
		Start string           `yaml:"start"`
		First bool             `yaml:"newest_first"`
	}
	var remotes []remote
	for _, r := range o.remotes {
		remotes = append(remotes, remote{r.name, r.limit, r.start, r.newestFirst})
	}
	b, err := yamlv2.Marshal(map[string]any{ownKey: map[string]any{"remotes": remotes}})
	if err != nil {
		return "", fmt.Errorf("render %s: %w", ownKey, err)
	}
	return string(b), nil
}

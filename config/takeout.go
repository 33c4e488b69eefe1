package config

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// takeOut returns content without the top-level key of our own, and that key
// with its value; nil when it is not there. Every other line stays where it
// is, so that what is said about the rest has the lines of the file.
func takeOut(content []byte) (rest []byte, key, value *yaml.Node, err error) {
	if !bytes.Contains(content, []byte(ownKey)) {
		return content, nil, nil, nil
	}
	root := topLevel(content)
	if root == nil {
		return content, nil, nil, nil // Prometheus's parser says what it is
	}
	at := -1
	for i := 0; i < len(root.Content); i += 2 {
		switch k := meant(root.Content[i]); {
		case k.Kind != yaml.ScalarNode || k.Value != ownKey:
		case at >= 0:
			return nil, nil, nil, fmt.Errorf("line %d: key %q stands there twice, first in line %d", root.Content[i].Line, ownKey, root.Content[at].Line)
		default:
			at = i
		}
	}
	if at < 0 {
		return content, nil, nil, nil
	}
	key, value = root.Content[at], root.Content[at+1]
	others := slices.Delete(slices.Clone(root.Content), at, at+2)
	var next *yaml.Node
	if at+2 < len(root.Content) {
		next = root.Content[at+2]
	}
	if root.Style&yaml.FlowStyle != 0 {
		rest = withoutSpan(content, key, next)
	} else {
		rest = withoutLines(content, key, next)
	}
	var left []*yaml.Node
	if root := topLevel(rest); root != nil {
		left = root.Content
	}
	if !slices.EqualFunc(left, others, sameNode) {
		return nil, nil, nil, fmt.Errorf("line %d: %s cannot be told from the rest of the file: begin it in a line of its own", key.Line, ownKey)
	}
	return rest, key, value, nil
}

// topLevel is the mapping that content is, nil when it is none.
func topLevel(content []byte) *yaml.Node {
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil || len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil
	}
	return doc.Content[0]
}

// withoutLines makes comments of the lines from that of key to that of next,
// or to the end. Empty lines would lengthen a text before them.
func withoutLines(content []byte, key, next *yaml.Node) []byte {
	starts := lineStarts(content)
	from, to := lineStart(starts, key.Line, content), len(content)
	if next != nil {
		to = lineStart(starts, next.Line, content)
	}
	rest := slices.Clone(content[:from])
	for i := from; i < to; {
		end := i
		for end < to && lineBreak(content[end:]) == 0 {
			end++
		}
		n := lineBreak(content[end:])
		rest = append(append(rest, '#'), content[end:end+n]...)
		i = end + n
	}
	return append(rest, content[to:]...)
}

// withoutSpan makes spaces of what is between key and next, or the last brace.
func withoutSpan(content []byte, key, next *yaml.Node) []byte {
	starts := lineStarts(content)
	from, to := offset(content, starts, key), bytes.LastIndexByte(content, '}')
	if next != nil {
		to = offset(content, starts, next)
	}
	rest := slices.Clone(content)
	for i := from; i < to; {
		if n := lineBreak(content[i:]); n > 0 {
			i += n
			continue
		}
		rest[i] = ' '
		i++
	}
	return rest
}

// lineBreak is the length of the line break that b begins with, as YAML has
// them; 0: it begins with none.
func lineBreak(b []byte) int {
	for _, br := range []string{"\r\n", "\n", "\r", "\u0085", "\u2028", "\u2029"} {
		if len(b) >= len(br) && string(b[:len(br)]) == br {
			return len(br)
		}
	}
	return 0
}

// lineStarts are the offsets at which the lines begin.
func lineStarts(content []byte) []int {
	starts := []int{0}
	for i := 0; i < len(content); {
		n := lineBreak(content[i:])
		if n > 0 {
			starts = append(starts, i+n)
		}
		i += max(n, 1)
	}
	return starts
}

// lineStart is where a line begins, from 1; the end of content for those behind it.
func lineStart(starts []int, line int, content []byte) int {
	if line < 1 || line > len(starts) {
		return len(content)
	}
	return starts[line-1]
}

// offset is where a node begins.
func offset(content []byte, starts []int, n *yaml.Node) int {
	at := lineStart(starts, n.Line, content)
	if at == 0 && bytes.HasPrefix(content, []byte("\ufeff")) {
		at = len("\ufeff") // has no column
	}
	for range n.Column - 1 {
		if at < len(content) {
			_, size := utf8.DecodeRune(content[at:])
			at += size
		}
	}
	return at
}

// sameNode says whether two nodes are the same but for their place.
func sameNode(a, b *yaml.Node) bool {
	return a.Kind == b.Kind && a.Tag == b.Tag && a.Value == b.Value && a.Anchor == b.Anchor && slices.EqualFunc(a.Content, b.Content, sameNode)
}

package config

import (
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v2"

	"promagent/config/settings"
)

// idleSettings are those of a config and its scrape_config_files that do
// nothing here. The parser's structs do not tell what was given from what was
// filled in, so the files are read once more. They are good ones: the parser has
// taken them.
func idleSettings(content []byte, patterns []string) ([]settings.Given, error) {
	var file tree
	if err := yaml.Unmarshal(content, &file); err != nil {
		return nil, err
	}
	var more []any
	for _, pattern := range patterns {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			var file tree
			content, err := os.ReadFile(name)
			if err != nil {
				return nil, err // names the file
			}
			if err := yaml.Unmarshal(content, &file); err != nil {
				return nil, fmt.Errorf("%q: %w", name, err)
			}
			more = append(more, file.value)
		}
	}
	return settings.OfConfig(file.value, more...), nil
}

// tree is what a YAML document holds: map[string]any, []any, nil, or the text of
// a scalar as it stands in the file. Decoded into an interface, a job named 010
// would be one named 8.
type tree struct{ value any }

// UnmarshalYAML takes what fits: a scalar, a sequence or a mapping.
func (t *tree) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	if unmarshal(&text) == nil {
		t.value = text
		return nil
	}
	var elements []tree
	if unmarshal(&elements) == nil {
		list := make([]any, len(elements))
		for i, e := range elements {
			list[i] = e.value
		}
		t.value = list
		return nil
	}
	var members map[string]tree
	if err := unmarshal(&members); err != nil {
		return err
	}
	mapping := make(map[string]any, len(members))
	for key, m := range members {
		mapping[key] = m.value
	}
	t.value = mapping
	return nil
}

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
	var file any
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
			var file any
			content, err := os.ReadFile(name)
			if err != nil {
				return nil, err // names the file
			}
			if err := yaml.Unmarshal(content, &file); err != nil {
				return nil, fmt.Errorf("%q: %w", name, err)
			}
			more = append(more, file)
		}
	}
	return settings.OfConfig(file, more...), nil
}

package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v2"

	"promagent/discovery"
)

// explain turns an error of the parser about the file at path into ours: the
// same, but for discoveries that this build lacks. To the parser those are
// fields like any other that does not exist.
func explain(path string, content []byte, err error) error {
	return fmt.Errorf("parsing YAML file %s: %w", path, explainKinds(content, err))
}

// explainFile does so for an error about one of the scrape_config_files,
// which begins with the quoted path.
func explainFile(err error) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return err
	}
	where := strings.TrimSuffix(err.Error(), te.Error())
	path, e := strconv.Unquote(strings.TrimSuffix(where, ": "))
	if e != nil {
		return err
	}
	content, e := os.ReadFile(path)
	if e != nil {
		return err
	}
	return fmt.Errorf("%s%w", where, explainKinds(content, te))
}

// kindError is one message of the parser about a discovery that it does not
// know: line, field, kind, and the struct that would hold it.
var kindError = regexp.MustCompile(`^line (\d+): field ((\w+)_sd_configs) not found in type config\.(ScrapeConfig|AlertmanagerConfig)$`)

func explainKinds(content []byte, err error) error {
	var te *yaml.TypeError
	if !errors.As(err, &te) {
		return err
	}
	var lines []string
	jobs, explained, alerting := jobsMissing(content), 0, false
	for _, line := range te.Errors {
		m := kindError.FindStringSubmatch(line)
		switch {
		case m == nil || !discovery.Missing(m[3]):
			lines = append(lines, line)
		case m[4] == "AlertmanagerConfig": // would parse, and then be refused
			alerting = true
		default:
			job := "a job"
			if explained < len(jobs) && jobs[explained].kind == m[3] {
				job = fmt.Sprintf("job %q", jobs[explained].job)
			}
			explained++
			lines = append(lines, fmt.Sprintf("line %s: %s needs the service discovery %q, which is not part of this build: "+
				"build with `-tags all_sd` for %s", m[1], job, m[3], m[2]))
		}
	}
	switch {
	case len(lines) == 0 && alerting:
		return errors.New("field alerting is not allowed in agent mode")
	case len(lines) == 1 && explained == 1:
		return errors.New(lines[0])
	}
	return &yaml.TypeError{Errors: lines}
}

type jobKind struct{ job, kind string }

// jobsMissing lists the uses of discoveries that this build lacks, in the
// order of content, as far as it can be read without knowing its fields.
func jobsMissing(content []byte) []jobKind {
	var file struct {
		ScrapeConfigs []yaml.MapSlice `yaml:"scrape_configs"`
	}
	// An error has been reported by the parser; what could be read counts.
	_ = yaml.Unmarshal(content, &file)
	var uses []jobKind
	for _, fields := range file.ScrapeConfigs {
		job := "(unnamed)"
		if i := slices.IndexFunc(fields, func(f yaml.MapItem) bool { return f.Key == "job_name" }); i >= 0 {
			job = fmt.Sprint(fields[i].Value)
		}
		for _, f := range fields {
			key, _ := f.Key.(string)
			if kind, ok := strings.CutSuffix(key, "_sd_configs"); ok && discovery.Missing(kind) {
				uses = append(uses, jobKind{job, kind})
			}
		}
	}
	return uses
}

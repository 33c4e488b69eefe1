package settings

import (
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v2"
)

// Given is a setting that the user gives and that does nothing here.
type Given struct {
	Setting
	In []string // where in the config, when there are several places: "global", "job a", "remote b"
}

// OfFlag is a flag with the value that the user typed.
func OfFlag(name, value string) (Given, bool) {
	s, ok := Of(Flag, name)
	if !ok || !s.idle() || same(value, s.Default) {
		return Given{}, false
	}
	if value == "false" {
		s.Name = "no-" + name // as it was typed
	}
	return Given{Setting: s}, true
}

// OfFeatures are those of the values of --enable-feature, each a comma separated list.
func OfFeatures(values []string) (given []Given) {
	on := strings.Split(strings.Join(values, ","), ",")
	for _, s := range table {
		if s.Kind == Feature && s.idle() && slices.Contains(on, s.Name) {
			given = append(given, Given{Setting: s})
		}
	}
	return given
}

// OfConfig are the keys of a config and of its scrape_config_files. Each is a tree
// of map[string]any, []any, nil, and strings: the text of scalars as it stands in the file.
func OfConfig(file any, more ...any) (given []Given) {
	var jobs []any
	for _, f := range append([]any{file}, more...) {
		jobs = append(jobs, list(below(f, "scrape_configs"))...)
	}
	remotes := list(below(file, "remote_write"))
	for _, s := range table {
		if !s.idle() {
			continue
		}
		g := Given{Setting: s}
		block, path, _ := strings.Cut(s.Name, ".")
		switch {
		case s.Kind == Label:
			g.In = names("job", "job_name", jobs, func(job any) bool { return steers(job, s.Name) })
		case s.Kind != Key:
			continue
		case block == "<scrape>":
			g.In = s.inherited(below(below(file, "global"), path), path, jobs)
		case block == "scrape_configs":
			g.In = names("job", "job_name", jobs, func(job any) bool { return s.asks(below(job, path)) })
		case block == "remote_write":
			g.In = names("remote", "name", remotes, func(remote any) bool { return s.asks(below(remote, path)) })
		case s.asks(below(file, s.Name)):
			given = append(given, g)
			continue
		}
		if len(g.In) > 0 {
			given = append(given, g)
		}
	}
	return given
}

// inherited is where a setting of a scrape is given: in global, when a job takes
// it from there, and in jobs.
func (s Setting) inherited(global any, path string, jobs []any) (in []string) {
	own := func(job any) bool { return below(job, path) != nil }
	if s.asks(global) && slices.ContainsFunc(jobs, func(job any) bool { return !own(job) }) {
		in = []string{"global"}
	}
	return append(in, names("job", "job_name", jobs, func(job any) bool { return s.asks(below(job, path)) })...)
}

// steers says whether a job gives its targets a label that is not false. It sees
// labels that rules name, not those that they make from what they match.
func steers(job any, label string) bool {
	for _, rule := range list(below(job, "relabel_configs")) {
		replacement := below(rule, "replacement")
		if below(rule, "target_label") == label && !isFalse(replacement) || below(rule, "action") == "labelmap" && replacement == label {
			return true
		}
	}
	for _, group := range list(below(job, "static_configs")) {
		labels, _ := below(group, "labels").(map[string]any)
		if v, ok := labels[label]; ok && !isFalse(v) {
			return true
		}
	}
	return false
}

// isFalse says whether a label's value is false to Prometheus.
func isFalse(v any) bool {
	text, _ := v.(string)
	b, err := strconv.ParseBool(text)
	return err == nil && !b
}

// names are those of the elements for which f is true. A remote may have none;
// its URL says which one it is.
func names(what, key string, elements []any, f func(any) bool) (found []string) {
	for _, e := range elements {
		if !f(e) {
			continue
		}
		name, ok := below(e, key).(string)
		if !ok {
			text, _ := below(e, "url").(string)
			name = masked(text)
		}
		found = append(found, what+" "+name)
	}
	return found
}

// masked is a URL without what may be secret: its user and its query.
func masked(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "with a URL that cannot be parsed"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// idle says whether the setting does nothing.
func (s Setting) idle() bool { return s.Status == NoMeaning || s.Status == NotYet }

// asks says whether a value asks for anything beyond the default.
func (s Setting) asks(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, s.asks)
	case map[string]any:
		return len(v) > 0
	case string:
		if s.Value != "" {
			return v == s.Value
		}
		var typed any // what the parser takes the text for: no is false
		if err := yaml.Unmarshal([]byte(v), &typed); err != nil || typed == nil {
			return v != ""
		}
		return !reflect.ValueOf(typed).IsZero() && !same(fmt.Sprint(typed), s.Default) && !same(fmt.Sprint(typed), "0s")
	}
	return false
}

// same says whether two values are the same text or as long a time.
func same(a, b string) bool {
	x, err := model.ParseDuration(a)
	y, otherErr := model.ParseDuration(b)
	return a == b || err == nil && otherErr == nil && x == y
}

// below is what a mapping has at a path of keys; nil for nothing.
func below(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// The words of the log.
const (
	notYet    = "This setting is not implemented yet and has no effect: "
	noMeaning = "These settings of Prometheus do not apply to prom-agent and have no effect; see docs/compatibility.md for the reasons"
)

// Log writes a line for each setting whose work is not done yet, and one for
// all that have no meaning here.
func Log(l *slog.Logger, given []Given) {
	var idle []string
	for _, g := range given {
		if g.Status == NoMeaning {
			idle = append(idle, g.String())
			continue
		}
		attrs := []any{"setting", g.String()}
		if len(g.In) > 0 {
			attrs = append(attrs, "in", some(g.In))
		}
		l.Warn(notYet+g.Says, attrs...)
	}
	if len(idle) > 0 {
		l.Info(noMeaning, "settings", strings.Join(idle, ", "))
	}
}

// some are the first of the names, and how many there are beside them.
func some(names []string) string {
	const most = 4
	if more := len(names) - most; more > 1 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

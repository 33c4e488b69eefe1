package relabel

import (
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
)

// kind is how a rule is evaluated.
type kind uint8

const (
	byPrometheus kind = iota // as prometheus/model/relabel does it
	keepMatch                // action keep
	dropMatch                // action drop
	setConst                 // action replace with neither captures nor a variable target
	copyAll                  // action replace that copies the joined value, whatever it is
)

// rule is one compiled rule.
type rule struct {
	kind    kind
	always  bool                     // the expression matches every value
	cfg     *promrelabel.Config      // ours alone, never changed
	sources []string                 // cfg.SourceLabels
	matcher *labels.FastRegexMatcher // the same language as cfg.Regex, quicker for literals, prefixes and the like; nil when always
}

func compile(cfg *promrelabel.Config) (rule, error) {
	cfg, err := checked(cfg)
	if err != nil {
		return rule{}, err
	}
	r := rule{cfg: cfg, always: cfg.Regex.String() == "(.*)" || cfg.Regex.String() == ".*"}
	for _, l := range cfg.SourceLabels {
		r.sources = append(r.sources, string(l))
	}
	switch cfg.Action {
	case promrelabel.Keep:
		r.kind = keepMatch
	case promrelabel.Drop:
		r.kind = dropMatch
	case promrelabel.Replace:
		if strings.Contains(cfg.TargetLabel, "$") {
			return r, nil
		}
		switch {
		case !strings.Contains(cfg.Replacement, "$"):
			r.kind = setConst
		case cfg.Regex.String() == "(.*)" && (cfg.Replacement == "$1" || cfg.Replacement == "${1}"):
			r.kind = copyAll
		}
	}
	if r.kind == byPrometheus || r.always {
		return r, nil
	}
	if r.matcher, err = labels.NewFastRegexMatcher(cfg.Regex.String()); err != nil {
		return rule{}, err
	}
	return r, nil
}

// apply runs the rule over lb and says whether to keep it.
func (r *rule) apply(lb *labels.Builder) bool {
	switch r.kind {
	case keepMatch:
		return r.match(lb)
	case dropMatch:
		return !r.match(lb)
	case setConst:
		if r.match(lb) {
			lb.Set(r.cfg.TargetLabel, r.cfg.Replacement) // an empty value deletes
		}
		return true
	case copyAll:
		lb.Set(r.cfg.TargetLabel, r.value(lb))
		return true
	}
	return promrelabel.ProcessBuilder(lb, r.cfg)
}

// match says whether the expression matches the joined source labels.
func (r *rule) match(lb *labels.Builder) bool {
	return r.always || r.matcher.MatchString(r.value(lb))
}

// value joins the values of the source labels.
func (r *rule) value(lb *labels.Builder) string {
	switch len(r.sources) {
	case 0:
		return ""
	case 1:
		return lb.Get(r.sources[0])
	}
	var few [16]string
	values := few[:0]
	for _, l := range r.sources {
		values = append(values, lb.Get(l))
	}
	return strings.Join(values, r.cfg.Separator)
}

// Package relabel applies Prometheus's relabelling rules: to targets, to
// scraped series and to what is written to a remote. What a rule means is
// decided by prometheus/model/relabel; this package compiles a list of rules
// once and then answers the cheap cases itself: a keep or drop by literals or
// prefixes, a constant or copied label. Everything else is handed to the
// original.
//
// The path through it: Compile, then Apply per label set. Trace is Apply one
// rule at a time, for people who want to see what their rules do.
package relabel

import (
	"errors"
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
)

// Rules is a compiled list of rules. The zero value is the empty list, which
// keeps everything as it is. Rules are immutable: any number of goroutines may
// apply them.
type Rules struct {
	rules []rule
}

// Compile checks and compiles rules. It keeps copies of the configs, so that
// the caller may change or share them. An unset name validation scheme means
// UTF-8. Errors name the rule by its number, counted from 0.
func Compile(cfgs []*promrelabel.Config) (Rules, error) {
	if len(cfgs) == 0 {
		return Rules{}, nil
	}
	rules := make([]rule, len(cfgs))
	for i, cfg := range cfgs {
		r, err := compile(cfg)
		if err != nil {
			return Rules{}, fmt.Errorf("compile relabel rule %d: %w", i, err)
		}
		rules[i] = r
	}
	return Rules{rules: rules}, nil
}

// Empty says that there is no rule.
func (r Rules) Empty() bool { return len(r.rules) == 0 }

// Len is the number of rules.
func (r Rules) Len() int { return len(r.rules) }

// Apply runs the rules over lb in order. When one says to drop, it stops and
// returns false, and what lb then holds is of no meaning.
func (r Rules) Apply(lb *labels.Builder) (keep bool) {
	for i := range r.rules {
		if !r.rules[i].apply(lb) {
			return false
		}
	}
	return true
}

// Step is what one rule made of a label set.
type Step struct {
	Rule   *promrelabel.Config // not to be changed
	Output labels.Labels       // after the rule; empty once dropped
	Keep   bool                // false from the rule on that dropped the set
}

// Trace runs the rules over l and returns one step per rule.
func (r Rules) Trace(l labels.Labels) []Step {
	steps := make([]Step, len(r.rules))
	lb := labels.NewBuilder(l)
	keep := true
	for i := range r.rules {
		keep = keep && r.rules[i].apply(lb)
		out := labels.EmptyLabels()
		if keep {
			out = lb.Labels()
		}
		steps[i] = Step{Rule: r.rules[i].cfg, Output: out, Keep: keep}
	}
	return steps
}

// Equal says whether r and o are the same rules in the same order.
func (r Rules) Equal(o Rules) bool {
	if len(r.rules) != len(o.rules) {
		return false
	}
	for i := range r.rules {
		if !equal(r.rules[i].cfg, o.rules[i].cfg) {
			return false
		}
	}
	return true
}

// equal compares everything that a rule's behaviour depends on.
func equal(a, b *promrelabel.Config) bool {
	if len(a.SourceLabels) != len(b.SourceLabels) {
		return false
	}
	for i := range a.SourceLabels {
		if a.SourceLabels[i] != b.SourceLabels[i] {
			return false
		}
	}
	return a.Separator == b.Separator &&
		a.Regex.String() == b.Regex.String() &&
		a.Modulus == b.Modulus &&
		a.TargetLabel == b.TargetLabel &&
		a.Replacement == b.Replacement &&
		a.Action == b.Action &&
		a.NameValidationScheme == b.NameValidationScheme
}

// checked returns a copy of cfg that evaluation cannot trip over.
func checked(cfg *promrelabel.Config) (*promrelabel.Config, error) {
	if cfg == nil {
		return nil, errors.New("empty rule")
	}
	c := *cfg
	c.SourceLabels = append(model.LabelNames(nil), cfg.SourceLabels...)
	if c.Regex.Regexp == nil {
		return nil, errors.New("rule without a regular expression")
	}
	if err := c.Validate(model.UTF8Validation); err != nil {
		return nil, err
	}
	switch c.Action {
	case promrelabel.Replace, promrelabel.Keep, promrelabel.Drop, promrelabel.KeepEqual, promrelabel.DropEqual,
		promrelabel.HashMod, promrelabel.LabelMap, promrelabel.LabelDrop, promrelabel.LabelKeep,
		promrelabel.Lowercase, promrelabel.Uppercase:
		return &c, nil
	}
	return nil, fmt.Errorf("unknown relabel action %q", c.Action)
}

package web

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// parseSelector reads a series selector: name{label="value", "label"=~"regex"}.
// The whole of PromQL's parser would be large for this one parameter.
func parseSelector(text string) (matchers []*labels.Matcher, err error) {
	name, rest, braces := strings.Cut(text, "{")
	add := func(typ labels.MatchType, label, value string) error {
		m, err := labels.NewMatcher(typ, label, value)
		matchers = append(matchers, m)
		return err
	}
	if name = strings.TrimSpace(name); name != "" {
		if !model.LegacyValidation.IsValidMetricName(name) {
			return nil, fmt.Errorf("%q is no metric name", name)
		}
		if err := add(labels.MatchEqual, model.MetricNameLabel, name); err != nil {
			return nil, err
		}
	}
	for braces {
		if rest = strings.TrimSpace(rest); strings.HasPrefix(rest, "}") {
			if rest = strings.TrimSpace(rest[1:]); rest != "" {
				return nil, fmt.Errorf("unexpected %q after the selector", rest)
			}
			break
		}
		label, after, err := readLabel(rest)
		if err != nil {
			return nil, err
		}
		typ, after, ok := readOperator(strings.TrimSpace(after))
		if !ok {
			return nil, fmt.Errorf("no =, !=, =~ or !~ after label %q", label)
		}
		value, after, err := readString(strings.TrimSpace(after))
		if err != nil {
			return nil, fmt.Errorf("value of label %q: %w", label, err)
		}
		if err := add(typ, label, value); err != nil {
			return nil, err
		}
		rest = strings.TrimSpace(after)
		if next, ok := strings.CutPrefix(rest, ","); ok {
			rest = next
		} else if !strings.HasPrefix(rest, "}") {
			return nil, fmt.Errorf("no comma or closing brace after label %q", label)
		}
	}
	if len(matchers) == 0 {
		return nil, errors.New("the selector is empty")
	}
	return matchers, nil
}

// readLabel reads a label's name, quoted or not.
func readLabel(s string) (name, rest string, err error) {
	if s != "" && strings.ContainsRune("\"'`", rune(s[0])) {
		return readString(s)
	}
	end := strings.IndexFunc(s, func(r rune) bool {
		return !(r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
	})
	if end < 0 {
		end = len(s)
	}
	if name = s[:end]; !model.LegacyValidation.IsValidLabelName(name) {
		return "", "", fmt.Errorf("no label name at %q", s)
	}
	return name, s[end:], nil
}

func readOperator(s string) (typ labels.MatchType, rest string, ok bool) {
	for _, typ := range []labels.MatchType{labels.MatchRegexp, labels.MatchNotRegexp, labels.MatchNotEqual, labels.MatchEqual} {
		if rest, ok := strings.CutPrefix(s, typ.String()); ok {
			return typ, rest, true
		}
	}
	return 0, s, false
}

// readString reads a string in double quotes, single quotes or backticks.
func readString(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, "'") {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return "", "", fmt.Errorf("no string at %q", s)
		}
		value, err = strconv.Unquote(quoted)
		return value, s[len(quoted):], err
	}
	// Go has single quotes for one character only: read it as in double ones
	var b strings.Builder
	b.WriteByte('"')
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'':
			b.WriteByte('"')
			value, err = strconv.Unquote(b.String())
			return value, s[i+1:], err
		case c == '\\' && i+1 < len(s):
			if i++; s[i] != '\'' {
				b.WriteByte('\\')
			}
			b.WriteByte(s[i])
		case c == '"':
			b.WriteString(`\"`)
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("no end of the string at %q", s)
}

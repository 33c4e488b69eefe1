package expfmt

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/schema"
)

// span is a part of a line.
type span struct{ start, end int }

// pair is where a label's name and value lie, without their quotes.
type pair struct{ name, value span }

// dialect is how a format writes what stands between braces.
type dialect struct {
	blanks   bool // blanks between all parts, commas may be missing
	newlines bool // raw newlines inside values
	nuls     bool // NULs inside values
	metric   bool // a quoted string without value is the metric's name
}

var (
	textDialect     = dialect{blanks: true, newlines: true, nuls: true, metric: true}
	omDialect       = dialect{nuls: true, metric: true}
	exemplarDialect = dialect{}
)

// labelSet is where the parts of a series (or of an exemplar) lie.
type labelSet struct {
	named  bool // the metric's name is known
	metric span
	pairs  []pair
}

// parse reads what follows an opening brace at i-1 and returns the place
// behind the closing one, or -1 when b is not well-formed.
func (s *labelSet) parse(b []byte, i int, d dialect) int {
	if d.blanks {
		i = skip(b, i, blank)
	}
	for {
		var name span
		quoted := false
		switch c := at(b, i); {
		case c == '}':
			return i + 1
		case c == '"':
			end := skipQuoted(b, i, d.newlines || d.metric, false)
			if end < 0 {
				return -1
			}
			name, quoted, i = span{i + 1, end - 1}, true, end
		case class[c]&labelStart != 0:
			end := skip(b, i+1, labelPart)
			name, i = span{i, end}, end
		default:
			return -1
		}
		if d.blanks {
			i = skip(b, i, blank)
		}
		c := at(b, i)
		if quoted && (c == ',' || c == '}') {
			if s.named || !d.metric {
				return -1
			}
			s.named, s.metric = true, name
			i++
			if c == '}' {
				return i
			}
			if d.blanks {
				i = skip(b, i, blank)
			}
			continue
		}
		if c != '=' {
			return -1
		}
		i++
		if d.blanks && class[at(b, i)]&blank != 0 {
			for i < len(b) && (b[i] == 0 || class[b[i]]&blank != 0) {
				i++
			}
		}
		if at(b, i) != '"' {
			return -1
		}
		end := skipQuoted(b, i, d.newlines, d.nuls)
		if end < 0 {
			return -1
		}
		if !utf8.Valid(b[i:end]) {
			return -1
		}
		// NULs behind the closing quote count as part of the quoted text,
		// whose last byte is taken for the quote.
		s.pairs = append(s.pairs, pair{name, span{i + 1, end - 1}})
		i = end
		if d.blanks {
			i = skip(b, i, blank)
		}
		switch at(b, i) {
		case ',':
			i++
			if d.blanks {
				i = skip(b, i, blank)
			}
		case '}':
		default:
			if !d.blanks {
				return -1
			}
		}
	}
}

// skipQuoted returns the place behind the quoted text that begins with the
// quote at i, or -1 when it does not end. NULs make it ill-formed or, with
// nuls, are passed over, those behind the closing quote too.
func skipQuoted(b []byte, i int, newlines, nuls bool) int {
	start := i
	for i++; i < len(b); i++ {
		i = skip(b, i, inside)
		if i == len(b) {
			break
		}
		switch c := b[i]; {
		case c == '"':
			if !newlines && bytes.IndexByte(b[start:i], '\n') >= 0 {
				return -1
			}
			i++
			if nuls {
				i = skipNul(b, i)
			}
			return i
		case c == 0:
			if !nuls {
				return -1
			}
		case c == '\\':
			i++
			if nuls {
				i = skipNul(b, i)
			}
			if c := at(b, i); c == '\n' || c == 0 {
				return -1
			}
		}
	}
	return -1
}

// Labels returns the labels of the last entry, a Series or Created, as
// exposed: sorted, with duplicates and empty values, le and quantile in their
// canonical form. It must be called while the line is valid.
func (p *Parser) Labels() labels.Labels {
	s := string(p.series)
	p.builder.Reset()
	m := schema.Metadata{Name: unescape(s[p.own.metric.start:p.own.metric.end], true)}
	if p.opts.TypeAndUnitLabels {
		m.Type, m.Unit = p.mtype, p.unit
		m.AddToLabels(&p.builder)
	} else {
		p.builder.Add(model.MetricNameLabel, m.Name)
	}
	for _, l := range p.own.pairs {
		name := unescape(s[l.name.start:l.name.end], true)
		if p.opts.TypeAndUnitLabels && !m.IsEmptyFor(name) {
			continue // what the metadata says wins
		}
		p.builder.Add(name, p.canonical(name, unescape(s[l.value.start:l.value.end], true)))
	}
	p.builder.Sort()
	return p.builder.Labels()
}

// canonical gives the bounds of buckets and quantiles one spelling.
func (p *Parser) canonical(name, value string) string {
	switch {
	case p.mtype == model.MetricTypeHistogram && name == model.BucketLabel:
	case p.mtype == model.MetricTypeSummary && name == model.QuantileLabel:
	default:
		return value
	}
	f, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return value
	}
	return labels.FormatOpenMetricsFloat(f)
}

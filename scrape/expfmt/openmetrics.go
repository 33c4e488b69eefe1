package expfmt

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
)

// openMetricsLine parses a line of OpenMetrics.
func (p *Parser) openMetricsLine(b []byte) (Entry, error) {
	if p.ended {
		return Entry{}, errAfterEOF
	}
	p.own.named, p.own.pairs = false, p.own.pairs[:0]
	i := 0
	switch c := at(b, 0); {
	case class[c]&metricStart != 0:
		i = skip(b, 1, metricPart)
		p.own.named, p.own.metric = true, span{0, i}
		if at(b, i) == '{' {
			i = p.own.parse(b, i+1, omDialect)
		}
	case c == '{':
		i = p.own.parse(b, 1, omDialect)
	case c == '#':
		return p.openMetricsMeta(b)
	default:
		return Entry{}, p.malformed(b)
	}
	if i < 0 || !p.own.named {
		return Entry{}, p.malformed(b)
	}
	p.series = b[:i]
	e := Entry{Kind: Series, Series: p.series}
	if p.opts.StartTimestamps && p.isCreated() {
		e.Kind = Created
	}
	return p.openMetricsSample(e, b, i)
}

// isCreated says whether the current series is a start timestamp.
func (p *Parser) isCreated() bool {
	switch p.mtype {
	case model.MetricTypeCounter, model.MetricTypeHistogram, model.MetricTypeSummary:
		return bytes.HasSuffix(p.series[p.own.metric.start:p.own.metric.end], []byte("_created"))
	}
	return false
}

// openMetricsSample parses what follows the series that ends at i.
func (p *Parser) openMetricsSample(e Entry, b []byte, i int) (Entry, error) {
	word, i := openMetricsWord(b, i)
	var err error
	if e.Value, err = ParseFloat(word); err != nil {
		return Entry{}, p.malformed(b)
	}
	if i == len(b) {
		return e, nil
	}
	if hasExemplar(b, i) {
		return p.openMetricsExemplar(e, b, i+4)
	}
	word, end := openMetricsWord(b, i)
	if len(word) == 0 || string(word) == "#" && at(b, end) == ' ' {
		// The original takes the sample and trips over the rest.
		return e, p.malformed(b)
	}
	e.HasTime = true
	if e.Time, err = parseSeconds(word); err != nil {
		return Entry{}, p.malformed(b)
	}
	switch {
	case end == len(b):
		return e, nil
	case hasExemplar(b, end):
		return p.openMetricsExemplar(e, b, end+4)
	}
	return Entry{}, p.malformed(b)
}

// openMetricsWord returns what follows the one space at i up to the next, and
// the place behind it; nothing when there is no such thing.
func openMetricsWord(b []byte, i int) ([]byte, int) {
	if at(b, i) != ' ' {
		return nil, i
	}
	i++
	start := i
	for i < len(b) && b[i] != ' ' && b[i] != '\n' && b[i] != 0 {
		i++
	}
	return b[start:i], i
}

// hasExemplar says whether an exemplar begins at i.
func hasExemplar(b []byte, i int) bool { return bytes.HasPrefix(b[i:], []byte(" # {")) }

// openMetricsExemplar parses the exemplar whose opening brace is at i-1.
func (p *Parser) openMetricsExemplar(e Entry, b []byte, i int) (Entry, error) {
	p.exemplar.pairs = p.exemplar.pairs[:0]
	if i = p.exemplar.parse(b, i, exemplarDialect); i < 0 {
		return Entry{}, p.malformed(b)
	}
	word, i := openMetricsWord(b, i)
	var err error
	if e.Exemplar.Value, err = ParseFloat(word); err != nil {
		return Entry{}, p.malformed(b)
	}
	if i < len(b) {
		word, i = openMetricsWord(b, i)
		e.Exemplar.HasTime = true
		if e.Exemplar.Time, err = parseSeconds(word); err != nil || i < len(b) {
			return Entry{}, p.malformed(b)
		}
	}
	p.builder.Reset()
	s := string(b)
	for _, l := range p.exemplar.pairs {
		p.builder.Add(unescape(s[l.name.start:l.name.end], true), unescape(s[l.value.start:l.value.end], true))
	}
	p.builder.Sort()
	e.Exemplar.Labels = p.builder.Labels()
	e.HasExemplar = true
	return e, nil
}

// openMetricsMeta parses a line that begins with #.
func (p *Parser) openMetricsMeta(b []byte) (Entry, error) {
	kind, name, tail := openMetricsKeyword(b)
	if kind == EOF {
		if !onlyNul(b[tail:]) {
			return Entry{}, errAfterEOF
		}
		p.ended = true
		return Entry{Kind: EOF}, nil
	}
	if kind == Comment || tail < 0 || at(b, tail) != ' ' {
		return Entry{}, p.malformed(b)
	}
	e := Entry{Kind: kind, Metric: b[name.start:name.end]}
	text := b[tail+1:]
	if bytes.IndexByte(text, '\n') >= 0 { // with the NULs of the next line: see Lines.Whole
		text = text[:len(text)-1]
	}
	p.family.set(e.Metric)
	switch kind {
	case Type:
		t, ok := openMetricsType(text)
		if !ok {
			return Entry{}, p.malformed(b)
		}
		e.MetricType = t
		p.mtype, p.family.typ = t, t
	case Unit:
		e.Text = text
		p.unit = string(text)
		p.family.unit = append(p.family.unit[:0], text...)
		if p.unit != "" && !strings.HasSuffix(string(e.Metric), "_"+p.unit) {
			return Entry{}, p.malformed(b)
		}
	case Help:
		if !utf8.Valid(text) {
			return Entry{}, p.malformed(b)
		}
		e.Text = text
		if bytes.IndexByte(text, '\\') >= 0 {
			e.Text = []byte(unescape(string(text), true))
		}
		p.family.help = append(p.family.help[:0], e.Text...)
	}
	return e, nil
}

// openMetricsKeyword finds out what a line that begins with # is: metadata or
// EOF, else Comment, which OpenMetrics does not have. For metadata it returns
// where the metric's name lies and the place behind it, -1 when there is no
// name; for EOF the place behind the word.
func openMetricsKeyword(b []byte) (k Kind, name span, tail int) {
	if at(b, 1) != ' ' {
		return Comment, span{}, -1
	}
	for k, word := range [...]string{Help: "HELP ", Type: "TYPE ", Unit: "UNIT ", EOF: "EOF"} {
		if word == "" {
			continue
		}
		i := skipWord(b, 2, word)
		switch {
		case i < 0:
		case Kind(k) == EOF:
			return EOF, span{}, i
		default:
			name, tail = metaName(b, i)
			return Kind(k), name, tail
		}
	}
	return Comment, span{}, -1
}

// onlyNul says whether b holds nothing but NULs.
func onlyNul(b []byte) bool { return skipNul(b, 0) == len(b) }

// openMetricsType knows the types of OpenMetrics.
func openMetricsType(s []byte) (model.MetricType, bool) {
	switch string(s) {
	case "counter":
		return model.MetricTypeCounter, true
	case "gauge":
		return model.MetricTypeGauge, true
	case "histogram":
		return model.MetricTypeHistogram, true
	case "gaugehistogram":
		return model.MetricTypeGaugeHistogram, true
	case "summary":
		return model.MetricTypeSummary, true
	case "info":
		return model.MetricTypeInfo, true
	case "stateset":
		return model.MetricTypeStateset, true
	case "unknown":
		return model.MetricTypeUnknown, true
	}
	return "", false
}

package expfmt

import (
	"bytes"
	"unicode/utf8"

	"github.com/prometheus/common/model"
)

// textLine parses a line of the Prometheus text format.
func (p *Parser) textLine(b []byte) (Entry, error) {
	if p.ended {
		return Entry{Kind: EOF}, nil
	}
	i := skip(b, 0, blank)
	if i == len(b) {
		return Entry{Kind: Blank}, nil
	}
	p.own.named, p.own.pairs = false, p.own.pairs[:0]
	switch c := b[i]; {
	case class[c]&metricStart != 0:
		i = skip(b, i+1, metricPart)
		p.own.named, p.own.metric = true, span{0, i} // blanks before it are part of the name
		p.series = b[:i]
		i = skip(b, i, blank)
		if at(b, i) == '{' {
			i = p.own.parse(b, i+1, textDialect)
			if i < 0 {
				return Entry{}, p.malformed(b)
			}
			p.series = b[:i]
		}
		return p.textSample(b, i)
	case c == '{':
		i = p.own.parse(b, i+1, textDialect)
		if i < 0 || !p.own.named {
			return Entry{}, p.malformed(b)
		}
		p.series = b[:i]
		return p.textSample(b, i)
	case c == '#':
		return p.textComment(b, i)
	case c == 0: // the original takes it for the end of its input
		p.ended = true
		return Entry{Kind: EOF}, nil
	}
	return Entry{}, p.malformed(b)
}

// textSample parses what follows the series that ends at i.
func (p *Parser) textSample(b []byte, i int) (Entry, error) {
	e := Entry{Kind: Series, Series: p.series}
	i = skip(b, i, blank)
	start := i
	for i < len(b) && class[b[i]]&blank == 0 && b[i] != '{' && b[i] != '\n' && b[i] != 0 {
		i++
	}
	var err error
	if e.Value, err = ParseFloat(b[start:i]); err != nil {
		return Entry{}, p.malformed(b)
	}
	i = skip(b, i, blank)
	if i == len(b) {
		return e, nil
	}
	start = i
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	e.HasTime = true
	if e.Time, err = parseMillis(b[start:i]); err != nil {
		return Entry{}, p.malformed(b)
	}
	if skip(b, i, blank) != len(b) {
		return Entry{}, p.malformed(b)
	}
	return e, nil
}

// textComment parses a line whose first byte but blanks is the # at i.
func (p *Parser) textComment(b []byte, i int) (Entry, error) {
	kind, name, tail := textMeta(b, i)
	if kind == Comment || kind == EOF {
		p.ended = kind == EOF
		return Entry{Kind: kind, Text: b[i:]}, nil
	}
	if tail < 0 || at(b, tail) == 0 {
		return Entry{}, p.malformed(b)
	}
	e := Entry{Kind: kind, Metric: b[name.start:name.end]}
	text := b[tail:]
	if onlyBlank(text) {
		text = text[:0]
	} else {
		text = text[1:] // whatever it is
	}
	p.family.set(e.Metric)
	if kind == Type {
		t, ok := textType(text)
		if !ok {
			return Entry{}, p.malformed(b)
		}
		e.MetricType = t
		p.mtype, p.family.typ = t, t
		return e, nil
	}
	if !utf8.Valid(text) {
		return Entry{}, p.malformed(b)
	}
	e.Text = text
	if bytes.IndexByte(text, '\\') >= 0 {
		e.Text = []byte(unescape(string(text), false))
	}
	p.family.help = append(p.family.help[:0], e.Text...)
	return e, nil
}

// textMeta finds out what the # at i begins: a Comment, the EOF that the
// original sees in a NUL, or metadata. For metadata it returns where the
// metric's name lies and the place behind it, -1 when there is no name.
func textMeta(b []byte, i int) (k Kind, name span, tail int) {
	i++
	if class[at(b, i)]&blank == 0 {
		if bytes.IndexByte(b[i:], 0) >= 0 {
			return EOF, span{}, 0
		}
		return Comment, span{}, 0
	}
	i = skip(b, i, blank)
	if at(b, i) == 0 {
		return EOF, span{}, 0
	}
	k = Help
	j := skipWord(b, i, "HELP")
	if j < 0 {
		k = Type
		j = skipWord(b, i, "TYPE")
	}
	if j < 0 || class[at(b, j)]&blank == 0 {
		return Comment, span{}, 0
	}
	for j < len(b) && (b[j] == 0 || class[b[j]]&blank != 0) {
		j++
	}
	name, tail = metaName(b, j)
	return k, name, tail
}

// metaName reads the metric's name at i in a line of metadata.
func metaName(b []byte, i int) (name span, tail int) {
	switch c := at(b, i); {
	case c == '"':
		end := skipQuoted(b, i, true, false)
		return span{i + 1, end - 1}, end
	case class[c]&metricStart != 0:
		end := skip(b, i+1, metricPart)
		return span{i, end}, end
	}
	return span{}, -1
}

// onlyBlank says whether b holds blanks and NULs only.
func onlyBlank(b []byte) bool {
	for _, c := range b {
		if c != 0 && class[c]&blank == 0 {
			return false
		}
	}
	return true
}

// textType knows the types of the Prometheus format.
func textType(s []byte) (model.MetricType, bool) {
	switch string(s) {
	case "counter":
		return model.MetricTypeCounter, true
	case "gauge":
		return model.MetricTypeGauge, true
	case "histogram":
		return model.MetricTypeHistogram, true
	case "summary":
		return model.MetricTypeSummary, true
	case "untyped":
		return model.MetricTypeUnknown, true
	}
	return "", false
}

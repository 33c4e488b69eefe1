// Package expfmt turns the bytes of a scrape into lines, and lines into
// samples and metadata, for the Prometheus and the OpenMetrics text formats.
// It never holds a whole body.
//
// The path through it: Lines cuts the stream. Split, ParseFloat and
// ParseTimestamp take a line apart whose series text the caller knows already,
// which is nearly every line. Every other line goes through Lines.Whole to
// Parser.Line, which has the full semantics of Prometheus's model/textparse:
// fuzz tests hold the two equal.
//
// The package does no I/O but reading from the io.Reader that it is handed,
// and knows nothing of targets.
package expfmt

import (
	"fmt"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Kind is what a line is.
type Kind uint8

// The kinds of lines.
const (
	Blank   Kind = iota // nothing
	Comment             // Text
	Help                // Metric and Text
	Type                // Metric and MetricType
	Unit                // Metric and Text
	Series              // a sample
	Created             // a start timestamp (_created) of an OpenMetrics counter, histogram or summary; only with Options.StartTimestamps, else a Series
	EOF                 // the end of the exposition: call Finish and no more
)

// Entry is what a line says. Its slices are valid as long as the line is.
type Entry struct {
	Kind Kind

	// Of a Series or Created.
	Series      []byte // the exposed text of name and labels
	Value       float64
	HasTime     bool
	Time        int64 // ms
	HasExemplar bool
	Exemplar    Exemplar

	// Of metadata and comments.
	Metric     []byte // the family's name
	Text       []byte // the help text, unit or comment
	MetricType model.MetricType
}

// Exemplar is an exemplar of a sample.
type Exemplar struct {
	Labels  labels.Labels
	Value   float64
	HasTime bool
	Time    int64 // ms
}

// Options change what a Parser does.
type Options struct {
	TypeAndUnitLabels bool // add __type__ and __unit__ to every series
	StartTimestamps   bool // tell _created lines of OpenMetrics apart, as Created
}

// Family is the metadata of the metric family that the parser is in.
type Family struct {
	Name, Help, Unit string
	Type             model.MetricType // "" when there was no TYPE line
}

// Parser understands one line at a time. It is for one exposition.
type Parser struct {
	format Format
	opts   Options
}

// NewParser returns a parser at the beginning of an exposition. It fails for
// formats that do not consist of lines.
func NewParser(f Format, opts Options) (*Parser, error) {
	if !f.Text() && !f.OpenMetrics() {
		return nil, fmt.Errorf("parse %s: format is not supported", f)
	}
	return &Parser{format: f, opts: opts}, nil
}

// Line parses one line, which comes from Lines.Whole. An error ends the
// exposition.
func (p *Parser) Line(line []byte) (Entry, error) { return Entry{}, nil }

// Labels returns the labels of the last entry, a Series or Created, as
// exposed: sorted, duplicates and empty values included, le and quantile in
// their canonical form. It must be called before the line is gone.
func (p *Parser) Labels() labels.Labels { return labels.EmptyLabels() }

// Family returns the metadata that applies to a metric of the given name at
// this place, false when its family has none.
func (p *Parser) Family(metric string) (Family, bool) { return Family{}, false }

// SetFamily puts the parser behind the metadata lines of f, for a caller that
// knew these lines and did not hand them to Line.
func (p *Parser) SetFamily(f Family) {}

// End returns what is wrong with an exposition that ends here: ErrNoEOF for
// OpenMetrics without its end mark.
func (p *Parser) End() error { return nil }

// Finish is to be called once, after an Entry of Kind EOF or after Next has
// returned io.EOF. It reads the rest of lines and returns what is wrong with
// the end of the exposition.
func (p *Parser) Finish(lines *Lines) error { return p.End() }

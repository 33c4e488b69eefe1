// Package expfmt turns the bytes of a scrape into lines, and lines into
// samples and metadata, for the Prometheus and the OpenMetrics text formats.
// It never holds a whole body.
//
// The path through it: Lines cuts the stream. Split, ParseFloat and
// ParseTimestamp take a line apart whose series text the caller knows already,
// which is nearly every line. Every other line goes through Lines.Whole to
// Parser.Line, which has the full semantics of Prometheus's model/textparse:
// fuzz tests hold the two equal. Parser.Finish ends an exposition.
//
// The package does no I/O but reading from the io.Reader that it is handed,
// and knows nothing of targets.
package expfmt

import (
	"errors"
	"fmt"
	"io"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
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
	EOF                 // the end of the exposition: call Finish and nothing else
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

// Parser understands one line at a time. It is for one exposition: the
// metadata lines change what the series behind them mean.
type Parser struct {
	format Format
	opts   Options

	mtype  model.MetricType // of the last TYPE line
	unit   string           // of the last UNIT line
	family family

	series []byte   // of the last Series or Created
	own    labelSet // of it

	exemplar labelSet
	builder  labels.ScratchBuilder

	ended bool // the exposition has said so
}

// NewParser returns a parser at the beginning of an exposition. It fails for
// formats that do not consist of lines.
func NewParser(f Format, opts Options) (*Parser, error) {
	if !f.Text() && !f.OpenMetrics() {
		return nil, fmt.Errorf("parse %s: format is not supported", f)
	}
	return &Parser{format: f, opts: opts, builder: labels.NewScratchBuilder(16)}, nil
}

// Reset puts the parser at the beginning of another exposition, with the
// formats that NewParser takes.
func (p *Parser) Reset(f Format) error {
	if !f.Text() && !f.OpenMetrics() {
		return fmt.Errorf("parse %s: format is not supported", f)
	}
	p.format, p.mtype, p.unit = f, "", ""
	p.family.set(nil)
	p.ended = false
	return nil
}

// Line parses one line, as Lines.Whole returns it. An error ends the
// exposition; entries before it were valid, and so is a Series that comes with
// it: OpenMetrics may have a good sample before the bad end of a line.
func (p *Parser) Line(line []byte) (Entry, error) {
	if p.format.OpenMetrics() {
		return p.openMetricsLine(line)
	}
	return p.textLine(line)
}

// End returns what is wrong with an exposition that ends here: for OpenMetrics
// without its end mark ErrNoEOF.
func (p *Parser) End() error {
	if p.format.OpenMetrics() && !p.ended {
		return ErrNoEOF
	}
	return nil
}

// Finish is to be called once, after an Entry of Kind EOF or after Next has
// returned io.EOF. It reads the rest of lines, so that Bytes is the body's
// size, and returns what is wrong with the end of the exposition. (A body
// without a single byte is a good one in any format: that is for the caller.)
func (p *Parser) Finish(lines *Lines) error {
	data, err := lines.drain()
	if err != nil {
		return err
	}
	if data && p.format.OpenMetrics() && p.ended {
		return errAfterEOF
	}
	return p.End()
}

var errAfterEOF = errors.New("unexpected data after # EOF")

// maxQuoted limits the lines that error messages are made of.
const maxQuoted = 4 << 10

// malformed says what is wrong with a line that is not well-formed, in the
// words of Prometheus, which people know and search for.
func (p *Parser) malformed(line []byte) error {
	if len(line) > maxQuoted {
		return fmt.Errorf("malformed line: %q...", line[:128])
	}
	body := append(append([]byte(nil), line...), "\n# EOF\n"...)
	tp, err := textparse.New(body, p.format.String(), nil, textparse.ParserOptions{})
	for err == nil {
		_, err = tp.Next()
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("malformed line: %q", line)
	}
	return err
}

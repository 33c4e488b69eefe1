package expfmt

import (
	"strings"

	"github.com/prometheus/common/model"
)

// Family is the metadata of a metric family.
type Family struct {
	Name, Help, Unit string
	Type             model.MetricType // "" when there was no TYPE line
}

// family is the family that the last metadata line named.
type family struct {
	name, help, unit []byte // buffers that are used again
	typ              model.MetricType
}

// set makes name the current family. What was said of another one is forgotten.
func (f *family) set(name []byte) {
	if string(name) == string(f.name) {
		return
	}
	f.name = append(f.name[:0], name...)
	f.help, f.unit, f.typ = f.help[:0], f.unit[:0], ""
}

// Family returns the metadata that applies at this place to a metric of the
// given name: what the metadata lines before said, when the metric belongs to
// the family that they name.
func (p *Parser) Family(metric string) (Family, bool) {
	f := &p.family
	if len(f.name) == 0 || !belongs(metric, string(f.name), f.typ) {
		return Family{}, false
	}
	return Family{Name: string(f.name), Help: string(f.help), Unit: string(f.unit), Type: f.typ}, true
}

// SetFamily puts the parser behind the metadata lines of f, for a caller that
// knows these lines and does not hand them to Line. Without a type or unit in
// f those of the lines before go on to hold for labels, as they would.
func (p *Parser) SetFamily(f Family) {
	p.family.name = append(p.family.name[:0], f.Name...)
	p.family.help = append(p.family.help[:0], f.Help...)
	p.family.unit = append(p.family.unit[:0], f.Unit...)
	p.family.typ = f.Type
	if f.Type != "" {
		p.mtype = f.Type
	}
	if f.Unit != "" {
		p.unit = f.Unit
	}
}

// belongs says whether a metric is one of the family's, by its name.
func belongs(metric, family string, typ model.MetricType) bool {
	if !strings.HasPrefix(metric, family) {
		return false
	}
	var suffixes []string
	switch typ {
	case model.MetricTypeCounter:
		suffixes = counterSuffixes
		family = strings.TrimSuffix(family, "_total") // the Prometheus format has it in the family's name
	case model.MetricTypeHistogram:
		suffixes = histogramSuffixes
	case model.MetricTypeGaugeHistogram:
		suffixes = gaugeHistogramSuffixes
	case model.MetricTypeSummary:
		suffixes = summarySuffixes
	case model.MetricTypeInfo:
		suffixes = infoSuffixes
		family = strings.TrimSuffix(family, "_info")
	}
	for _, s := range suffixes {
		if base, ok := strings.CutSuffix(metric, s); ok {
			metric = base
			break
		}
	}
	return metric == family
}

// The suffixes that a type adds to the family's name.
var (
	counterSuffixes        = []string{"_total"}
	histogramSuffixes      = []string{"_bucket", "_sum", "_count"}
	gaugeHistogramSuffixes = []string{"_bucket", "_gsum", "_gcount"}
	summarySuffixes        = []string{"_sum", "_count"}
	infoSuffixes           = []string{"_info"}
)

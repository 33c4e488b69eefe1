package remotewrite

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/prompb"

	"promagent/template"
)

// metadataTypes are the types as 1.x numbers them.
var metadataTypes = map[string]prompb.MetricMetadata_MetricType{
	"counter": prompb.MetricMetadata_COUNTER, "gauge": prompb.MetricMetadata_GAUGE, "histogram": prompb.MetricMetadata_HISTOGRAM,
	"gaugehistogram": prompb.MetricMetadata_GAUGEHISTOGRAM, "summary": prompb.MetricMetadata_SUMMARY,
	"info": prompb.MetricMetadata_INFO, "stateset": prompb.MetricMetadata_STATESET,
}

// metadataRequests returns the 1.x requests, not compressed, that carry the
// metadata of the schemas: each family with one type, help and unit once, at
// most perRequest in a request; counts are how many each holds.
func metadataRequests(schemas []*template.Schema, perRequest int) (requests [][]byte, counts []int, err error) {
	type family struct{ name, typ, help, unit string }
	seen := map[family]bool{}
	var all []family
	for _, s := range schemas {
		f := family{s.Family, s.Type, s.Help, s.Unit}
		if s.Family == "" || seen[f] {
			continue
		}
		seen[f] = true
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b family) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.typ, b.typ), strings.Compare(a.help, b.help), strings.Compare(a.unit, b.unit))
	})
	for part := range slices.Chunk(all, max(perRequest, 1)) {
		var req prompb.WriteRequest
		for _, f := range part {
			req.Metadata = append(req.Metadata, prompb.MetricMetadata{
				MetricFamilyName: f.name, Type: metadataTypes[f.typ], Help: f.help, Unit: f.unit,
			})
		}
		b, err := req.Marshal()
		if err != nil {
			return nil, nil, err
		}
		requests, counts = append(requests, b), append(counts, len(part))
	}
	return requests, counts, nil
}

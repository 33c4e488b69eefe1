package remotewrite

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
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

// sendMetadata sends the metadata of all live series every interval, in 1.x
// messages of their own, until ctx ends.
func (d *delivery) sendMetadata(ctx context.Context) {
	interval := d.cfg.Load().Metadata.SendInterval
	if interval <= 0 {
		interval = time.Minute
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		requests, counts, err := metadataRequests(template.Live(), d.cfg.Load().Metadata.MaxSamplesPerSend)
		if err != nil {
			d.complain("Metadata cannot be encoded", err)
			continue
		}
		for i, raw := range requests {
			d.storeMetadata(ctx, snappy.Encode(nil, raw), counts[i])
		}
	}
}

// storeMetadata attempts one request until there is a final answer.
func (d *delivery) storeMetadata(ctx context.Context, packed []byte, n int) {
	cfg := d.cfg.Load()
	back := backoff{min: cfg.Queue.MinBackoff, max: cfg.Queue.MaxBackoff}
	d.metrics.metadataBytes.Add(float64(len(packed)))
	for attempt := 0; ctx.Err() == nil; attempt++ {
		reconfigured := d.reconfigured()
		if _, err := d.rate.take(ctx, len(packed)); err != nil {
			return
		}
		if attempt > 0 {
			d.metrics.metadataRetried.Add(float64(n))
		}
		_, err := d.client.Load().Store(ctx, packed, attempt)
		d.metrics.metadata.Add(float64(n))
		if err == nil {
			return
		}
		var se *SendError
		if !errors.As(err, &se) || !se.Recoverable {
			d.metrics.metadataFailed.Add(float64(n))
			d.complain("Metadata was refused by the remote", err, "count", n)
			return
		}
		if sleep(ctx, back.next(se.RetryAfter), reconfigured) != nil {
			return
		}
	}
}

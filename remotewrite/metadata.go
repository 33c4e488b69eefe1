package remotewrite

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// metadataTypes are the types as 1.x numbers them.
var metadataTypes = map[string]prompb.MetricMetadata_MetricType{
	"counter": prompb.MetricMetadata_COUNTER, "gauge": prompb.MetricMetadata_GAUGE, "histogram": prompb.MetricMetadata_HISTOGRAM,
	"gaugehistogram": prompb.MetricMetadata_GAUGEHISTOGRAM, "summary": prompb.MetricMetadata_SUMMARY,
	"info": prompb.MetricMetadata_INFO, "stateset": prompb.MetricMetadata_STATESET,
}

// Metadata is what a target says of a metric family.
type Metadata struct{ Family, Type, Help, Unit string }

// metadataRequests returns the 1.x requests, not compressed, that carry the
// metadata of the targets: each family with one type, help and unit once, at
// most perRequest in a request; counts are how many each holds.
func metadataRequests(of iter.Seq[Metadata], perRequest int) (requests [][]byte, counts []int, err error) {
	seen := map[Metadata]bool{}
	for f := range of {
		seen[f] = true
	}
	all := slices.SortedFunc(maps.Keys(seen), func(a, b Metadata) int {
		return cmp.Or(strings.Compare(a.Family, b.Family), strings.Compare(a.Type, b.Type), strings.Compare(a.Help, b.Help), strings.Compare(a.Unit, b.Unit))
	})
	for part := range slices.Chunk(all, max(perRequest, 1)) {
		var req prompb.WriteRequest
		for _, f := range part {
			req.Metadata = append(req.Metadata, prompb.MetricMetadata{
				MetricFamilyName: f.Family, Type: metadataTypes[f.Type], Help: f.Help, Unit: f.Unit,
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

// sendMetadata sends the metadata of all targets every interval, in 1.x
// messages of their own, until ctx ends.
func (d *delivery) sendMetadata(ctx context.Context) {
	if d.metadata == nil {
		return
	}
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
		requests, counts, err := metadataRequests(d.metadata, d.cfg.Load().Metadata.MaxSamplesPerSend)
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

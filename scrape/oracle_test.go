package scrape

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/agent"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// oracle is the storage of Prometheus's agent, its real one. What comes of a run is read
// from its write-ahead log. Left out is what docs/compatibility.md says that we do otherwise:
// a scrape has a series once per time, no stale marker is older than the series' newest sample, and
// no other sample is at that sample's time.
// Its exemplars are put right, too: see Append.
type oracle struct {
	*agent.DB
	dir  string
	out  *logged
	last map[string]int64 // by series, of the newest committed sample, ms

	refused int // samples, by the storage for their order; stale markers do not count
}

func newOracle(t *testing.T, out *logged, window time.Duration, r prometheus.Registerer) *oracle {
	t.Helper()
	o := agent.DefaultOptions()
	o.StripeSize = 64
	o.OutOfOrderTimeWindow = window.Milliseconds()
	dir := t.TempDir()
	db, err := agent.Open(slog.New(slog.DiscardHandler), r, nil, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return &oracle{DB: db, dir: dir, out: out, last: map[string]int64{}}
}

// close ends the storage, and reads what it has written.
func (o *oracle) close(t *testing.T) {
	t.Helper()
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if err := o.read(); err != nil {
		t.Fatal(err)
	}
}

func (o *oracle) read() error {
	segments, err := wlog.NewSegmentsReader(filepath.Join(o.dir, "wal"))
	if err != nil {
		return err
	}
	defer segments.Close()
	series := map[chunks.HeadSeriesRef]string{}
	d := record.NewDecoder(labels.NewSymbolTable(), slog.New(slog.DiscardHandler))
	for r := wlog.NewReader(segments); ; {
		if !r.Next() {
			return r.Err()
		}
		switch rec := r.Record(); d.Type(rec) {
		case record.Series:
			all, err := d.Series(rec, nil)
			if err != nil {
				return err
			}
			for _, s := range all {
				series[s.Ref] = s.Labels.String()
			}
		case record.Samples, record.SamplesV2:
			all, err := d.Samples(rec, nil)
			if err != nil {
				return err
			}
			// A record is a scrape: ours has the samples of a series by time, this one as exposed.
			slices.SortStableFunc(all, func(x, y record.RefSample) int { return int(x.T - y.T) })
			for _, s := range all {
				o.out.add(series[s.Ref], s.T, s.V)
			}
		case record.Exemplars:
			all, err := d.Exemplars(rec, nil)
			if err != nil {
				return err
			}
			for _, x := range all {
				o.out.addExemplar(series[x.Ref], x.Labels, x.T, x.V)
			}
		default:
			return errors.New("a record of another type")
		}
	}
}

func (o *oracle) AppenderV2(ctx context.Context) storage.AppenderV2 {
	return &oracleAppender{AppenderV2: o.DB.AppenderV2(ctx), o: o, times: map[string]map[int64]bool{}}
}

// oracleAppender is one scrape.
type oracleAppender struct {
	storage.AppenderV2
	o         *oracle
	at        int64
	times     map[string]map[int64]bool // that a series has samples at
	exemplars []func(storage.ExemplarAppenderV2) error
}

// Append hands a sample on. Exemplars wait for the commit: the storage would take those of a
// scrape that fails for known, although it has not logged them. And their labels are unescaped,
// which Prometheus's parser leaves undone.
func (a *oracleAppender) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions) (storage.SeriesRef, error) {
	series := ls.WithoutEmpty().String()
	if a.times[series][t] {
		return 0, storage.ErrDuplicateSampleForTimestamp
	}
	if opts.RejectOutOfOrder {
		if last, ok := a.o.last[series]; ok && t <= last {
			return 0, storage.ErrOutOfOrderSample
		}
		for have := range a.times[series] {
			if t <= have {
				return 0, storage.ErrOutOfOrderSample
			}
		}
	}
	if last, ok := a.o.last[series]; ok && t == last && !opts.RejectOutOfOrder { // the storage takes it within the window
		a.o.refused++
		return 0, storage.ErrOutOfOrderSample
	}
	exemplars := slices.Clone(opts.Exemplars)
	opts.Exemplars = nil
	ref, err := a.AppenderV2.Append(ref, ls, st, t, v, h, fh, opts)
	if errors.Is(err, storage.ErrOutOfOrderSample) && !opts.RejectOutOfOrder {
		a.o.refused++
	}
	if err != nil {
		return ref, err
	}
	if a.times[series] == nil {
		a.times[series] = map[int64]bool{}
	}
	a.times[series][t] = true
	if ls.Get("__name__") == "up" {
		a.at = t
	}
	if len(exemplars) > 0 {
		for i := range exemplars {
			exemplars[i].Labels = unescaped(exemplars[i].Labels)
		}
		a.exemplars = append(a.exemplars, func(to storage.ExemplarAppenderV2) error {
			_, err := to.AppendExemplars(ref, ls, exemplars)
			return err
		})
	}
	return ref, nil
}

// unescaped are labels whose values were written in OpenMetrics.
func unescaped(ls labels.Labels) labels.Labels {
	escapes := strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\n`, "\n")
	var sb labels.ScratchBuilder
	ls.Range(func(l labels.Label) { sb.Add(escapes.Replace(l.Name), escapes.Replace(l.Value)) })
	sb.Sort()
	return sb.Labels()
}

func (a *oracleAppender) Commit() error {
	a.o.out.mu.Lock()
	defer a.o.out.mu.Unlock()
	if !a.o.out.scraped(a.at) {
		return a.Rollback()
	}
	for _, f := range a.exemplars {
		if err := f(a.AppenderV2.(storage.ExemplarAppenderV2)); err != nil {
			if _, refused := errors.AsType[*storage.AppendPartialError](err); !refused {
				return err
			}
		}
	}
	for series, times := range a.times {
		for t := range times {
			if last, ok := a.o.last[series]; !ok || t > last {
				a.o.last[series] = t
			}
		}
	}
	return a.AppenderV2.Commit()
}

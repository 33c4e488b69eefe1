package scrape

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"

	"promagent/relabel"
	"promagent/template"
)

// scraper feeds bodies to one target's memory, as its loop would.
type scraper struct {
	t      testing.TB
	rules  *rules
	memory *memory
	guards *guards
	late   int64                      // the out-of-order window
	slots  map[string]*template.Block // series -> the block that last had a value for it
	closed map[string]map[*template.Block]bool
}

func newScraper(t testing.TB, change func(*JobConfig)) *scraper {
	cfg := &JobConfig{Job: "test", HonorTimestamps: true, ValidationScheme: model.UTF8Validation}
	if change != nil {
		change(cfg)
	}
	metric, err := relabel.Compile(cfg.MetricRelabel)
	if err != nil {
		t.Fatal(err)
	}
	return &scraper{
		t: t, rules: &rules{cfg, metric}, guards: &guards{},
		memory: &memory{series: series{target: labels.FromStrings("instance", "i", "job", "test")}, lastTime: math.MinInt64},
		slots:  map[string]*template.Block{}, closed: map[string]map[*template.Block]bool{},
	}
}

// scrape reads a body at a time and returns what would be logged: a line per
// sample, sorted, of the series without job and instance.
func (s *scraper) scrape(at int64, contentType, body string) (got []string, c counts, err error) {
	s.t.Helper()
	w := &work{builder: labels.NewBuilder(labels.EmptyLabels())}
	rd := &reader{r: s.rules, m: s.memory, w: w, guard: s.guards.guard(pair{"test", "i"}), t: at, late: s.late}
	w.begin(s.memory.series.len())
	err = rd.read(strings.NewReader(body), contentType)
	batch := rd.finishBatch(err)
	return s.render(&batch), rd.c, err
}

// render also checks that a series never returns to a slot that it has left.
func (s *scraper) render(b *template.Batch) (got []string) {
	s.t.Helper()
	for _, p := range b.Parts {
		var sb labels.ScratchBuilder
		extra := p.Extra
		for it := p.Block.Slots(); it.Next(); {
			if p.State(it.Slot) == template.Absent && (len(extra) == 0 || extra[0].Slot != it.Slot) {
				continue
			}
			full := it.Series(&sb)
			name := full.String()
			short := labels.NewBuilder(full)
			if full.Get("job") == "test" {
				short.Del("job")
			}
			if full.Get("instance") == "i" {
				short.Del("instance")
			}
			series := short.Labels().String()
			t := b.Time
			if p.Times != nil && p.Times[it.Slot] != template.NoTime {
				t = p.Times[it.Slot]
			}
			if p.State(it.Slot) == template.Value {
				if last := s.slots[name]; last != p.Block {
					if s.closed[name] == nil {
						s.closed[name] = map[*template.Block]bool{}
					}
					if s.closed[name][p.Block] {
						s.t.Fatalf("%s returned to a block that it had left", name)
					}
					if last != nil {
						s.closed[name][last] = true
					}
					s.slots[name] = p.Block
				}
			}
			switch p.State(it.Slot) {
			case template.Value:
				got = append(got, fmt.Sprintf("%s %v@%d", series, p.Values[it.Slot], t))
			case template.Stale:
				got = append(got, fmt.Sprintf("%s stale@%d", series, b.Time))
			}
			for len(extra) > 0 && extra[0].Slot == it.Slot {
				x := extra[0]
				extra = extra[1:]
				switch {
				case x.Kind == template.Sample && math.Float64bits(x.Value) == template.StaleNaN:
					got = append(got, fmt.Sprintf("%s stale@%d", series, x.Time))
				case x.Kind == template.Sample:
					got = append(got, fmt.Sprintf("%s %v@%d", series, x.Value, x.Time))
				default:
					got = append(got, fmt.Sprintf("%s exemplar %v %v@%d", series, x.Labels, x.Value, x.Time))
				}
			}
		}
		if len(extra) > 0 {
			s.t.Fatalf("extras that are out of order: %v", extra)
		}
	}
	slices.Sort(got)
	return got
}

const textType = "text/plain; version=0.0.4"

// expect scrapes and compares.
func (s *scraper) expect(at int64, body string, want ...string) counts {
	s.t.Helper()
	got, c, err := s.scrape(at, textType, body)
	if err != nil {
		s.t.Fatalf("at %d: %v", at, err)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Fatalf("at %d:\n got %q\nwant %q", at, got, want)
	}
	return c
}

// expectError scrapes what fails, and compares what is logged all the same.
func (s *scraper) expectError(at int64, body, message string, want ...string) counts {
	s.t.Helper()
	got, c, err := s.scrape(at, textType, body)
	if err == nil || !strings.Contains(err.Error(), message) {
		s.t.Fatalf("at %d: error %v, want one with %q", at, err, message)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Fatalf("at %d:\n got %q\nwant %q", at, got, want)
	}
	return c
}

func TestSeriesThatIsGoneBecomesStaleOnce(t *testing.T) {
	s := newScraper(t, nil)
	s.expect(1, "a 1\nb{x=\"1\"} 2\n", `{__name__="a"} 1@1`, `{__name__="b", x="1"} 2@1`)
	s.expect(2, "a 1\n", `{__name__="a"} 1@2`, `{__name__="b", x="1"} stale@2`)
	s.expect(3, "a 2\n", `{__name__="a"} 2@3`)
	s.expect(4, "b{x=\"1\"} 3\na 2\n", `{__name__="a"} 2@4`, `{__name__="b", x="1"} 3@4`)
	s.expect(5, "", `{__name__="a"} stale@5`, `{__name__="b", x="1"} stale@5`)
	s.expect(6, "")
}

func TestFailedScrapeMakesAllStaleOnceAndTheyReturn(t *testing.T) {
	s := newScraper(t, nil)
	s.expect(1, "a 1\nb 2\n", `{__name__="a"} 1@1`, `{__name__="b"} 2@1`)
	for i, want := range [][]string{{`{__name__="a"} stale@2`, `{__name__="b"} stale@2`}, nil} {
		w := &work{}
		rd := &reader{r: s.rules, m: s.memory, w: w, guard: s.guards.guard(pair{}), t: int64(2 + i)}
		w.begin(s.memory.series.len())
		batch := rd.finishBatch(fmt.Errorf("no answer"))
		if got := s.render(&batch); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	s.expect(4, "a 1\nb 2\n", `{__name__="a"} 1@4`, `{__name__="b"} 2@4`)
}

func TestParseErrorCountsWhatWasSeenBeforeItAsAlive(t *testing.T) {
	s := newScraper(t, nil)
	s.expect(1, "a 1\nb 2\nc 3\n", `{__name__="a"} 1@1`, `{__name__="b"} 2@1`, `{__name__="c"} 3@1`)
	c := s.expectError(2, "a 1\nnew 5\nb{ 2\nc 3\n", "", `{__name__="b"} stale@2`, `{__name__="c"} stale@2`)
	if c.scraped < 2 {
		t.Errorf("%d samples scraped", c.scraped)
	}
	s.expect(3, "c 3\n", `{__name__="a"} stale@3`, `{__name__="c"} 3@3`, `{__name__="new"} stale@3`)
}

func TestSampleLimitFailsTheScrapeAndSparesWhatItExposed(t *testing.T) {
	s := newScraper(t, func(c *JobConfig) { c.SampleLimit = 2 })
	s.expect(1, "a 1\nb 2\n", `{__name__="a"} 1@1`, `{__name__="b"} 2@1`)
	c := s.expectError(2, "a 1\nc 2\nd 3\n", "sample limit exceeded", `{__name__="b"} stale@2`)
	if !c.sampleLimit || c.scraped != 3 || c.kept != 3 {
		t.Errorf("counts %+v", c)
	}
	s.expect(3, "d 4\n", `{__name__="a"} stale@3`, `{__name__="c"} stale@3`, `{__name__="d"} 4@3`)
	s.expect(4, "x 1\ny 2\n", `{__name__="d"} stale@4`, `{__name__="x"} 1@4`, `{__name__="y"} 2@4`)
}

func TestConflictingLabelsAreRenamed(t *testing.T) {
	s := newScraper(t, nil)
	s.expect(1, "a{job=\"x\",exported_job=\"y\"} 1\n", `{__name__="a", exported_exported_job="x", exported_job="y"} 1@1`)
	h := newScraper(t, func(c *JobConfig) { c.HonorLabels = true })
	h.expect(1, "a{job=\"x\"} 1\nb{job=\"\"} 2\n", `{__name__="a", job="x"} 1@1`, `{__name__="b"} 2@1`)
	h.expect(2, "a{job=\"x\"} 1\nb{job=\"\"} 2\n", `{__name__="a", job="x"} 1@2`, `{__name__="b"} 2@2`)
}

func TestTimestampsAreHonoredAndNotWatched(t *testing.T) {
	s := newScraper(t, nil)
	s.expect(1000, "a 1 500\nb 2\n", `{__name__="a"} 1@500`, `{__name__="b"} 2@1000`)
	c := s.expect(2000, "a 1 500\nb 2\n", `{__name__="b"} 2@2000`)
	if c.outOfOrder != 1 {
		t.Errorf("%d out of order", c.outOfOrder)
	}
	s.expect(3000, "b 2\n", `{__name__="b"} 2@3000`)
	s.expect(4000, "b 2 3500\n", `{__name__="b"} 2@3500`, `{__name__="b"} stale@4000`)
}

func TestSeriesThatBeginsToBringTimestampsEnds(t *testing.T) {
	s := newScraper(t, nil)
	s.expect(1000, "b 2\n", `{__name__="b"} 2@1000`)
	s.expect(2000, "b 2 1500\n", `{__name__="b"} 2@1500`, `{__name__="b"} stale@2000`)
}

func TestSeriesWithTimestampsAtTheScrapeOrLaterGetsNoMarker(t *testing.T) {
	s := newScraper(t, nil)
	s.expect(1000, "a 1\nb 1\nc 1\n", `{__name__="a"} 1@1000`, `{__name__="b"} 1@1000`, `{__name__="c"} 1@1000`)
	s.expect(2000, "a 2 2000\nb 2 1500\nb 3 2500\nc 2 1500\nc 3 1600\n",
		`{__name__="a"} 2@2000`, `{__name__="b"} 2@1500`, `{__name__="b"} 3@2500`,
		`{__name__="c"} 2@1500`, `{__name__="c"} 3@1600`, `{__name__="c"} stale@2000`)
	// Nothing of a series is logged that is older than its marker.
	c := s.expect(3000, "a 2 2000\nb 3 2500\nc 3 1700\n")
	if c.outOfOrder != 3 {
		t.Errorf("%d out of order", c.outOfOrder)
	}
}

func TestNoMarkerIsOlderThanTheSeriesNewestSample(t *testing.T) {
	s := newScraper(t, func(c *JobConfig) { c.TrackTimestampsStaleness = true })
	s.expect(1000, "a 1 5000\nb 1 500\n", `{__name__="a"} 1@5000`, `{__name__="b"} 1@500`)
	s.expect(2000, "", `{__name__="b"} stale@2000`)
	s.expect(3000, "a 1 4000\nb 1 1500\nc 1\n", `{__name__="c"} 1@3000`)
}

func TestSeriesThatReturnsDoesNotGoBackInTime(t *testing.T) {
	s := newScraper(t, nil)
	s.expect(1000, "a 1 500\nb 1\n", `{__name__="a"} 1@500`, `{__name__="b"} 1@1000`)
	s.expect(2000, "x 1\ny 1\nz 1\n", `{__name__="b"} stale@2000`, `{__name__="x"} 1@2000`, `{__name__="y"} 1@2000`, `{__name__="z"} 1@2000`)
	for at := int64(3000); at <= 4000; at += 1000 {
		want := []string{fmt.Sprintf(`{__name__="x"} 1@%d`, at), fmt.Sprintf(`{__name__="y"} 1@%d`, at), fmt.Sprintf(`{__name__="z"} 1@%d`, at)}
		if c := s.expect(at, "a 1 500\nb 1 1500\nx 1\ny 1\nz 1\n", want...); c.outOfOrder != 2 {
			t.Errorf("%d out of order", c.outOfOrder)
		}
	}
	s.expect(5000, "a 1 501\nb 1 2001\n", `{__name__="a"} 1@501`, `{__name__="b"} 1@2001`,
		`{__name__="x"} stale@5000`, `{__name__="y"} stale@5000`, `{__name__="z"} stale@5000`)
}

func TestIgnoredTimestampsAreThoseOfTheScrape(t *testing.T) {
	s := newScraper(t, func(c *JobConfig) { c.HonorTimestamps = false })
	s.expect(1000, "a 1 500\n", `{__name__="a"} 1@1000`)
	s.expect(2000, "", `{__name__="a"} stale@2000`)
}

func TestSamplesTooFarAheadAreDropped(t *testing.T) {
	s := newScraper(t, nil)
	c := s.expect(1000, "a 1 700001\nb 1 700000\nc 1 601000\n", `{__name__="c"} 1@601000`)
	if c.outOfBounds != 2 {
		t.Errorf("%d out of bounds", c.outOfBounds)
	}
}

func TestFirstOfEqualSeriesCounts(t *testing.T) {
	s := newScraper(t, nil)
	for at := int64(1); at < 4; at++ {
		c := s.expect(at, "a{x=\"1\"} 1\na{x=\"1\"} 2\na{ x=\"1\" } 3\n", fmt.Sprintf(`{__name__="a", x="1"} 1@%d`, at))
		if c.duplicates != 2 || c.scraped != 3 || c.kept != 3 {
			t.Errorf("counts %+v", c)
		}
		if want := map[bool]int{true: 1, false: 0}[at == 1]; c.added != want {
			t.Errorf("%d added, want %d", c.added, want)
		}
	}
}

func TestSeriesWithSeveralTimestampsKeepsThemAllInOrder(t *testing.T) {
	s := newScraper(t, nil)
	s.expect(1000, "a 3 300\na 1 100\na 2 200\na 9 200\n", `{__name__="a"} 1@100`, `{__name__="a"} 2@200`, `{__name__="a"} 3@300`)
	s.expect(2000, "a 3 300\na 4 400\n", `{__name__="a"} 4@400`)
}

func TestRelabellingDropsAndRenames(t *testing.T) {
	drop := promrelabel.DefaultRelabelConfig
	drop.SourceLabels, drop.Regex, drop.Action = model.LabelNames{"__name__"}, promrelabel.MustNewRegexp("drop_.*"), promrelabel.Drop
	del := promrelabel.DefaultRelabelConfig
	del.Regex, del.Action = promrelabel.MustNewRegexp("x"), promrelabel.LabelDrop
	s := newScraper(t, func(c *JobConfig) { c.MetricRelabel = []*promrelabel.Config{&drop, &del} })
	for at := int64(1); at < 4; at++ {
		c := s.expect(at, "drop_me 1\na{x=\"1\"} 1\na{x=\"2\"} 2\n", fmt.Sprintf(`{__name__="a"} 1@%d`, at))
		if c.scraped != 3 || c.kept != 2 || c.duplicates != 1 {
			t.Errorf("counts %+v", c)
		}
	}
}

func TestBadSeriesFailTheScrape(t *testing.T) {
	for body, message := range map[string]string{
		"a{x=\"1\",x=\"2\"} 1\n": "is not unique",
		"a{x=\"\xff\"} 1\n":      "",
		"a{ 1\n":                 "",
	} {
		s := newScraper(t, nil)
		s.expectError(1, body, message)
	}
	s := newScraper(t, func(c *JobConfig) { c.LabelLimit = 3 })
	if c := s.expectError(1, "a{x=\"1\"} 1\n", "label_limit exceeded"); !c.labelLimit {
		t.Error("the label limit was not counted")
	}
}

const openMetricsType = "application/openmetrics-text; version=1.0.0"

// expectExemplars scrapes one counter and compares the exemplars alone.
func (s *scraper) expectExemplars(at int64, tail string, want ...string) counts {
	s.t.Helper()
	got, c, err := s.scrape(at, openMetricsType, "# TYPE a counter\na_total 5"+tail+"\n# EOF\n")
	if err != nil {
		s.t.Fatalf("at %d: %v", at, err)
	}
	got = slices.DeleteFunc(got, func(l string) bool { return !strings.Contains(l, " exemplar ") })
	for i := range got {
		got[i] = strings.TrimPrefix(got[i], `{__name__="a_total"} exemplar `)
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("at %d:\n got %q\nwant %q", at, got, want)
	}
	return c
}

func TestExemplarStaysWithItsSample(t *testing.T) {
	s := newScraper(t, nil)
	got, _, err := s.scrape(1000, openMetricsType, "# TYPE a counter\na_total 5 # {trace_id=\"x\"} 0.5\n# EOF\n")
	want := []string{`{__name__="a_total"} 5@1000`, `{__name__="a_total"} exemplar [trace_id x] 0.5@1000`}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func TestExemplarThatIsExposedAgainIsLoggedOnce(t *testing.T) {
	s := newScraper(t, nil)
	s.expectExemplars(1000, ` # {trace_id="x"} 0.5`, `[trace_id x] 0.5@1000`)
	s.expectExemplars(2000, ` # {trace_id="x"} 0.5`)
	s.expectExemplars(3000, ` # {trace_id="x"} 0.5`)
	s.expectExemplars(4000, ` # {trace_id="y"} 0.5`, `[trace_id y] 0.5@4000`)
	s.expectExemplars(5000, ` # {trace_id="y"} 0.6`, `[trace_id y] 0.6@5000`)
	s.expectExemplars(6000, ` # {trace_id="x"} 0.5`, `[trace_id x] 0.5@6000`)
	s.expectExemplars(7000, ``)
	s.expectExemplars(8000, ` # {trace_id="x"} 0.5`)
	// With a time of its own that is what tells one from another.
	s.expectExemplars(9000, ` # {trace_id="x"} 0.5 8.5`, `[trace_id x] 0.5@8500`)
	s.expectExemplars(10000, ` # {trace_id="x"} 0.5 8.5`)
	s.expectExemplars(11000, ` # {trace_id="x"} 0.5 9.5`, `[trace_id x] 0.5@9500`)
	s.expectExemplars(12000, ` # {trace_id="x"} 0.5`, `[trace_id x] 0.5@12000`)
	// Zeros are the same, one that is no number is not.
	s.expectExemplars(13000, ` # {} 0`, `[] 0@13000`)
	s.expectExemplars(14000, ` # {} -0`)
	s.expectExemplars(15000, ` # {} NaN`, `[] NaN@15000`)
	s.expectExemplars(16000, ` # {} NaN`, `[] NaN@16000`)
}

func TestExemplarOutlivesItsSeriesAndMoves(t *testing.T) {
	s := newScraper(t, nil)
	s.expectExemplars(1000, ` # {trace_id="x"} 0.5`, `[trace_id x] 0.5@1000`)
	for at := int64(2000); at < 5000; at += 1000 { // the series is gone, others take its slot
		if _, _, err := s.scrape(at, textType, fmt.Sprintf("x 1\ny%d 2\nz 3\n", at)); err != nil {
			t.Fatal(err)
		}
	}
	s.expectExemplars(6000, "\nb_total 1 # {trace_id=\"z\"} 1\na_total{n=\"1\"} 1 # {trace_id=\"x\"} 0.5",
		`{__name__="a_total", n="1"} exemplar [trace_id x] 0.5@6000`, `{__name__="b_total"} exemplar [trace_id z] 1@6000`)
	s.expectExemplars(7000, ` # {trace_id="x"} 0.5`)
}

func TestExemplarOfAFailedScrapeIsNewTheNextTime(t *testing.T) {
	s := newScraper(t, nil)
	s.expectExemplars(1000, ` # {trace_id="x"} 1`, `[trace_id x] 1@1000`)
	if _, _, err := s.scrape(2000, openMetricsType, "# TYPE a counter\na_total 5 # {trace_id=\"y\"} 1\nb_total 5 # {trace_id=\"y\"} 1\nbroken{"); err == nil {
		t.Fatal("no error")
	}
	s.expectExemplars(3000, ` # {trace_id="y"} 1`, `[trace_id y] 1@3000`)
	if _, _, err := s.scrape(4000, openMetricsType, "# TYPE a counter\na_total 5 # {trace_id=\"z\"} 1\nbroken{"); err == nil {
		t.Fatal("no error")
	}
	s.expectExemplars(5000, ` # {trace_id="y"} 1`)
}

func TestExemplarIsTakenWithItsSampleAlone(t *testing.T) {
	s := newScraper(t, nil)
	s.expectExemplars(1000, ` 0.9 # {trace_id="x"} 1`, `[trace_id x] 1@900`)
	s.expectExemplars(2000, ` 0.9 # {trace_id="y"} 1`) // its sample is out of order
	s.expectExemplars(3000, ` 1.9 # {trace_id="y"} 1`, `[trace_id y] 1@1900`)
	s.expectExemplars(4000, ` 3 # {trace_id="y"} 1`)
}

func TestExemplarThatIsRefusedIsCounted(t *testing.T) {
	s := newScraper(t, nil)
	if c := s.expectExemplars(1000, ` # {a="1",a="2"} 1`); c.exemplarsAmbiguous != 1 {
		t.Errorf("counts %+v", c)
	}
	if c := s.expectExemplars(2000, ` # {a="`+strings.Repeat("é", 128)+`"} 1`); c.exemplarsTooLong != 1 {
		t.Errorf("counts %+v", c)
	}
	long := strings.Repeat("é", 127)
	s.expectExemplars(3000, ` # {a="`+long+`",b=""} 1`, `[a `+long+`] 1@3000`)
	s.expectExemplars(4000, ` # {a="`+long[2:]+`\""} 1`, `[a `+long[2:]+`"] 1@4000`)
}

func TestMemoryOfExemplarsIsBounded(t *testing.T) {
	s := newScraper(t, nil)
	for at := int64(1); at < 40; at++ {
		var body strings.Builder
		for i := range 500 {
			fmt.Fprintf(&body, "a_total{i=\"%d\",at=\"%d\"} 1 # {} 1\n", i, at)
		}
		if _, _, err := s.scrape(at, openMetricsType, "# TYPE a counter\n"+body.String()+"b_total 1 # {} 1\n# EOF\n"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.memory.exemplars.young) + len(s.memory.exemplars.old); n > 2*(1000+2*500+500) {
		t.Errorf("the exemplars of %d series are kept", n)
	}
	s.expectExemplars(100, "\nb_total 1 # {} 1") // exposed all the time
}

func TestMetadataComesWithTheSchemaAndIsRenewed(t *testing.T) {
	s := newScraper(t, nil)
	help := func() string { return s.memory.series.blocks[0].block.Schemas[0].Help }
	s.expect(1, "# HELP a old\n# TYPE a gauge\na 1\n", `{__name__="a"} 1@1`)
	if help() != "old" {
		t.Fatalf("help %q", help())
	}
	s.expect(2, "# HELP a new\n# TYPE a gauge\na 1\n", `{__name__="a"} 1@2`)
	if help() != "new" {
		t.Fatalf("help %q", help())
	}
	s.expect(3, "# HELP a newer\n# TYPE a gauge\na 1\n", `{__name__="a"} 1@3`)
	if help() != "new" {
		t.Fatalf("help %q was renewed at once", help())
	}
}

// A model of what must be logged: values of what is exposed, markers for what is not any more.
func TestRandomChurnIsLoggedAsExposed(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 9))
		s := newScraper(t, nil)
		alive := map[string]bool{}
		names := 1 + r.IntN(400)
		order := r.Perm(names)
		p := r.Float64()
		for at := int64(1); at < 60; at++ {
			if r.IntN(4) == 0 {
				p = r.Float64()
			}
			if r.IntN(3) == 0 {
				r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			}
			var body strings.Builder
			var want []string
			now := map[string]bool{}
			for _, i := range order {
				n := fmt.Sprintf("m%d", i)
				was := alive[n]
				if was != (r.Float64() < 0.97) && (was || r.Float64() < p) || was {
					if was && r.IntN(30) == 0 {
						continue
					}
					v := r.IntN(1000)
					fmt.Fprintf(&body, "m{i=\"%d\"} %d\n", i, v)
					want = append(want, fmt.Sprintf(`{__name__="m", i="%d"} %d@%d`, i, v, at))
					now[n] = true
				}
			}
			for n := range alive {
				if !now[n] {
					want = append(want, fmt.Sprintf(`{__name__="m", i="%s"} stale@%d`, n[1:], at))
				}
			}
			alive = now
			s.expect(at, body.String(), want...)
			slots := 0
			for _, b := range s.memory.series.blocks {
				slots += b.block.Len()
			}
			if slots > 2*len(now)+20 {
				t.Fatalf("seed %d: %d slots for %d series", seed, slots, len(now))
			}
			if n := len(s.memory.series.blocks); n > 12 {
				t.Fatalf("seed %d: %d blocks for %d series", seed, n, len(now))
			}
		}
	}
}

// go test ./scrape -run '^$' -bench Scrape
func BenchmarkScrape(b *testing.B) {
	const n = 1000
	line := func(i, gen int) string {
		return fmt.Sprintf(`container_cpu_usage_seconds_total{container="app",id="/kubepods.slice/kubepods-burstable.slice/pod%04d.slice/cri-%064d.scope",namespace="team-%d",pod="app-%d",gen="%d"}`, i, i, i%8, i, gen)
	}
	for _, kind := range []string{"steady", "shuffled", "churn"} {
		b.Run("order="+kind, func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			lines := make([]string, n)
			for i := range lines {
				lines[i] = line(i, 0)
			}
			bodies := make([]string, 64)
			for k := range bodies {
				switch kind {
				case "shuffled":
					r.Shuffle(n, func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
				case "churn":
					for range n / 20 {
						i := r.IntN(n)
						lines[i] = line(i, k+1)
					}
				}
				var body strings.Builder
				for i, l := range lines {
					fmt.Fprintf(&body, "%s %v\n", l, float64(i*k)+0.25)
				}
				bodies[k] = body.String()
			}
			s := newScraper(b, nil)
			w := works.Get().(*work)
			b.ReportAllocs()
			at := int64(0)
			for b.Loop() {
				at++
				rd := &reader{r: s.rules, m: s.memory, w: w, guard: s.guards.guard(pair{"test", "i"}), t: at}
				w.begin(s.memory.series.len())
				if err := rd.read(strings.NewReader(bodies[at%64]), textType); err != nil {
					b.Fatal(err)
				}
				batch := rd.finishBatch(nil)
				w.parts = batch.Parts[:0]
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/sample")
		})
	}
}

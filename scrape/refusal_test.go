package scrape

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
)

func TestFallbackProtocolReadsBodiesOfNoKnownType(t *testing.T) {
	for _, contentType := range []string{"", "text/html", "a/b; c"} {
		s := newScraper(t, func(c *JobConfig) { c.FallbackProtocol = "PrometheusText0.0.4" })
		if got, _, err := s.scrape(1, contentType, "a 1\n"); err != nil || !slices.Equal(got, []string{`{__name__="a"} 1@1`}) {
			t.Errorf("content type %q: got %q, %v; want the sample", contentType, got, err)
		}
		s = newScraper(t, nil)
		if _, _, err := s.scrape(1, contentType, "a 1\n"); err == nil || !strings.Contains(err.Error(), "fallback_scrape_protocol") {
			t.Errorf("content type %q without a fallback: got error %v", contentType, err)
		}
	}
}

func TestSeriesBeyondTheSampleLimitTakeNoMemory(t *testing.T) {
	s := newScraper(t, func(c *JobConfig) { c.SampleLimit = 2 })
	for at := range int64(5) {
		var body strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&body, "m{at=\"%d\",i=\"%d\"} 1\n", at, i)
		}
		s.expectError(at+1, body.String(), "sample limit exceeded", map[bool][]string{false: {
			fmt.Sprintf(`{__name__="m", at="%d", i="0"} stale@%d`, at-1, at+1), fmt.Sprintf(`{__name__="m", at="%d", i="1"} stale@%d`, at-1, at+1),
		}}[at == 0]...)
	}
	if n := s.memory.series.len(); n > 10 {
		t.Errorf("%d series are remembered, of which 10 were within the limit", n)
	}
}

func TestKnownSeriesBeyondTheSampleLimitIsStaleAtOnce(t *testing.T) {
	s := newScraper(t, func(c *JobConfig) { c.SampleLimit = 2 })
	s.expect(1, "a 1\nb 1\n", `{__name__="a"} 1@1`, `{__name__="b"} 1@1`)
	s.expectError(2, "a 1\nx 1\nb 1\n", "sample limit exceeded", `{__name__="b"} stale@2`)
	s.expect(3, "a 1\na 2\nb 1\n", `{__name__="a"} 1@3`, `{__name__="b"} 1@3`, `{__name__="x"} stale@3`) // duplicates do not count
}

func TestSeriesThatReturnsCountsAsAdded(t *testing.T) {
	s := newScraper(t, nil)
	const many = "b 1\nc 1\nd 1\ne 1\n"
	values := func(at int) []string {
		var out []string
		for _, n := range []string{"b", "c", "d", "e"} {
			out = append(out, fmt.Sprintf(`{__name__="%s"} 1@%d`, n, at))
		}
		return out
	}
	for at, tc := range []struct {
		body  string
		added int
		want  []string
	}{
		{"a 1\n" + many, 5, append(values(1), `{__name__="a"} 1@1`)},
		{many, 0, append(values(2), `{__name__="a"} stale@2`)},
		{"a 1\n" + many, 1, append(values(3), `{__name__="a"} 1@3`)},
		{"", 0, []string{`{__name__="a"} stale@4`, `{__name__="b"} stale@4`, `{__name__="c"} stale@4`, `{__name__="d"} stale@4`, `{__name__="e"} stale@4`}},
		{"a 1\n" + many, 0, append(values(5), `{__name__="a"} 1@5`)}, // an empty body forgets nothing
	} {
		if c := s.expect(int64(at+1), tc.body, tc.want...); c.added != tc.added {
			t.Errorf("at %d: %d added, want %d", at+1, c.added, tc.added)
		}
	}
}

func TestDuplicateLabelThatRelabellingDropsIsNoError(t *testing.T) {
	del := promrelabel.DefaultRelabelConfig
	del.Regex, del.Action, del.NameValidationScheme = promrelabel.MustNewRegexp("x"), promrelabel.LabelDrop, model.UTF8Validation
	s := newScraper(t, func(c *JobConfig) { c.MetricRelabel = []*promrelabel.Config{&del} })
	s.expect(1, "a{x=\"1\",x=\"2\"} 1\n", `{__name__="a"} 1@1`)
	s.expectError(2, "a{y=\"1\",y=\"2\"} 1\n", `label name "y" is not unique`, `{__name__="a"} stale@2`)
}

func TestFailedScrapeDoesNotKeepTimedSamplesFromTheNext(t *testing.T) {
	s := newScraper(t, func(c *JobConfig) { c.HonorLabels = true })
	s.expectError(1000, "a{instance=\"own\"} 1 500\nb{\n", "")
	s.expect(2000, "a{instance=\"own\"} 2 700\na{instance=\"own\"} 1 500\n",
		`{__name__="a", instance="own"} 1@500`, `{__name__="a", instance="own"} 2@700`)
	s.expect(3000, "a{instance=\"own\"} 2 700\n")
}

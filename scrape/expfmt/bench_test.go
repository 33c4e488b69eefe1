package expfmt

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"io"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// exposition is what a typical service exposes: one series in ten lines is
// plain, most have a few labels.
func exposition(series int) []byte {
	var b bytes.Buffer
	for i := range series {
		if i%10 == 0 {
			fmt.Fprintf(&b, "# HELP app_metric_%d_total The number of things that have happened.\n# TYPE app_metric_%d_total counter\n", i/10, i/10)
			fmt.Fprintf(&b, "app_metric_%d_total %d\n", i/10, i*7919)
			continue
		}
		fmt.Fprintf(&b, "app_metric_%d_total{method=\"GET\",path=\"/api/v1/items/%d\",code=\"200\"} %g\n", i/10, i, float64(i)*1234.5)
	}
	return b.Bytes()
}

// BenchmarkKnownLines is the way of nearly every line: cut, split, number, hash.
//
//	go test -run xxx -bench Lines ./scrape/expfmt
func BenchmarkKnownLines(b *testing.B) {
	body := exposition(10000)
	n := bytes.Count(body, []byte("\n"))
	seed := maphash.MakeSeed()
	var sum float64
	var hashes uint64
	r := bytes.NewReader(body)
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(body)
		l := NewLines(r, Text004, 0)
		for {
			line, err := l.Next()
			if err == io.EOF {
				break
			}
			if line[0] == '#' {
				hashes += maphash.Bytes(seed, line)
				continue
			}
			series, value, _, ok := Split(line)
			if !ok {
				b.Fatalf("%q", line)
			}
			v, err := ParseFloat(value)
			if err != nil {
				b.Fatal(err)
			}
			sum += v
			hashes += maphash.Bytes(seed, series)
		}
		l.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/line")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkParsedLines(b *testing.B) {
	body := exposition(10000)
	n := bytes.Count(body, []byte("\n"))
	for _, withLabels := range []bool{false, true} {
		b.Run(fmt.Sprintf("labels=%v/by=ours", withLabels), func(b *testing.B) {
			p := parser(b, Text004, Options{})
			r := bytes.NewReader(body)
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(body)
				l := NewLines(r, Text004, 0)
				for {
					if _, err := l.Next(); err == io.EOF {
						break
					}
					line, err := l.Whole()
					if err != nil {
						b.Fatal(err)
					}
					e, err := p.Line(line)
					if err != nil {
						b.Fatal(err)
					}
					if withLabels && e.Kind == Series {
						p.Labels()
					}
				}
				l.Close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/line")
			b.ReportMetric(0, "ns/op")
		})
		b.Run(fmt.Sprintf("labels=%v/by=textparse", withLabels), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p := textparse.NewPromParser(body, labels.NewSymbolTable(), false)
				var lset labels.Labels
				for {
					e, err := p.Next()
					if err == io.EOF {
						break
					}
					if withLabels && e == textparse.EntrySeries {
						p.Labels(&lset)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/line")
			b.ReportMetric(0, "ns/op")
		})
	}
}

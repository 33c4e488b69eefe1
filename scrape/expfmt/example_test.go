package expfmt_test

import (
	"fmt"
	"io"
	"strings"

	"promagent/scrape/expfmt"
)

// A scrape reads lines, takes the short way with those that it knows, and
// hands the others to the parser.
func Example() {
	body := strings.NewReader("# TYPE up gauge\nup{job=\"a\"} 1\nup{job=\"a\"} 2 1700000000123\n")
	format, err := expfmt.FormatOf("text/plain; version=0.0.4", "")
	if err != nil {
		fmt.Println(err)
	}
	lines := expfmt.NewLines(body, format, 0)
	defer lines.Close()
	parser, err := expfmt.NewParser(format, expfmt.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	known := map[string]bool{}
	for {
		line, err := lines.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		if series, value, timestamp, ok := expfmt.Split(line); ok && known[string(series)] {
			v, err := expfmt.ParseFloat(value)
			var t int64
			if err == nil && timestamp != nil {
				t, err = expfmt.ParseTimestamp(format, timestamp)
			}
			if err == nil {
				fmt.Printf("known: %s is %v at %d\n", series, v, t)
				continue
			}
		}
		if line, err = lines.Whole(); err != nil {
			fmt.Println(err)
			return
		}
		e, err := parser.Line(line)
		if err != nil {
			fmt.Println(err)
			return
		}
		if e.Kind == expfmt.EOF {
			break
		}
		if e.Kind == expfmt.Series {
			fmt.Printf("new: %s is %v\n", parser.Labels(), e.Value)
			known[string(e.Series)] = true
		}
	}
	fmt.Println(parser.Finish(lines), lines.Bytes())
	// Output:
	// new: {__name__="up", job="a"} is 1
	// known: up{job="a"} is 2 at 1700000000123
	// <nil> 58
}

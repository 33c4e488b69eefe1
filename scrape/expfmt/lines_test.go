package expfmt

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// all reads every line.
func all(l *Lines) (lines []string, err error) {
	for {
		line, err := l.Next()
		if err != nil {
			return lines, err
		}
		lines = append(lines, string(line))
	}
}

func TestLinesOfAStream(t *testing.T) {
	long := strings.Repeat("x", 3*chunkSize)
	f := func(format Format, body, want string, wantErr error) {
		t.Helper()
		for name, r := range map[string]io.Reader{
			"whole":  strings.NewReader(body),
			"half":   iotest.HalfReader(strings.NewReader(body)),
			"single": iotest.OneByteReader(strings.NewReader(body)),
			"eof":    iotest.DataErrReader(strings.NewReader(body)),
		} {
			l := NewLines(r, format, 0)
			got, err := all(l)
			if strings.Join(got, "|") != want || err != wantErr {
				t.Errorf("%.20q read %s: got %.50q, %v; want %.50q, %v", body, name, got, err, want, wantErr)
			}
			if l.Bytes() != int64(len(body)) {
				t.Errorf("%.20q read %s: %d bytes, want %d", body, name, l.Bytes(), len(body))
			}
			if _, again := l.Next(); again != err {
				t.Errorf("%.20q read %s: then %v, want %v for good", body, name, again, err)
			}
			l.Close()
			if _, err := l.Next(); err != io.EOF {
				t.Errorf("after Close: %v", err)
			}
			if l.Bytes() != int64(len(body)) {
				t.Errorf("after Close: %d bytes, want %d", l.Bytes(), len(body))
			}
		}
	}
	f(Text004, "", "", io.EOF)
	f(Text004, "\n", "", io.EOF)
	f(Text004, "a\nb\n", "a|b", io.EOF)
	f(Text004, "a\n\n b", "a|| b", io.EOF)
	f(Text004, long+"\na\n"+long, long+"|a|"+long, io.EOF)
	f(OpenMetrics100, "a\nb\n", "a|b", io.EOF)
	f(OpenMetrics100, "a\nb", "a", ErrNoEOF)
	f(OpenMetrics100, "a\n# EOF", "a|# EOF", io.EOF)
}

func TestEveryPlaceOfAChunksEnd(t *testing.T) {
	body := "a{b=\"x\ny\\\"\nz\",c=\"d\"} 1 2\n# HELP \"a\nb\" text\nc 3\n\nd 4"
	known := ours(strings.NewReader("#"+strings.Repeat("p", chunkSize/2)+"\n"+body), Text004, Options{}, nil, nil)
	want := strings.Join(known.entries[1:], "\n")
	for cut := range len(body) + 2 {
		padded := "#" + strings.Repeat("p", chunkSize-cut-2) + "\n" + body
		for _, r := range []io.Reader{strings.NewReader(padded), iotest.DataErrReader(strings.NewReader(padded))} {
			o := ours(r, Text004, Options{}, nil, nil)
			if got := strings.Join(o.entries[1:], "\n"); got != want || o.failed {
				t.Fatalf("chunk ends %d bytes into the body: got %s, %v", cut, got, o.err)
			}
		}
	}
}

func TestLongLines(t *testing.T) {
	const limit = 1000
	f := func(body string, ok bool) {
		t.Helper()
		for _, r := range []io.Reader{strings.NewReader(body), iotest.OneByteReader(strings.NewReader(body))} {
			l := NewLines(r, Text004, limit)
			if _, err := l.Next(); err != nil {
				t.Fatal(err)
			}
			_, err := l.Next()
			if err == nil {
				_, err = l.Whole()
			}
			if (err == nil) != ok || err != nil && !errors.Is(err, ErrLineTooLong) {
				t.Errorf("%.10q (%d bytes): %v", body, len(body), err)
			}
			if _, again := l.Next(); !ok && again != err {
				t.Errorf("%.10q: then %v, want %v", body, again, err)
			}
			l.Close()
		}
	}
	f("a\n"+strings.Repeat("x", limit)+"\nb\n", true)
	f("a\n"+strings.Repeat("x", limit), true)
	f("a\n"+strings.Repeat("x", limit+1)+"\nb\n", false)
	f("a\n"+strings.Repeat("x", limit+1), false)
	f("a\n"+strings.Repeat("x", 10*chunkSize), false)
	f("a\nx{y=\""+strings.Repeat("z\n", limit), false)
	f("a\nx{y=\""+strings.Repeat("z\n", limit/4)+"\"} 1\n", true)

	l := NewLines(strings.NewReader("# HELP a b\n"+strings.Repeat("\x00", 2*limit)), OpenMetrics100, limit)
	if _, err := l.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Whole(); !errors.Is(err, ErrLineTooLong) {
		t.Errorf("a line of NULs: %v", err)
	}
}

func TestErrorsOfTheReaderArePassedOn(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, body := range []string{"a\nb", "a\nb{c=\"\n", "a\n# HELP \"b\n", "a\n# HELP b c\n"} {
		for _, format := range []Format{Text004, OpenMetrics100} {
			l := NewLines(io.MultiReader(strings.NewReader(body), iotest.ErrReader(broken)), format, 0)
			var err error
			for err == nil {
				if _, err = l.Next(); err == nil {
					_, err = l.Whole()
				}
			}
			if err != broken {
				t.Errorf("%q: got %v", body, err)
			}
			if _, err := l.Next(); err != broken {
				t.Errorf("%q: then %v", body, err)
			}
			p, err := NewParser(format, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Finish(l); err != broken {
				t.Errorf("%q: finished with %v", body, err)
			}
		}
	}
	l := NewLines(iotest.ErrReader(nil), Text004, 0)
	if _, err := l.Next(); err != io.ErrNoProgress {
		t.Errorf("a reader that reads nothing: %v", err)
	}
}

func TestLinesCannotGrowIntoEachOther(t *testing.T) {
	l := NewLines(strings.NewReader("a\nb\n"), Text004, 0)
	line, err := l.Next()
	if err != nil {
		t.Fatal(err)
	}
	_ = append(line, "xx"...)
	if line, err = l.Next(); err != nil || string(line) != "b" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestQuotesThatNeverCloseCostLinearTime(t *testing.T) {
	body := append([]byte("a{b=\""), bytes.Repeat([]byte("\n"), DefaultMaxLine-100)...)
	o := ours(bytes.NewReader(body), Text004, Options{}, nil, nil)
	if !o.failed || len(o.entries) > 0 {
		t.Errorf("got %v, %v", o.entries, o.err)
	}
}

func TestSplit(t *testing.T) {
	f := func(line, series, value, timestamp string, ok bool) {
		t.Helper()
		s, v, ts, gotOK := Split([]byte(line))
		if gotOK != ok || string(s) != series || string(v) != value || string(ts) != timestamp || ok && (timestamp == "") != (ts == nil) {
			t.Errorf("%q: got %q, %q, %q, %v", line, s, v, ts, gotOK)
		}
	}
	f(`a 1`, "a", "1", "", true)
	f(`a 1 2`, "a", "1", "2", true)
	f(`a{b="c d"} 1`, `a{b="c d"}`, "1", "", true)
	f(`a{b="c d"} 1 2`, `a{b="c d"}`, "1", "2", true)
	f(`{"a b"} 1.5`, `{"a b"}`, "1.5", "", true)
	f(`a{b="}"} 1 2`, `a{b="}"}`, "1", "2", true)
	for _, odd := range []string{"", " ", "a", "a ", " a", " 1", "a 1 ", "a  1", "a\t1", "a 1  2"} {
		f(odd, "", "", "", false)
	}
}

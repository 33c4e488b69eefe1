package expfmt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// DefaultMaxLine is the longest line, in bytes, that Lines yields unless told otherwise.
const DefaultMaxLine = 4 << 20

// ErrLineTooLong says that a line exceeds the limit given to NewLines.
var ErrLineTooLong = errors.New("line too long")

// ErrNoEOF says that an OpenMetrics body does not end with its end mark.
var ErrNoEOF = errors.New("data does not end with # EOF")

const chunkSize = 64 << 10

// chunks holds buffers of chunkSize bytes that no Lines uses.
var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// Lines cuts a stream of text into lines. It holds one chunk of the stream,
// more only while a line is longer than that. Bytes that it returns are valid
// until the next call of any of its methods.
type Lines struct {
	r       io.Reader
	format  Format
	maxLine int

	chunk *[chunkSize]byte // from the pool; nil before the first read and after Close
	buf   []byte           // chunk, or a larger one of our own
	start int              // of the current line in buf
	end   int              // of the current line, newline excluded
	next  int              // of what follows the current line
	fill  int              // end of what has been read into buf

	read int64 // bytes taken from r
	err  error // of r, io.EOF included, or ours; nothing is read after it
}

// NewLines returns the lines of r, which is already decompressed. maxLine
// limits the length of a line in bytes; 0 means DefaultMaxLine.
func NewLines(r io.Reader, f Format, maxLine int) *Lines {
	if maxLine <= 0 {
		maxLine = DefaultMaxLine
	}
	return &Lines{r: r, format: f, maxLine: maxLine}
}

// Close gives the buffer back. No line may be used after it; Bytes may.
func (l *Lines) Close() {
	if l.chunk != nil {
		chunks.Put(l.chunk)
	}
	*l = Lines{read: l.read, err: io.EOF}
}

// Bytes is the number of bytes read so far: the body's size once Next has
// returned io.EOF.
func (l *Lines) Bytes() int64 { return l.read }

// Next returns the next line without its newline, io.EOF after the last one.
// A missing final newline makes no difference in the Prometheus format; in
// OpenMetrics it does, and a last line without one, unless it is the end
// mark, is ErrNoEOF. Other errors are ErrLineTooLong and those of the reader.
func (l *Lines) Next() ([]byte, error) {
	l.start = l.next
	i := bytes.IndexByte(l.buf[l.start:l.fill], '\n')
	if i < 0 || i > l.maxLine {
		return l.readLine(0)
	}
	l.end = l.start + i
	l.next = l.end + 1
	return l.buf[l.start:l.end:l.end], nil
}

// readLine finds the end of the current line, from its byte number searched
// on, where that is not yet in the buffer.
func (l *Lines) readLine(searched int) ([]byte, error) {
	for {
		i := bytes.IndexByte(l.buf[l.start+searched:l.fill], '\n')
		if i >= 0 {
			l.end = l.start + searched + i
			l.next = l.end + 1
			break
		}
		searched = l.fill - l.start
		if searched > l.maxLine {
			break
		}
		if err := l.readMore(); err != nil {
			l.end, l.next = l.fill, l.fill
			if err != io.EOF {
				return nil, err
			}
			if l.start == l.end {
				return nil, io.EOF
			}
			if l.format.OpenMetrics() && !isEndMark(l.buf[l.start:l.end]) {
				l.err = ErrNoEOF
				return nil, l.err
			}
			break
		}
	}
	if n := max(searched, l.end-l.start); n > l.maxLine {
		l.err, l.next = l.tooLong(), l.fill
		return nil, l.err
	}
	return l.buf[l.start:l.end:l.end], nil
}

func (l *Lines) tooLong() error {
	return fmt.Errorf("read line after %d bytes: %w (limit %d)", l.read-int64(l.fill-l.start), ErrLineTooLong, l.maxLine)
}

// readMore reads behind what the buffer holds of the current line, for which
// it makes room. It returns an error only when it has read nothing.
func (l *Lines) readMore() error {
	if l.err != nil {
		return l.err
	}
	if l.chunk == nil {
		l.chunk = chunks.Get().(*[chunkSize]byte)
		l.buf = l.chunk[:]
	}
	if l.start > 0 {
		l.fill = copy(l.buf, l.buf[l.start:l.fill])
		l.end, l.next, l.start = l.end-l.start, l.next-l.start, 0
	}
	if l.fill == len(l.buf) {
		larger := make([]byte, 2*len(l.buf))
		copy(larger, l.buf)
		l.buf = larger
	}
	for range 100 {
		n, err := l.r.Read(l.buf[l.fill:])
		l.fill += n
		l.read += int64(n)
		if err != nil {
			l.err = err
		}
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	l.err = io.ErrNoProgress
	return l.err
}

// Whole returns the current line together with what belongs to it: a quoted
// name or value may hold newlines. Hardly any line does, so that Next does not
// look for them; what is handed to Parser.Line must come from here. Errors are
// as for Next.
func (l *Lines) Whole() ([]byte, error) {
	line := l.buf[l.start:l.end:l.end]
	i := skip(line, 0, blank)
	if at(line, i) != '#' {
		if bytes.Count(line, quote)%2 == 0 && bytes.IndexByte(line, '\\') < 0 {
			return line, nil // the quick way to see that they are closed
		}
		return l.balance(0, false)
	}
	var name span
	var tail int
	if l.format.OpenMetrics() {
		var kind Kind
		if kind, name, tail = openMetricsKeyword(line); kind == Comment || kind == EOF {
			return line, nil
		}
	} else {
		_, name, tail = textMeta(line, i)
	}
	if tail < 0 && name.start > 0 { // the quotes of its name are open
		if _, err := l.balance(name.start-1, true); err != nil {
			return nil, err
		}
	}
	if l.format.OpenMetrics() {
		return l.joinNuls()
	}
	return l.buf[l.start:l.end:l.end], nil
}

var quote = []byte{'"'}

// balance adds lines to the current one until the quotes in it from byte i on,
// or with first only those at i, are closed. The line may end with open ones
// when there are no more lines.
func (l *Lines) balance(i int, first bool) ([]byte, error) {
	var cut error
	for open := false; ; {
		line := l.buf[l.start:l.end:l.end]
		if i, open = closeQuotes(line, i, open, first); !open {
			return line, cut
		}
		if l.next == l.end {
			return line, nil
		}
		if _, cut = l.readLine(l.next - l.start); cut != nil && cut != ErrNoEOF {
			return nil, cut
		}
	}
}

// closeQuotes walks through line from byte i on, which stands inside quotes
// with open and outside without, and returns the place to go on at when there
// is more of the line, and whether it stands inside quotes. With first it does
// not look behind the first ones.
func closeQuotes(line []byte, i int, open, first bool) (int, bool) {
	for i < len(line) {
		if !open {
			n := bytes.IndexByte(line[i:], '"')
			if n < 0 {
				return len(line), false
			}
			open, i = true, i+n+1
			continue
		}
		switch i = skip(line, i, inside); at(line, i) {
		case '"':
			if open = false; first {
				return len(line), false
			}
		case '\\':
			i = skipNul(line, i+1)
		}
		i++
	}
	return len(line), open
}

// joinNuls adds the NULs that stand at the beginning of the next line to the
// current one: behind metadata, OpenMetrics's original takes them for a part of it.
func (l *Lines) joinNuls() ([]byte, error) {
	if l.next == l.end { // the last line
		return l.buf[l.start:l.end:l.end], nil
	}
	for {
		if l.next == l.fill {
			if err := l.readMore(); err == io.EOF {
				break
			} else if err != nil {
				return nil, err
			}
		}
		if l.buf[l.next] != 0 {
			break
		}
		l.next++
		if l.end = l.next; l.end-l.start > l.maxLine {
			l.err, l.next = l.tooLong(), l.fill
			return nil, l.err
		}
	}
	return l.buf[l.start:l.end:l.end], nil
}

// drain reads the rest of the stream and says whether it held more than NULs.
func (l *Lines) drain() (data bool, err error) {
	for {
		data = data || !onlyNul(l.buf[l.next:l.fill])
		l.start, l.end, l.next = l.fill, l.fill, l.fill
		if err := l.readMore(); err == io.EOF {
			return data, nil
		} else if err != nil {
			return data, err
		}
	}
}

// isEndMark says whether a line is OpenMetrics's last one.
func isEndMark(line []byte) bool {
	kind, _, _ := openMetricsKeyword(line)
	return kind == EOF
}

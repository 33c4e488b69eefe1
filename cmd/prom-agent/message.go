package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// The bounds of one message. It is decoded series by series, so that the worst
// one takes about 128 MiB: its bytes, its symbols, and one series, whose empty
// histograms of two bytes become 200 times as much.
const (
	maxWireBody = 8 << 20   // bytes as sent
	maxRawBody  = 32 << 20  // bytes unpacked
	maxPart     = 256 << 10 // bytes of one series or metadata
	maxSeries   = 1 << 18   // series, and as many metadata, in a message
	maxSymbols  = 1 << 20
)

var (
	errUnsupported = errors.New("unsupported")
	errTooLarge    = errors.New("too large")
	errMalformed   = errors.New("malformed message")
)

// message is an unpacked remote write request, decoded anew by each walk over
// it: as a whole its series would take many times their bytes.
type message struct {
	raw       []byte
	wireBytes int
	v2        bool
	symbols   []string // of a 2.0 message; they share raw's bytes with nothing
}

// readMessage reads and unpacks a request's body. Its errors are errTooLarge,
// errUnsupported, or about what the body holds.
func readMessage(w http.ResponseWriter, req *http.Request) (*message, error) {
	if enc := req.Header.Get("Content-Encoding"); enc != "snappy" && enc != "" { // early senders said nothing
		return nil, fmt.Errorf("%w content encoding %.100q, want snappy", errUnsupported, enc)
	}
	m := &message{}
	typ, params, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	switch proto := params["proto"]; {
	case err != nil || typ != "application/x-protobuf":
		return nil, fmt.Errorf("%w content type %.100q, want application/x-protobuf", errUnsupported, req.Header.Get("Content-Type"))
	case proto == messageV2:
		m.v2 = true
	case proto != messageV1 && proto != "":
		return nil, fmt.Errorf("%w message %.100q, want %s or %s", errUnsupported, proto, messageV1, messageV2)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxWireBody))
	if errors.As(err, new(*http.MaxBytesError)) {
		return nil, fmt.Errorf("body is %w: more than %d bytes", errTooLarge, maxWireBody)
	}
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	m.wireBytes = len(body)
	if m.raw, err = unpack(body); err != nil {
		return nil, fmt.Errorf("unpack body: %w", err)
	}
	return m, nil
}

// unpack is snappy's decoding with bounds: the length that a body claims is
// believed only when that many bytes can come out of it.
func unpack(body []byte) ([]byte, error) {
	n, err := snappy.DecodedLen(body)
	if err != nil {
		return nil, err
	}
	if n > maxRawBody {
		return nil, fmt.Errorf("it claims to be %d bytes, %w: more than %d", n, errTooLarge, maxRawBody)
	}
	const mostPerByte = 32 // a copy makes 64 bytes of 3
	if n > mostPerByte*len(body) {
		return nil, fmt.Errorf("%d bytes cannot come out of %d", n, len(body))
	}
	return snappy.Decode(nil, body)
}

// fields calls f with the number and the bytes of every length-delimited field
// of a protobuf message, and skips the others.
func fields(b []byte, f func(number uint64, body []byte) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 {
			return errMalformed
		}
		b = b[n:]
		skip := uint64(0)
		switch key & 7 {
		case 0:
			_, n := binary.Uvarint(b)
			if n <= 0 {
				return errMalformed
			}
			skip = uint64(n)
		case 1:
			skip = 8
		case 5:
			skip = 4
		case 2:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return errMalformed
			}
			b = b[n:]
			if err := f(key>>3, b[:size]); err != nil {
				return err
			}
			skip = size
		default:
			return errMalformed
		}
		if skip > uint64(len(b)) {
			return errMalformed
		}
		b = b[skip:]
	}
	return nil
}

// walker gets what a message holds, in its order. series gives the labels of
// the series at hand; it is of use during the call only.
type walker struct {
	sample   func(series func() string, v float64, ts int64)
	others   func(histograms, exemplars int)
	metadata func(family, typ, help, unit string)
}

// walk decodes the message. Its errors name what is wrong with it.
func (m *message) walk(w walker) error {
	name, series := messageV1, uint64(1)
	if m.v2 {
		name, series = messageV2, 5
		if err := m.readSymbols(); err != nil {
			return fmt.Errorf("decode %s: %w", name, err)
		}
	}
	count := map[uint64]int{}
	err := fields(m.raw, func(number uint64, body []byte) error {
		if number != series && (m.v2 || number != 3) {
			return nil
		}
		if count[number]++; count[number] > maxSeries {
			return fmt.Errorf("%w: more than %d series or metadata", errTooLarge, maxSeries)
		}
		if len(body) > maxPart {
			return fmt.Errorf("series or metadata %d is %w: %d bytes, more than %d", count[number], errTooLarge, len(body), maxPart)
		}
		switch {
		case m.v2:
			return m.seriesV2(body, w)
		case number == 3:
			return metadataV1(body, w)
		}
		return seriesV1(body, w)
	})
	if err != nil {
		return fmt.Errorf("decode %s: %w", name, err)
	}
	return nil
}

// readSymbols makes the symbol table of a 2.0 message, once.
func (m *message) readSymbols() error {
	if m.symbols != nil {
		return nil
	}
	var symbols []string
	err := fields(m.raw, func(number uint64, body []byte) error {
		if number != 4 {
			return nil
		}
		if len(symbols) == maxSymbols {
			return fmt.Errorf("%w: more than %d symbols", errTooLarge, maxSymbols)
		}
		symbols = append(symbols, string(body))
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(symbols) == 0 || symbols[0] != "":
		return errors.New("the first symbol is not the empty string")
	}
	m.symbols = symbols
	return nil
}

func seriesV1(body []byte, w walker) error {
	var ts prompb.TimeSeries
	if err := ts.Unmarshal(body); err != nil {
		return err
	}
	series := func() string {
		return seriesText(len(ts.Labels), func(i int) (string, string) { return ts.Labels[i].Name, ts.Labels[i].Value })
	}
	for _, s := range ts.Samples {
		w.sample(series, s.Value, s.Timestamp)
	}
	w.others(len(ts.Histograms), len(ts.Exemplars))
	return nil
}

func metadataV1(body []byte, w walker) error {
	var md prompb.MetricMetadata
	if err := md.Unmarshal(body); err != nil {
		return err
	}
	w.metadata(md.MetricFamilyName, strings.ToLower(md.Type.String()), md.Help, md.Unit)
	return nil
}

func (m *message) seriesV2(body []byte, w walker) error {
	var ts writev2.TimeSeries
	if err := ts.Unmarshal(body); err != nil {
		return err
	}
	if len(ts.LabelsRefs)%2 != 0 {
		return errors.New("odd number of label references")
	}
	for _, ref := range append(ts.LabelsRefs, ts.Metadata.HelpRef, ts.Metadata.UnitRef) {
		if uint64(ref) >= uint64(len(m.symbols)) {
			return fmt.Errorf("reference %d of %d symbols", ref, len(m.symbols))
		}
	}
	if len(ts.Samples) == 0 && len(ts.Histograms) == 0 {
		return errors.New("a series without sample or histogram")
	}
	label := func(i int) (string, string) { return m.symbols[ts.LabelsRefs[2*i]], m.symbols[ts.LabelsRefs[2*i+1]] }
	length := 0
	for _, ref := range ts.LabelsRefs {
		if length += len(m.symbols[ref]); length > maxPart { // few bytes can refer to many
			return fmt.Errorf("labels of a series are %w: more than %d bytes", errTooLarge, maxPart)
		}
	}
	for _, s := range ts.Samples {
		w.sample(func() string { return seriesText(len(ts.LabelsRefs)/2, label) }, s.Value, s.Timestamp)
	}
	w.others(len(ts.Histograms), len(ts.Exemplars))
	if md := ts.Metadata; md.Type != writev2.Metadata_METRIC_TYPE_UNSPECIFIED || md.HelpRef != 0 {
		family := ""
		for i := range len(ts.LabelsRefs) / 2 {
			if name, v := label(i); name == "__name__" {
				family = v
			}
		}
		typ := strings.ToLower(strings.TrimPrefix(md.Type.String(), "METRIC_TYPE_"))
		w.metadata(family, typ, m.symbols[md.HelpRef], m.symbols[md.UnitRef])
	}
	return nil
}

// tally counts what the message holds, having checked all of it.
func (m *message) tally() (t tally, err error) {
	t.wireBytes, t.rawBytes = m.wireBytes, len(m.raw)
	if m.v2 {
		t.messages[1]++
	} else {
		t.messages[0]++
	}
	err = m.walk(walker{
		sample: func(_ func() string, v float64, ts int64) {
			if value.IsStaleNaN(v) {
				t.stale++
			} else {
				t.samples++
			}
			t.newest = max(t.newest, ts)
		},
		others:   func(histograms, exemplars int) { t.histograms += histograms; t.exemplars += exemplars },
		metadata: func(_, _, _, _ string) { t.metadata++ },
	})
	return t, err
}

// print writes every sample of a message that tally has found good, and the
// metadata of a 1.x message, a line each.
func (m *message) print(out *bufio.Writer) {
	w := walker{
		sample: func(series func() string, v float64, ts int64) {
			text := "stale"
			if !value.IsStaleNaN(v) {
				text = strconv.FormatFloat(v, 'g', -1, 64)
			}
			fmt.Fprintf(out, "%s %s %d\n", series(), text, ts)
		},
		others: func(_, _ int) {},
		metadata: func(family, typ, help, unit string) {
			if !m.v2 { // there it comes with every series again
				fmt.Fprintf(out, "# %s %s %q %q\n", family, typ, help, unit)
			}
		},
	}
	if err := m.walk(w); err != nil {
		fmt.Fprintf(out, "# %v\n", err) // cannot be: tally has walked the same bytes
	}
}

// seriesText writes labels in the exposition's form.
func seriesText(n int, label func(i int) (name, value string)) string {
	var metric, rest strings.Builder
	for i := range n {
		name, v := label(i)
		if name == "__name__" {
			metric.WriteString(v)
			continue
		}
		if rest.Len() > 0 {
			rest.WriteByte(',')
		}
		fmt.Fprintf(&rest, "%s=%q", name, v)
	}
	return metric.String() + "{" + rest.String() + "}"
}

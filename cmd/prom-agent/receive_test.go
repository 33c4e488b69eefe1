package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

// post hands a body to the receiver.
func post(r *receiver, contentType, encoding string, body io.Reader) *httptest.ResponseRecorder {
	req := httptest.NewRequest("POST", "/api/v1/write", body)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Content-Encoding", encoding)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func marshal(t testing.TB, m interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func messageOfV1(t testing.TB) []byte {
	return marshal(t, &prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{
			{
				Labels:    []prompb.Label{{Name: "__name__", Value: "up"}, {Name: "job", Value: "a \"b\""}},
				Samples:   []prompb.Sample{{Value: 1, Timestamp: 1000}, {Value: math.Float64frombits(value.StaleNaN), Timestamp: 2000}},
				Exemplars: []prompb.Exemplar{{Value: 1}},
			},
			{Labels: []prompb.Label{{Name: "x", Value: "y"}}, Samples: []prompb.Sample{{Value: math.NaN(), Timestamp: 3000}}, Histograms: []prompb.Histogram{{}, {}}},
		},
		Metadata: []prompb.MetricMetadata{{MetricFamilyName: "up", Type: prompb.MetricMetadata_GAUGE, Help: "A help.", Unit: "s"}},
	})
}

func messageOfV2(t testing.TB) []byte {
	return marshal(t, &writev2.Request{
		Symbols: []string{"", "__name__", "up", "job", `a "b"`, "A help."},
		Timeseries: []writev2.TimeSeries{{
			LabelsRefs: []uint32{1, 2, 3, 4}, Samples: []writev2.Sample{{Value: 1, Timestamp: 1000}, {Value: math.Float64frombits(value.StaleNaN), Timestamp: 2000}},
			Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: 5}, Exemplars: []writev2.Exemplar{{Value: 1}},
		}},
	})
}

func TestReceiverCountsAndPrintsBothMessages(t *testing.T) {
	for _, c := range []struct {
		name, contentType, encoding string
		raw                         []byte
		printed                     string
		tally                       tally
		written                     string // samples, histograms, exemplars
	}{
		{"1.x", typeV1, "snappy", messageOfV1(t), "up{job=\"a \\\"b\\\"\"} 1 1000\nup{job=\"a \\\"b\\\"\"} stale 2000\n{x=\"y\"} NaN 3000\n# up gauge \"A help.\" \"s\"\n",
			tally{requests: 1, samples: 2, stale: 1, histograms: 2, exemplars: 1, metadata: 1, newest: 3000, messages: [2]int{1, 0}}, "3 2 1"},
		{"1.x, named", typeV1 + ";proto=prometheus.WriteRequest", "", messageOfV1(t), "up{job=\"a \\\"b\\\"\"} 1 1000\nup{job=\"a \\\"b\\\"\"} stale 2000\n{x=\"y\"} NaN 3000\n# up gauge \"A help.\" \"s\"\n",
			tally{requests: 1, samples: 2, stale: 1, histograms: 2, exemplars: 1, metadata: 1, newest: 3000, messages: [2]int{1, 0}}, "3 2 1"},
		{"2.0", typeV2, "snappy", messageOfV2(t), "up{job=\"a \\\"b\\\"\"} 1 1000\nup{job=\"a \\\"b\\\"\"} stale 2000\n",
			tally{requests: 1, samples: 1, stale: 1, exemplars: 1, metadata: 1, newest: 2000, messages: [2]int{0, 1}}, "2 0 1"},
		{"empty 1.x", typeV1, "snappy", nil, "", tally{requests: 1, messages: [2]int{1, 0}}, "0 0 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, print := range []bool{true, false} {
				var out bytes.Buffer
				r := newReceiver(print, &out)
				packed := snappy.Encode(nil, c.raw)
				w := post(r, c.contentType, c.encoding, bytes.NewReader(packed))
				if w.Code != 204 {
					t.Fatalf("got %d %s", w.Code, w.Body)
				}
				want := c.tally
				want.wireBytes, want.rawBytes = len(packed), len(c.raw)
				if r.total != want {
					t.Errorf("counted %+v, want %+v", r.total, want)
				}
				if !print {
					c.printed = ""
				}
				if got := out.String(); got != c.printed {
					t.Errorf("printed %q, want %q", got, c.printed)
				}
				const head = "X-Prometheus-Remote-Write-"
				h := w.Header()
				if got := h.Get(head+"Samples-Written") + " " + h.Get(head+"Histograms-Written") + " " + h.Get(head+"Exemplars-Written"); got != c.written {
					t.Errorf("written: %s, want %s", got, c.written)
				}
			}
		})
	}
}

// field is a length-delimited field of a protobuf message.
func field(number int, body []byte) []byte {
	b := binary.AppendUvarint(nil, uint64(number)<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

// endless is a body without an end.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	clear(p)
	e.read += len(p)
	return len(p), nil
}

func TestReceiverRefusesWithAReasonAndBoundedMemory(t *testing.T) {
	packed := func(raw []byte) []byte { return snappy.Encode(nil, raw) }
	claim := func(n uint64) []byte { return binary.AppendUvarint(nil, n) }
	symbols := field(4, nil)
	bigSymbol := field(4, bytes.Repeat([]byte("x"), 200<<10))
	sample := field(2, []byte{0x09, 0, 0, 0, 0, 0, 0, 0, 0})
	refs := func(ref uint64, n int) []byte { return field(1, bytes.Repeat(binary.AppendUvarint(nil, ref), n)) }
	endlessBody := &endless{}
	for _, c := range []struct {
		name, contentType, encoding string
		body                        io.Reader
		code                        int
		want                        string
	}{
		{"gzip", typeV1, "gzip", strings.NewReader(""), 415, `unsupported content encoding "gzip", want snappy`},
		{"JSON", "application/json", "snappy", strings.NewReader(""), 415, `unsupported content type "application/json"`},
		{"another message", typeV1 + ";proto=io.prometheus.write.v3.Request", "snappy", strings.NewReader(""), 415, `unsupported message "io.prometheus.write.v3.Request"`},
		{"a long content type", strings.Repeat("x", 60000), "snappy", strings.NewReader(""), 415, "unsupported content type"},
		{"endless body", typeV1, "snappy", endlessBody, 413, "body is too large: more than 8388608 bytes"},
		{"empty body", typeV1, "snappy", strings.NewReader(""), 400, "unpack body: "},
		{"not snappy", typeV1, "snappy", strings.NewReader("hello world, this is text"), 400, "unpack body: "},
		{"claim of 4 GiB", typeV1, "snappy", bytes.NewReader(claim(math.MaxUint32)), 413, "it claims to be 4294967295 bytes, too large"},
		{"claim that overflows", typeV1, "snappy", bytes.NewReader(bytes.Repeat([]byte{0xff}, 20)), 400, "unpack body: "},
		{"claim of what cannot be", typeV1, "snappy", bytes.NewReader(append(claim(30<<20), 0)), 400, "cannot come out of"},
		{"not protobuf", typeV1, "snappy", bytes.NewReader(packed([]byte("hello"))), 400, "decode prometheus.WriteRequest: malformed message"},
		{"field beyond the end", typeV1, "snappy", bytes.NewReader(packed([]byte{0x0a, 0x7f, 1})), 400, "malformed message"},
		{"broken series", typeV1, "snappy", bytes.NewReader(packed(field(1, []byte{0x0a, 0x7f}))), 400, "decode prometheus.WriteRequest: "},
		{"too many series", typeV1, "snappy", bytes.NewReader(packed(bytes.Repeat(field(1, nil), maxSeries+1))), 413, "more than 262144 series"},
		{"too many metadata", typeV1, "snappy", bytes.NewReader(packed(bytes.Repeat(field(3, nil), maxSeries+1))), 413, "more than 262144 series or metadata"},
		{"a series that is too large", typeV1, "snappy", bytes.NewReader(packed(field(1, bytes.Repeat(field(3, nil), maxPart)))), 413, "series or metadata 1 is too large"},
		{"no symbols", typeV2, "snappy", bytes.NewReader(packed(nil)), 400, "the first symbol is not the empty string"},
		{"a first symbol", typeV2, "snappy", bytes.NewReader(packed(field(4, []byte("x")))), 400, "the first symbol is not the empty string"},
		{"too many symbols", typeV2, "snappy", bytes.NewReader(packed(bytes.Repeat(symbols, maxSymbols+1))), 413, "more than 1048576 symbols"},
		{"reference out of the table", typeV2, "snappy", bytes.NewReader(packed(append(symbols, field(5, append(refs(7, 2), sample...))...))), 400, "reference 7 of 1 symbols"},
		{"odd references", typeV2, "snappy", bytes.NewReader(packed(append(symbols, field(5, append(refs(0, 3), sample...))...))), 400, "odd number of label references"},
		{"series without samples", typeV2, "snappy", bytes.NewReader(packed(append(symbols, field(5, refs(0, 2))...))), 400, "a series without sample or histogram"},
		{"labels that refer to much", typeV2, "snappy", bytes.NewReader(packed(append(append(symbols, bigSymbol...), field(5, append(refs(1, 100_000), sample...))...))), 413, "labels of a series are too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			r := newReceiver(true, &out)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w := post(r, c.contentType, c.encoding, c.body)
			runtime.ReadMemStats(&after)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("got %d %.300s, want %d %s", w.Code, w.Body, c.code, c.want)
			}
			if text := out.String(); !strings.HasPrefix(text, "refused: ") || !strings.Contains(text, c.want) || len(text) > 500 {
				t.Errorf("printed %.600q", text)
			}
			if r.total != (tally{refused: 1}) {
				t.Errorf("counted %+v", r.total)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 160<<20 {
				t.Errorf("%d MiB were allocated", n>>20)
			}
			if len(r.working) != 0 || len(r.waiting) != 0 {
				t.Errorf("%d and %d places are still taken", len(r.working), len(r.waiting))
			}
		})
	}
	if endlessBody.read > 2*maxWireBody {
		t.Errorf("%d bytes of the endless body were read", endlessBody.read)
	}
	w := httptest.NewRecorder()
	newReceiver(false, io.Discard).ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/write", nil))
	if w.Code != 405 || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}

func TestReceiverPrintsManySamplesOfALongSeriesWithoutGatheringThem(t *testing.T) {
	ts := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: strings.Repeat("x", 64<<10)}}, Samples: make([]prompb.Sample, 4000)}
	for i := range ts.Samples {
		ts.Samples[i].Timestamp = int64(i + 1)
	}
	r := newReceiver(true, io.Discard)
	body := snappy.Encode(nil, marshal(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{ts}}))
	var most uint64
	done := make(chan int)
	go func() { done <- post(r, typeV1, "snappy", bytes.NewReader(body)).Code }()
	for {
		select {
		case code := <-done:
			if code != 204 {
				t.Errorf("got %d", code)
			}
			if most > 200<<20 {
				t.Errorf("up to %d MiB of heap for 250 MiB of text", most>>20)
			}
			return
		default:
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapInuse)
		}
	}
}

// held is a body that says when it is first read, and ends when it is let go.
type held struct {
	entered chan<- struct{}
	free    <-chan struct{}
	once    sync.Once
}

func (h *held) Read([]byte) (int, error) {
	h.once.Do(func() { h.entered <- struct{}{} })
	<-h.free
	return 0, io.EOF
}

func TestReceiverWorksAtFewRequestsAtOnceAndRefusesWhatIsTooMuch(t *testing.T) {
	r := newReceiver(false, io.Discard)
	entered, free := make(chan struct{}, maxWorking+maxWaiting), make(chan struct{})
	codes := make(chan int, maxWorking+maxWaiting)
	for range maxWorking + maxWaiting {
		go func() { codes <- post(r, typeV1, "snappy", &held{entered: entered, free: free}).Code }()
	}
	for range maxWorking {
		<-entered
	}
	until(t, "the others wait", func() bool { return len(r.waiting) == maxWaiting })
	if w := post(r, typeV1, "snappy", strings.NewReader("")); w.Code != 503 || !strings.Contains(w.Body.String(), "too many requests at once") {
		t.Errorf("one more: %d %s", w.Code, w.Body)
	}
	if n := len(entered); n != 0 {
		t.Errorf("%d more bodies are read than there are places", n)
	}
	close(free)
	for range maxWorking + maxWaiting {
		if code := <-codes; code != 400 { // an empty body
			t.Errorf("got %d", code)
		}
	}
	if len(r.working) != 0 || len(r.waiting) != 0 {
		t.Errorf("%d and %d places are still taken", len(r.working), len(r.waiting))
	}
}

func TestReceiverLetsGoOfASenderThatGivesUpWaiting(t *testing.T) {
	r := newReceiver(false, io.Discard)
	for range maxWorking {
		r.working <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() { done <- r.enter(ctx) }()
	until(t, "it waits", func() bool { return len(r.waiting) == 1 })
	cancel()
	if <-done {
		t.Error("it got a place that is not there")
	}
	if len(r.waiting) != 0 {
		t.Error("its place among those who wait is still taken")
	}
}

func TestReceiveGetsTheAgentsSamplesEndToEnd(t *testing.T) {
	for name, message := range map[string]string{"1.x": messageV1, "2.0": messageV2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, "receive", "--listen-address=127.0.0.1:0", "--print", "--interval=100ms")
			url := r.waitFor(`receiving on (http://\S+)\n`)[1]
			target, _ := exporter(t)
			a := startAgent(t, "global: {external_labels: {cluster: edge}}\nscrape_configs:\n"+job("a", target)+
				"remote_write: [{url: '"+url+"', protobuf_message: "+message+", queue_config: {batch_send_deadline: 50ms}, metadata_config: {send_interval: 100ms}}]\n")
			for i := 1; i <= 3; i++ { // every scrape, in order
				r.waitFor(fmt.Sprintf(`(?m)^some_total\{a="b c",cluster="edge",instance="%s",job="a"\} %d \d{13}\n`, regexp.QuoteMeta(target), i))
			}
			r.waitFor(`(?m)^up\{cluster="edge",instance="\S+",job="a"\} 1 \d{13}\n`)
			if message == messageV1 {
				r.waitFor(`(?m)^# some_total counter "Some\." ""\n`)
			}
			r.waitFor(`requests/s +\d+ samples/s +\d+\.\d bytes/sample`)
			a.signal(syscall.SIGTERM)
			if code := a.end(); code != 0 {
				t.Errorf("the agent ended with %d", code)
			}
			r.signal(syscall.SIGTERM)
			if code := r.end(); code != 0 {
				t.Errorf("the receiver ended with %d", code)
			}
			all := r.waitFor(`in all: (\d+) requests, (\d+) samples, .* (\d+) refused requests\n`)
			if printed := len(regexp.MustCompile(`(?m)^\w*\{.*\} \S+ \d{13}$`).FindAllString(r.output(), -1)); fmt.Sprint(printed) != all[2] {
				t.Errorf("%d samples are printed, %s counted", printed, all[2])
			}
			if all[3] != "0" {
				t.Errorf("%s requests were refused", all[3])
			}
			last := 0
			for _, m := range regexp.MustCompile(`(?m)^some_total\{.*\} (\d+) \d{13}$`).FindAllStringSubmatch(r.output(), -1) {
				n, err := strconv.Atoi(m[1])
				if err != nil || n < last { // again is allowed, earlier is not
					t.Errorf("some_total %s comes after %d", m[1], last)
				}
				last = n
			}
		})
	}
}

func TestReceiveOnATakenPort(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if got := executed(t, "receive", "--listen-address="+ln.Addr().String()); got.code != 1 || !strings.Contains(got.stderr, ln.Addr().String()) || !strings.Contains(got.stderr, "address already in use") {
		t.Errorf("%+v", got)
	}
}

func TestReceiveEndsWithASenderThatDoesNot(t *testing.T) {
	r := start(t, "receive", "--listen-address=127.0.0.1:0")
	addr := r.waitFor(`receiving on http://(\S+)/api`)[1]
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Encoding: snappy\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", typeV1)
	res, err := http.Get("http://" + addr + "/") // it is served meanwhile
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	begin := time.Now()
	r.signal(syscall.SIGTERM)
	if code := r.end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

func FuzzReceiver(f *testing.F) {
	f.Add(messageOfV1(f), false)
	f.Add(messageOfV2(f), true)
	f.Fuzz(func(t *testing.T, raw []byte, v2 bool) {
		contentType := typeV1
		if v2 {
			contentType = typeV2
		}
		var out bytes.Buffer
		r := newReceiver(true, &out)
		w := post(r, contentType, "snappy", bytes.NewReader(snappy.Encode(nil, raw)))
		if w.Code != 204 && w.Code != 400 && w.Code != 413 {
			t.Errorf("got %d", w.Code)
		}
		if (w.Code == 204) != (r.total.requests == 1) || (w.Code == 204) == (r.total.refused == 1) {
			t.Errorf("got %d, counted %+v", w.Code, r.total)
		}
		if strings.Contains(out.String(), "# decode") {
			t.Errorf("found good, and then bad: %s", out.String())
		}
		var whole prompb.WriteRequest
		if v2 || w.Code != 204 || whole.Unmarshal(raw) != nil {
			return
		}
		samples := 0
		for _, ts := range whole.Timeseries {
			samples += len(ts.Samples)
		}
		if got := r.total.samples + r.total.stale; got != samples || r.total.metadata != len(whole.Metadata) {
			t.Errorf("%d samples and %d metadata, want %d and %d", got, r.total.metadata, samples, len(whole.Metadata))
		}
	})
}

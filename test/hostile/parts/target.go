// Package parts has targets, receivers and API servers that misbehave, for
// tests and for the command above it.
package parts

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Target is a scrape target that misbehaves in the way that the path names.
// The query has sizes.
type Target struct {
	mux        *http.ServeMux
	requests   atomic.Int64
	authorized atomic.Int64
	packed     sync.Map // gzipped bodies by path and query

	mu    sync.Mutex
	shown []Shown
}

// Shown is a request of /show: what credentials have come with it.
type Shown struct {
	Via    string // of the query
	Header http.Header
}

// NewTarget returns a target that serves every mode.
func NewTarget() *Target {
	t := &Target{mux: http.NewServeMux()}
	t.packedModes()
	t.plainModes()
	t.headModes()
	t.endlessModes()
	for mode, text := range rawAnswers {
		t.raw(mode, func(c net.Conn, _ *http.Request) { fmt.Fprint(c, text) })
	}
	return t
}

// RawModes are the modes that answer with bytes that are no good HTTP or text.
func RawModes() (modes []string) {
	for mode := range rawAnswers {
		modes = append(modes, mode)
	}
	return modes
}

func (t *Target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.requests.Add(1)
	if r.Header.Get("Authorization") != "" {
		t.authorized.Add(1)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	t.mux.ServeHTTP(w, r)
}

// Requests is how many requests it has got.
func (t *Target) Requests() int { return int(t.requests.Load()) }

// Authorized is how many of them have brought credentials.
func (t *Target) Authorized() int { return int(t.authorized.Load()) }

// Shown are the requests that /show has got.
func (t *Target) Shown() []Shown {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Shown(nil), t.shown...)
}

// size is a number of the query.
func size(r *http.Request, name string, otherwise int) int {
	if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil {
		return n
	}
	return otherwise
}

func (t *Target) handle(mode string, f http.HandlerFunc) { t.mux.HandleFunc("/"+mode, f) }

// zipped serves what write writes, gzipped, and packs it once.
func (t *Target) zipped(mode string, write func(w io.Writer, r *http.Request)) {
	t.handle(mode, func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.String()
		body, ok := t.packed.Load(key)
		if !ok {
			var b bytes.Buffer
			z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
			if err != nil {
				panic(err) // the level is a constant
			}
			buffered := bufio.NewWriterSize(z, 1<<20)
			write(buffered, r)
			_ = buffered.Flush() // into memory
			_ = z.Close()
			body, _ = t.packed.LoadOrStore(key, b.Bytes())
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", strconv.Itoa(len(body.([]byte))))
		fmt.Fprintf(w, "%s", body)
	})
}

// buffered serves what write writes.
func (t *Target) buffered(mode string, write func(w io.Writer, r *http.Request)) {
	t.handle(mode, func(w http.ResponseWriter, r *http.Request) {
		b := bufio.NewWriter(w)
		write(b, r)
		_ = b.Flush() // a client that has gone needs nothing
	})
}

// raw gives f the connection in place of an answer.
func (t *Target) raw(mode string, f func(c net.Conn, r *http.Request)) {
	t.handle(mode, func(w http.ResponseWriter, r *http.Request) {
		c := hijack(w)
		defer c.Close()
		f(c, r)
		time.Sleep(50 * time.Millisecond) // the client reads before it is told of the end
	})
}

func hijack(w http.ResponseWriter) net.Conn {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return c
}

// repeat writes a line over and over, at least so many bytes.
func repeat(w io.Writer, line string, bytes int) {
	chunk := strings.Repeat(line, 1+(1<<20)/len(line))
	for bytes > 0 {
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
		bytes -= len(chunk)
	}
}

// noise is text that does not compress.
func noise(n int) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-"
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))]
	}
	return b
}

// packedModes are large when unpacked.
func (t *Target) packedModes() {
	t.zipped("dup", func(w io.Writer, r *http.Request) { repeat(w, "a 1\n", size(r, "mb", 64)<<20) })
	t.zipped("comment", func(w io.Writer, r *http.Request) { repeat(w, "#\n", size(r, "mb", 64)<<20) })
	// Lines that the full parser must read, and that leave nothing behind.
	t.zipped("slowparse", func(w io.Writer, r *http.Request) { repeat(w, "# HELP a b\n", size(r, "mb", 64)<<20) })
	t.zipped("series", func(w io.Writer, r *http.Request) {
		for i := range size(r, "n", 1000000) {
			fmt.Fprintf(w, "a{b=\"%d\"} 1\n", i)
		}
	})
	t.zipped("names", func(w io.Writer, r *http.Request) {
		for i := range size(r, "n", 1000000) {
			fmt.Fprintf(w, "a%d 1\n", i)
		}
	})
	t.zipped("timed", func(w io.Writer, r *http.Request) {
		n, now := size(r, "n", 1000000), time.Now().UnixMilli()
		for i := range n {
			fmt.Fprintf(w, "a 1 %d\n", now-int64(n)+int64(i))
		}
	})
	// One HELP, and series with so many sets of label names.
	shapes := func(w io.Writer, r *http.Request, help []byte) {
		fmt.Fprintf(w, "# HELP a %s\n# TYPE a gauge\n", help)
		for i := range size(r, "n", 1000) {
			fmt.Fprintf(w, "a{l%d=\"1\"} 1\n", i)
		}
	}
	t.zipped("help", func(w io.Writer, r *http.Request) {
		shapes(w, r, bytes.Repeat([]byte("h"), size(r, "kb", 1000)<<10))
	})
	t.zipped("helprandom", func(w io.Writer, r *http.Request) { shapes(w, r, noise(size(r, "kb", 1000)<<10)) })
	t.zipped("bigvalues", func(w io.Writer, r *http.Request) {
		for i := range size(r, "n", 100) {
			fmt.Fprintf(w, "a{b=\"%d%s\"} 1\n", i, strings.Repeat("v", size(r, "len", 100000)))
		}
	})
	t.zipped("bigrandom", func(w io.Writer, r *http.Request) {
		for i := range size(r, "n", 100) {
			fmt.Fprintf(w, "a{b=\"%d%s\"} 1\n", i, noise(size(r, "len", 100000)))
		}
	})
}

// plainModes are text, most of it new in every scrape.
func (t *Target) plainModes() {
	t.buffered("good", func(w io.Writer, _ *http.Request) { fmt.Fprint(w, "good 1\n") })
	t.buffered("raw", func(w io.Writer, r *http.Request) {
		repeat(w, "#"+strings.Repeat("x", 1000)+"\n", size(r, "mb", 300)<<20)
	})
	t.buffered("churn", func(w io.Writer, r *http.Request) {
		turn := t.Requests()
		for i := range size(r, "n", 50000) {
			fmt.Fprintf(w, "a{b=\"%d_%d\"} 1\n", turn, i)
		}
	})
	t.buffered("churnnames", func(w io.Writer, r *http.Request) {
		turn := t.Requests()
		for i := range size(r, "n", 10000) {
			name := fmt.Sprintf("m%d_%d", turn, i)
			fmt.Fprintf(w, "# HELP %s help text of some length for it %d\n# TYPE %s gauge\n%s{x%d_%d=\"1\"} 1\n", name, i, name, name, turn, i)
		}
	})
	families := func(w io.Writer, r *http.Request) {
		turn, text := t.Requests(), strings.Repeat("h", size(r, "len", 900))
		for i := range size(r, "n", 5000) {
			fmt.Fprintf(w, "# HELP m%d_%d %s\n", turn, i, text)
		}
	}
	t.buffered("helpgood", families)
	t.buffered("helpleak", func(w io.Writer, r *http.Request) { // the same, and the scrape fails at its last line
		families(w, r)
		fmt.Fprint(w, "!\n")
	})
	t.buffered("labels", func(w io.Writer, r *http.Request) {
		fmt.Fprint(w, "a{")
		for i := range size(r, "n", 300000) {
			fmt.Fprintf(w, "l%d=\"1\",", i)
		}
		fmt.Fprint(w, "} 1\n")
	})
	script := "</script><script>alert(1)</script>"
	help := "# HELP xss " + script + "<img src=x onerror=alert(1)>\n# TYPE xss gauge\n"
	t.buffered("xss", func(w io.Writer, _ *http.Request) {
		fmt.Fprintf(w, "%sxss{l=\"%s\"} 1\nbad{%s\x1b[31mRED\x1b[0m level=error msg=\"forged\"\n", help, script, script)
	})
	t.buffered("xssok", func(w io.Writer, _ *http.Request) {
		fmt.Fprintf(w, "%sxss{l=\"%s\\nnext line\\\"\"} 1\n", help, script)
	})
	t.handle("redirect", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(size(r, "code", http.StatusFound))
	})
	t.handle("show", func(w http.ResponseWriter, r *http.Request) {
		t.mu.Lock()
		t.shown = append(t.shown, Shown{r.URL.Query().Get("via"), r.Header.Clone()})
		t.mu.Unlock()
		fmt.Fprint(w, "show 1\n")
	})
}

// headModes misbehave in the head of the answer.
func (t *Target) headModes() {
	t.raw("reason", func(c net.Conn, r *http.Request) {
		fmt.Fprintf(c, "HTTP/1.1 500 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", strings.Repeat(r.URL.Query().Get("c")+"x", size(r, "kb", 9000)<<10))
	})
	t.raw("ctype", func(c net.Conn, r *http.Request) {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/%s\r\nContent-Length: 4\r\nConnection: close\r\n\r\na 1\n", strings.Repeat("\xff", size(r, "kb", 9000)<<10))
	})
	t.raw("xssreason", func(c net.Conn, _ *http.Request) {
		fmt.Fprint(c, "HTTP/1.1 500 <script>alert(3)</script>\x1b[31m level=error\rmsg=forged\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	t.raw("xssctype", func(c net.Conn, _ *http.Request) {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Type: x/<script>alert(4)</script>\x1b[31m level=error\"\r\nContent-Length: 4\r\nConnection: close\r\n\r\na 1\n")
	})
}

// endless writes what next makes until the client has gone.
func endless(w io.Writer, pause time.Duration, next func(i int) string) {
	for i := 0; ; i++ {
		if _, err := io.WriteString(w, next(i)); err != nil {
			return
		}
		if f, ok := w.(http.ResponseWriter); ok && http.NewResponseController(f).Flush() != nil {
			return
		}
		time.Sleep(pause)
	}
}

// endlessModes never come to an end.
func (t *Target) endlessModes() {
	const pause = 200 * time.Millisecond
	t.handle("slowbody", func(w http.ResponseWriter, _ *http.Request) {
		endless(w, pause, func(int) string { return "a 1\n" })
	})
	t.raw("slowheaders", func(c net.Conn, _ *http.Request) {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX: ")
		endless(c, pause, func(int) string { return "a" })
	})
	t.raw("headerflood", func(c net.Conn, _ *http.Request) {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\n")
		endless(c, 0, func(i int) string { return fmt.Sprintf("X-%d: %s\r\n", i, strings.Repeat("a", 100)) })
	})
	t.raw("continueflood", func(c net.Conn, _ *http.Request) {
		hints := strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 100)
		endless(c, 0, func(int) string { return hints })
	})
}

var rawAnswers = map[string]string{
	"badchunk":    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na 1\n\r\n0\r\n\r\n",
	"negchunk":    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\na 1\n\r\n0\r\n\r\n",
	"clte":        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 1\n\r\n0\r\n\r\n",
	"clcl":        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nContent-Length: 400\r\n\r\na 1\n",
	"negcl":       "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: -4\r\n\r\na 1\n",
	"hugecl":      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9223372036854775807\r\n\r\na 1\n",
	"chunkext":    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4;" + strings.Repeat("x", 100000) + "\r\na 1\n\r\n0\r\n\r\n",
	"trailers":    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na 1\n\r\n0\r\n" + strings.Repeat("X: y\r\n", 100000) + "\r\n",
	"status99":    "HTTP/1.1 099 X\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\na 1\n",
	"http09":      "a 1\n",
	"http3":       "HTTP/3.0 200 OK\r\nContent-Length: 4\r\n\r\na 1\n",
	"switching":   "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\na 1\n",
	"nul":         "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 16\r\n\r\na\x00b 1\nc{d=\"\x00\"} 1",
	"nulval":      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nc{d=\"\x00x\"} 1\n",
	"protobuf":    "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\nContent-Length: 4\r\n\r\na 1\n",
	"protobuftxt": "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.google.protobuf;encoding=text\r\nContent-Length: 4\r\n\r\na 1\n",
	"gzipgzip":    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip, gzip\r\nContent-Length: 4\r\n\r\na 1\n",
	"zstdbad":     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: zstd\r\nContent-Length: 12\r\n\r\n\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff\xff\xff\xff",
	"zstdwindow":  "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: zstd\r\nContent-Length: 9\r\n\r\n\x28\xb5\x2f\xfd\x00\xf8\x01\x00\x00",
	"setcookie":   "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a=b; Domain=127.0.0.1\r\nContent-Length: 4\r\n\r\na 1\n",
	"inf":         "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 44\r\n\r\na +Inf\nb NaN\nc 1e400\nd -Inf\ne 0x1p9999\nf 1_0\n",
}

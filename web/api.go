package web

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"
)

// BuildInfo is the answer of /api/v1/status/buildinfo.
type BuildInfo struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	Branch    string `json:"branch"`
	BuildUser string `json:"buildUser"`
	BuildDate string `json:"buildDate"`
	GoVersion string `json:"goVersion"`
}

// RuntimeInfo is the answer of /api/v1/status/runtimeinfo.
type RuntimeInfo struct {
	StartTime           time.Time `json:"startTime"`
	CWD                 string    `json:"CWD"`
	Hostname            string    `json:"hostname"`
	ServerTime          time.Time `json:"serverTime"`
	ReloadConfigSuccess bool      `json:"reloadConfigSuccess"`
	LastConfigTime      time.Time `json:"lastConfigTime"`
	CorruptionCount     int64     `json:"corruptionCount"`
	GoroutineCount      int       `json:"goroutineCount"`
	GOMAXPROCS          int       `json:"GOMAXPROCS"`
	GOMEMLIMIT          int64     `json:"GOMEMLIMIT"`
	GOGC                string    `json:"GOGC"`
	GODEBUG             string    `json:"GODEBUG"`
	StorageRetention    string    `json:"storageRetention"`
}

// apiError is an answer of the API that is not a success.
type apiError struct {
	code    int
	typ     string
	message string
}

// envelope is what every answer of the API looks like, as Prometheus has it.
type envelope struct {
	Status    string `json:"status"`
	Data      any    `json:"data,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Error     string `json:"error,omitempty"`
}

// answer wraps what f returns in the API's envelope.
func answer(f func(*http.Request) (any, *apiError)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := f(r)
		if err != nil {
			writeError(w, err)
			return
		}
		if s, ok := data.(streamed); ok {
			writeStream(w, s)
			return
		}
		writeJSON(w, http.StatusOK, envelope{Status: "success", Data: data})
	})
}

// streamed is data that is too much to be encoded before it is written.
type streamed interface {
	stream(w *bufio.Writer) error
}

// writeStream writes data in the envelope. What fails on the way ends the
// answer: the client, if there still is one, sees that it is not whole.
func writeStream(w http.ResponseWriter, s streamed) {
	w.Header().Set("Content-Type", "application/json")
	b := bufio.NewWriterSize(w, 64<<10)
	_, _ = b.WriteString(`{"status":"success","data":`)
	if err := s.stream(b); err != nil {
		panic(http.ErrAbortHandler)
	}
	_ = b.WriteByte('}')
	_ = b.Flush()
}

func writeError(w http.ResponseWriter, err *apiError) {
	writeJSON(w, err.code, envelope{Status: "error", ErrorType: err.typ, Error: err.message})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	b, err := json.Marshal(v)
	if err != nil { // a type of ours that JSON cannot hold
		code, b = http.StatusInternalServerError, []byte(`{"status":"error","errorType":"internal","error":"cannot encode the answer"}`)
	}
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client may be gone; there is no one else to tell
}

// version says what was built, as text: the answer is older than the API.
func (s *Server) version(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = json.NewEncoder(w).Encode(s.o.Build) // the client may be gone
}

// profiles serves the runtime's profiles under /debug/pprof/.
func profiles(w http.ResponseWriter, r *http.Request) {
	path := r.PathValue("subpath")
	name, ok := strings.CutPrefix(path, "pprof/")
	switch {
	case path == "pprof":
		http.Redirect(w, r, r.URL.Path+"/", http.StatusMovedPermanently)
	case !ok:
		http.NotFound(w, r)
	case name == "cmdline":
		pprof.Cmdline(w, r)
	case name == "profile":
		pprof.Profile(w, r)
	case name == "symbol":
		pprof.Symbol(w, r)
	case name == "trace":
		pprof.Trace(w, r)
	default:
		r.URL.Path = "/debug/pprof/" + name // what Index looks at
		pprof.Index(w, r)
	}
}

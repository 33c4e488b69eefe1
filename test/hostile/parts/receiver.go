package parts

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// ReceiverModes are those of Receiver that need no argument or have a good one here.
var ReceiverModes = map[string]string{
	"ok": "", "endless": "", "endless500": "", "slow": "", "hang": "", "headers": "", "hundred": "", "reason": "", "reason400": "", "inject": "",
	"written": "99999999999999999999", "retryafter": "999999999", "redirect": "http://127.0.0.1:1/", "redirect302": "/", "early": "", "204body": "",
}

// Receiver is a remote write receiver that misbehaves in a way; some ways have an argument.
func Receiver(mode, argument string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mode != "early" {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
		}
		if f, ok := rawReceivers[mode]; ok {
			c := hijack(w)
			defer c.Close()
			f(c)
			return
		}
		receive(w, r, mode, argument)
	})
}

func receive(w http.ResponseWriter, r *http.Request, mode, argument string) {
	much := strings.Repeat("x", 65536)
	switch mode {
	case "ok":
		w.WriteHeader(http.StatusNoContent)
	case "endless":
		endless(w, 0, func(int) string { return much })
	case "endless500":
		w.WriteHeader(http.StatusInternalServerError)
		endless(w, 0, func(int) string { return much })
	case "slow":
		endless(w, 100*time.Millisecond, func(int) string { return "x" })
	case "hang":
		<-r.Context().Done()
	case "inject":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, "<script>alert(1)</script>\nts=2026 level=ERROR msg=forged\r\n\x1b[31mred\x1b]0;title\x07\x00")
	case "written":
		for _, what := range []string{"Samples", "Histograms", "Exemplars"} {
			w.Header().Set("X-Prometheus-Remote-Write-"+what+"-Written", argument)
		}
		w.WriteHeader(http.StatusNoContent)
	case "retryafter":
		w.Header().Set("Retry-After", argument)
		w.WriteHeader(http.StatusServiceUnavailable)
	case "redirect":
		w.Header().Set("Location", argument)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case "redirect302":
		w.Header().Set("Location", argument)
		w.WriteHeader(http.StatusFound)
	default: // early: before the request's body is read
		w.WriteHeader(http.StatusBadRequest)
	}
}

// rawReceivers are the modes that answer with bytes of their own.
var rawReceivers = map[string]func(net.Conn){
	"headers": func(c net.Conn) {
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\n")
		endless(c, 0, func(int) string { return "X: " + strings.Repeat("a", 1000) + "\r\n" })
	},
	"hundred": func(c net.Conn) {
		endless(c, 0, func(int) string { return "HTTP/1.1 100 Continue\r\n\r\n" })
	},
	"reason": func(c net.Conn) {
		fmt.Fprintf(c, "HTTP/1.1 500 %s\r\nContent-Length: 0\r\n\r\n", strings.Repeat("R", 400<<10))
	},
	"reason400": func(c net.Conn) {
		fmt.Fprintf(c, "HTTP/1.1 400 %s\r\nContent-Length: 0\r\n\r\n", strings.Repeat("R", 400<<10))
	},
	"204body": func(c net.Conn) { // a second answer behind one that has no body
		fmt.Fprint(c, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 smuggled\r\nContent-Length: 0\r\n\r\n")
		time.Sleep(2 * time.Second)
	},
}

package parts

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// APIServerModes are those of APIServer.
var APIServerModes = []string{"pods", "ports", "amp", "flood", "floodnew", "endlesserror", "redirect"}

// APIServer is a Kubernetes API server of pods, in protobuf, that misbehaves in
// a way. n and size say how much, n events of a flood (0: no end); to is where a
// redirect goes.
func APIServer(mode string, n, size int, to string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case mode == "redirect":
			http.Redirect(w, r, to+r.URL.RequestURI(), http.StatusFound)
			return
		case mode == "endlesserror":
			w.WriteHeader(http.StatusInternalServerError)
			endless(w, 0, func(int) string { return strings.Repeat("E<script>\n", 1000) })
			return
		}
		w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf")
		if r.URL.Query().Get("watch") == "" {
			_, _ = w.Write(unknown("PodList", podList(mode, n, size))) // a client that has gone needs nothing
			return
		}
		switch mode {
		case "flood":
			events(r, w, "MODIFIED", n, func(i int) []byte {
				return pod("p0", strconv.Itoa(1000+i), map[string]string{"a": strconv.Itoa(i)}, 1)
			})
		case "floodnew":
			events(r, w, "ADDED", n, func(i int) []byte {
				return pod(fmt.Sprint("p", i), strconv.Itoa(1000+i), map[string]string{"a": strings.Repeat("x", size)}, 1)
			})
		default:
			_ = http.NewResponseController(w).Flush()
			hold(r)
		}
	})
}

func podList(mode string, n, size int) []byte {
	list := field(nil, 1, text(nil, 2, "100"))
	switch mode {
	case "pods": // n pods with annotations of size bytes
		for i := range n {
			list = field(list, 2, pod(fmt.Sprint("p", i), "1", map[string]string{"a": strings.Repeat("x", size)}, 1))
		}
	case "ports": // one pod with n ports
		list = field(list, 2, pod("p", "1", map[string]string{"prometheus.io/scrape": "true"}, n))
	case "amp": // n containers without a name, and one status with an ID of size bytes
		spec := bytes.Repeat([]byte{2<<3 | 2, 0}, n)
		status := field(nil, 8, text(text(nil, 1, ""), 8, strings.Repeat("i", size)))
		status = append(status, text(text(nil, 1, "Running"), 6, "127.0.0.1")...)
		list = field(list, 2, field(field(field(nil, 1, metadata("p", "1", nil)), 2, spec), 3, status))
	default:
		list = field(list, 2, pod("p0", "1", nil, 1))
	}
	return list
}

// hold keeps a watch open.
func hold(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-time.After(time.Minute):
	}
}

// events writes n watch events, or events until the client has gone.
func events(r *http.Request, w http.ResponseWriter, kind string, n int, next func(i int) []byte) {
	for i := 0; n == 0 || i < n; i++ {
		e := field(text(nil, 1, kind), 2, field(nil, 1, unknown("Pod", next(i))))
		if _, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(e))), e...)); err != nil {
			return
		}
	}
	_ = http.NewResponseController(w).Flush()
	hold(r)
}

// unknown is the envelope that Kubernetes puts around protobuf.
func unknown(kind string, raw []byte) []byte {
	b := field([]byte("k8s\x00"), 1, text(text(nil, 1, "v1"), 2, kind))
	return field(b, 2, raw)
}

func pod(name, version string, annotations map[string]string, ports int) []byte {
	container := text(nil, 1, "c")
	for i := range ports {
		container = field(container, 6, number(nil, 3, uint64(i+1)))
	}
	status := text(text(nil, 1, "Running"), 6, "127.0.0.1")
	return field(field(field(nil, 1, metadata(name, version, annotations)), 2, field(nil, 2, container)), 3, status)
}

func metadata(name, version string, annotations map[string]string) []byte {
	b := text(text(text(text(nil, 1, name), 3, "ns"), 5, "uid-"+name), 6, version)
	for k, v := range annotations {
		b = field(b, 12, text(text(nil, 1, k), 2, v))
	}
	return b
}

func field(b []byte, num int, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(num)<<3|2)
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func text(b []byte, num int, s string) []byte { return field(b, num, []byte(s)) }

func number(b []byte, num int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(num)<<3), v)
}

package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// refusal is an answer of the server that is not what was asked for.
type refusal struct {
	code    int // HTTP status
	message string
	// rewound: the server has no version as new as the one that was asked for.
	rewound bool
	wait    time.Duration // what Retry-After asks for, 0: nothing
}

func (r *refusal) Error() string {
	if r.message == "" {
		return fmt.Sprintf("status %d", r.code)
	}
	return fmt.Sprintf("status %d: %s", r.code, r.message)
}

// garbage is an answer that makes no sense.
type garbage struct{ err error }

func (g *garbage) Error() string { return "read answer: " + g.err.Error() }
func (g *garbage) Unwrap() error { return g.err }

func garbled(format string, args ...any) error { return &garbage{fmt.Errorf(format, args...)} }

// newRefusal reads a refusal from an answer and the beginning of its body.
func newRefusal(resp *http.Response, body []byte) *refusal {
	s, ok := parseStatus(body)
	if !ok {
		s = status{Message: string(body)}
	}
	r := s.refusal()
	r.code = resp.StatusCode
	if d := retryAfter(resp.Header.Get("Retry-After")); d > 0 {
		r.wait = d
	}
	return r
}

// retryAfter reads the header of this name, which the API server gives in
// seconds.
func retryAfter(v string) time.Duration {
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil || n < 0 {
		return 0
	}
	return seconds(n)
}

// seconds makes a wait that is at most half a minute.
func seconds(n int) time.Duration { return time.Duration(min(max(n, 0), 30)) * time.Second }

// status is metav1.Status as far as it is of use.
type status struct {
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Code    int    `json:"code"`
	Details struct {
		RetryAfterSeconds int `json:"retryAfterSeconds"`
		Causes            []struct {
			Reason string `json:"reason"`
		} `json:"causes"`
	} `json:"details"`
}

func (s status) refusal() *refusal {
	r := &refusal{code: s.Code, message: clip(s.Message), wait: seconds(s.Details.RetryAfterSeconds)}
	if r.code == 0 && s.Reason == "Expired" {
		r.code = http.StatusGone
	}
	// Servers before 1.20 say it in the message alone.
	r.rewound = strings.Contains(s.Message, "Too large resource version")
	for _, c := range s.Details.Causes {
		r.rewound = r.rewound || c.Reason == "ResourceVersionTooLarge"
	}
	return r
}

// parseStatus reads a metav1.Status in protobuf or in JSON; false: it is none.
func parseStatus(b []byte) (status, bool) {
	var s status
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
		err := json.Unmarshal(b, &s)
		return s, err == nil
	}
	raw, err := unwrap(b)
	if err != nil {
		return s, false
	}
	err = eachField(raw, func(n protowire.Number, v []byte, i uint64) error {
		switch n {
		case 3:
			s.Message = string(v)
		case 4:
			s.Reason = string(v)
		case 5:
			return s.parseDetails(v)
		case 6:
			s.Code = int(int32(i))
		}
		return nil
	})
	return s, err == nil
}

func (s *status) parseDetails(b []byte) error {
	return eachField(b, func(n protowire.Number, v []byte, i uint64) error {
		switch n {
		case 4:
			return eachField(v, func(n protowire.Number, v []byte, _ uint64) error {
				if n == 1 {
					s.Details.Causes = append(s.Details.Causes, struct {
						Reason string `json:"reason"`
					}{string(v)})
				}
				return nil
			})
		case 5:
			s.Details.RetryAfterSeconds = int(int32(i))
		}
		return nil
	})
}

// gone says that the version that was asked for is not kept any more.
func gone(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.code == http.StatusGone
}

// rewound says that the server has no version as new as was asked for.
func rewound(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.rewound
}

package kubetest

import (
	"fmt"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Request is one that the server got.
type Request struct {
	Verb   string // "list", "watch", "get", or an HTTP method in lower case
	Path   string // "/api/v1/namespaces/a/pods"
	Query  url.Values
	Header http.Header
}

// Call is what a request is for, without where in time it starts and how it is
// answered: requests of one Call could share their answers.
type Call struct {
	Verb, Path string
	Label      string // label selector
	Field      string // field selector
}

func callOf(verb string, u *url.URL) Call {
	q := u.Query()
	return Call{Verb: verb, Path: u.Path, Label: q.Get("labelSelector"), Field: q.Get("fieldSelector")}
}

// Requests counts all requests since the start, failed ones included.
func (s *Server) Requests() map[Call]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := map[Call]int{}
	for _, r := range s.log {
		calls[callOf(r.Verb, &url.URL{Path: r.Path, RawQuery: r.Query.Encode()})]++
	}
	return calls
}

// Log is all requests since the start, in order.
func (s *Server) Log() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.log...)
}

// Fault makes the server ask for each request who answers it: the handler that
// it gets, or, when that is nil, the server itself. A nil function ends this.
// Watches that run already go on.
func (s *Server) Fault(choose func(*http.Request) http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = choose
}

// Refuse answers with the status that a real server sends for a code. 429 and
// 503 have a Retry-After of one second; 403 names verb and resource.
func (s *Server) Refuse(code int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, found := route(s.resources, r.URL.Path)
		var gr schema.GroupResource
		if found {
			gr = t.res.gr()
		}
		verb := "list"
		if isTrue(r.URL.Query().Get("watch")) {
			verb = "watch"
		}
		switch code {
		case http.StatusUnauthorized:
			s.fail(w, r, apierrors.NewUnauthorized("Unauthorized"))
		case http.StatusForbidden:
			scope := "at the cluster scope"
			if t.namespace != "" {
				scope = fmt.Sprintf("in the namespace %q", t.namespace)
			}
			s.fail(w, r, apierrors.NewForbidden(gr, t.name, fmt.Errorf(
				"User %q cannot %s resource %q in API group %q %s", "system:serviceaccount:kubetest:agent", verb, gr.Resource, gr.Group, scope)))
		case http.StatusGone:
			s.fail(w, r, apierrors.NewResourceExpired("The resourceVersion for the provided list is too old."))
		case http.StatusTooManyRequests:
			s.fail(w, r, apierrors.NewTooManyRequests("Too many requests, please try again later.", 1))
		case http.StatusServiceUnavailable:
			err := apierrors.NewServiceUnavailable("apiserver is shutting down")
			err.ErrStatus.Details = apierrors.NewTooManyRequests("", 1).ErrStatus.Details
			s.fail(w, r, err)
		default:
			s.fail(w, r, apierrors.NewGenericServerResponse(code, verb, gr, t.name, "", 0, true))
		}
	})
}

// Drop closes the connection without an answer.
func Drop() http.Handler {
	return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

package kubetest

import (
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// query is a request for objects, understood.
type query struct {
	target
	table   *table
	verb    string // "get", "list" or "watch"
	options internalversion.ListOptions
	version uint64 // of options.ResourceVersion; 0: any
	label   labels.Selector
	field   fields.Selector
	media   media
}

// media is what the client accepts of what the server offers.
type media struct {
	runtime.SerializerInfo
	metadata bool // PartialObjectMetadata instead of whole objects
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	t, found := route(s.resources, r.URL.Path)
	verb := "list"
	switch {
	case r.Method != http.MethodGet:
		verb = strings.ToLower(r.Method)
	case isTrue(r.URL.Query().Get("watch")):
		verb = "watch"
	case t.name != "":
		verb = "get"
	}
	s.mu.Lock()
	s.log = append(s.log, Request{Verb: verb, Path: r.URL.Path, Query: r.URL.Query(), Header: r.Header.Clone()})
	fault, token := s.fault, s.token
	s.mu.Unlock()

	if fault != nil {
		if h := fault(r); h != nil {
			h.ServeHTTP(w, r)
			return
		}
	}
	switch {
	case token != "" && r.Header.Get("Authorization") != "Bearer "+token:
		s.fail(w, r, apierrors.NewUnauthorized("Unauthorized"))
	case !found:
		s.fail(w, r, apierrors.NewGenericServerResponse(http.StatusNotFound, verb, schema.GroupResource{}, "", "", 0, true))
	case r.Method != http.MethodGet:
		s.fail(w, r, apierrors.NewMethodNotSupported(t.res.gr(), verb))
	default:
		q, err := s.parse(r, t, verb)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		switch verb {
		case "get":
			s.get(w, r, q)
		case "list":
			s.list(w, r, q)
		case "watch":
			s.watch(w, r, q)
		}
	}
}

// parse understands a request; the error is the status to answer with.
func (s *Server) parse(r *http.Request, t target, verb string) (query, error) {
	q := query{target: t, table: s.tables[reflect.TypeOf(s.empty(t.res))], verb: verb, label: labels.Everything(), field: fields.Everything()}
	var ok bool
	if q.media, ok = s.negotiate(r.Header.Get("Accept")); !ok {
		return q, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
			Message: "only the following media types are accepted: " + strings.Join(s.offers(), ", "),
		}}
	}
	err := internalscheme.ParameterCodec.DecodeParameters(r.URL.Query(), metav1.SchemeGroupVersion, &q.options)
	if err != nil {
		return q, apierrors.NewBadRequest(err.Error())
	}
	if q.options.LabelSelector != nil {
		q.label = q.options.LabelSelector
	}
	if q.options.FieldSelector != nil {
		q.field = q.options.FieldSelector
	}
	if err := t.res.known(q.field, s.empty(t.res)); err != nil {
		return q, apierrors.NewBadRequest(err.Error())
	}
	s.mu.Lock()
	streaming := !s.noStreaming
	s.mu.Unlock()
	if errs := validation.ValidateListOptions(&q.options, streaming); len(errs) > 0 {
		return q, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
	}
	if v := q.options.ResourceVersion; v != "" {
		if q.version, err = strconv.ParseUint(v, 10, 64); err != nil {
			return q, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version %q: %v", v, err))
		}
	}
	return q, nil
}

// matches says whether the query is for an object; nil is no object.
func (q *query) matches(obj runtime.Object) bool {
	if obj == nil {
		return false
	}
	m := accessor(obj)
	return (q.namespace == "" || m.GetNamespace() == q.namespace) && (q.name == "" || m.GetName() == q.name) &&
		q.label.Matches(labels.Set(m.GetLabels())) && (q.field.Empty() || q.field.Matches(q.res.selectable(obj)))
}

// get answers with one object.
func (s *Server) get(w http.ResponseWriter, r *http.Request, q query) {
	s.mu.Lock()
	obj := q.table.items[q.namespace+"/"+q.name]
	s.mu.Unlock()
	if obj == nil {
		s.fail(w, r, apierrors.NewNotFound(q.res.gr(), q.name))
		return
	}
	s.write(w, r, http.StatusOK, q.media, partial(q.media, obj))
}

// offers are the content types that the server speaks.
func (s *Server) offers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.encoding == AsAsked {
		return []string{runtime.ContentTypeJSON, runtime.ContentTypeProtobuf}
	}
	return []string{runtime.ContentTypeJSON}
}

// negotiate picks the first range of an Accept header that the server can
// serve, those of more weight first.
func (s *Server) negotiate(accept string) (media, bool) {
	s.mu.Lock()
	if s.encoding == JSONAlways {
		accept = ""
	}
	s.mu.Unlock()
	if strings.TrimSpace(accept) == "" {
		accept = "*/*"
	}
	type choice struct {
		name   string
		params map[string]string
		weight float64
	}
	var choices []choice
	for part := range strings.SplitSeq(accept, ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		weight := 1.0
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			weight = q
		}
		choices = append(choices, choice{name: name, params: params, weight: weight})
	}
	slices.SortStableFunc(choices, func(a, b choice) int {
		switch {
		case a.weight > b.weight:
			return -1
		case a.weight < b.weight:
			return 1
		}
		return 0
	})
	offered, offers := s.codecs.SupportedMediaTypes(), s.offers()
	for _, c := range choices {
		var m media
		switch as := c.params["as"]; as {
		case "":
		case "PartialObjectMetadata", "PartialObjectMetadataList":
			m.metadata = true
		default:
			continue // a Table, say
		}
		name := c.name
		if name == "*/*" || name == "application/*" {
			name = runtime.ContentTypeJSON
		}
		if !slices.Contains(offers, name) {
			continue
		}
		if m.SerializerInfo, _ = runtime.SerializerInfoForMediaType(offered, name); m.Serializer != nil && c.weight > 0 {
			return m, true
		}
	}
	return media{}, false
}

// partial is the object, or its metadata where that is what is accepted.
func partial(m media, obj runtime.Object) runtime.Object {
	if !m.metadata {
		return obj
	}
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metav1.SchemeGroupVersion.String()},
		ObjectMeta: *obj.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta),
	}
}

// fail answers with the status of an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	m, ok := s.negotiate(r.Header.Get("Accept"))
	if !ok {
		m, _ = s.negotiate("")
	}
	if d := status.Details; d != nil && d.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(d.RetryAfterSeconds)))
	}
	s.write(w, r, int(status.Code), m, &status)
}

func statusOf(err error) metav1.Status {
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		status := known.Status()
		status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		return status
	}
	return statusOf(apierrors.NewInternalError(err))
}

// write encodes an answer and sends it, compressed when the client takes that.
// The object has its kind and version: an encoder that sets them would write to
// what others read.
func (s *Server) write(w http.ResponseWriter, r *http.Request, code int, m media, obj runtime.Object) {
	var body bytes.Buffer
	if err := m.Serializer.Encode(obj, &body); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", m.MediaType)
	w.Header().Set("Cache-Control", "no-cache, private")
	w.Header().Set("Vary", "Accept-Encoding")
	if !acceptsGzip(r) {
		w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
		w.WriteHeader(code)
		_, _ = body.WriteTo(w) // the client may be gone
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(code)
	z := gzip.NewWriter(w)
	_, _ = body.WriteTo(z)
	_ = z.Close()
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if name, _, _ := strings.Cut(part, ";"); strings.TrimSpace(name) == "gzip" {
			return true
		}
	}
	return false
}

// isTrue reads a query's truth value as the real server does: anything but
// nothing, "0" and "false" is true.
func isTrue(v string) bool { return v != "" && v != "0" && !strings.EqualFold(v, "false") }

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

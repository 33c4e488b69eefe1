package kubetest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// place is where a list goes on: a continue token.
type place struct {
	Version uint64 `json:"rv"`
	After   string `json:"start"`
}

// page is a part of a list.
type page struct {
	items   []runtime.Object
	version uint64
	next    string // continue token; "" at the end
	left    int    // items after these
}

// list answers LIST.
func (s *Server) list(w http.ResponseWriter, r *http.Request, q query) {
	s.mu.Lock()
	p, err := s.page(&q)
	s.mu.Unlock()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var list runtime.Object
	if q.media.metadata {
		whole := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: metav1.SchemeGroupVersion.String()}}
		for _, item := range p.items {
			whole.Items = append(whole.Items, *partial(q.media, item).(*metav1.PartialObjectMetadata))
		}
		list = whole
	} else {
		list = q.res.list(p.items)
		list.GetObjectKind().SetGroupVersionKind(q.res.gv.WithKind(q.res.kind + "List"))
	}
	m, err := meta.ListAccessor(list)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	m.SetResourceVersion(strconv.FormatUint(p.version, 10))
	m.SetContinue(p.next)
	if left := int64(p.left); p.next != "" && q.label.Empty() && q.field.Empty() {
		m.SetRemainingItemCount(&left)
	}
	s.write(w, r, http.StatusOK, q.media, list)
}

// page finds what a list holds. The caller holds the lock.
func (s *Server) page(q *query) (page, error) {
	p := page{version: s.version}
	items, after := q.table.items, ""
	limit := int(q.options.Limit)
	exact := q.options.ResourceVersionMatch == metav1.ResourceVersionMatchExact
	switch {
	case q.options.Continue != "":
		from, err := parsePlace(q.options.Continue)
		if err != nil {
			return p, err
		}
		if q.options.ResourceVersion != "" && q.options.ResourceVersion != "0" {
			return p, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		if items, err = s.at(q.table, from.Version); err != nil {
			return p, apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result.")
		}
		p.version, after = from.Version, from.After
	case q.version > s.version:
		return p, tooLarge(q.version, s.version)
	case exact:
		var err error
		if items, err = s.at(q.table, q.version); err != nil {
			return p, err
		}
		p.version = q.version
	case q.options.ResourceVersion == "0":
		limit = 0 // a list from the cache is always whole
	}
	for _, k := range slices.Sorted(maps.Keys(items)) {
		switch {
		case k <= after || !q.matches(items[k]):
		case limit > 0 && len(p.items) == limit:
			p.left++
		default:
			p.items = append(p.items, items[k])
		}
	}
	if p.left > 0 {
		token, err := json.Marshal(place{Version: p.version, After: key(accessor(p.items[len(p.items)-1]))})
		if err != nil {
			return p, err
		}
		p.next = base64.RawURLEncoding.EncodeToString(token)
	}
	return p, nil
}

func parsePlace(token string) (place, error) {
	var p place
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(raw, &p)
	}
	if err != nil {
		return p, apierrors.NewBadRequest(fmt.Sprintf("continue key is not valid: %v", err))
	}
	return p, nil
}

// at is the state as of a version: the changes after it undone.
func (s *Server) at(t *table, version uint64) (map[string]runtime.Object, error) {
	if version < t.floor {
		return nil, tooOld(version, t.floor)
	}
	items := maps.Clone(t.items)
	for _, e := range slices.Backward(t.events) {
		switch {
		case e.version <= version || e.old == nil && e.new == nil:
		case e.old == nil:
			delete(items, key(accessor(e.new)))
		default:
			items[key(accessor(e.old))] = e.old
		}
	}
	return items, nil
}

func tooOld(version, oldest uint64) *apierrors.StatusError {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", version, oldest))
}

func tooLarge(version, newest uint64) *apierrors.StatusError {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", version, newest), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{
		Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version",
	}}
	return err
}

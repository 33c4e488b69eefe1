package watch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"promagent/discovery/kubernetes/object"
)

// jsonSource reads the values of JSON that streams, each of a bounded size.
type jsonSource struct {
	r     io.Reader
	ahead []byte // comes before r
	dec   *json.Decoder
	got   int64 // bytes that dec has got
	most  int64 // bytes that it may get
	limit uint64
}

func newJSONSource(r io.Reader) *jsonSource {
	s := &jsonSource{r: r}
	s.dec = json.NewDecoder(s)
	s.allow(maxEnvelope)
	return s
}

// Read gives dec what it may get. It asks for more than it has only while a
// value is not complete.
func (s *jsonSource) Read(p []byte) (int, error) {
	if s.got >= s.most {
		return 0, fmt.Errorf("an object of more than %d bytes", s.limit)
	}
	p = p[:min(int64(len(p)), s.most-s.got)]
	if len(s.ahead) > 0 {
		n := copy(p, s.ahead)
		s.ahead = s.ahead[n:]
		s.got += int64(n)
		return n, nil
	}
	n, err := s.r.Read(p)
	s.got += int64(n)
	return n, err
}

// allow bounds the next value.
func (s *jsonSource) allow(limit uint64) {
	s.limit, s.most = limit, s.dec.InputOffset()+int64(limit)
}

// shrink begins again with a small buffer.
func (s *jsonSource) shrink() {
	// What the decoder holds beyond the last value is small: it reads as far
	// as the buffer goes, and no more than the next value may have.
	rest, _ := io.ReadAll(s.dec.Buffered()) // memory does not fail
	s.ahead = append(rest, s.ahead...)
	s.dec, s.got = json.NewDecoder(s), 0
}

// delimiter reads the beginning or the end of an object or a list.
func (s *jsonSource) delimiter(want json.Delim) error {
	token, err := s.dec.Token()
	if err != nil {
		return cut(err)
	}
	if token != want {
		return fmt.Errorf("%q is missing", want.String())
	}
	return nil
}

// value reads a value of at most limit bytes into v.
func (s *jsonSource) value(limit uint64, v any) error {
	s.allow(limit)
	return cut(short(s.dec.Decode(v)))
}

// short is err without the words of the server, who could make them as long as
// it likes.
func short(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return errors.New(clip(err.Error()))
	}
	return err
}

// rawValue is called with a value, which is valid until it returns.
type rawValue func(raw []byte) error

// UnmarshalJSON implements json.Unmarshaler.
func (f *rawValue) UnmarshalJSON(b []byte) error { return (*f)(b) }

// readJSONList is readList for a list in JSON: item gets the messages that the
// objects become.
func readJSONList(r io.Reader, kind object.Kind, item func(raw []byte) error) (listMeta, error) {
	var m listMeta
	s := newJSONSource(r)
	if err := s.delimiter('{'); err != nil {
		return m, fmt.Errorf("read beginning: %w", err)
	}
	listed := false
	for s.dec.More() {
		s.allow(maxEnvelope)
		name, err := s.dec.Token()
		if err != nil {
			return m, fmt.Errorf("read list: %w", cut(err))
		}
		switch name {
		case "kind":
			what := ""
			if err = s.value(maxEnvelope, &what); err == nil {
				err = aList(what)
			}
			listed = true
		case "metadata":
			var meta struct{ ResourceVersion, Continue string }
			err = s.value(maxEnvelope, &meta)
			m = listMeta{meta.ResourceVersion, meta.Continue}
		case "items":
			err = s.items(kind, item)
			listed = true
		default:
			skip := rawValue(func([]byte) error { return nil })
			err = s.value(maxObject, &skip)
		}
		if err != nil {
			return m, fmt.Errorf("read %s of list: %w", clip(fmt.Sprint(name)), err)
		}
	}
	if err := s.delimiter('}'); err != nil {
		return m, fmt.Errorf("read end of list: %w", err)
	}
	s.allow(maxEnvelope)
	if _, err := s.dec.Token(); err == nil {
		return m, errors.New("something follows the list")
	} else if err != io.EOF {
		return m, fmt.Errorf("read end of list: %w", err)
	}
	if !listed || m.version == "" {
		return m, errors.New("a list without a version")
	}
	return m, nil
}

// items reads the objects of a list, null for none.
func (s *jsonSource) items(kind object.Kind, item func(raw []byte) error) error {
	s.allow(maxEnvelope)
	switch begin, err := s.dec.Token(); {
	case err != nil:
		return cut(err)
	case begin == nil:
		return nil
	case begin != json.Delim('['):
		return errors.New("they are no array")
	}
	each := rawValue(func(raw []byte) error {
		message, err := object.FromJSON(kind, raw)
		if err != nil {
			return err
		}
		return item(message)
	})
	for count := 0; s.dec.More(); count++ {
		if err := s.value(maxObject, &each); err != nil {
			return fmt.Errorf("read object %d: %w", count+1, err)
		}
	}
	s.allow(maxEnvelope)
	return s.delimiter(']')
}

// jsonEvents reads the events of a watch in JSON.
type jsonEvents struct {
	s    *jsonSource
	kind object.Kind
}

func newJSONEvents(r io.Reader, kind object.Kind) *jsonEvents {
	return &jsonEvents{newJSONSource(r), kind}
}

// next is as that of events. The object of an ERROR stays in JSON, which
// parseStatus takes.
func (e *jsonEvents) next() (event, error) {
	var read struct {
		Type   string
		Object json.RawMessage
	}
	begin := e.s.dec.InputOffset()
	e.s.allow(maxObject + maxEnvelope)
	if err := e.s.dec.Decode(&read); err != nil {
		return event{}, short(err)
	}
	// The decoder's buffer is as large as the largest event needs, and then
	// stays.
	if e.s.dec.InputOffset()-begin > keptBuffer-1<<10 {
		e.s.shrink()
	}
	ev := event{read.Type, read.Object}
	switch ev.what {
	case eventAdded, eventModified, eventDeleted, eventBookmark:
		var err error
		if ev.raw, err = object.FromJSON(e.kind, read.Object); err != nil {
			return event{}, garbled("read event: %w", err)
		}
	}
	return ev, nil
}

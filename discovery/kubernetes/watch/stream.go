package watch

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/klauspost/compress/gzip"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// maxObject is how large one object can be. The server takes 1.5 MiB from
	// its clients, and as much again of what it adds.
	maxObject = 16 << 20
	// maxEnvelope is what may be around an object in an event.
	maxEnvelope = 64 << 10
	// keptBuffer is how much memory a watch keeps between two events.
	keptBuffer = 16 << 10
	// firstGrowth is what is trusted of a length before bytes have come.
	firstGrowth = 1 << 20
)

// content is the body of an answer, decompressed.
func content(resp *http.Response) (io.Reader, error) {
	switch e := resp.Header.Get("Content-Encoding"); e {
	case "", "identity":
		return resp.Body, nil
	case "gzip":
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			return nil, garbled("begin gzip: %w", err)
		}
		return z, nil
	default:
		return nil, garbled("the content encoding is %q", clip(e))
	}
}

// source reads the parts of a message through one buffer.
type source struct {
	r    *bufio.Reader
	left uint64 // of the message that is being read; unlimited: no end is known
	buf  []byte
}

const unlimited = ^uint64(0)

func (s *source) ReadByte() (byte, error) {
	if s.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	b, err := s.r.ReadByte()
	if err == nil && s.left != unlimited {
		s.left--
	}
	return b, err
}

// uvarint reads a number; io.EOF: there is not one byte of it.
func (s *source) uvarint() (uint64, error) { return binary.ReadUvarint(s) }

// tag reads the tag of a field.
func (s *source) tag() (protowire.Number, protowire.Type, error) {
	v, err := s.uvarint()
	if err != nil {
		return 0, 0, err
	}
	n, t := protowire.DecodeTag(v)
	if n < protowire.MinValidNumber {
		return 0, 0, errors.New("a field without a number")
	}
	return n, t, nil
}

// length reads the length of a field, which must be in the message.
func (s *source) length() (uint64, error) {
	n, err := s.uvarint()
	if err != nil {
		return 0, cut(err)
	}
	if n > s.left {
		return 0, errors.New("a field is longer than its message")
	}
	return n, nil
}

// bytes reads a field that has a length. They are valid until the next call.
func (s *source) bytes(most uint64) ([]byte, error) {
	n, err := s.length()
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, tooLarge(n, most)
	}
	return s.take(int(n))
}

// take reads n bytes. They are valid until the next call.
func (s *source) take(n int) ([]byte, error) {
	// A length alone gets no memory: it doubles while bytes come.
	have := 0
	for have < n {
		want := min(n, max(have*2, firstGrowth))
		if cap(s.buf) < want {
			grown := make([]byte, want)
			copy(grown, s.buf[:have])
			s.buf = grown
		}
		s.buf = s.buf[:want]
		got, err := io.ReadFull(s.r, s.buf[have:want])
		if err != nil {
			return nil, cut(err)
		}
		have += got
	}
	if s.left != unlimited {
		s.left -= uint64(n)
	}
	return s.buf[:n], nil
}

// skip leaves out the value of a field.
func (s *source) skip(t protowire.Type) error {
	n := uint64(0)
	switch t {
	case protowire.VarintType:
		_, err := s.uvarint()
		return cut(err)
	case protowire.BytesType:
		var err error
		if n, err = s.length(); err != nil {
			return err
		}
		if n > maxObject {
			return tooLarge(n, maxObject)
		}
	case protowire.Fixed32Type:
		n = 4
	case protowire.Fixed64Type:
		n = 8
	default:
		return fmt.Errorf("a field of type %d", t)
	}
	if n > s.left {
		return errors.New("a field is longer than its message")
	}
	if _, err := s.r.Discard(int(n)); err != nil {
		return cut(err)
	}
	if s.left != unlimited {
		s.left -= n
	}
	return nil
}

// cut makes an end at a place where there must be none an error that says so.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func tooLarge(n, most uint64) error {
	return fmt.Errorf("an object of %d bytes, more than %d", n, most)
}

// readList reads a list from r and calls item for each object; the bytes are
// valid until item returns. Only one object is in memory at a time.
func readList(r io.Reader, item func(raw []byte) error) (listMeta, error) {
	s := source{r: bufio.NewReaderSize(r, 32<<10), left: unlimited}
	var m listMeta
	head, err := s.take(len(magic))
	if err != nil {
		return m, fmt.Errorf("read beginning: %w", err)
	}
	if string(head) != magic {
		return m, errMagic
	}
	listed := false
	for {
		num, typ, err := s.tag()
		if err == io.EOF {
			break
		}
		if err != nil {
			return m, fmt.Errorf("read envelope: %w", err)
		}
		switch {
		case num == 1 && typ == protowire.BytesType:
			b, err := s.bytes(maxEnvelope)
			if err == nil {
				err = listKind(b)
			}
			if err != nil {
				return m, fmt.Errorf("read type: %w", err)
			}
		case num == 2 && typ == protowire.BytesType:
			n, err := s.length()
			if err != nil {
				return m, fmt.Errorf("read length: %w", err)
			}
			s.left = n
			if err := s.list(&m, item); err != nil {
				return m, err
			}
			s.left = unlimited
			listed = true
		default:
			if err := s.skip(typ); err != nil {
				return m, fmt.Errorf("read envelope: %w", err)
			}
		}
	}
	if !listed || m.version == "" {
		return m, errors.New("a list without a version")
	}
	return m, nil
}

// list reads the message of a list, of which s.left bytes are to come.
func (s *source) list(m *listMeta, item func(raw []byte) error) error {
	for count := 0; s.left > 0; {
		num, typ, err := s.tag()
		if err != nil {
			return fmt.Errorf("read list after %d objects: %w", count, cut(err))
		}
		switch {
		case num == 1 && typ == protowire.BytesType:
			b, err := s.bytes(maxEnvelope)
			if err == nil {
				err = m.parse(b)
			}
			if err != nil {
				return fmt.Errorf("read metadata of list: %w", err)
			}
		case num == 2 && typ == protowire.BytesType:
			b, err := s.bytes(maxObject)
			if err == nil {
				err = item(b)
			}
			if err != nil {
				return fmt.Errorf("read object %d: %w", count+1, err)
			}
			count++
		default:
			if err := s.skip(typ); err != nil {
				return fmt.Errorf("read list after %d objects: %w", count, err)
			}
		}
	}
	return nil
}

// event is metav1.WatchEvent: what happened, and the object without its
// envelope, for ERROR with it.
type event struct {
	what string
	raw  []byte
}

// events reads the frames of a watch.
type events struct{ s source }

func newEvents(r io.Reader) *events {
	return &events{source{r: bufio.NewReaderSize(r, 4<<10), left: unlimited}}
}

// next reads an event, which is valid until the next call. io.EOF: the server
// ended the watch between two events.
func (e *events) next() (event, error) {
	if cap(e.s.buf) > keptBuffer {
		e.s.buf = nil
	}
	var head [4]byte
	if _, err := io.ReadFull(e.s.r, head[:]); err != nil {
		return event{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxObject+maxEnvelope {
		return event{}, &garbage{tooLarge(uint64(n), maxObject)}
	}
	b, err := e.s.take(int(n))
	if err != nil {
		return event{}, err
	}
	ev, err := parseEvent(b)
	if err != nil {
		return event{}, garbled("read event: %w", err)
	}
	return ev, nil
}

func parseEvent(b []byte) (event, error) {
	var ev event
	var object []byte
	err := eachField(b, func(n protowire.Number, v []byte, _ uint64) error {
		switch n {
		case 1:
			ev.what = string(v)
		case 2:
			return eachField(v, func(n protowire.Number, v []byte, _ uint64) error {
				if n == 1 {
					object = v
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return event{}, err
	}
	if ev.what == eventError {
		ev.raw = object
		return ev, nil
	}
	ev.raw, err = unwrap(object)
	return ev, err
}

// The kinds of events.
const (
	eventAdded    = "ADDED"
	eventModified = "MODIFIED"
	eventDeleted  = "DELETED"
	eventBookmark = "BOOKMARK"
	eventError    = "ERROR"
)

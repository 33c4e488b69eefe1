package watch

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// magic begins everything that the API server says in protobuf.
const magic = "k8s\x00"

var errMagic = errors.New("not protobuf of Kubernetes")

// unwrap gives the bytes of the object in an envelope: the magic and a
// runtime.Unknown.
func unwrap(b []byte) ([]byte, error) {
	b, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok {
		return nil, errMagic
	}
	var raw []byte
	err := eachField(b, func(n protowire.Number, v []byte, _ uint64) error {
		if n == 2 {
			raw = v
		}
		return nil
	})
	return raw, err
}

// eachField calls f for every field of a message: with the bytes of those that
// have a length, with the number of the others. Fields of a group are left out.
func eachField(b []byte, f func(n protowire.Number, v []byte, i uint64) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v []byte
		var i uint64
		switch typ {
		case protowire.BytesType:
			v, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			i, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if typ != protowire.BytesType && typ != protowire.VarintType {
			continue
		}
		if err := f(num, v, i); err != nil {
			return err
		}
	}
	return nil
}

// version reads metadata.resourceVersion of an object.
func version(raw []byte) (string, error) {
	var rv string
	err := eachField(raw, func(n protowire.Number, v []byte, _ uint64) error {
		if n != 1 {
			return nil
		}
		return eachField(v, func(n protowire.Number, v []byte, _ uint64) error {
			if n == 6 {
				rv = string(v)
			}
			return nil
		})
	})
	return rv, err
}

// listMeta is metav1.ListMeta as far as it is of use.
type listMeta struct{ version, next string }

func (m *listMeta) parse(b []byte) error {
	return eachField(b, func(n protowire.Number, v []byte, _ uint64) error {
		switch n {
		case 2:
			m.version = string(v)
		case 3:
			m.next = string(v)
		}
		return nil
	})
}

// listKind says what kind a runtime.TypeMeta names, which must be a list.
func listKind(b []byte) error {
	kind := ""
	if err := eachField(b, func(n protowire.Number, v []byte, _ uint64) error {
		if n == 2 {
			kind = string(v)
		}
		return nil
	}); err != nil {
		return err
	}
	return aList(kind)
}

// aList says whether a kind is one of lists.
func aList(kind string) error {
	if !strings.HasSuffix(kind, "List") {
		return fmt.Errorf("a list was asked for, %q came", clip(kind))
	}
	return nil
}

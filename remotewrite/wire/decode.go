package wire

import (
	"errors"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

var errRequest = errors.New("malformed request")

// EachSample calls f with the samples of a request that an Encoder of the same
// version has made, series by series as they were added: times and starts in ms, 0
// for a start that is unknown or that the version does not have.
func EachSample(request []byte, v2 bool, f func(t int64, v float64, start int64)) error {
	series := protowire.Number(1)
	if v2 {
		series = 5
	}
	return eachField(request, func(n protowire.Number, _ uint64, b []byte) error {
		if n != series {
			return nil
		}
		return eachField(b, func(n protowire.Number, _ uint64, b []byte) error {
			if n != 2 || b == nil {
				return nil
			}
			var t, start int64
			var v float64
			err := eachField(b, func(n protowire.Number, x uint64, _ []byte) error {
				switch n {
				case 1:
					v = math.Float64frombits(x)
				case 2:
					t = int64(x)
				case 3:
					start = int64(x)
				}
				return nil
			})
			f(t, v, start)
			return err
		})
	})
}

// eachField calls f with the fields of a message: a number, or bytes that are not nil.
func eachField(b []byte, f func(n protowire.Number, x uint64, b []byte) error) error {
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return errRequest
		}
		b = b[size:]
		var x uint64
		var content []byte
		switch typ {
		case protowire.VarintType:
			x, size = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			x, size = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			content, size = protowire.ConsumeBytes(b)
		default:
			size = -1
		}
		if size < 0 {
			return errRequest
		}
		if err := f(n, x, content); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

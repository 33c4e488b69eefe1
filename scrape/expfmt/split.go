package expfmt

import "bytes"

// Split takes a plain sample line apart: series text, one space, value and,
// where there is one, one space and timestamp (else nil). It looks for the
// spaces only: when the series text is one that the parser has accepted as an
// Entry's Series before, and ParseFloat and ParseTimestamp accept the rest,
// the line means exactly what Parser.Line would say; else the line may be
// anything. ok is false for lines of any other shape.
func Split(line []byte) (series, value, timestamp []byte, ok bool) {
	last := bytes.LastIndexByte(line, ' ')
	if last <= 0 || last == len(line)-1 {
		return nil, nil, nil, false
	}
	if line[last-1] == '}' {
		return line[:last:last], line[last+1:], nil, true
	}
	before := bytes.LastIndexByte(line[:last], ' ')
	if before < 0 { // a name and a value
		return line[:last:last], line[last+1:], nil, true
	}
	if before == 0 || before == last-1 {
		return nil, nil, nil, false
	}
	return line[:before:before], line[before+1 : last : last], line[last+1:], true
}

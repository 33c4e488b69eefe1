package expfmt

import "strings"

// The classes of bytes, as bits of class.
const (
	metricStart = 1 << iota // may begin a metric name
	metricPart              // may be inside one
	labelStart
	labelPart
	blank  // space and tab
	inside // means nothing but itself inside quotes, and is ASCII
)

var class = func() (t [256]uint8) {
	for c := range t {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		digit := '0' <= c && c <= '9'
		if letter {
			t[c] |= labelStart | metricStart
		}
		if letter || digit {
			t[c] |= labelPart | metricPart
		}
		if c == ':' {
			t[c] |= metricStart | metricPart
		}
		if c == ' ' || c == '\t' {
			t[c] |= blank
		}
		if c != 0 && c != '"' && c != '\\' && c < 0x80 {
			t[c] |= inside
		}
	}
	return t
}()

// at is b[i], and the newline that ended the line behind its last byte.
func at(b []byte, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return '\n'
}

// skip returns the first place from i on that is not of the class.
func skip(b []byte, i int, of uint8) int {
	for i < len(b) && class[b[i]]&of != 0 {
		i++
	}
	return i
}

// skipNul returns the first place from i on that holds no NUL. In some places
// Prometheus's lexers do not see them.
func skipNul(b []byte, i int) int {
	for i < len(b) && b[i] == 0 {
		i++
	}
	return i
}

// skipWord returns the place behind the word that begins at i, or -1. Between
// and behind the letters NULs are not seen.
func skipWord(b []byte, i int, word string) int {
	for k := range len(word) {
		if k > 0 {
			i = skipNul(b, i)
		}
		if i >= len(b) || b[i] != word[k] {
			return -1
		}
		i++
	}
	return skipNul(b, i)
}

// unescape resolves \\, \n and, where quotes is set, \". Other backslashes stand
// for themselves.
func unescape(s string, quotes bool) string {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	b := make([]byte, i, len(s))
	copy(b, s)
	for ; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			switch c := s[i+1]; {
			case c == '\\', c == '"' && quotes:
				b = append(b, c)
				i++
				continue
			case c == 'n':
				b = append(b, '\n')
				i++
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

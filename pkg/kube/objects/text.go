package objects

import (
	"hash/maphash"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// text is a string.
func (r *reader) text() (any, bool) {
	r.at++
	begin, plain := r.at, true
	for ; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; {
		case c == '"':
			raw := r.data[begin:r.at]
			r.at++
			if !plain {
				ok := r.unquote(raw)
				return r.share(r.unquoted), ok
			}
			return r.share(raw), true
		case c < ' ':
			return nil, false
		case c == '\\':
			plain = false
			r.at++
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	return nil, false
}

func (r *reader) share(raw []byte) any {
	if r.dropped > 0 {
		return ""
	}
	if len(raw) > longestText {
		return string(raw)
	}
	place := &r.known[maphash.Bytes(r.seed, raw)%knownTexts]
	if known, ok := (*place).(string); !ok || known != string(raw) {
		*place = string(raw)
	}
	return *place
}

// unquote resolves escapes, and puts the replacement character in place of what is no UTF-8.
func (r *reader) unquote(raw []byte) bool {
	r.unquoted = r.unquoted[:0]
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '\\' && c < utf8.RuneSelf {
			r.unquoted = append(r.unquoted, c)
			i++
			continue
		}
		char, size := utf8.DecodeRune(raw[i:])
		if c == '\\' {
			char, size = unescape(raw[i:])
		}
		if size == 0 {
			return false
		}
		r.unquoted = utf8.AppendRune(r.unquoted, char)
		i += size
	}
	return true
}

// unescape is the character of an escape, and how many bytes of raw it takes, none if it is not one.
func unescape(raw []byte) (rune, int) {
	if len(raw) < 2 {
		return 0, 0
	}
	switch c := raw[1]; c {
	case '"', '\\', '/':
		return rune(c), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	char := unit(raw)
	if char < 0 {
		return 0, 0
	}
	if !utf16.IsSurrogate(char) {
		return char, 6
	}
	if pair := utf16.DecodeRune(char, unit(raw[6:])); pair != unicode.ReplacementChar {
		return pair, 12
	}
	return unicode.ReplacementChar, 6
}

// unit is the number in an escape such as \u00e4, -1 if it is none.
func unit(raw []byte) rune {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(raw[2:6]), 16, 32)
	if err != nil {
		return -1
	}
	return rune(n)
}

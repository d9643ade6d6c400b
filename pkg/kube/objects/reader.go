package objects

import (
	"bytes"
	"hash/maphash"
	"strconv"
)

const (
	// deepest is how deep an object is read. The standard decoder, which is asked then, goes further.
	deepest = 500
	// knownTexts is how many texts are at hand to be used again, longestText how many bytes they have at most.
	knownTexts, longestText = 2048, 40
)

// place is where in an object a value is, as far as that matters.
type place int

const (
	elsewhere place = iota
	inObject
	inMetadata
	inList
	inItems
)

// of is the place of a field.
func (p place) of(field string) place {
	switch {
	case p == inObject && field == "metadata":
		return inMetadata
	case p == inList && field == "items":
		return inItems
	default:
		return elsewhere
	}
}

// member is a field of an object, or, without a name, an item of an array.
type member struct {
	name  string
	value any
}

// reader reads JSON into what unstructured objects are made of, as sigs.k8s.io/json does: numbers are int64 where they can be and
// float64 elsewhere, and of equal fields the last one counts. It is not safe for concurrent use.
type reader struct {
	data []byte
	at   int
	// depth counts the objects and arrays around a value.
	depth int
	// dropped counts the values around it that are read only to find their end.
	dropped int
	// open are the members of all objects and arrays that have begun, so that each of these is made with its size.
	open []member
	// unquoted is the last text that was not as it was written.
	unquoted []byte
	// known has the names and short texts that came last, as values: one that comes again takes no memory. There is one place for each
	// hash.
	known [knownTexts]any
	seed  maphash.Seed
}

// read is ok for an object in valid JSON, and for that alone. What it returns has no part of data.
func (r *reader) read(data []byte, where place) (map[string]any, bool) {
	r.data, r.at, r.depth, r.dropped = data, 0, 0, 0
	value, ok := r.value(where)
	ok = ok && r.next() == 0 && r.at == len(data)
	r.data = nil
	fields, isObject := value.(map[string]any)
	return fields, ok && isObject
}

// next skips blanks and is the byte that follows, 0 at the end.
func (r *reader) next() byte {
	for ; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (r *reader) value(where place) (any, bool) {
	switch c := r.next(); c {
	case '{', '[':
		if r.depth++; r.depth > deepest {
			return nil, false
		}
		begun := len(r.open)
		r.at++
		var value any
		var ok bool
		if c == '{' {
			value, ok = r.object(where, begun)
		} else {
			value, ok = r.array(where, begun)
		}
		// What waits for the next object to read keeps none of this one.
		clear(r.open[begun:])
		r.open = r.open[:begun]
		r.depth--
		return value, ok
	case '"':
		return r.text()
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	default:
		return r.number()
	}
}

func (r *reader) word(word string) bool {
	ok := bytes.HasPrefix(r.data[r.at:], []byte(word))
	r.at += len(word)
	return ok
}

func (r *reader) object(where place, begun int) (any, bool) {
	if r.next() == '}' {
		r.at++
		return r.fields(nil), true
	}
	for {
		if r.next() != '"' {
			return nil, false
		}
		text, ok := r.text()
		if !ok || r.next() != ':' {
			return nil, false
		}
		r.at++
		name := text.(string)
		drop := where == inMetadata && name == "managedFields"
		if drop {
			r.dropped++
		}
		value, ok := r.value(where.of(name))
		if !ok {
			return nil, false
		}
		if drop {
			r.dropped--
		} else if r.dropped == 0 {
			r.open = append(r.open, member{name, value})
		}
		if end, ok := r.end('}'); !ok || end {
			return r.fields(r.open[begun:]), ok
		}
	}
}

func (r *reader) fields(members []member) map[string]any {
	if r.dropped > 0 {
		return nil
	}
	fields := make(map[string]any, len(members))
	for _, m := range members {
		fields[m.name] = m.value
	}
	return fields
}

func (r *reader) array(where place, begun int) (any, bool) {
	if r.next() == ']' {
		r.at++
		return []any{}, true
	}
	if where == inItems {
		where = inObject
	} else {
		where = elsewhere
	}
	for {
		value, ok := r.value(where)
		if !ok {
			return nil, false
		}
		if r.dropped == 0 {
			r.open = append(r.open, member{value: value})
		}
		if end, ok := r.end(']'); !ok || end {
			items := make([]any, len(r.open)-begun)
			for i := range items {
				items[i] = r.open[begun+i].value
			}
			return items, ok
		}
	}
}

// end is whether an object or array ends, and not ok if it doesn't go on either.
func (r *reader) end(closing byte) (end, ok bool) {
	c := r.next()
	r.at++
	return c == closing, c == closing || c == ','
}

func (r *reader) number() (any, bool) {
	begin := r.at
	if r.peek() == '-' {
		r.at++
	}
	first := r.peek()
	if digits := r.digits(); digits == 0 || first == '0' && digits > 1 {
		return nil, false
	}
	whole := r.at
	if r.peek() == '.' {
		r.at++
		if r.digits() == 0 {
			return nil, false
		}
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		r.at++
		if c := r.peek(); c == '+' || c == '-' {
			r.at++
		}
		if r.digits() == 0 {
			return nil, false
		}
	}
	text := string(r.data[begin:r.at])
	if r.at == whole {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, true
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}

func (r *reader) peek() byte {
	if r.at < len(r.data) {
		return r.data[r.at]
	}
	return 0
}

func (r *reader) digits() int {
	begin := r.at
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.at++
	}
	return r.at - begin
}

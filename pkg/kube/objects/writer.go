package objects

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"sync"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Encode implements runtime.Encoder. The standard serializer encodes an unstructured object three times, each time through reflection.
func (s serializer) Encode(obj runtime.Object, w io.Writer) error {
	if u, ok := obj.(*unstructured.Unstructured); ok && u.Object != nil {
		buffer := s.buffers.Get().(*[]byte)
		defer s.buffers.Put(buffer)
		data, ok := (writer{}).value((*buffer)[:0], u.Object)
		if *buffer = data; ok {
			_, err := w.Write(data)
			return err
		}
	}
	return s.Serializer.Encode(obj, w)
}

// NewBuffers returns a pool of *[]byte for what is encoded, so that it takes memory of its own only once it is complete.
func NewBuffers() *sync.Pool { return &sync.Pool{New: func() any { return new([]byte) }} }

// Marshal encodes what an unstructured object is made of as encoding/json does, with the fields in order.
func Marshal(fields map[string]any) ([]byte, error) {
	if data, ok := (writer{}).value(nil, fields); ok {
		return data, nil
	}
	return json.Marshal(fields)
}

// AppendExact encodes as Marshal does, but for whole numbers that are no integers: they have a fraction, so that a Decoder makes the same
// of all that one has made. It returns the extended buffer.
func AppendExact(out []byte, fields map[string]any) ([]byte, error) {
	before := len(out)
	out, ok := writer{exact: true}.value(out, fields)
	if ok {
		return out, nil
	}
	data, err := json.Marshal(fields)
	return append(out[:before], data...), err
}

// writer writes what unstructured objects are made of. It is not ok for a value that no decoder makes.
type writer struct {
	// exact numbers are told apart by how they are written.
	exact bool
}

func (w writer) value(out []byte, value any) ([]byte, bool) {
	switch v := value.(type) {
	case nil:
		return append(out, "null"...), true
	case bool:
		return strconv.AppendBool(out, v), true
	case int64:
		return strconv.AppendInt(out, v, 10), true
	case string:
		return appendText(out, v), true
	case []any:
		return w.array(out, v)
	case map[string]any:
		return w.object(out, v)
	case float64:
		return w.float(out, v)
	default:
		return out, false
	}
}

// float has the form of ECMAScript, which strconv does not have.
func (w writer) float(out []byte, v float64) ([]byte, bool) {
	text, err := json.Marshal(v)
	out = append(out, text...)
	if w.exact && !bytes.ContainsAny(text, ".e") {
		out = append(out, ".0"...)
	}
	return out, err == nil
}

func (w writer) array(out []byte, items []any) ([]byte, bool) {
	if items == nil {
		return append(out, "null"...), true
	}
	out = append(out, '[')
	for i, item := range items {
		if i > 0 {
			out = append(out, ',')
		}
		var ok bool
		if out, ok = w.value(out, item); !ok {
			return out, false
		}
	}
	return append(out, ']'), true
}

// object writes the fields in order: what is said of the first one that can't be decoded must not change from time to time.
func (w writer) object(out []byte, fields map[string]any) ([]byte, bool) {
	if fields == nil {
		return append(out, "null"...), true
	}
	var few [32]string
	names := few[:0]
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	out = append(out, '{')
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendText(out, name), ':')
		var ok bool
		if out, ok = w.value(out, fields[name]); !ok {
			return out, false
		}
	}
	return append(out, '}'), true
}

func appendText(out []byte, text string) []byte {
	out = append(out, '"')
	from := 0
	for i := 0; i < len(text); {
		c := text[i]
		size, replaced := 1, ""
		switch {
		case c == '"':
			replaced = `\"`
		case c == '\\':
			replaced = `\\`
		case c < ' ':
			const digits = "0123456789abcdef"
			out = append(append(out, text[from:i]...), '\\', 'u', '0', '0', digits[c>>4], digits[c&0xf])
			from = i + 1
		case c >= utf8.RuneSelf:
			var char rune
			if char, size = utf8.DecodeRuneInString(text[i:]); char == utf8.RuneError && size == 1 {
				replaced = string(utf8.RuneError)
			}
		}
		if replaced != "" {
			out = append(append(out, text[from:i]...), replaced...)
			from = i + size
		}
		i += size
	}
	return append(append(out, text[from:]...), '"')
}

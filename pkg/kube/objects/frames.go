package objects

import (
	"bytes"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/runtime"
)

// firstRead is how many bytes a watch is asked for at first.
const firstRead = 4096

// frames finds the ends of the JSON objects of a stream.
type frames struct{ runtime.Framer }

// NewFrameReader implements runtime.Framer. The reader returns one object at a time, and what is wrong inside it is found by whoever
// decodes it. A stream that ends within an object ends with io.ErrUnexpectedEOF.
func (frames) NewFrameReader(r io.ReadCloser) io.ReadCloser { return &frameReader{ReadCloser: r} }

type frameReader struct {
	io.ReadCloser
	// buffer[from:] was read from the stream and not returned yet. Of these bytes seen were looked at, and belong to one object.
	buffer []byte
	from   int
	seen   int
	object brackets
	// left is the rest of an object that was returned in part.
	left []byte
}

// Read returns an object, or a part of one and io.ErrShortBuffer. The parts of it follow.
func (f *frameReader) Read(into []byte) (int, error) {
	if len(f.left) == 0 {
		frame, err := f.next()
		if err != nil {
			return 0, err
		}
		f.left = frame
	}
	n := copy(into, f.left)
	f.left = f.left[n:]
	if len(f.left) > 0 {
		return n, io.ErrShortBuffer
	}
	return n, nil
}

// next is good until it is called again.
func (f *frameReader) next() ([]byte, error) {
	for {
		if f.seen == 0 {
			rest := bytes.TrimLeft(f.buffer[f.from:], " \t\r\n")
			f.from = len(f.buffer) - len(rest)
			if len(rest) > 0 && rest[0] != '{' {
				return nil, fmt.Errorf("a watch has %q where an event begins", rest[0])
			}
		}
		if end := f.object.end(f.buffer[f.from+f.seen:]); end >= 0 {
			frame := f.buffer[f.from : f.from+f.seen+end]
			f.from, f.seen = f.from+len(frame), 0
			return frame, nil
		}
		f.seen = len(f.buffer) - f.from
		if err := f.more(); err != nil {
			return nil, err
		}
	}
}

// more reads on, to the place of what was returned before if there is any.
func (f *frameReader) more() error {
	if f.from > 0 {
		f.buffer, f.from = append(f.buffer[:0], f.buffer[f.from:]...), 0
	}
	if len(f.buffer) == cap(f.buffer) {
		f.buffer = append(make([]byte, 0, max(firstRead, 2*cap(f.buffer))), f.buffer...)
	}
	n, err := f.ReadCloser.Read(f.buffer[len(f.buffer):cap(f.buffer)])
	f.buffer = f.buffer[:len(f.buffer)+n]
	switch {
	case n > 0:
		// An error comes again.
		return nil
	case err == io.EOF && len(f.buffer) > 0:
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}

// brackets finds the end of a JSON object or array, which may come in parts.
type brackets struct {
	depth           int
	inText, escaped bool
}

// end is where the object ends in data, -1 if it does not.
func (b *brackets) end(data []byte) int {
	for i := 0; i < len(data); i++ {
		if b.inText {
			if i += b.text(data[i:]); i == len(data) {
				return -1
			}
			continue
		}
		switch data[i] {
		case '"':
			b.inText = true
		case '{', '[':
			b.depth++
		case '}', ']':
			if b.depth--; b.depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// text is where a string ends in data, and its length if it does not.
func (b *brackets) text(data []byte) int {
	i := 0
	if b.escaped {
		b.escaped, i = false, 1
	}
	for ; i < len(data); i++ {
		switch data[i] {
		case '"':
			b.inText = false
			return i
		case '\\':
			i++
		}
	}
	// An escape that is cut has its other half in the next part.
	b.escaped = i > len(data)
	return len(data)
}

package loadtester

import (
	"fmt"
	"strings"
	"sync"
)

// side is how many bytes are kept of the beginning of an output, and as many of its end.
const side = 128 << 10

// output keeps the beginning and the end of what a command writes. A load test of an hour may write more than there is memory.
type output struct {
	mu         sync.Mutex
	head, tail []byte
	lost       int
}

// Write never fails.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	fits := min(side-len(o.head), len(p))
	o.head = append(o.head, p[:fits]...)
	o.tail = append(o.tail, p[fits:]...)
	// The tail grows to twice its size before it is cut, so that not every write moves all of it.
	if len(o.tail) > 2*side {
		o.cut()
	}
	return n, nil
}

func (o *output) cut() {
	if over := len(o.tail) - side; over > 0 {
		o.lost += over
		o.tail = append(o.tail[:0], o.tail[over:]...)
	}
}

// String is what was written, without what is not text.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cut()
	text := string(o.head)
	if o.lost > 0 {
		text += fmt.Sprintf("\n… %d bytes left out …\n", o.lost)
	}
	return strings.ToValidUTF8(text+string(o.tail), "�")
}

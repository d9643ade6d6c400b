// Package control is the conversation between the supervisor of a testbed and
// the worker inside its namespaces: JSON messages over a socket pair. Its end
// tells either side that the other is gone.
package control

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Order is what the supervisor sends; one field is set.
type Order struct {
	// Plan is sent once, first.
	Plan *Plan `json:"plan,omitempty"`
	// Component is sent for each component when it is there or has failed.
	Component *Component `json:"component,omitempty"`
	// Stop asks for an orderly end.
	Stop bool `json:"stop,omitempty"`
}

// Plan is what to run.
type Plan struct {
	Name     string           `json:"name"`
	Features []string         `json:"features,omitempty"`
	Images   map[string]Image `json:"images,omitempty"`
	// Served is the only namespace whose Services lead anywhere, empty for all.
	Served string `json:"served,omitempty"`
}

// Image is the program that stands for a container image: either a path, or a
// program of a component.
type Image struct {
	Path      string            `json:"path,omitempty"`
	Component string            `json:"component,omitempty"`
	Program   string            `json:"program,omitempty"`
	Args      []string          `json:"args,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	// Mounts maps paths in the container to other components, each of one program.
	Mounts map[string]string `json:"mounts,omitempty"`
}

// Component is a component with the paths of its programs, or the reason why
// there is none.
type Component struct {
	Name     string            `json:"name"`
	Programs map[string]string `json:"programs,omitempty"`
	Error    string            `json:"error,omitempty"`
}

// Report is what the worker sends; one field is set.
type Report struct {
	// Status tells people what goes on.
	Status string `json:"status,omitempty"`
	// Ready is sent once, when everything works.
	Ready bool `json:"ready,omitempty"`
	// Error is sent before the worker gives up.
	Error string `json:"error,omitempty"`
}

// Conn sends messages of one type and receives those of the other.
type Conn[Out, In any] struct {
	conn net.Conn
	dec  *json.Decoder
	mu   sync.Mutex
}

// Pair returns the two ends of a conversation: one for the supervisor, one, a
// file, to be passed on to the worker.
func Pair() (*Conn[Order, Report], *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	far := os.NewFile(uintptr(fds[1]), "control")
	near, err := open[Order, Report](os.NewFile(uintptr(fds[0]), "control"))
	if err != nil {
		_ = far.Close()
		return nil, nil, err
	}
	return near, far, nil
}

// Worker opens the worker's end, inherited as the given file descriptor.
func Worker(fd uintptr) (*Conn[Report, Order], error) {
	return open[Report, Order](os.NewFile(fd, "control"))
}

// open takes over the file.
func open[Out, In any](file *os.File) (*Conn[Out, In], error) {
	conn, err := net.FileConn(file)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("control connection: %w", err)
	}
	return &Conn[Out, In]{conn: conn, dec: json.NewDecoder(conn)}, nil
}

// Send sends a message. It is safe for concurrent use.
func (c *Conn[Out, In]) Send(message Out) error {
	line, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("control connection: %w", err)
	}
	return nil
}

// Receive returns the next message, or io.EOF when the other side is gone.
func (c *Conn[Out, In]) Receive() (In, error) {
	var message In
	err := c.dec.Decode(&message)
	return message, err
}

// Close ends the conversation.
func (c *Conn[Out, In]) Close() error { return c.conn.Close() }

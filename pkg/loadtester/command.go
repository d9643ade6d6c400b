package loadtester

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"k8s.io/utils/clock"
)

// straggling is how long the output of a command may stay open after its processes were killed. What left the process group, and
// keeps it open, would be waited for otherwise.
const straggling = time.Second

// command is a program with its arguments. It runs in a process group of its own, with all that it starts.
type command struct {
	argv  []string
	clock clock.Clock
}

// run returns what the command wrote and how it ended, once it has ended and nothing that it started holds its output anymore.
// Things that go on in the background without an output keep rest from being closed. When ctx ends, all of them are killed.
func (c *command) run(ctx context.Context) (written string, rest <-chan struct{}, err error) {
	gone := make(chan struct{})
	reader, writer, err := os.Pipe()
	if err != nil {
		close(gone)
		return "", gone, fmt.Errorf("pipe for the output: %w", err)
	}
	defer func() { _ = reader.Close() }()
	process := exec.Command(c.argv[0], c.argv[1:]...)
	process.Stdout, process.Stderr = writer, writer
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = process.Start()
	_ = writer.Close()
	if err != nil {
		close(gone)
		return "", gone, err
	}
	group := &group{id: process.Process.Pid}
	stop := context.AfterFunc(ctx, group.kill)
	out, read := &output{}, make(chan struct{})
	go func() {
		// The reader is closed where an output stays open.
		_, _ = io.Copy(out, reader)
		close(read)
	}()
	err = process.Wait()
	go func() {
		group.wait(c.clock)
		group.ended()
		stop()
		close(gone)
	}()
	c.drain(ctx, read)
	return out.String(), gone, err
}

// drain waits for the end of the output, and after a kill no longer than what is left of it takes.
func (c *command) drain(ctx context.Context, read <-chan struct{}) {
	select {
	case <-read:
		return
	case <-ctx.Done():
	}
	timer := c.clock.NewTimer(straggling)
	defer timer.Stop()
	select {
	case <-read:
	case <-timer.C():
	}
}

// group is a process group. On Linux its processes are children of this process, or become that when their parents end.
type group struct {
	id   int
	mu   sync.Mutex
	gone bool
}

// kill ends all processes of the group.
func (g *group) kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	// The kernel may give the number of a group that is gone to another one.
	if !g.gone {
		_ = syscall.Kill(-g.id, syscall.SIGKILL)
	}
}

// ended notes that the group is gone.
func (g *group) ended() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = true
}

package remote

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is a pseudo terminal between ours and the command, which needs one
// that no other session holds.
type terminal struct {
	master *os.File
	slave  *os.File
	old    *term.State
	out    chan struct{}
	resize chan os.Signal
}

// openTerminal replaces the files of the command by a new terminal if its
// input and output are one; otherwise it returns nil.
func openTerminal(c *Command) (*terminal, error) {
	if !term.IsTerminal(int(c.Stdin.Fd())) || !term.IsTerminal(int(c.Stdout.Fd())) {
		return nil, nil
	}
	master, slave, err := newPTY()
	if err != nil {
		return nil, err
	}
	old, err := term.MakeRaw(int(c.Stdin.Fd()))
	if err != nil {
		_ = master.Close()
		_ = slave.Close()
		return nil, fmt.Errorf("set up terminal: %w", err)
	}
	t := &terminal{master: master, slave: slave, old: old, out: make(chan struct{}), resize: make(chan os.Signal, 1)}
	in, out := c.Stdin, c.Stdout
	go func() { _, _ = io.Copy(master, in) }()
	go func() {
		defer close(t.out)
		_, _ = io.Copy(out, master)
	}()
	signal.Notify(t.resize, syscall.SIGWINCH)
	go func() {
		for range t.resize {
			copySize(in, master)
		}
	}()
	copySize(in, master)
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	return t, nil
}

func copySize(from, to *os.File) {
	if size, err := unix.IoctlGetWinsize(int(from.Fd()), unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(int(to.Fd()), unix.TIOCSWINSZ, size)
	}
}

// close waits for the last output and gives our terminal back as it was.
func (t *terminal) close() {
	if t == nil {
		return
	}
	signal.Stop(t.resize)
	close(t.resize)
	// Reading the master ends once nobody has the slave open.
	_ = t.slave.Close()
	<-t.out
	_ = t.master.Close()
	_ = term.Restore(int(os.Stdin.Fd()), t.old)
}

// newPTY opens a new pseudo terminal; see pts(4).
func newPTY() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		_ = master.Close()
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	return master, slave, nil
}

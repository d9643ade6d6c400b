package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// maxLogLine bounds a line of a log; longer ones are split, as by container
// runtimes.
const maxLogLine = 16 << 10

// logFile is the output of one run of a container: lines, each with the time
// it was written at (RFC 3339) in front.
type logFile struct {
	path  string
	clock clock.PassiveClock

	mu      sync.Mutex
	file    *os.File
	size    int64
	writers int
	closed  bool
	// complete is closed with it.
	complete chan struct{}
	// changed is closed and replaced whenever size or closed change.
	changed chan struct{}
}

func newLogFile(path string, clk clock.PassiveClock) (*logFile, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("container log: %w", err)
	}
	return &logFile{path: path, clock: clk, file: f, changed: make(chan struct{}), complete: make(chan struct{})}, nil
}

// consume writes what comes from the pipe until it ends.
func (l *logFile) consume(pipe *os.File) {
	defer pipe.Close()
	reader := bufio.NewReaderSize(pipe, maxLogLine)
	for {
		line, err := reader.ReadSlice('\n')
		if len(line) > 0 {
			l.write(bytes.TrimSuffix(line, []byte("\n")))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			l.release()
			return
		}
	}
}

// pipe gives an end to write to; the log is complete when all such ends are
// closed.
func (l *logFile) pipe() (*os.File, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("container log: %w", err)
	}
	l.mu.Lock()
	l.writers++
	l.mu.Unlock()
	go l.consume(read)
	return write, nil
}

func (l *logFile) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writers--; l.writers == 0 {
		l.closed = true
		close(l.complete)
		_ = l.file.Close()
		l.announce()
	}
}

func (l *logFile) write(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	record := l.clock.Now().UTC().AppendFormat(make([]byte, 0, len(line)+40), time.RFC3339Nano)
	record = append(append(append(record, ' '), line...), '\n')
	n, err := l.file.Write(record)
	if err != nil {
		// A full disk must not stop the container.
		return
	}
	l.size += int64(n)
	l.announce()
}

func (l *logFile) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *logFile) state() (size int64, closed bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size, l.closed, l.changed
}

// logOptions choose and shape lines of a log.
type logOptions struct {
	// Tail is the number of last lines; negative for all.
	Tail int
	// LimitBytes of output; 0 for no limit.
	LimitBytes int
	Timestamps bool
	Follow     bool
	// Since leaves older lines out.
	Since time.Time
}

// copyTo writes the chosen lines, and with Follow those to come until the
// container or ctx ends.
func (l *logFile) copyTo(ctx context.Context, w io.Writer, opts logOptions) error {
	f, err := os.Open(l.path)
	if err != nil {
		return fmt.Errorf("container log: %w", err)
	}
	defer f.Close()
	out := &lineWriter{w: w, opts: opts, left: opts.LimitBytes}
	size, closed, changed := l.state()
	offset, err := l.tailOffset(f, size, opts.Tail)
	if err != nil {
		return err
	}
	for {
		if err := out.copyLines(io.NewSectionReader(f, offset, size-offset)); err != nil {
			if errors.Is(err, errLogLimit) {
				return nil
			}
			return err
		}
		offset = size
		if closed || !opts.Follow {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		size, closed, changed = l.state()
	}
}

// tailOffset is where the last lines begin, searched from the end.
func (l *logFile) tailOffset(f *os.File, size int64, lines int) (int64, error) {
	if lines < 0 {
		return 0, nil
	}
	block := make([]byte, maxLogLine)
	// The file ends with a newline that begins no line.
	for end, seen := size, -1; end > 0; {
		start := max(0, end-int64(len(block)))
		part := block[:end-start]
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, fmt.Errorf("container log: %w", err)
		}
		for i := len(part) - 1; i >= 0; i-- {
			if part[i] != '\n' {
				continue
			}
			if seen++; seen == lines {
				return start + int64(i) + 1, nil
			}
		}
		end = start
	}
	return 0, nil
}

var errLogLimit = errors.New("log limit reached")

type lineWriter struct {
	w    io.Writer
	opts logOptions
	left int
}

func (w *lineWriter) copyLines(r io.Reader) error {
	reader := bufio.NewReaderSize(r, 2*maxLogLine)
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("container log: %w", err)
		}
		if err := w.line(line); err != nil {
			return err
		}
	}
}

func (w *lineWriter) line(line []byte) error {
	stamp, text, _ := bytes.Cut(line, []byte(" "))
	if !w.opts.Since.IsZero() {
		if at, err := time.Parse(time.RFC3339Nano, string(stamp)); err == nil && at.Before(w.opts.Since) {
			return nil
		}
	}
	if w.opts.Timestamps {
		text = line
	}
	if w.opts.LimitBytes > 0 && len(text) >= w.left {
		if _, err := w.w.Write(text[:w.left]); err != nil {
			return err
		}
		return errLogLimit
	}
	w.left -= len(text)
	_, err := w.w.Write(text)
	return err
}

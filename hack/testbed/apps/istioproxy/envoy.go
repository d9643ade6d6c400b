package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"k8s.io/utils/clock"
)

// envoy is the proxy as a child process.
type envoy struct {
	path  string
	clock clock.Clock
	// line takes each entry of the access log, without its end of line.
	line func([]byte)
	// gateway tells that all listeners are drained at the end, not only those to the pod.
	gateway bool
	cmd     *exec.Cmd
	read    chan error
}

// start runs Envoy with a bootstrap for the workload.
func (e *envoy) start(self workload) error {
	content, err := json.Marshal(bootstrap(self))
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	file := filepath.Join(os.TempDir(), "envoy.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	// Entries of the access log become series, which a scrape a second expects to be fresh.
	e.cmd = exec.Command(e.path, "--config-path", file, "--disable-hot-restart", "--log-level", "warning", "--component-log-level", "misc:error",
		"--concurrency", "2", "--file-flush-interval-msec", "100", "--drain-time-s", "45")
	e.cmd.Stderr = os.Stderr
	// An Envoy without this process would neither be drained nor counted.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := e.cmd.Start(); err != nil {
		return fmt.Errorf("start Envoy: %w", err)
	}
	e.read = make(chan error, 1)
	go func() { e.read <- e.follow(out) }()
	return nil
}

// follow reads the access log. Entries are JSON objects; all else that Envoy
// says there is passed on.
func (e *envoy) follow(out io.Reader) error {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "{") {
			e.line(lines.Bytes())
			continue
		}
		_, _ = fmt.Fprintln(os.Stderr, lines.Text())
	}
	return lines.Err()
}

// wait returns when Envoy has ended. An end nobody asked for is an error.
func (e *envoy) wait() error {
	if err := errors.Join(<-e.read, e.cmd.Wait()); err != nil {
		return fmt.Errorf("envoy: %w", err)
	}
	return errors.New("envoy ended")
}

// end lets connections finish, then stops Envoy and waits for it.
func (e *envoy) end(ended <-chan error) error {
	which := "inboundonly&"
	if e.gateway {
		which = ""
	}
	if err := post("/drain_listeners?" + which + "graceful&skip_exit"); err != nil {
		return err
	}
	<-e.clock.After(drain)
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop Envoy: %w", err)
	}
	// That Envoy ended by the signal is no failure.
	var exit *exec.ExitError
	if err := <-ended; err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("wait for Envoy: %w", err)
	}
	return nil
}

// post calls Envoy's admin interface.
func post(path string) error {
	response, err := http.Post("http://"+adminAddress+path, "", http.NoBody)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

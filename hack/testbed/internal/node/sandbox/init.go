package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// initArg is the first argument of a helper process.
const initArg = "__container-init"

// Descriptors the helper inherits.
const (
	specFD   = 3 // reads the Spec
	netnsFD  = 4 // network namespace to join
	statusFD = 5 // takes an error; closed by a successful exec
)

// MaybeRunInit becomes the container when this process was started as its
// helper; it does not return then. main calls it before anything else.
func MaybeRunInit() {
	if len(os.Args) < 2 || os.Args[1] != initArg {
		return
	}
	// Joining a network namespace concerns one thread, the one that execs.
	runtime.LockOSThread()
	status := os.NewFile(statusFD, "status")
	unix.CloseOnExec(statusFD)
	err := runInit()
	_, _ = io.WriteString(status, err.Error())
	os.Exit(128)
}

func runInit() error {
	var spec Spec
	pipe := os.NewFile(specFD, "spec")
	if err := json.NewDecoder(pipe).Decode(&spec); err != nil {
		return fmt.Errorf("read container spec: %w", err)
	}
	_ = pipe.Close()
	if err := unix.Setns(netnsFD, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("join network namespace: %w", err)
	}
	_ = unix.Close(netnsFD)
	if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	// Nothing mounted from here on shows outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := rootfs{dir: spec.Root}
	if err := root.build(&spec); err != nil {
		return err
	}
	if spec.Dir == "" {
		spec.Dir = "/"
	}
	if _, err := root.directory(spec.Dir); err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	if err := root.enter(spec.ReadOnlyRoot); err != nil {
		return err
	}
	return execProgram(&spec)
}

func execProgram(spec *Spec) error {
	if err := unix.Chdir(spec.Dir); err != nil {
		return fmt.Errorf("enter working directory %s: %w", spec.Dir, err)
	}
	program := spec.Argv[0]
	if !filepath.IsAbs(program) {
		return fmt.Errorf("program %q is not an absolute path", program)
	}
	err := unix.Exec(program, spec.Argv, spec.Env)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("exec: %q: no such program in the container", program)
	}
	return fmt.Errorf("exec %q: %w", program, err)
}

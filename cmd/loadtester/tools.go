package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"flagger.app/flagger/pkg/loadtester/ghz"
	"flagger.app/flagger/pkg/loadtester/hey"
)

// tool is a program that this one can be.
type tool func(ctx context.Context, args []string, stdout, stderr io.Writer) int

// builtin are the tools, by their names.
func builtin() map[string]tool { return map[string]tool{"hey": hey.Main, "ghz": ghz.Main} }

// toolOf is the tool that a command line is for: it is called by the name of the tool, or has it as its first argument.
func toolOf(args []string) (tool, []string) {
	if t := builtin()[filepath.Base(args[0])]; t != nil {
		return t, args[1:]
	}
	if len(args) > 1 {
		return builtin()[args[1]], args[2:]
	}
	return nil, nil
}

// installTools makes a folder in which this program has the names of the tools, and puts it at the end of the PATH of all commands:
// what an image brings comes first. The tools are processes of their own, which end with what a command started and share no memory
// with the server.
func installTools() (remove func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("path of this program: %w", err)
	}
	dir, err := tempDir()
	if err != nil {
		return nil, fmt.Errorf("folder for hey and ghz: %w: mount an emptyDir at /tmp, or they run only if the image has them", err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	for name := range builtin() {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			remove()
			return nil, err
		}
	}
	return remove, os.Setenv("PATH", os.Getenv("PATH")+string(os.PathListSeparator)+dir)
}

// tempDir is for links only, so it may be where nothing can be executed. A container whose file system is read-only has /dev/shm.
func tempDir() (string, error) {
	var failed error
	for _, parent := range []string{"", "/dev/shm"} {
		dir, err := os.MkdirTemp(parent, "loadtester-")
		if err == nil {
			return dir, nil
		}
		failed = errors.Join(failed, err)
	}
	return "", failed
}

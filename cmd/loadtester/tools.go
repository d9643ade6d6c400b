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

// provideTools makes commands find the tools, and returns what a load tester needs to know for that. The tools are processes of
// their own, which end with what a command started and share no memory with the server.
func provideTools() (builtIn map[string]string, remove func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("path of this program: %w", err)
	}
	builtIn = map[string]string{}
	for name := range builtin() {
		builtIn[name] = self
	}
	remove = func() {}
	// Without a folder shells have functions of these names, which programs that they start don't see.
	if dir, failed := linkTools(self); failed == nil {
		remove = func() { _ = os.RemoveAll(dir) }
		// What an image brings comes first.
		err = os.Setenv("PATH", os.Getenv("PATH")+string(os.PathListSeparator)+dir)
	}
	return builtIn, remove, err
}

// linkTools makes a folder in which this program has the names of the tools. It holds links only, so it may be where nothing can be
// executed: a container whose file system is read-only has /dev/shm.
func linkTools(self string) (string, error) {
	var failed error
	for _, parent := range []string{"", "/dev/shm"} {
		dir, err := os.MkdirTemp(parent, "loadtester-")
		for name := range builtin() {
			if err == nil {
				err = os.Symlink(self, filepath.Join(dir, name))
			}
		}
		if err == nil {
			return dir, nil
		}
		failed = errors.Join(failed, err)
	}
	return "", failed
}

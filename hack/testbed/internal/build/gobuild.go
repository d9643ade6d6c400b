package build

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// GoModule builds a package with the versions that a small module of its own
// pins; the result depends on that module's files only.
type GoModule struct {
	// Dir is the folder of the module, with go.mod and go.sum.
	Dir string
	// Package is an import path, or "." for the module's own program.
	Package string
	// Tags are build tags, LDFlags flags of the linker besides -s -w.
	Tags, LDFlags []string
}

// GoPackage builds a package of a source tree that people work on: it asks the
// Go tool each time, which is quick if nothing changed.
type GoPackage struct {
	// Dir is the folder of the main module, Package relative to it, as ./cmd/flagger.
	Dir, Package string
	// Tags are build tags, LDFlags flags of the linker besides -s -w.
	Tags, LDFlags []string
}

// goEnv makes builds the same for everyone: no C compiler, no workspace, and
// no flags that would let the Go tool change the pinned versions.
var goEnv = [...]string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly"}

// Key hashes the module's files, the flags and the version of the Go tool.
func (m GoModule) Key(ctx context.Context) (string, error) {
	h := sha256.New()
	for _, pattern := range []string{"go.mod", "go.sum", "*.go"} {
		files, err := filepath.Glob(filepath.Join(m.Dir, pattern))
		if err != nil {
			return "", err
		}
		slices.Sort(files)
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			_, _ = fmt.Fprintf(h, "%s %d\n%s", filepath.Base(file), len(content), content)
		}
	}
	version, err := goOutput(ctx, m.Dir, "env", "GOVERSION", "GOOS", "GOARCH", "GOAMD64", "GOARM64")
	if err != nil {
		return "", err
	}
	_, _ = fmt.Fprintf(h, "%s %q %q %q", version, goEnv, m.Package, m.flags())
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// Place is not used, since there is a key.
func (m GoModule) Place() string { return m.Dir }

// Build runs go build.
func (m GoModule) Build(ctx context.Context, out string, progress Progress) error {
	return goBuild(ctx, m.Dir, m.Package, out, m.flags(), progress)
}

func (m GoModule) flags() []string { return goFlags(m.Tags, m.LDFlags) }

// Key is empty: the Go tool knows what changed.
func (p GoPackage) Key(context.Context) (string, error) { return "", nil }

// Place is the folder and package, so that two source trees do not share results.
func (p GoPackage) Place() string { return p.Dir + " " + p.Package }

// Build runs go build.
func (p GoPackage) Build(ctx context.Context, out string, progress Progress) error {
	return goBuild(ctx, p.Dir, p.Package, out, goFlags(p.Tags, p.LDFlags), progress)
}

func goFlags(tags, ldflags []string) []string {
	flags := []string{"-trimpath", "-buildvcs=false", "-ldflags=" + strings.Join(append([]string{"-s", "-w"}, ldflags...), " ")}
	if len(tags) > 0 {
		flags = append(flags, "-tags="+strings.Join(tags, ","))
	}
	return flags
}

// goCommand prepares a run of the Go tool; the compilers it starts end with it.
func goCommand(ctx context.Context, dir string, args ...string) (*exec.Cmd, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return nil, &MissingToolError{Tool: "go", Remedy: "install Go 1.26 or newer, see https://go.dev/dl"}
	}
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), goEnv[:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd, nil
}

func goOutput(ctx context.Context, dir string, args ...string) (string, error) {
	cmd, err := goCommand(ctx, dir, args...)
	if err != nil {
		return "", err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", args[0], dir, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}

// goBuild compiles and reports how many of the packages that need compiling
// are done.
func goBuild(ctx context.Context, dir, pkg, out string, flags []string, progress Progress) error {
	progress.Phase("is fetching modules")
	list := append([]string{"list", "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}"}, flags...)
	stale, err := goOutput(ctx, dir, append(list, pkg)...)
	if err != nil {
		return err
	}
	total := len(strings.Fields(stale))
	cmd, err := goCommand(ctx, dir, append(append([]string{"build", "-v", "-o", out}, flags...), pkg)...)
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go build: %w", err)
	}
	messages := follow(stderr, total, progress)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("go build %s in %s: %w\n%s", pkg, dir, err, messages)
	}
	return nil
}

// follow reads what go build -v prints until it ends: import paths, which
// count as progress, and messages, the last of which it returns.
func follow(r io.Reader, total int, progress Progress) string {
	const most = 40
	var messages []string
	done := 0
	progress.Count(0, total)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "go: downloading "):
			progress.Phase("is fetching modules")
		case isImportPath(line):
			done++
			progress.Count(done, max(total, done))
			if done >= total {
				// The program's own package comes last; what remains is the linker.
				progress.Phase("is being linked")
			}
		default:
			messages = append(messages, line)
			if len(messages) > most {
				messages = messages[1:]
			}
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, os.ErrClosed) {
		messages = append(messages, err.Error())
		_, _ = io.Copy(io.Discard, r)
	}
	return strings.Join(messages, "\n")
}

// isImportPath tells an import path from a message of a compiler.
func isImportPath(line string) bool {
	return line != "" && !strings.ContainsAny(line, " \t:#()\"")
}

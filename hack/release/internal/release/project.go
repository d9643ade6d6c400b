// Package release builds what is released: programs, images, charts, manifests, and what they consist of.
package release

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"flagger.app/flagger/hack/release/internal/oci"
)

// Project is the tree that is built, and as what.
type Project struct {
	oci.Release
	// Root is the top of the tree.
	Root string
	// Work is a folder for what is built on the way.
	Work string
	// Cache is a folder for what stays from one build to the next.
	Cache string
	// LDFlags are those of the programs of this repository.
	LDFlags string
	// Platforms are those that are built for, as in linux/amd64; none means all.
	Platforms []string
	// built are the programs that are there, by path.
	built map[string]bool
	// Log tells what is being done.
	Log func(format string, args ...any)
}

// platform is what a program is built for, as Go has it.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "_" + p.arch }

// platforms are those that are released. Images are for the ones of Linux.
func platforms() []platform {
	return []platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}}
}

// chosen are the platforms that are built for.
func (p *Project) chosen() ([]platform, error) {
	if len(p.Platforms) == 0 {
		return platforms(), nil
	}
	var chosen []platform
	for _, name := range p.Platforms {
		os, arch, _ := strings.Cut(name, "/")
		if !slices.Contains(platforms(), platform{os, arch}) {
			return nil, fmt.Errorf("PLATFORMS has %q: want some of %v, with a slash", name, platforms())
		}
		chosen = append(chosen, platform{os, arch})
	}
	if !slices.ContainsFunc(chosen, func(on platform) bool { return on.os == "linux" }) {
		return nil, fmt.Errorf("PLATFORMS has %v: add one of linux, since images are made of it", chosen)
	}
	return chosen, nil
}

// semantic is a semantic version without build metadata, which a tag of an image can't have.
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

// CheckVersion refuses what charts or tags of images can't have as a version.
func CheckVersion(version string) error {
	if !semantic.MatchString(version) {
		return fmt.Errorf("VERSION=%s is no version: write it as 1.2.3 or 1.2.3-rc.1, without a v", version)
	}
	return nil
}

// CheckClean refuses a tree that holds something else than its commit: nobody else could build that again.
func (p *Project) CheckClean() error {
	changed, err := p.git("status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		return fmt.Errorf("the tree differs from its commit:\n%s\ncommit that, or release from a fresh clone", changed)
	}
	return nil
}

// FindCommit sets the revision, unless it is given, and the time of everything: that of the commit, or SOURCE_DATE_EPOCH.
func (p *Project) FindCommit(lookupEnv func(string) (string, bool)) error {
	if epoch, ok := lookupEnv("SOURCE_DATE_EPOCH"); ok && epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH=%s: want seconds since 1970, as git log -1 --format=%%ct prints them", epoch)
		}
		p.Created = time.Unix(seconds, 0).UTC()
	} else {
		seconds, err := p.git("log", "-1", "--format=%ct")
		if err != nil {
			return fmt.Errorf("%w: outside a clone, set SOURCE_DATE_EPOCH", err)
		}
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil {
			return fmt.Errorf("time of the commit: %w", err)
		}
		p.Created = time.Unix(n, 0).UTC()
	}
	if p.Revision != "" {
		return nil
	}
	var err error
	p.Revision, err = p.git("rev-parse", "HEAD")
	return err
}

func (p *Project) git(args ...string) (string, error) {
	return run(p.Root, nil, "git", args...)
}

// run runs a command to its end, and returns what it printed. What it complains about is part of the error.
func run(dir string, env []string, name string, args ...string) (string, error) {
	command := exec.Command(name, args...)
	command.Dir, command.Env = dir, append(os.Environ(), env...)
	out, err := command.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build builds programs for a platform with nothing in them that is of this machine, and returns the folder that they are in.
func (p *Project) build(module, ldflags string, on platform, packages ...string) (string, error) {
	dir := filepath.Join(p.Work, "bin", on.String())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if p.built == nil {
		p.built = map[string]bool{}
	}
	var missing []string
	for _, name := range packages {
		if !p.built[filepath.Join(dir, path.Base(name))] {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return dir, nil
	}
	p.Log("building %s for %s", strings.Join(missing, ", "), on)
	env := []string{
		"CGO_ENABLED=0", "GOOS=" + on.os, "GOARCH=" + on.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=-trimpath -buildvcs=false -mod=readonly", "GOWORK=off",
	}
	// The pages of gRPC on its requests are templates, which call methods by name: for them the linker keeps a fifth of the program.
	args := append([]string{"build", "-tags", "grpcnotrace", "-ldflags", ldflags, "-o", dir + "/"}, missing...)
	if _, err := run(filepath.Join(p.Root, module), env, "go", args...); err != nil {
		return "", err
	}
	for _, name := range missing {
		p.built[filepath.Join(dir, path.Base(name))] = true
	}
	return dir, nil
}

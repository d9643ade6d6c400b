package build

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Installed says how to recognize a program on this machine.
type Installed struct {
	// Program is its file name.
	Program string
	// VersionArgs make it print its version.
	VersionArgs []string
	// Version finds major and minor version, as its two groups, in what is printed.
	Version *regexp.Regexp
	// Major, and the bounds of the minor version that will do, both included.
	Major, MinMinor, MaxMinor int
}

// versionTimeout bounds the call of a program that may be anything.
const versionTimeout = time.Minute

// findInstalled looks for all programs of a component in $KUBEBUILDER_ASSETS
// and on the PATH. All must be there: parts of different origin are not mixed.
func findInstalled(ctx context.Context, c Component) (map[string]string, bool) {
	known := map[string]Installed{}
	for _, i := range c.Installed {
		known[i.Program] = i
	}
	programs := map[string]string{}
	for _, name := range c.programs() {
		want, ok := known[name]
		if !ok {
			return nil, false
		}
		for _, dir := range searchPath() {
			file := filepath.Join(dir, name)
			if want.suits(ctx, file) {
				programs[name] = file
				break
			}
		}
		if programs[name] == "" {
			return nil, false
		}
	}
	return programs, true
}

func searchPath() []string {
	var dirs []string
	for _, list := range []string{os.Getenv("KUBEBUILDER_ASSETS"), os.Getenv("PATH")} {
		for _, dir := range filepath.SplitList(list) {
			// Relative folders are not searched, for the reason that exec.LookPath does not.
			if filepath.IsAbs(dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// suits calls the program at path for its version.
func (i Installed) suits(ctx context.Context, path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, i.VersionArgs...).CombinedOutput()
	return err == nil && i.Accepts(string(out))
}

// Accepts tells whether the printed version will do.
func (i Installed) Accepts(printed string) bool {
	m := i.Version.FindStringSubmatch(strings.TrimSpace(printed))
	if len(m) != 3 {
		return false
	}
	major, errMajor := strconv.Atoi(m[1])
	minor, errMinor := strconv.Atoi(m[2])
	return errMajor == nil && errMinor == nil && major == i.Major && minor >= i.MinMinor && minor <= i.MaxMinor
}

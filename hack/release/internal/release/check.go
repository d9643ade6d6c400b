package release

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Check releases the commit twice, from fresh clones in two folders, and fails if a byte differs. With cold, the second release shares no
// compiled package with the first.
func (p *Project) Check(now func() time.Time, cold bool) error {
	commit, err := p.git("rev-parse", "HEAD")
	if err != nil {
		return err
	}
	var sums []string
	for i, name := range []string{"first", "a/second/folder"} {
		dir, begin := filepath.Join(p.Work, name), now()
		if _, err := p.git("clone", "-q", p.Root, dir); err != nil {
			return err
		}
		if _, err := run(dir, nil, "git", "checkout", "-q", "--detach", commit); err != nil {
			return err
		}
		// What make was called with is given on as one wants it, not as it is found.
		env := []string{"MAKEFLAGS=", "MFLAGS="}
		if cold && i > 0 {
			env = append(env, "GOCACHE="+filepath.Join(p.Work, "cache"))
		}
		if _, err := run(dir, env, "make", "-s", "release", "VERSION="+p.Version, "PLATFORMS="+strings.Join(p.Platforms, ",")); err != nil {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, "dist", "release", sumsFile))
		if err != nil {
			return err
		}
		sums = append(sums, string(content))
		p.Log("release %d of 2: %d files in %s", i+1, strings.Count(string(content), "\n"), now().Sub(begin).Round(time.Second))
		// Each is some hundred megabytes.
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if differing := differ(sums[0], sums[1]); len(differing) > 0 {
		return fmt.Errorf("two releases of %s differ in %s", commit, strings.Join(differing, ", "))
	}
	p.Log("both are the same bytes")
	return nil
}

// differ are the names of files that are not the same in two lists of checksums.
func differ(a, b string) []string {
	var names []string
	in := func(line, list string) bool { return strings.Contains("\n"+list, "\n"+line) }
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		for line := range strings.Lines(pair[0]) {
			_, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			if !in(line, pair[1]) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Package debian brings programs of Debian into an image: which ones, and in which versions, is noted in a file, so that two builds of
// one commit have the same.
package debian

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// Package is one package for one architecture.
type Package struct {
	Name, Version, Architecture string
	// SHA256 is that of its file, in hexadecimal.
	SHA256 string
}

func (p Package) String() string { return p.Name + ":" + p.Architecture + "=" + p.Version }

// ReadLock reads the packages of an architecture. A line is a name, a version, and for each architecture its name and a SHA-256, as in
// "curl 7.88.1-10 amd64 880d… arm64 b132…"; the order says nothing.
func ReadLock(file, architecture string) ([]Package, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	var packages []Package
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		at := slices.Index(words, architecture)
		if at < 2 || at+1 >= len(words) || len(words[at+1]) != 64 {
			return nil, fmt.Errorf("%s: %q has no SHA-256 for %s: write it anew by make release-packages", file, line, architecture)
		}
		packages = append(packages, Package{words[0], words[1], architecture, words[at+1]})
	}
	return packages, lines.Err()
}

// header is the beginning of the file.
const header = `# Packages of Debian in the image of the load tester, with what they need. make release-packages writes this file: it notes what
# Debian has now. A line is a name, a version, and the SHA-256 of the package for each architecture.
`

// WriteLock notes the packages, which are those of all architectures.
func WriteLock(file string, packages []Package) error {
	of := map[string][]Package{}
	for _, p := range packages {
		of[p.Name] = append(of[p.Name], p)
	}
	var b strings.Builder
	b.WriteString(header)
	for _, name := range slices.Sorted(maps.Keys(of)) {
		first := of[name][0]
		fmt.Fprintf(&b, "%s %s", name, first.Version)
		for _, p := range of[name] {
			if p.Version != first.Version {
				return fmt.Errorf("%s and %s: Debian is about to update it; try again later", first, p)
			}
			fmt.Fprintf(&b, " %s %s", p.Architecture, p.SHA256)
		}
		b.WriteString("\n")
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

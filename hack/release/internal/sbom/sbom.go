// Package sbom tells of what a binary or an image is made, in CycloneDX.
package sbom

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"flagger.app/flagger/hack/release/internal/debian"
)

// Subject is what the bill is of.
type Subject struct {
	Name, Version string
	// Type is an application or a container.
	Type    cdx.ComponentType
	Created time.Time
	// Binaries are paths of Go programs, which know what they were built from.
	Binaries []string
	// Packages are those of Debian.
	Packages []debian.Package
}

// Write writes the bill. The same subject is the same bytes.
func Write(w io.Writer, s Subject) error {
	b := &bill{seen: map[string]bool{}}
	for _, path := range s.Binaries {
		if err := b.binary(path, s.Version); err != nil {
			return fmt.Errorf("bill of %s: %w", s.Name, err)
		}
	}
	for _, p := range s.Packages {
		b.add(cdx.Component{
			Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.Version,
			Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: p.SHA256}}, PackageURL: fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", p.Name, url.QueryEscape(p.Version), p.Architecture),
		})
	}
	root := cdx.Component{BOMRef: s.Name, Type: s.Type, Name: s.Name, Version: s.Version}
	b.needs = append(b.needs, dependency(s.Name, b.roots))
	slices.SortFunc(b.parts, func(x, y cdx.Component) int { return strings.Compare(x.BOMRef, y.BOMRef) })
	slices.SortFunc(b.needs, func(x, y cdx.Dependency) int { return strings.Compare(x.Ref, y.Ref) })
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: s.Created.UTC().Format(time.RFC3339), Component: &root}
	bom.Components, bom.Dependencies = &b.parts, &b.needs
	// Tools that read bills know this version; not all know the newest.
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// bill is one that is being written.
type bill struct {
	parts []cdx.Component
	needs []cdx.Dependency
	seen  map[string]bool
	// roots are what the subject consists of itself.
	roots []string
}

// add adds a part that nothing else needs.
func (b *bill) add(c cdx.Component) {
	b.roots = append(b.roots, b.part(c))
}

// part adds what several binaries may have once.
func (b *bill) part(c cdx.Component) string {
	if c.BOMRef == "" {
		c.BOMRef = c.PackageURL
	}
	if !b.seen[c.BOMRef] {
		b.seen[c.BOMRef] = true
		b.parts = append(b.parts, c)
	}
	return c.BOMRef
}

// binary adds a Go program and its modules. A program of this repository has no version but that of the release.
func (b *bill) binary(path, release string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	sum, err := digest(path)
	if err != nil {
		return err
	}
	name := filepath.Base(path)
	needs := []string{b.part(cdx.Component{
		Type: cdx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion, PackageURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"),
	})}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		needs = append(needs, b.part(module(dep)))
	}
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = release
	}
	program := cdx.Component{
		BOMRef: "program/" + name, Type: cdx.ComponentTypeApplication, Name: name, Version: version, PackageURL: golang(info.Main.Path, version) + "#" + subpath(info),
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}},
	}
	b.add(program)
	b.needs = append(b.needs, dependency(program.BOMRef, needs))
	return nil
}

// subpath is where in its module a program is.
func subpath(info *debug.BuildInfo) string {
	return strings.Trim(strings.TrimPrefix(info.Path, info.Main.Path), "/")
}

func module(m *debug.Module) cdx.Component {
	return cdx.Component{Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: golang(m.Path, m.Version)}
}

func golang(path, version string) string {
	return "pkg:golang/" + path + "@" + url.QueryEscape(version)
}

func dependency(of string, on []string) cdx.Dependency {
	sorted := slices.Sorted(slices.Values(on))
	return cdx.Dependency{Ref: of, Dependencies: &sorted}
}

func digest(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

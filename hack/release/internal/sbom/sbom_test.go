package sbom

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"flagger.app/flagger/hack/release/internal/debian"
)

// A bill names each module and package once, with its version, and says which program has which. It is the same bytes each time.
func TestBill(t *testing.T) {
	program := filepath.Join(t.TempDir(), "release")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "../../cmd/release")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	subject := Subject{
		Name: "loadtester-image", Version: "1.2.3", Type: cdx.ComponentTypeContainer, Created: time.Unix(1700000000, 0),
		Binaries: []string{program, program},
		Packages: []debian.Package{{Name: "jq", Version: "1.6+x", Architecture: "arm64", SHA256: strings.Repeat("ab", 32)}},
	}
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := Write(b, subject); err != nil {
			t.Fatal(err)
		}
	}
	if first.String() != second.String() {
		t.Error("two bills of the same differ")
	}
	bom := &cdx.BOM{}
	if err := cdx.NewBOMDecoder(&first, cdx.BOMFileFormatJSON).Decode(bom); err != nil {
		t.Fatal(err)
	}
	if bom.Metadata.Component.Name != "loadtester-image" || bom.Metadata.Component.Version != "1.2.3" || bom.Metadata.Timestamp != "2023-11-14T22:13:20Z" {
		t.Errorf("it is of %+v", bom.Metadata)
	}
	found := map[string]int{}
	for _, c := range *bom.Components {
		if found[c.BOMRef]++; c.Version == "" {
			t.Errorf("%s has no version", c.Name)
		}
	}
	var refs []string
	for ref, n := range found {
		if refs = append(refs, ref); n > 1 {
			t.Errorf("%s is there %d times", ref, n)
		}
	}
	for _, want := range []string{"pkg:golang/std@", "pkg:golang/github.com/CycloneDX/cyclonedx-go@v", "pkg:deb/debian/jq@1.6%2Bx?arch=arm64", "program/release"} {
		if !slices.ContainsFunc(refs, func(ref string) bool { return strings.HasPrefix(ref, want) }) {
			t.Errorf("no %s among %v", want, refs)
		}
	}
	for _, d := range *bom.Dependencies {
		for _, need := range *d.Dependencies {
			if found[need] == 0 {
				t.Errorf("%s needs %s, which is not there", d.Ref, need)
			}
		}
	}
}

// What is no Go program is refused by name: a bill that leaves it out would be wrong.
func TestBillOfSomethingElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte("#!/bin/sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := Write(&bytes.Buffer{}, Subject{Name: "x", Version: "1.2.3", Binaries: []string{file}})
	if err == nil || !strings.Contains(err.Error(), "script") {
		t.Errorf("got %v", err)
	}
}

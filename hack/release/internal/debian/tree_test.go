package debian

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flagger.app/flagger/hack/release/internal/rootfs"
)

// layer packs files as a package has them.
func layer(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := []byte("content of " + h.Name)
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Programs end up where Debian has moved them, manuals do not, and nothing gives its user more rights.
func TestUnpack(t *testing.T) {
	tree := rootfs.Tree{}
	err := unpack(tree, layer(t,
		tar.Header{Name: "./bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "./bin/bash", Typeflag: tar.TypeReg, Mode: 0o755},
		tar.Header{Name: "./usr/bin/su", Typeflag: tar.TypeReg, Mode: 0o4755},
		tar.Header{Name: "./usr/bin/hard", Typeflag: tar.TypeLink, Linkname: "./bin/bash"},
		tar.Header{Name: "./lib/libx.so.1", Typeflag: tar.TypeSymlink, Linkname: "libx.so.1.2"},
		tar.Header{Name: "./usr/share/man/man1/bash.1.gz", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "./usr/share/doc/bash/copyright", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "./usr/share/doc/bash/changelog.gz", Typeflag: tar.TypeReg, Mode: 0o644},
	))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range tree.Files() {
		if !f.Mode.IsDir() {
			got = append(got, strings.TrimSpace(f.Mode.String()+" "+f.Path+" "+f.Link+string(f.Content)))
		}
	}
	want := []string{
		"-rwxr-xr-x usr/bin/bash content of ./bin/bash",
		"-rwxr-xr-x usr/bin/hard content of ./bin/bash",
		"-rwxr-xr-x usr/bin/su content of ./usr/bin/su",
		"L--------- usr/lib/libx.so.1 libx.so.1.2",
		"-rw-r--r-- usr/share/doc/bash/copyright content of ./usr/share/doc/bash/copyright",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A program whose library no package brings would not start in the image.
func TestMissingLibrary(t *testing.T) {
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Skip(err)
	}
	tree := rootfs.Tree{}
	tree.Add(rootfs.File{Path: "usr/bin/sh", Mode: 0o755, Content: shell})
	if err := checkLibraries(tree); err == nil || !strings.Contains(err.Error(), "libc") || !strings.Contains(err.Error(), "/usr/bin/sh") {
		t.Errorf("got %v", err)
	}
	tree.Add(rootfs.File{Path: "usr/lib/libc.so.6", Mode: fs.ModeSymlink, Link: "libc-2.so"}, rootfs.File{Path: "usr/lib/libc.musl-x86_64.so.1", Mode: 0o755})
	if err := checkLibraries(tree); err != nil {
		t.Errorf("with its library: %v", err)
	}
}

// What is written is what is read, for each architecture.
func TestLock(t *testing.T) {
	file, sum := filepath.Join(t.TempDir(), "packages.lock"), strings.Repeat("0a", 32)
	packages := []Package{{"jq", "1.6", "amd64", sum}, {"bash", "1:5+b1", "amd64", sum}, {"bash", "1:5+b1", "arm64", sum}, {"jq", "1.6", "arm64", sum}}
	if err := WriteLock(file, packages); err != nil {
		t.Fatal(err)
	}
	got, err := ReadLock(file, "arm64")
	if err != nil || len(got) != 2 || got[0] != packages[2] || got[1] != packages[3] {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ReadLock(file, "riscv64"); err == nil || !strings.Contains(err.Error(), "make release-packages") {
		t.Errorf("an architecture that is not there: %v", err)
	}
	if err := WriteLock(file, append(packages[:3], Package{"jq", "1.7", "arm64", sum})); err == nil {
		t.Error("two versions of one package are taken")
	}
}

// The packages in use are noted for all architectures.
func TestPackagesLock(t *testing.T) {
	for _, architecture := range []string{"amd64", "arm64"} {
		packages, err := ReadLock("../../packages.lock", architecture)
		if err != nil || len(packages) < 30 {
			t.Errorf("%d packages: %v", len(packages), err)
		}
	}
}

func TestParse(t *testing.T) {
	packages, needs := parse("Package: curl\nVersion: 7-1\nDepends: libc6 (>= 2.34), zlib1g | zlib:any\nSHA256: ab\n\nPackage: jq\nVersion: 1\nPre-Depends: perl:any\nSHA256: cd\n", "arm64")
	if len(packages) != 2 || packages[0] != (Package{"curl", "7-1", "arm64", "ab"}) || packages[1].Name != "jq" || strings.Join(needs, " ") != "libc6 zlib1g perl" {
		t.Errorf("got %v, needs %v", packages, needs)
	}
}

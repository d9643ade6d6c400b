package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"flagger.app/flagger/hack/release/internal/jail"
	"flagger.app/flagger/hack/release/internal/rootfs"
)

// probe builds the program that stands for those of the images.
func probe(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// archive writes the archive of an image whose program is the probe.
func archive(t *testing.T, image rootfs.Image, program string) string {
	t.Helper()
	r := Release{Version: "1.2.3", Revision: "abc", Created: time.Unix(1700000000, 0)}
	var platforms []Platform
	for _, architecture := range []string{"amd64", "arm64"} {
		platforms = append(platforms, Platform{architecture, []Layer{{image.Base(), "base"}, {image.Program(program), "program"}}})
	}
	index, err := Index(image, r, platforms)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := WriteArchive(file, image, r, index); err != nil {
		t.Fatal(err)
	}
	return file
}

// The program of an unpacked image sees nothing but that image, and what it needs is there.
func TestProgramStartsInItsImage(t *testing.T) {
	program := probe(t)
	for _, image := range rootfs.Images() {
		t.Run(image.Name, func(t *testing.T) {
			root := t.TempDir()
			config, err := Unpack(archive(t, image, program), "amd64", root)
			if err != nil {
				t.Fatal(err)
			}
			out, err := jail.Command(t, root, config, "./"+image.Name).CombinedOutput()
			want := fmt.Sprintf("folder %s\naccount %s %d %d\ntrusts true <nil>\ntemporary file <nil>\n", image.WorkingDir, image.Account, image.UID, image.GID)
			if err != nil || string(out) != want {
				t.Errorf("%v\n got %s\nwant %s", err, out, want)
			}
			out, err = jail.Command(t, root, config, config.Entrypoint...).CombinedOutput()
			if err != nil || string(out) != want {
				t.Errorf("by its entrypoint: %v\n got %s\nwant %s", err, out, want)
			}
		})
	}
}

// Two builds of one commit are the same bytes, whatever folder they are in and whenever they are made.
func TestSameCommitIsTheSameArchive(t *testing.T) {
	image, program := rootfs.Images()[0], probe(t)
	first, err := os.ReadFile(archive(t, image, program))
	if err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1000000000, 0)
	if err := os.Chtimes(program, old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(archive(t, image, program))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two archives of the same differ")
	}
	ofTheCommit(t, bytes.NewReader(first))
}

// ofTheCommit fails if something in an archive is of another time than the commit: two builds within a second would not show it.
func ofTheCommit(t *testing.T, r io.Reader) {
	t.Helper()
	for archive, n := tar.NewReader(r), 0; ; n++ {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.ModTime.Unix() != 1700000000 {
			t.Errorf("%s is of %s", header.Name, header.ModTime)
		}
	}
}

// The archive is what registries and nodes take: one image for both architectures, each with the account, the start and the labels.
func TestArchive(t *testing.T) {
	for _, image := range rootfs.Images() {
		dir := t.TempDir()
		program := filepath.Join(dir, "program")
		if err := os.WriteFile(program, []byte("#!"), 0o755); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(archive(t, image, program))
		if err != nil {
			t.Fatal(err)
		}
		if err := extract(in, dir); err != nil {
			t.Fatal(err)
		}
		_ = in.Close()
		path, err := layout.FromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		index, err := path.ImageIndex()
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(index); err != nil {
			t.Error(err)
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		names := manifest.Manifests[0].Annotations
		if names["org.opencontainers.image.ref.name"] != "1.2.3" || !strings.HasSuffix(names["io.containerd.image.name"], "/"+image.Repository+":1.2.3") {
			t.Errorf("names %v", names)
		}
		for _, architecture := range []string{"amd64", "arm64"} {
			built, err := open(archive(t, image, program), architecture, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			file, err := built.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			layers := mutate.Extract(built)
			ofTheCommit(t, layers)
			_ = layers.Close()
			if file.Architecture != architecture || file.OS != "linux" || file.Config.User != image.User() || file.Config.Entrypoint[0] != image.Binary() {
				t.Errorf("%s for %s: %+v", image.Name, architecture, file)
			}
			if file.Config.Labels["org.opencontainers.image.version"] != "1.2.3" || file.Config.Labels["org.opencontainers.image.revision"] != "abc" {
				t.Errorf("labels %v", file.Config.Labels)
			}
		}
		if _, err := open(archive(t, image, program), "riscv64", t.TempDir()); err == nil || !strings.Contains(err.Error(), "riscv64") {
			t.Errorf("an architecture that is not there: %v", err)
		}
	}
}

// What a layer says about modes and owners is what the program finds: it can't change itself, and it can write where it has to.
func TestModes(t *testing.T) {
	for _, image := range rootfs.Images() {
		tree := image.Base()
		tree.Add(image.Program("/bin/true").Files()...)
		for path, want := range map[string]fs.FileMode{
			"tmp": fs.ModeDir | fs.ModeSticky | 0o777, strings.Trim(image.Binary(), "/"): 0o755, "etc/passwd": 0o644, "etc": fs.ModeDir | 0o755,
		} {
			if f, ok := tree[path]; !ok || f.Mode != want || f.UID != 0 {
				t.Errorf("%s: %s is %v of %d, want %v of root", image.Name, path, f.Mode, f.UID, want)
			}
		}
		if home := tree[strings.Trim(image.WorkingDir, "/")]; image.WorkingDir != "/" && (home.UID != image.UID || home.GID != image.GID) {
			t.Errorf("%s: its folder is of %d:%d", image.Name, home.UID, home.GID)
		}
	}
}

package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flagger.app/flagger/hack/release/internal/oci"
	"flagger.app/flagger/hack/release/internal/rootfs"
)

const top = "../../../.."

func project(t *testing.T, root string) *Project {
	t.Helper()
	return &Project{
		Root: root, Work: t.TempDir(), Log: t.Logf,
		Release: oci.Release{Version: "7.8.9-rc.1", Revision: "abc", Created: time.Unix(1700000000, 0)},
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A version that a chart or a tag can't have is refused before anything is built.
func TestVersions(t *testing.T) {
	for version, good := range map[string]bool{
		"1.2.3": true, "0.1.0": true, "1.2.3-rc.1": true, "10.20.30-alpha-1": true,
		"": false, "v1.2.3": false, "1.2": false, "1.2.3.4": false, "01.2.3": false, "1.2.3+build": false, "latest": false, "1.2.3-": false, "1.2.3 ": false, "1.2.3-a..b": false,
	} {
		if err := CheckVersion(version); (err == nil) != good {
			t.Errorf("%q: %v", version, err)
		} else if err != nil && !strings.Contains(err.Error(), "1.2.3-rc.1") {
			t.Errorf("%q: the message does not say what is right: %v", version, err)
		}
	}
}

// A tree with something that is in no commit is refused, with its name.
func TestDirtyTree(t *testing.T) {
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, ".gitignore"), []byte("/dist/\n"), 0o644))
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "x"}} {
		if out, err := exec.Command("git", append([]string{"-C", root}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v: %s", args, err, out)
		}
	}
	p := project(t, root)
	must(t, os.Mkdir(filepath.Join(root, "dist"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "dist", "x"), nil, 0o644))
	must(t, p.CheckClean())
	must(t, os.WriteFile(filepath.Join(root, "forgotten.go"), nil, 0o644))
	if err := p.Dist(filepath.Join(root, "dist")); err == nil || !strings.Contains(err.Error(), "forgotten.go") {
		t.Errorf("an untracked file: %v", err)
	}
	must(t, os.Remove(filepath.Join(root, "forgotten.go")))
	must(t, os.WriteFile(filepath.Join(root, ".gitignore"), []byte("/dist/\n/bin/\n"), 0o644))
	if err := p.CheckClean(); err == nil || !strings.Contains(err.Error(), ".gitignore") {
		t.Errorf("a changed file: %v", err)
	}
}

// A folder that holds something else is left alone.
func TestForeignFolder(t *testing.T) {
	dir := t.TempDir()
	must(t, ours(dir))
	must(t, ours(filepath.Join(dir, "new")))
	must(t, os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o644))
	if err := ours(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, sumsFile), nil, 0o644))
	must(t, ours(dir))
}

// Everything is of the time of the commit, or of the one that the builder names.
func TestTimes(t *testing.T) {
	p := project(t, top)
	must(t, p.FindCommit(func(string) (string, bool) { return "86400", true }))
	if !p.Created.Equal(time.Unix(86400, 0)) {
		t.Errorf("got %s", p.Created)
	}
	if err := p.FindCommit(func(string) (string, bool) { return "yesterday", true }); err == nil || !strings.Contains(err.Error(), "SOURCE_DATE_EPOCH=yesterday") {
		t.Errorf("got %v", err)
	}
}

// What is released installs what is released: no manifest and no overlay names another version of our images.
func TestManifests(t *testing.T) {
	p, out := project(t, top), t.TempDir()
	must(t, p.Manifests(out))
	install, err := os.ReadFile(filepath.Join(out, "install.yaml"))
	must(t, err)
	order := []string{"kind: Namespace\n", "kind: CustomResourceDefinition\n", "kind: ClusterRole\n", "image: flagger/flagger:7.8.9-rc.1\n"}
	for rest := string(install); len(order) > 0; order = order[1:] {
		var ok bool
		if _, rest, ok = strings.Cut(rest, order[0]); !ok {
			t.Fatalf("install.yaml: no %q where it belongs", order[0])
		}
	}
	if strings.Contains(string(install), "---\n---\n") {
		t.Error("install.yaml has an empty document")
	}
	page, err := os.ReadFile(filepath.Join(top, "docs", "releasing.md"))
	must(t, err)
	written, err := os.ReadDir(out)
	must(t, err)
	for _, file := range written {
		// A name that is that of another file of the tree as well is written as a path there.
		name := strings.ReplaceAll(file.Name(), p.Version, "1.2.3")
		if !strings.Contains(string(page), "`"+name+"`") && !strings.Contains(string(page), "`./"+name+"`") {
			t.Errorf("docs/releasing.md does not name %s", name)
		}
	}
	overlays, err := readPacked(filepath.Join(out, "kustomize_7.8.9-rc.1.tar.gz"))
	must(t, err)
	for path, line := range map[string]string{
		"kustomize/base/flagger/kustomization.yaml": "newTag: 7.8.9-rc.1\n",
		"kustomize/tester/deployment.yaml":          "image: flagger/flagger-loadtester:7.8.9-rc.1\n",
		"kustomize/contour/kustomization.yaml":      "kind: Kustomization\n",
	} {
		if !strings.Contains(string(overlays[path].Content), line) {
			t.Errorf("%s has no %q", path, line)
		}
	}
	for path, f := range overlays {
		for line := range strings.Lines(string(f.Content)) {
			if strings.Contains(line, "flagger/flagger") && strings.Contains(line, ":0.") || strings.Contains(line, "newTag: 0.") {
				t.Errorf("%s: %s", path, line)
			}
		}
	}
}

// Archives that tell of another time hold the same, so that their copies are the same bytes.
func TestPackedAnew(t *testing.T) {
	dir := t.TempDir()
	var copies []string
	for _, modified := range []time.Time{time.Unix(1, 0), time.Unix(1800000000, 0)} {
		var b bytes.Buffer
		compressed := gzip.NewWriter(&b)
		compressed.Comment, compressed.ModTime = "Helm", modified
		w := tar.NewWriter(compressed)
		for _, name := range []string{"podinfo/values.yaml", "podinfo/Chart.yaml"} {
			must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: 2, ModTime: modified, Typeflag: tar.TypeReg}))
			_, err := w.Write([]byte("a:"))
			must(t, err)
		}
		must(t, w.Close())
		must(t, compressed.Close())
		file := filepath.Join(dir, "chart.tgz")
		must(t, os.WriteFile(file, b.Bytes(), 0o644))
		tree, err := readPacked(file)
		must(t, err)
		if f := tree["podinfo/Chart.yaml"]; string(f.Content) != "a:" || tree["podinfo"].Mode != fs.ModeDir|0o755 {
			t.Errorf("got %+v", tree)
		}
		must(t, writePacked(file, tree, time.Unix(1700000000, 0)))
		content, err := os.ReadFile(file)
		must(t, err)
		copies = append(copies, string(content))
	}
	if copies[0] != copies[1] {
		t.Error("two copies differ")
	}
	plain, err := gzip.NewReader(strings.NewReader(copies[0]))
	must(t, err)
	header, err := tar.NewReader(plain).Next()
	must(t, err)
	if !header.ModTime.Equal(time.Unix(1700000000, 0)) || !plain.ModTime.IsZero() {
		t.Errorf("%s is of %s, its archive of %s", header.Name, header.ModTime, plain.ModTime)
	}
}

// The list is what sha256sum -c takes, and a difference is told by the name of the file.
func TestSums(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"b": "2", "a": "1"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	must(t, writeSums(dir))
	command := exec.Command("sha256sum", "--check", "--strict", sumsFile)
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil || strings.Count(string(out), ": OK\n") != 2 {
		t.Errorf("%v: %s", err, out)
	}
	if got := differ("1  a\n2  b\n4  d\n", "1  a\n3  b\n5  c\n"); strings.Join(got, " ") != "b d c" {
		t.Errorf("got %q", got)
	}
	if got := differ("1  a\n", "1  a\n"); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestPlatforms(t *testing.T) {
	p := project(t, top)
	p.Platforms = []string{"linux/arm64"}
	if got, err := p.chosen(); err != nil || len(got) != 1 || got[0] != (platform{"linux", "arm64"}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, refused := range []string{"linux", "darwin/amd64"} {
		p.Platforms = []string{refused}
		if _, err := p.chosen(); err == nil || !strings.Contains(err.Error(), "linux") {
			t.Errorf("%s: got %v", refused, err)
		}
	}
}

// Only images of ours get the version, whatever stands beside them.
func TestStamp(t *testing.T) {
	for _, image := range rootfs.Images() {
		if got := string(stamp([]byte("image: "+image.Repository+":0.1.0\n"), "2.0.0")); got != "image: "+image.Repository+":2.0.0\n" {
			t.Errorf("got %q", got)
		}
	}
	for _, other := range []string{"image: prom/prometheus:v3.15.0\n", "image: example.com/flagger/flagger:1.0.0\n", "newTag: 1.0.0\n"} {
		if got := string(stamp([]byte(other), "2.0.0")); got != other {
			t.Errorf("got %q for %q", got, other)
		}
	}
}

package release

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"flagger.app/flagger/hack/release/internal/rootfs"
)

// tags are where manifests and overlays name the version of an image of ours.
var tags = regexp.MustCompile(`(image: flagger/flagger(?:-loadtester)?:|name: flagger/flagger(?:-loadtester)?\n +newTag: )[^\s"]+`)

// stamp sets the version of our images in a manifest or an overlay.
func stamp(manifest []byte, version string) []byte {
	return tags.ReplaceAll(manifest, []byte("${1}"+version))
}

// Manifests writes the CRDs, what kubectl apply installs, and the overlays of Kustomize, with the images of this version.
func (p *Project) Manifests(out string) error {
	read := func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(p.Root, path)) }
	for name, parts := range map[string][]string{
		"crd.yaml":              {"artifacts/flagger/crd.yaml"},
		"deletion-warning.yaml": {"artifacts/flagger/deletion-warning.yaml"},
		"prometheusrule.yaml":   {"artifacts/flagger/prometheusrule.yaml"},
		// CRDs and the namespace are there before what needs them.
		"install.yaml": {"kustomize/base/namespace/namespace.yaml", "artifacts/flagger/crd.yaml", "artifacts/flagger/account.yaml", "artifacts/flagger/deployment.yaml"},
	} {
		var all []string
		for _, part := range parts {
			content, err := read(part)
			if err != nil {
				return err
			}
			all = append(all, strings.Trim(strings.TrimPrefix(string(stamp(content, p.Version)), "---\n"), "\n"))
		}
		if err := os.WriteFile(filepath.Join(out, name), []byte(strings.Join(all, "\n---\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	overlays, err := p.overlays()
	if err != nil {
		return err
	}
	return writePacked(filepath.Join(out, fmt.Sprintf("kustomize_%s.tar.gz", p.Version)), overlays, p.Created)
}

func (p *Project) overlays() (rootfs.Tree, error) {
	t := rootfs.Tree{}
	err := filepath.WalkDir(filepath.Join(p.Root, "kustomize"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(p.Root, path)
		if err != nil {
			return err
		}
		t.Add(rootfs.File{Path: filepath.ToSlash(name), Mode: 0o644, Content: stamp(content, p.Version)})
		return nil
	})
	return t, err
}

package release

import (
	"fmt"
	"os"
	"path/filepath"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"flagger.app/flagger/hack/release/internal/debian"
	"flagger.app/flagger/hack/release/internal/oci"
	"flagger.app/flagger/hack/release/internal/rootfs"
	"flagger.app/flagger/hack/release/internal/sbom"
)

// ImageFile is the name of the archive of an image.
func ImageFile(image rootfs.Image, version string) string {
	return fmt.Sprintf("%s-image_%s.tar", image.Name, version)
}

// Images writes the archive of each image into a folder, and beside it what it consists of.
func (p *Project) Images(out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	chosen, err := p.chosen()
	if err != nil {
		return err
	}
	for _, image := range rootfs.Images() {
		var built []oci.Platform
		for _, on := range chosen {
			if on.os != "linux" {
				continue
			}
			c, err := p.contents(image, on)
			if err == nil {
				err = p.bill(out, image.Name+"-image", on, sbom.Subject{Type: cdx.ComponentTypeContainer, Binaries: c.binaries, Packages: c.packages})
			}
			if err != nil {
				return fmt.Errorf("image %s for %s: %w", image.Name, on, err)
			}
			built = append(built, oci.Platform{Architecture: on.arch, Layers: c.layers})
		}
		index, err := oci.Index(image, p.Release, built)
		if err != nil {
			return err
		}
		file := filepath.Join(out, ImageFile(image, p.Version))
		if err := oci.WriteArchive(file, image, p.Release, index); err != nil {
			return err
		}
		digest, err := index.Digest()
		if err != nil {
			return fmt.Errorf("image %s: %w", image.Name, err)
		}
		p.Log("%s: %s:%s@%s", filepath.Base(file), image.Repository, p.Version, digest)
	}
	return nil
}

// contents are what an image consists of, on one platform.
type contents struct {
	layers []oci.Layer
	// binaries and packages are what its bill lists.
	binaries []string
	packages []debian.Package
}

// contents builds what an image consists of. What changes least comes first, so that nodes have it already.
func (p *Project) contents(image rootfs.Image, on platform) (*contents, error) {
	c := &contents{layers: []oci.Layer{{Tree: image.Base(), Says: "account, certificates, folder for temporary files"}}}
	if image.Name == "loadtester" {
		if err := p.addTools(c, on); err != nil {
			return nil, err
		}
	}
	dir, err := p.build(".", p.LDFlags, on, "./cmd/"+image.Name)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, image.Name)
	c.layers = append(c.layers, oci.Layer{Tree: image.Program(program), Says: "program " + image.Binary()})
	c.binaries = append(c.binaries, program)
	return c, nil
}

// Folder writes all files of an image into a folder, for the builder of a Dockerfile.
func (p *Project) Folder(name, architecture, out string) error {
	for _, image := range rootfs.Images() {
		if image.Name != name {
			continue
		}
		c, err := p.contents(image, platform{"linux", architecture})
		if err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		all := rootfs.Tree{}
		for _, layer := range c.layers {
			all.Add(layer.Tree.Files()...)
		}
		return all.WriteFolder(out)
	}
	return fmt.Errorf("no image %q", name)
}

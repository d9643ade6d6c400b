// Package oci assembles images for several architectures from trees of files, and writes them as archives in the layout of OCI.
package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"flagger.app/flagger/hack/release/internal/rootfs"
)

// Release is what is built, and when its commit was made: the time of everything in an image.
type Release struct {
	Version, Revision string
	Created           time.Time
}

// Layer is one layer, and what history says about it.
type Layer struct {
	Tree rootfs.Tree
	Says string
}

// Platform is an image for one architecture, on Linux.
type Platform struct {
	// Architecture is named as in Go.
	Architecture string
	Layers       []Layer
}

// labels are those of the image specification.
func labels(image rootfs.Image, r Release) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       image.Title,
		"org.opencontainers.image.description": image.Description,
		"org.opencontainers.image.version":     r.Version,
		"org.opencontainers.image.revision":    r.Revision,
		"org.opencontainers.image.created":     r.Created.UTC().Format(time.RFC3339),
	}
}

// Index is the image for all platforms.
func Index(image rootfs.Image, r Release, platforms []Platform) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		built, err := assemble(image, r, p)
		if err != nil {
			return nil, fmt.Errorf("image %s for %s: %w", image.Name, p.Architecture, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        built,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: p.Architecture}},
		})
	}
	return mutate.Annotations(index, labels(image, r)).(v1.ImageIndex), nil
}

func assemble(image rootfs.Image, r Release, p Platform) (v1.Image, error) {
	created := v1.Time{Time: r.Created.UTC().Truncate(time.Second)}
	built := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	for _, l := range p.Layers {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			reader, writer := io.Pipe()
			go func() { writer.CloseWithError(l.Tree.WriteTar(writer, created.Time)) }()
			return reader, nil
		}, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, err
		}
		built, err = mutate.Append(built, mutate.Addendum{Layer: layer, History: v1.History{Created: created, CreatedBy: l.Says}})
		if err != nil {
			return nil, err
		}
	}
	file, err := built.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", p.Architecture, created
	file.Config = v1.Config{
		User: image.User(), WorkingDir: image.WorkingDir, Entrypoint: []string{image.Binary()}, Env: image.Env(), Labels: labels(image, r),
	}
	built, err = mutate.ConfigFile(built, file)
	if err != nil {
		return nil, err
	}
	return mutate.Annotations(built, labels(image, r)).(v1.Image), nil
}

// WriteArchive writes an image as an archive in the layout of OCI, under the names that tools look for: the tag, and for containerd the
// name of the image as nodes have it.
func WriteArchive(file string, image rootfs.Image, r Release, index v1.ImageIndex) error {
	dir, err := os.MkdirTemp(filepath.Dir(file), ".layout-")
	if err != nil {
		return fmt.Errorf("archive %s: %w", file, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendIndex(index, layout.WithAnnotations(map[string]string{
			"org.opencontainers.image.ref.name": r.Version,
			"io.containerd.image.name":          "docker.io/" + image.Repository + ":" + r.Version,
		}))
	}
	if err != nil {
		return fmt.Errorf("archive %s: %w", file, err)
	}
	if err := pack(file, dir, r.Created); err != nil {
		return fmt.Errorf("archive %s: %w", file, err)
	}
	return nil
}

// pack writes a folder as an archive.
func pack(file, dir string, modified time.Time) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	t := rootfs.Tree{}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if entry.IsDir() {
			mode = fs.ModeDir | 0o755
		}
		t.Add(rootfs.File{Path: filepath.ToSlash(name), Mode: mode, Source: path})
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.WriteTar(out, modified); err != nil {
		return err
	}
	return out.Close()
}

// Unpack writes what a container of the image sees, for one architecture, into a folder, and returns how it is started.
func Unpack(file, architecture, dir string) (*v1.Config, error) {
	temp, err := os.MkdirTemp("", "layout-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(temp) }()
	image, err := open(file, architecture, temp)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", file, err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", file, err)
	}
	layers := mutate.Extract(image)
	defer func() { _ = layers.Close() }()
	if err := extract(layers, dir); err != nil {
		return nil, fmt.Errorf("archive %s: %w", file, err)
	}
	return &config.Config, nil
}

func open(file, architecture, temp string) (v1.Image, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	if err := extract(in, temp); err != nil {
		return nil, err
	}
	path, err := layout.FromPath(temp)
	if err != nil {
		return nil, err
	}
	index, err := path.ImageIndex()
	if err != nil {
		return nil, err
	}
	outer, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(outer.Manifests) != 1 {
		return nil, fmt.Errorf("has %d images, want one", len(outer.Manifests))
	}
	platforms, err := index.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		return nil, err
	}
	inner, err := platforms.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, manifest := range inner.Manifests {
		if manifest.Platform != nil && manifest.Platform.Architecture == architecture {
			return platforms.Image(manifest.Digest)
		}
	}
	return nil, fmt.Errorf("has no image for %s", architecture)
}

// extract writes an archive that this program has made. What is in it is owned by whoever does it.
func extract(r io.Reader, dir string) error {
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(header.Name) {
			return fmt.Errorf("%s leads out of the archive", header.Name)
		}
		to := filepath.Join(dir, header.Name)
		switch header.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(to, 0o755)
		case tar.TypeSymlink:
			if err = os.MkdirAll(filepath.Dir(to), 0o755); err == nil {
				err = os.Symlink(header.Linkname, to)
			}
		default:
			err = write(to, archive, header.FileInfo().Mode().Perm())
		}
		if err != nil {
			return err
		}
	}
}

func write(to string, content io.Reader, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, content); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

// Package rootfs is what the file systems of the images consist of, before they are layers of an archive or a folder.
package rootfs

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// File is a file, a folder or a symbolic link of an image.
type File struct {
	// Path is where it is, without a slash at the beginning.
	Path string
	// Mode has the type as well: fs.ModeDir, fs.ModeSymlink, or neither.
	Mode fs.FileMode
	// UID and GID are its owners, 0 by default.
	UID, GID int
	// Link is where a symbolic link leads.
	Link string
	// Content is that of a file, unless Source is set.
	Content []byte
	// Source is the path on this machine of what the file holds.
	Source string
}

// Tree is a part of a file system, by path.
type Tree map[string]File

// Add puts a file into the tree, in the place of one that is there, with the folders that it is in.
func (t Tree) Add(files ...File) {
	for _, f := range files {
		f.Path = strings.Trim(path.Clean(f.Path), "/")
		t[f.Path] = f
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if _, ok := t[dir]; !ok {
				t[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			}
		}
	}
}

// Files are all of them, each folder before what is in it.
func (t Tree) Files() []File {
	files := make([]File, 0, len(t))
	for _, f := range t {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files
}

// Open is the content of a file.
func (f File) Open() (io.ReadCloser, int64, error) {
	if f.Source == "" {
		return io.NopCloser(strings.NewReader(string(f.Content))), int64(len(f.Content)), nil
	}
	file, err := os.Open(f.Source)
	if err != nil {
		return nil, 0, fmt.Errorf("/%s of the image: %w", f.Path, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("/%s of the image: %w", f.Path, err)
	}
	return file, info.Size(), nil
}

// WriteTar writes the tree as a layer. The same tree and time are the same bytes.
func (t Tree) WriteTar(w io.Writer, modified time.Time) error {
	archive := tar.NewWriter(w)
	for _, f := range t.Files() {
		if err := f.writeTar(archive, modified); err != nil {
			return fmt.Errorf("layer: %s: %w", f.Path, err)
		}
	}
	return archive.Close()
}

func (f File) writeTar(archive *tar.Writer, modified time.Time) error {
	header := &tar.Header{
		Name: f.Path, Mode: int64(f.Mode.Perm()), Uid: f.UID, Gid: f.GID, ModTime: modified.Truncate(time.Second), Typeflag: tar.TypeReg,
	}
	// The bits beside the permissions have other values in Go than in an archive.
	for bit, value := range map[fs.FileMode]int64{fs.ModeSticky: 0o1000, fs.ModeSetgid: 0o2000, fs.ModeSetuid: 0o4000} {
		if f.Mode&bit != 0 {
			header.Mode |= value
		}
	}
	switch {
	case f.Mode.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, f.Path+"/"
	case f.Mode&fs.ModeSymlink != 0:
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.Link
	}
	if header.Typeflag != tar.TypeReg {
		return archive.WriteHeader(header)
	}
	content, size, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	header.Size = size
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, content)
	return err
}

// WriteFolder writes the tree into a folder, for the builder of a Dockerfile. Owners are set by root only.
func (t Tree) WriteFolder(dir string) error {
	for _, f := range t.Files() {
		if err := f.writeFolder(filepath.Join(dir, filepath.FromSlash(f.Path))); err != nil {
			return fmt.Errorf("folder %s: %w", dir, err)
		}
	}
	return nil
}

func (f File) writeFolder(to string) error {
	switch {
	case f.Mode.IsDir():
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
	case f.Mode&fs.ModeSymlink != 0:
		return os.Symlink(f.Link, to)
	default:
		if err := f.copyTo(to); err != nil {
			return err
		}
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(to, f.UID, f.GID); err != nil {
			return err
		}
	}
	// The umask has no say in it, and a change of owner takes bits away.
	return os.Chmod(to, f.Mode&(fs.ModePerm|fs.ModeSticky|fs.ModeSetuid|fs.ModeSetgid))
}

func (f File) copyTo(to string) error {
	content, _, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, content); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

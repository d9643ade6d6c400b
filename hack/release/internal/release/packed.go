package release

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"flagger.app/flagger/hack/release/internal/rootfs"
)

// writePacked writes a tree as a compressed archive. The same tree and time are the same bytes.
func writePacked(file string, t rootfs.Tree, modified time.Time) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	compressed, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := t.WriteTar(compressed, modified); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := compressed.Close(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return out.Close()
}

// readPacked reads the files of a compressed archive, with what they hold and nothing else.
func readPacked(file string) (rootfs.Tree, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	plain, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	t := rootfs.Tree{}
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", file, header.Name, err)
		}
		t.Add(rootfs.File{Path: header.Name, Mode: 0o644, Content: content})
	}
}

package registry_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A provider stays small enough to be read in one go: what several share stands in packages of its own.
func TestProvidersAreSmall(t *testing.T) {
	const most = 400
	shared := map[string]bool{"..": true, "../conformance": true, "../services": true}
	lines := map[string]int{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		lines[filepath.ToSlash(filepath.Dir(path))] += bytes.Count(raw, []byte("\n"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for folder, n := range lines {
		if !shared[folder] && n > most {
			t.Errorf("%s has %d lines, want %d at most", folder, n, most)
		}
	}
}

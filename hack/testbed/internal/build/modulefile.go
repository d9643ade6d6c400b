package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// ModuleFile takes a file of YAML, for example the CRDs of a project, out of a
// Go module in the version that a small module of its own pins.
type ModuleFile struct {
	// Dir is the folder of the pinning module, with go.mod and go.sum.
	Dir string
	// Module is the module the file is in, File its path there, or a pattern as
	// of filepath.Glob for several files, which become one.
	Module, File string
}

// Key hashes the pinning module's files and the path.
func (m ModuleFile) Key(ctx context.Context) (string, error) {
	key, err := GoModule{Dir: m.Dir, Package: m.Module}.Key(ctx)
	return key + " " + m.File, err
}

// Place is not used, since there is a key.
func (m ModuleFile) Place() string { return m.Dir }

// Build downloads the module and copies the file.
func (m ModuleFile) Build(ctx context.Context, out string, progress Progress) error {
	progress.Phase("is being downloaded")
	printed, err := goOutput(ctx, m.Dir, "mod", "download", "-json", m.Module)
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal([]byte(printed), &module); err != nil {
		return fmt.Errorf("go mod download %s: %w", m.Module, err)
	}
	files, err := filepath.Glob(filepath.Join(module.Dir, m.File))
	if err != nil {
		return fmt.Errorf("module %s: pattern %s: %w", m.Module, m.File, err)
	}
	if len(files) == 0 {
		return fmt.Errorf("module %s has no file %s", m.Module, m.File)
	}
	var documents [][]byte
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("module %s: %w", m.Module, err)
		}
		documents = append(documents, content)
	}
	return os.WriteFile(out, bytes.Join(documents, []byte("\n---\n")), 0o644)
}

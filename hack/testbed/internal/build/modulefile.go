package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ModuleFile takes a file, for example the CRDs of a project, out of a Go
// module in the version that a small module of its own pins.
type ModuleFile struct {
	// Dir is the folder of the pinning module, with go.mod and go.sum.
	Dir string
	// Module is the module the file is in, File its path there.
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
	src, err := os.Open(filepath.Join(module.Dir, m.File))
	if err != nil {
		return fmt.Errorf("module %s: %w", m.Module, err)
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		_ = dst.Close()
		return fmt.Errorf("copy %s: %w", m.File, err)
	}
	return dst.Close()
}

package release

import (
	"fmt"
	"os"
	"path/filepath"

	"flagger.app/flagger/hack/release/internal/sbom"
)

// bill writes what something consists of, beside it.
func (p *Project) bill(out, name string, on platform, s sbom.Subject) error {
	s.Name, s.Version, s.Created = name, p.Version, p.Created
	file, err := os.Create(filepath.Join(out, fmt.Sprintf("%s_%s_%s.cdx.json", name, p.Version, on)))
	if err != nil {
		return err
	}
	if err := sbom.Write(file, s); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

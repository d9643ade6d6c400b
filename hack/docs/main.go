// Command docs writes the reference below docs/reference from what it is about: the fields of the API from the CRDs, and the values of
// the charts from their READMEs. Run it by make generate.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	root := flag.String("root", ".", "Folder of the repository.")
	flag.Parse()
	if err := write(*root); err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

// write brings the pages up to date.
func write(root string) error {
	all, err := render(root)
	if err != nil {
		return err
	}
	for path, text := range all {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// render makes the pages, by their paths in the repository.
func render(root string) (map[string]string, error) {
	api, err := apiPage(filepath.Join(root, "artifacts/flagger/crd.yaml"))
	if err != nil {
		return nil, err
	}
	values, err := valuesPage(filepath.Join(root, "charts"))
	if err != nil {
		return nil, err
	}
	return map[string]string{"docs/reference/api.md": api, "docs/reference/chart-values.md": values}, nil
}

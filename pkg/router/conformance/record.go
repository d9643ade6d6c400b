package conformance

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// Record is what of the kit a provider has passed. It is written next to its golden files, and tables are made of it.
type Record struct {
	// Features are the scenarios of the golden files that were gone through: weights, A/B tests, mirroring and so on.
	Features []string `json:"features"`
	// Cases are those that passed without any schema.
	Cases []string `json:"cases"`
	// Schemas says where the real CRDs come from, and CheckedCases what passed with them. Both are empty without any.
	Schemas      string   `json:"schemas,omitempty"`
	CheckedCases []string `json:"checkedCases,omitempty"`
}

// recordFile is where a Record stands, below the folder of the provider.
const recordFile = "testdata/conformance.yaml"

// ReadRecord reads what a provider has passed, by the folder of its package. It returns nil if the provider has none.
func ReadRecord(folder string) (*Record, error) {
	raw, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(recordFile)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &Record{}
	return r, yaml.UnmarshalStrict(raw, r)
}

// note remembers what has passed in a run of the kit.
func note(list *[]string, name string) {
	if !slices.Contains(*list, name) {
		*list = append(*list, name)
	}
	slices.Sort(*list)
}

// keep compares a record with the file, or writes it. What could not be checked, because there are no CRDs here, stays as it is.
func (r *Record) keep(t *testing.T) {
	old, err := ReadRecord(".")
	if err != nil {
		t.Fatal(err)
	}
	if old != nil && len(r.CheckedCases) == 0 && r.Schemas != "" {
		r.CheckedCases = old.CheckedCases
	}
	if !*update {
		if diff := cmp.Diff(old, r); diff != "" {
			t.Errorf("%s (-want +got):\n%s\nrun this test with -update and review the result", recordFile, diff)
		}
		return
	}
	raw, err := yaml.Marshal(r)
	if err == nil {
		err = os.WriteFile(filepath.FromSlash(recordFile), raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// String is where CRDs come from.
func (c *CRDs) String() string {
	switch {
	case c == nil:
		return ""
	case c.Module == "":
		return c.Origin
	case c.Version == "":
		return c.Module
	default:
		return c.Module + " " + c.Version
	}
}

package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// CRDs says where the project that owns the kinds of a provider publishes their schema.
type CRDs struct {
	// Module is a Go module. Version is empty for a module that this one depends on.
	Module, Version string
	// Origin is the project and its version where it is no Go module that can be had. File is then one in the folder that the
	// environment variable CRDS names.
	Origin string
	// File is the path of a file with CustomResourceDefinitions. More are read along with it.
	File string
	More []string
}

// folder is the environment variable that names a folder with CRDs.
const folder = "FLAGGER_CRDS"

// Schemas admit objects by kind, as the API server does.
type Schemas map[schema.GroupVersionKind]*admission

type admission struct {
	structural *structuralschema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

// LoadSchemas reads the CRDs of a project. The test is skipped when they can't be had, for example offline.
func LoadSchemas(t *testing.T, from CRDs) Schemas {
	t.Helper()
	crds, missing := from.definitions(t)
	if missing != "" {
		t.Skip(missing)
	}
	schemas := Schemas{}
	for _, crd := range crds {
		schemas.add(t, crd)
	}
	return schemas
}

// definitions reads the CRDs, or says why they can't be had.
func (c *CRDs) definitions(t *testing.T) (crds []*apiextensionsv1.CustomResourceDefinition, missing string) {
	t.Helper()
	dir := os.Getenv(folder)
	if c.Module != "" {
		var err error
		if dir, err = moduleDir(t, *c); err != nil {
			return nil, fmt.Sprintf("module %s %s: %v", c.Module, c.Version, err)
		}
	} else if dir == "" {
		return nil, fmt.Sprintf("the CRDs of %s are in no Go module: set %s to a folder that has them in %s", c.Origin, folder, c.File)
	}
	for _, file := range append([]string{c.File}, c.More...) {
		raw, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range bytes.Split(raw, []byte("\n---")) {
			crd := &apiextensionsv1.CustomResourceDefinition{}
			if err := yaml.Unmarshal(document, crd); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			crds = append(crds, crd)
		}
	}
	return crds, ""
}

// add reads the schemas of a definition.
func (s Schemas) add(t *testing.T, crd *apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	for i := range crd.Spec.Versions {
		version := &crd.Spec.Versions[i]
		a, err := newAdmission(version.Schema)
		if err != nil {
			t.Fatalf("%s %s: %v", crd.Name, version.Name, err)
		}
		s[schema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind}] = a
	}
}

// moduleDir asks the go command, which downloads a module that isn't there.
func moduleDir(t *testing.T, from CRDs) (string, error) {
	args := []string{"list", "-m", "-json", from.Module}
	if from.Version != "" {
		args = []string{"mod", "download", "-json", from.Module + "@" + from.Version}
	}
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	if err != nil {
		return "", err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", err
	}
	if module.Dir == "" {
		return "", fmt.Errorf("no directory")
	}
	return module.Dir, nil
}

func newAdmission(v *apiextensionsv1.CustomResourceValidation) (*admission, error) {
	props := &apiextensions.JSONSchemaProps{}
	err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.OpenAPIV3Schema, props, nil)
	if err != nil {
		return nil, err
	}
	structural, err := structuralschema.NewStructural(props)
	if err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(props)
	if err != nil {
		return nil, err
	}
	return &admission{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}, nil
}

// Has is whether there is a schema for a kind.
func (s Schemas) Has(kind schema.GroupVersionKind) bool { return s[kind] != nil }

// Admit validates an object of a kind that has a schema, and refuses fields that it does not know, as kubectl apply does.
func (s Schemas) Admit(o *unstructured.Unstructured) error {
	a, pruned := s[o.GroupVersionKind()], o.DeepCopy()
	unknown := pruning.PruneWithOptions(pruned.Object, a.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return fmt.Errorf("unknown fields %q", unknown)
	}
	return s.admit(pruned)
}

// admit drops unknown fields, fills in defaults and validates. A kind without a schema passes as it is.
func (s Schemas) admit(o *unstructured.Unstructured) error {
	a, ok := s[o.GroupVersionKind()]
	if !ok {
		return nil
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(o.Object, a.structural)
	pruning.Prune(o.Object, a.structural, true)
	defaulting.Default(o.Object, a.structural)
	faults := validation.ValidateCustomResource(nil, o.Object, a.validator)
	if a.rules != nil {
		more, _ := a.rules.Validate(context.Background(), nil, a.structural, o.Object, nil, celconfig.RuntimeCELCostBudget)
		faults = append(faults, more...)
	}
	return faults.ToAggregate()
}

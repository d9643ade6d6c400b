package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The pages are what their sources say.
func TestReferenceIsUpToDate(t *testing.T) {
	const root = "../.."
	all, err := render(root)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range all {
		if got, err := os.ReadFile(filepath.Join(root, path)); err != nil || string(got) != want {
			t.Errorf("%s is not what its source says (%v): run go run ./hack/docs", path, err)
		}
	}
}

func TestAPI(t *testing.T) {
	file := filepath.Join(t.TempDir(), "crd.yaml")
	const crd = `
spec:
  group: example.com
  names: {kind: Thing}
  versions:
  - {name: v0, storage: false, schema: {openAPIV3Schema: {properties: {spec: {properties: {former: {type: string}}}}}}}
  - name: v1
    storage: true
    schema:
      openAPIV3Schema:
        description: A thing.
        properties:
          spec:
            required: [name]
            x-kubernetes-validations: [{rule: "true", message: be good}]
            properties:
              name: {type: string, description: "Either a|b or\n<none>.", enum: ["", a, b], default: a}
              parts: {type: array, items: {type: object, properties: {size: {type: integer, minimum: 1, maximum: 9}}}}
              labels: {type: object, additionalProperties: {type: string}}
`
	if err := os.WriteFile(file, []byte(crd), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := apiPage(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\n## Thing\n\n`apiVersion: example.com/v1`, `kind: Thing`. A thing.\n",
		"| **`name`** | string | Either a\\|b or &lt;none>. One of `a`, `b`. Default: `a`. |\n",
		"| `labels` | map of string |  |\n", "| `parts` | list of object |  |\n", "\nRules:\n\n* be good\n",
		"\n### Thing spec.parts[]\n\n| Field | Type | |\n| --- | --- | --- |\n| `size` | integer | From 1 to 9. |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page has not %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "former") {
		t.Error("the page has a version that is not stored")
	}
}

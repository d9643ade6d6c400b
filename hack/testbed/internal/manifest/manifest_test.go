package manifest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestParse(t *testing.T) {
	objects, err := Parse([]byte(`# a comment alone
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: x}
data: {text: "--- not a separator"}
---

---
apiVersion: v1
kind: Namespace
metadata: {name: b}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName())
	}
	if diff := cmp.Diff([]string{"ConfigMap x/a", "Namespace /b"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseErrorNamesTheDocument(t *testing.T) {
	_, err := Parse([]byte("kind: A\n---\nkind: [\n"))
	if err == nil || !strings.Contains(err.Error(), "document 2") {
		t.Errorf("error %v, want it to name document 2", err)
	}
}

func TestHasCondition(t *testing.T) {
	object := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": []any{
		map[string]any{"type": "NamesAccepted", "status": "True"},
		map[string]any{"type": "Established", "status": "False"},
	}}}}
	if hasCondition(object, "Established") || !hasCondition(object, "NamesAccepted") || hasCondition(object, "Other") {
		t.Error("want the condition with status True, and no other")
	}
}

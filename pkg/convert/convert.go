// Package convert turns a Rollout, the first form of a Canary, into one of today. It does no I/O.
//
// A Rollout (apps.weave.works/v1beta1) is about a primary and a canary that the user made, each with a Service, and about a
// VirtualService with both of them. That is a Canary with primaryRef and routeRef.
package convert

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// Options are what a Rollout does not say.
type Options struct {
	// Name stands for the input in messages, such as the name of a file.
	Name string
	// Port is that of the Services, 1 to 65535. Default, 0: what the VirtualService or a Service of the input says.
	Port int32
}

// Result is the outcome of a conversion.
type Result struct {
	// Canaries is a stream of YAML documents, one for each Rollout. Comments above each say what has no equivalent.
	Canaries []byte
	// Notes say what was done with the documents that are no Rollouts.
	Notes []string
}

// Convert reads a stream of YAML or JSON documents. An error names the document and the field, and says what to do.
func Convert(input []byte, options Options) (Result, error) {
	documents, err := parse(input, options.Name)
	if err != nil {
		return Result{}, err
	}
	var result Result
	var out bytes.Buffer
	for i := range documents {
		d := &documents[i]
		if !d.isRollout() {
			result.Notes = append(result.Notes, fmt.Sprintf("%s: %s %s is left as it is", d.place, d.GetKind(), d.GetName()))
			continue
		}
		text, err := render(d, documents, options)
		if err != nil {
			return Result{}, err
		}
		if out.Len() > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	if out.Len() == 0 {
		return Result{}, fmt.Errorf("%s: there is no Rollout of %s in it: name a file that has one", options.Name, rolloutGroup)
	}
	result.Canaries = out.Bytes()
	return result, nil
}

const (
	rolloutGroup = "apps.weave.works"
	istioGroup   = "networking.istio.io"
)

// document is one object of the input.
type document struct {
	unstructured.Unstructured
	// place names it in messages.
	place string
}

func (d *document) isOf(group, kind string) bool {
	return d.GetKind() == kind && d.GroupVersionKind().Group == group
}

func (d *document) isRollout() bool { return d.isOf(rolloutGroup, "Rollout") }

// inNamespaceOf is whether a document is in the namespace of another, as far as the two say.
func (d *document) inNamespaceOf(other *document) bool {
	return d.GetNamespace() == other.GetNamespace() || d.GetNamespace() == "" || other.GetNamespace() == ""
}

// fault is an error about a field of a document.
func (d *document) fault(field, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %s", d.place, field, fmt.Sprintf(format, args...))
}

// parse splits the input. Documents without content, such as comments alone, are left out but counted.
func parse(input []byte, name string) ([]document, error) {
	reader := yaml.NewYAMLReader(newLines(input))
	var documents []document
	for n := 1; ; n++ {
		raw, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		d := document{place: fmt.Sprintf("%s: document %d", name, n)}
		if err := sigsyaml.UnmarshalStrict(raw, &d.Object); err != nil {
			return nil, fmt.Errorf("%s is not readable: %w: correct it", d.place, err)
		}
		if d.Object == nil {
			continue
		}
		if kind, _ := d.Object["kind"].(string); kind == "" {
			return nil, d.fault("kind", "is missing: every document has to be a Kubernetes object")
		}
		d.place += fmt.Sprintf(" (%s %s)", d.GetKind(), d.GetName())
		documents = append(documents, d)
	}
}

// render prints the Canary of a Rollout, with comments above it.
func render(d *document, all []document, options Options) ([]byte, error) {
	c := &conversion{document: d, all: all, options: options}
	canary, err := c.canary()
	if err != nil {
		return nil, err
	}
	for _, fault := range v1beta1.Validate(canary, v1beta1.ValidationOptions{}) {
		return nil, d.fault(fault.Field, "the Canary would not work: %s", fault.ErrorBody())
	}
	raw, err := sigsyaml.Marshal(canary)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.place, err)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Converted from %s.\n", strings.TrimPrefix(d.place, options.Name+": "))
	for _, note := range c.notes {
		fmt.Fprintf(&out, "# %s\n", note)
	}
	out.Write(raw)
	return out.Bytes(), nil
}

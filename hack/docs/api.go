package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const apiHead = `# Fields of the API

<!-- Generated from the CRDs by go run ./hack/docs. Do not edit. -->

` + "`kubectl explain canary.spec --recursive`" + ` says the same of what is installed. A field in **bold** is required. Where a section has rules,
the API server refuses what breaks one, with this message.
`

// apiPage describes all kinds in a file of CRDs, in the version that is stored.
func apiPage(file string) (string, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var page strings.Builder
	page.WriteString(apiHead)
	for _, document := range bytes.Split(raw, []byte("\n---\n")) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(document, crd); err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		for i := range crd.Spec.Versions {
			if version := &crd.Spec.Versions[i]; version.Storage {
				describeKind(&page, crd, version)
			}
		}
	}
	return page.String(), nil
}

func describeKind(page *strings.Builder, crd *apiextensionsv1.CustomResourceDefinition, version *apiextensionsv1.CustomResourceDefinitionVersion) {
	schema := version.Schema.OpenAPIV3Schema
	kind := crd.Spec.Names.Kind
	fmt.Fprintf(page, "\n## %s\n\n`apiVersion: %s/%s`, `kind: %s`. %s\n", kind, crd.Spec.Group, version.Name, kind, oneLine(schema.Description))
	for _, part := range []string{"spec", "status"} {
		if property, ok := schema.Properties[part]; ok {
			describe(page, kind, part, &property)
		}
	}
}

// describe writes the section of an object, and those of the objects in it.
func describe(page *strings.Builder, kind, path string, schema *apiextensionsv1.JSONSchemaProps) {
	fmt.Fprintf(page, "\n### %s %s\n", kind, path)
	if text := oneLine(schema.Description); text != "" {
		fmt.Fprintf(page, "\n%s\n", text)
	}
	page.WriteString("\n| Field | Type | |\n| --- | --- | --- |\n")
	names := slices.Sorted(maps.Keys(schema.Properties))
	for _, name := range names {
		property := schema.Properties[name]
		label := "`" + name + "`"
		if slices.Contains(schema.Required, name) {
			label = "**" + label + "**"
		}
		fmt.Fprintf(page, "| %s | %s | %s |\n", label, typeOf(&property), cell(description(&property)))
	}
	if len(schema.XValidations) > 0 {
		page.WriteString("\nRules:\n\n")
		for _, rule := range schema.XValidations {
			fmt.Fprintf(page, "* %s\n", oneLine(rule.Message))
		}
	}
	for _, name := range names {
		property := schema.Properties[name]
		if name == "canaryAnalysis" {
			// It has the fields of analysis.
			continue
		}
		if object, suffix := objectIn(&property); object != nil {
			describe(page, kind, path+"."+name+suffix, object)
		}
	}
}

// objectIn is the object that a field is, or that a list or a map in it is of, nil if there is none with fields of its own.
func objectIn(schema *apiextensionsv1.JSONSchemaProps) (object *apiextensionsv1.JSONSchemaProps, suffix string) {
	switch {
	case len(schema.Properties) > 0:
		return schema, ""
	case schema.Items != nil && schema.Items.Schema != nil:
		object, suffix = objectIn(schema.Items.Schema)
		return object, "[]" + suffix
	case schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil:
		object, suffix = objectIn(schema.AdditionalProperties.Schema)
		return object, ".*" + suffix
	default:
		return nil, ""
	}
}

func typeOf(schema *apiextensionsv1.JSONSchemaProps) string {
	switch {
	case schema.XIntOrString:
		return "integer or string"
	case schema.Items != nil && schema.Items.Schema != nil:
		return "list of " + typeOf(schema.Items.Schema)
	case schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil:
		return "map of " + typeOf(schema.AdditionalProperties.Schema)
	case schema.Format == "date-time":
		return "time"
	default:
		return schema.Type
	}
}

// description is what the field means, and what values it may have.
func description(schema *apiextensionsv1.JSONSchemaProps) string {
	parts := []string{oneLine(schema.Description)}
	var values []string
	for _, value := range schema.Enum {
		if text := strings.Trim(string(value.Raw), `"`); text != "" {
			values = append(values, "`"+text+"`")
		}
	}
	if len(values) > 0 {
		parts = append(parts, "One of "+strings.Join(values, ", ")+".")
	}
	if schema.Default != nil {
		parts = append(parts, "Default: `"+strings.Trim(string(schema.Default.Raw), `"`)+"`.")
	}
	number := func(v *float64) string { return strconv.FormatFloat(*v, 'f', -1, 64) }
	switch least, most := schema.Minimum, schema.Maximum; {
	case least != nil && most != nil:
		parts = append(parts, "From "+number(least)+" to "+number(most)+".")
	case least != nil:
		parts = append(parts, "At least "+number(least)+".")
	case most != nil:
		parts = append(parts, "At most "+number(most)+".")
	}
	for _, rule := range schema.XValidations {
		if len(schema.Properties) == 0 {
			parts = append(parts, "Rule: "+oneLine(rule.Message)+".")
		}
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}

func oneLine(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "<", "&lt;")
}

// cell keeps a text from ending its cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

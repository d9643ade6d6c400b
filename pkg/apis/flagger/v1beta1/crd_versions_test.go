package v1beta1_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
)

// The API server converts nothing between the versions, so what one of them does not know is lost in a write through it,
// and what one of them refuses can't be written any more through it, not even the status.
func TestVersionsOfCanaryAreTheSame(t *testing.T) {
	crd := readCRDs(t, crdFile)["Canary"]
	if crd.Spec.Conversion != nil && crd.Spec.Conversion.Strategy != apiextensionsv1.NoneConverter {
		t.Errorf("conversion is %s", crd.Spec.Conversion.Strategy)
	}
	first := crd.Spec.Versions[0]
	for _, other := range crd.Spec.Versions[1:] {
		if diff := cmp.Diff(first.Schema.OpenAPIV3Schema, other.Schema.OpenAPIV3Schema,
			cmpopts.IgnoreFields(apiextensionsv1.JSONSchemaProps{}, "Description")); diff != "" {
			t.Errorf("-%s +%s:\n%s", first.Name, other.Name, diff)
		}
	}
}

// kubectl apply keeps the manifest in an annotation, and all annotations of an object together have at most 256 KiB.
func TestCRDsFitAnnotation(t *testing.T) {
	const limit = 256 << 10
	for kind, crd := range readCRDs(t, crdFile) {
		data, err := json.Marshal(crd)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > limit*9/10 {
			t.Errorf("CRD of %s has %d bytes, too near to %d", kind, len(data), limit)
		}
	}
}

const canaryOf2019 = `
apiVersion: flagger.app/v1alpha3
kind: Canary
metadata: {name: podinfo, namespace: test}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  autoscalerRef: {apiVersion: autoscaling/v2beta1, kind: HorizontalPodAutoscaler, name: podinfo}
  service: {port: 9898}
  canaryAnalysis:
    interval: 1m
    threshold: 5
    maxWeight: 50
    stepWeight: 10
    metrics:
    - {name: istio_requests_total, threshold: 99, interval: 30s}
    - {name: istio_request_duration_seconds_bucket, threshold: 500.5, interval: 30s}
    webhooks:
    - {name: load-test, url: "http://flagger-loadtester.flagger/", timeout: 5s, metadata: {cmd: "hey -z 1m"}}
`

func TestCanaryOf2019KeepsItsFields(t *testing.T) {
	obj, want := decode(t, canaryOf2019), decode(t, canaryOf2019)
	// Written by the user, read and written by the operator, read by the user.
	for _, version := range []string{"v1alpha3", "v1beta1", "v1alpha3"} {
		obj["apiVersion"] = "flagger.app/" + version
		checkErrors(t, newAdmissions(t, version)["Canary"].create(t, obj), "")
	}
	if diff := cmp.Diff(want, obj); diff != "" {
		t.Errorf("-applied +read:\n%s", diff)
	}
}

func TestCanaryOf2019Admission(t *testing.T) {
	metric := func(with object) object { return object{"spec.canaryAnalysis.metrics": list{with}} }
	tests := map[string]struct {
		change object
		want   string
	}{
		"unchanged":            {object{}, ""},
		"analysis missing":     {object{"spec.canaryAnalysis": nil}, "analysis is missing"},
		"analysis skipped":     {object{"spec.canaryAnalysis": nil, "spec.skipAnalysis": true}, ""},
		"new name of analysis": {object{"spec.canaryAnalysis": nil, "spec.analysis": object{"interval": "1m", "threshold": int64(5), "iterations": int64(5)}}, ""},
		"interval":             {object{"spec.canaryAnalysis.interval": "1min"}, "spec.canaryAnalysis.interval: Invalid value"},
		"new metric":           {metric(object{"name": "request-duration", "thresholdRange": object{"max": int64(500)}}), ""},
		"query":                {metric(object{"name": "404s percentage", "query": "vector(1)", "threshold": 0.5}), ""},
		"unknown metric":       {metric(object{"name": "errors", "threshold": int64(5)}), "no usable metrics template and query were configured"},
		"provider":             {object{"spec.provider": "istoi"}, "spec.provider: Unsupported value"},
	}
	canary := newAdmissions(t, "v1alpha3")["Canary"]
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			checkErrors(t, canary.create(t, change(decode(t, canaryOf2019), test.change)), test.want)
		})
	}
}

// kubectl apply refuses a manifest with a field that the schema does not know, and a client that does not ask for that loses
// the field: the manifests that users have must have no such field, in either version.
func TestManifestsHaveNoUnknownField(t *testing.T) {
	files, err := filepath.Glob("testdata/accept/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, version := range []string{"v1beta1", "v1alpha3"} {
		admissions := newAdmissions(t, version)
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, document := range strings.Split(string(data), "\n---\n") {
				obj := decode(t, document)
				kind, _ := obj["kind"].(string)
				if kind != "Canary" && version != "v1beta1" {
					continue
				}
				unknown := pruning.PruneWithOptions(obj, admissions[kind].schema, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
				if len(unknown) > 0 {
					t.Errorf("%s, %s %v as %s: unknown fields %q", file, kind, obj["metadata"].(map[string]any)["name"], version, unknown)
				}
			}
		}
	}
}

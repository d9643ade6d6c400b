package v1beta1_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	flaggerv1 "flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

const crdFile = "../../../../artifacts/flagger/crd.yaml"

// admission does to an object what the API server does on create: drop nulls and unknown fields,
// set defaults, validate.
type admission struct {
	schema    *structuralschema.Structural
	validator validation.SchemaValidator
	cel       *cel.Validator
}

func readCRDs(t *testing.T, file string) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	data, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	crds := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, doc := range bytes.Split(data, []byte("\n---\n")) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(doc, crd); err != nil {
			t.Fatal(err)
		}
		crds[crd.Spec.Names.Kind] = crd
	}
	return crds
}

func internalCRD(t *testing.T, crd *apiextensionsv1.CustomResourceDefinition) *apiextensions.CustomResourceDefinition {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	crd = crd.DeepCopy()
	scheme.Default(crd)
	apiextensionsv1.SetObjectDefaults_CustomResourceDefinition(crd)
	internal := &apiextensions.CustomResourceDefinition{}
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(crd, internal, nil); err != nil {
		t.Fatal(err)
	}
	internal.Status.StoredVersions = []string{"v1beta1"}
	return internal
}

// newAdmissions returns one for each kind that has the version.
func newAdmissions(t *testing.T, version string) map[string]*admission {
	t.Helper()
	admissions := map[string]*admission{}
	for kind, crd := range readCRDs(t, crdFile) {
		for _, v := range crd.Spec.Versions {
			if v.Name == version {
				admissions[kind] = newAdmission(t, v.Schema.OpenAPIV3Schema)
			}
		}
	}
	return admissions
}

func newAdmission(t *testing.T, props *apiextensionsv1.JSONSchemaProps) *admission {
	t.Helper()
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(props, internal, nil); err != nil {
		t.Fatal(err)
	}
	schema, err := structuralschema.NewStructural(internal)
	if err != nil {
		t.Fatal(err)
	}
	validator, _, err := validation.NewSchemaValidator(internal)
	if err != nil {
		t.Fatal(err)
	}
	return &admission{schema, validator, cel.NewValidator(schema, true, celconfig.PerCallLimit)}
}

func decode(t *testing.T, manifest string) map[string]any {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	obj := map[string]any{}
	if err := utiljson.Unmarshal(data, &obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

func (a *admission) create(t *testing.T, obj map[string]any) field.ErrorList {
	t.Helper()
	defaulting.PruneNonNullableNullsWithoutDefaults(obj, a.schema)
	pruning.Prune(obj, a.schema, true)
	defaulting.Default(obj, a.schema)
	errs := validation.ValidateCustomResource(nil, obj, a.validator)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, a.schema, obj)...)
	if a.cel == nil {
		return errs
	}
	celErrs, _ := a.cel.Validate(t.Context(), nil, a.schema, obj, nil, celconfig.RuntimeCELCostBudget)
	return append(errs, celErrs...)
}

// The API server checks schema, rules and their estimated cost when a CRD is applied.
func TestCRDsAreAcceptedByAPIServer(t *testing.T) {
	for kind, crd := range readCRDs(t, crdFile) {
		errs := crdvalidation.ValidateCustomResourceDefinition(t.Context(), internalCRD(t, crd))
		for _, err := range errs {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestCRDFilesAreTheSame(t *testing.T) {
	want, err := os.ReadFile(crdFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"charts/flagger/crds/crd.yaml", "kustomize/base/flagger/crd.yaml"} {
		got, err := os.ReadFile("../../../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s differs from %s:\n%s", file, crdFile, diff)
		}
	}
}

func TestCRDSurface(t *testing.T) {
	type column struct {
		Name, Type, Path string
		Priority         int32
	}
	want := map[string][]column{
		"Canary/v1alpha3": {
			{"Status", "string", ".status.phase", 0},
			{"Weight", "string", ".status.canaryWeight", 0},
			{"LastTransitionTime", "string", ".status.lastTransitionTime", 0},
		},
		"Canary/v1beta1": {
			{"Status", "string", ".status.phase", 0},
			{"Weight", "string", ".status.canaryWeight", 0},
			{"Suspended", "boolean", ".spec.suspend", 1},
			{"FailedChecks", "string", ".status.failedChecks", 1},
			{"Interval", "string", ".spec.analysis.interval", 1},
			{"Mirror", "boolean", ".spec.analysis.mirror", 1},
			{"StepWeight", "string", ".spec.analysis.stepWeight", 1},
			{"StepWeights", "string", ".spec.analysis.stepWeights", 1},
			{"MaxWeight", "string", ".spec.analysis.maxWeight", 1},
			{"LastTransitionTime", "string", ".status.lastTransitionTime", 0},
		},
		"MetricTemplate/v1beta1": {{"Provider", "string", ".spec.provider.type", 0}},
		"AlertProvider/v1beta1":  {{"Type", "string", ".spec.type", 0}},
	}
	crds := readCRDs(t, crdFile)
	got := map[string][]column{}
	for kind, crd := range crds {
		for _, version := range crd.Spec.Versions {
			id := kind + "/" + version.Name
			for _, c := range version.AdditionalPrinterColumns {
				got[id] = append(got[id], column{c.Name, c.Type, c.JSONPath, c.Priority})
			}
			if version.Subresources == nil || version.Subresources.Status == nil {
				t.Errorf("%s: no status subresource", id)
			}
			if !version.Served || version.Storage != (version.Name == "v1beta1") {
				t.Errorf("%s: served %v, stored %v", id, version.Served, version.Storage)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	for kind, crd := range crds {
		plural := strings.ToLower(kind) + "s"
		if kind == "Canary" {
			plural = "canaries"
		}
		names := apiextensionsv1.CustomResourceDefinitionNames{
			Kind: kind, ListKind: kind + "List", Plural: plural, Singular: strings.ToLower(kind), Categories: []string{"all"},
		}
		if diff := cmp.Diff(names, crd.Spec.Names); diff != "" {
			t.Errorf("%s: names (-want +got):\n%s", kind, diff)
		}
		if crd.Annotations["helm.sh/resource-policy"] != "keep" {
			t.Errorf("%s: helm would delete the CRD, and all objects, on uninstall", kind)
		}
	}
}

// Everything in kubectl explain has a text.
func TestCRDFieldsAreDescribed(t *testing.T) {
	for kind, crd := range readCRDs(t, crdFile) {
		for _, version := range crd.Spec.Versions {
			for _, part := range []string{"spec", "status"} {
				checkDescribed(t, kind+"/"+version.Name+"."+part, version.Schema.OpenAPIV3Schema.Properties[part])
			}
		}
	}
}

func checkDescribed(t *testing.T, path string, props apiextensionsv1.JSONSchemaProps) {
	if props.Description == "" {
		t.Errorf("%s has no description", path)
	}
	nested := props.Properties
	if props.Items != nil {
		nested = props.Items.Schema.Properties
	}
	if props.AdditionalProperties != nil {
		nested = props.AdditionalProperties.Schema.Properties
	}
	for name, field := range nested {
		checkDescribed(t, path+"."+name, field)
	}
}

func TestAdmissionAccepts(t *testing.T) {
	admissions := map[string]map[string]*admission{}
	for _, version := range []string{"v1beta1", "v1alpha3"} {
		admissions["flagger.app/"+version] = newAdmissions(t, version)
	}
	files, err := filepath.Glob("testdata/accept/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range strings.Split(string(data), "\n---\n") {
			obj := decode(t, doc)
			version, _ := obj["apiVersion"].(string)
			kind, _ := obj["kind"].(string)
			name, _ := obj["metadata"].(map[string]any)["name"].(string)
			t.Run(filepath.Base(file)+"/"+name, func(t *testing.T) {
				for _, err := range admissions[version][kind].create(t, obj) {
					t.Error(err)
				}
				roundTrip(t, kind, obj)
			})
		}
	}
}

// What the API server stores must come back the same through the Go types, or a write of the
// operator would lose or add fields of the user.
func roundTrip(t *testing.T, kind string, obj map[string]any) {
	t.Helper()
	types := map[string]any{
		"Canary": &flaggerv1.Canary{}, "MetricTemplate": &flaggerv1.MetricTemplate{}, "AlertProvider": &flaggerv1.AlertProvider{},
	}
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(types[kind]); err != nil {
		t.Fatal(err)
	}
	data, err = json.Marshal(types[kind])
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	if err := utiljson.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(withoutZeros(obj), withoutZeros(got)); diff != "" {
		t.Errorf("spec after a round trip through Go (-stored +written):\n%s", diff)
	}
}

// withoutZeros drops what means the same present or absent, and makes all numbers float64.
func withoutZeros(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			if value := withoutZeros(value); value != nil {
				out[key] = value
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, item := range v {
			out = append(out, withoutZeros(item))
		}
		return out
	case int64:
		return withoutZeros(float64(v))
	case float64:
		if v == 0 {
			return nil
		}
	case string:
		if v == "" {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
}

const minimalCanary = `
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: podinfo, namespace: test}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  service: {port: 9898}
  analysis: {interval: 1m, threshold: 5, stepWeight: 10}
`

// set returns the minimal Canary with changes.
func set(t *testing.T, changes map[string]any) map[string]any {
	t.Helper()
	return change(decode(t, minimalCanary), changes)
}

// change sets values at dotted paths; a nil value removes the field.
func change(obj, changes map[string]any) map[string]any {
	for path, value := range changes {
		parts := strings.Split(path, ".")
		at := obj
		for _, part := range parts[:len(parts)-1] {
			next, ok := at[part].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[part] = next
			}
			at = next
		}
		if last := parts[len(parts)-1]; value == nil {
			delete(at, last)
		} else {
			at[last] = value
		}
	}
	return obj
}

type (
	object = map[string]any
	list   = []any
)

func strategy(with object) object {
	analysis := object{"interval": "1m", "threshold": int64(5)}
	for key, value := range with {
		analysis[key] = value
	}
	return object{"spec.analysis": analysis}
}

func TestCanaryAdmission(t *testing.T) {
	knative := object{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "podinfo"}
	tests := map[string]struct {
		change object
		want   string // part of the error; empty means accepted
	}{
		"minimal":                      {object{}, ""},
		"analysis missing":             {object{"spec.analysis": nil}, "analysis is missing: describe it in spec.analysis"},
		"analysis missing and skipped": {object{"spec.analysis": nil, "spec.skipAnalysis": true}, ""},
		"old name of analysis":         {object{"spec.analysis": nil, "spec.canaryAnalysis": object{"interval": "1m", "threshold": int64(5), "stepWeight": int64(5)}}, ""},
		"24 mirror without a backend":  {object{"spec.service.mirror": list{object{}}}, "spec.service.mirror[0].backendRef: Required value"},
		"target missing":               {object{"spec.targetRef": nil}, "spec.targetRef: Required value"},
		"target kind":                  {object{"spec.targetRef.kind": "StatefulSet"}, "targetRef.kind must be DaemonSet, Deployment or Service"},
		"daemonset":                    {object{"spec.targetRef.kind": "DaemonSet"}, ""},
		"schedule": {object{"spec.analysis.schedule": object{
			"windows": list{"Mon-Thu 09:00-16:30", "Fri", "Sat,Sun", "Mon,Wed-Thu 00:00-24:00", "22:00-04:00"}, "timeZone": "Europe/Berlin",
			"freezes": list{"2026-12-24", "2026-12-19/2027-01-03", "2026-12-19T18:00/2027-01-04T08:00"}, "underWay": "Hold"}}, ""},
		"schedule with hours alone":    {object{"spec.analysis.schedule": object{"windows": list{"Mon 9-17"}}}, "spec.analysis.schedule.windows[0]: Invalid value"},
		"schedule with a long day":     {object{"spec.analysis.schedule": object{"windows": list{"Monday 09:00-17:00"}}}, "spec.analysis.schedule.windows[0]: Invalid value"},
		"schedule with an empty entry": {object{"spec.analysis.schedule": object{"windows": list{""}}}, "spec.analysis.schedule.windows[0]: Invalid value"},
		"schedule with no date":        {object{"spec.analysis.schedule": object{"freezes": list{"tomorrow"}}}, "spec.analysis.schedule.freezes[0]: Invalid value"},
		"schedule with another end":    {object{"spec.analysis.schedule": object{"underWay": "Stop"}}, "spec.analysis.schedule.underWay: Unsupported value"},
		"depends on others":            {object{"spec.dependsOn": object{"canaries": list{object{"name": "api"}, object{"name": "a", "namespace": "b"}}, "deadline": "1h30m"}}, ""},
		"depends on nobody":            {object{"spec.dependsOn": object{"canaries": list{}}}, "spec.dependsOn.canaries: Invalid value"},
		"depends on no duration":       {object{"spec.dependsOn": object{"canaries": list{object{"name": "api"}}, "deadline": "soon"}}, "spec.dependsOn.deadline: Invalid value"},
		"depends with another end":     {object{"spec.dependsOn": object{"canaries": list{object{"name": "api"}}, "atDeadline": "Wait"}}, "spec.dependsOn.atDeadline: Unsupported value"},
		"unknown provider":             {object{"spec.provider": "consul"}, "spec.provider: Unsupported value"},
		"every number as float":        {object{"spec.analysis.threshold": 5.0, "spec.service.port": 80.0}, ""},
		"A-10 beyond int32":            {object{"spec.analysis.threshold": int64(3e9)}, "format int32 in spec.analysis.threshold"},
		"A-10 port with a fraction":    {object{"spec.service.port": 80.5}, "spec.service.port: Invalid value"},
		"A-10 fraction":                {object{"spec.analysis.threshold": 5.5}, "spec.analysis.threshold: Invalid value"},
		"zeros":                        {object{"spec.analysis.threshold": int64(0), "spec.analysis.maxWeight": int64(0), "spec.analysis.stepWeight": int64(0), "spec.analysis.stepWeightPromotion": int64(0), "spec.service.targetPort": int64(0)}, ""},
		"threshold missing":            {object{"spec.analysis.threshold": nil}, "spec.analysis.threshold: Required value"},
		"interval missing":             {object{"spec.analysis.interval": nil}, "spec.analysis.interval: Required value"},
		"B-30 interval in hours":       {object{"spec.analysis.interval": "1h"}, ""},
		"B-30 interval of two units":   {object{"spec.analysis.interval": "1m30s"}, ""},
		"B-30 interval with a tail":    {object{"spec.analysis.interval": "1mfoo"}, "spec.analysis.interval: Invalid value"},
		"interval without a unit":      {object{"spec.analysis.interval": "60"}, "spec.analysis.interval: Invalid value"},
		"weight over 100":              {object{"spec.analysis.maxWeight": int64(101)}, "spec.analysis.maxWeight: Invalid value"},

		"iterations":                   {strategy(object{"iterations": int64(10)}), ""},
		"a/b":                          {strategy(object{"iterations": int64(10), "match": list{object{"headers": object{"x-canary": object{"exact": "insider"}}}}}), ""},
		"a/b by suffix":                {strategy(object{"iterations": int64(10), "match": list{object{"headers": object{"x-canary": object{"suffix": "er"}}}}}), ""},
		"two string matches":           {strategy(object{"iterations": int64(10), "match": list{object{"headers": object{"x-canary": object{"exact": "a", "regex": "b"}}}}}), "set only one of exact, prefix, suffix and regex"},
		"no strategy":                  {strategy(object{}), "set exactly one of iterations"},
		"iterations and stepWeight":    {strategy(object{"iterations": int64(10), "stepWeight": int64(10)}), "set exactly one of iterations"},
		"stepWeight and stepWeights":   {strategy(object{"stepWeight": int64(10), "stepWeights": list{int64(10)}}), "set exactly one of iterations"},
		"stepWeights":                  {strategy(object{"stepWeights": list{int64(1), int64(2), int64(10), int64(80)}}), ""},
		"stepWeights resting at last":  {strategy(object{"stepWeights": list{int64(10), int64(50), int64(50)}}), ""},
		"stepWeights that stall":       {strategy(object{"stepWeights": list{int64(10), int64(10), int64(50)}}), "stepWeights must be ascending"},
		"stepWeights descending":       {strategy(object{"stepWeights": list{int64(50), int64(10)}}), "stepWeights must be ascending"},
		"stepWeights over 100":         {strategy(object{"stepWeights": list{int64(50), int64(110)}}), "spec.analysis.stepWeights[1]: Invalid value"},
		"stepWeights with max ignored": {strategy(object{"stepWeights": list{int64(50)}, "maxWeight": int64(10)}), ""},

		"knative":                  {object{"spec.provider": "knative", "spec.targetRef": knative, "spec.service": nil}, ""},
		"knative by flag":          {object{"spec.targetRef": knative, "spec.service": nil}, ""},
		"knative target elsewhere": {object{"spec.provider": "istio", "spec.targetRef": knative}, "can't use istio provider with Knative Service as target"},
		"knative provider":         {object{"spec.provider": "knative"}, "can't use apps/v1/Deployment as target if provider is set to knative"},
		"knative with autoscaler": {object{"spec.provider": "knative", "spec.targetRef": knative,
			"spec.autoscalerRef": object{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "podinfo"}}, "can't use autoscaler with Knative Service"},

		"same cookie": {object{"spec.analysis.sessionAffinity": object{"cookieName": "c", "primaryCookieName": "c"}}, "can't use the same cookie name for both primary and cookie name; please update them to be different"},
		"no cookie":   {object{"spec.analysis.sessionAffinity": object{"cookieName": ""}}, "can't use the same cookie name"},
		"two cookies": {object{"spec.analysis.sessionAffinity": object{"cookieName": "c", "primaryCookieName": "p"}}, ""},

		"service missing":        {object{"spec.service": nil}, "spec.service.port is missing"},
		"port missing":           {object{"spec.service.port": nil, "spec.service.name": "x"}, "spec.service.port: Required value"},
		"port 0":                 {object{"spec.service.port": int64(0)}, "spec.service.port: Invalid value"},
		"B-27 long target":       {object{"spec.targetRef.name": strings.Repeat("a", 56)}, "set a shorter spec.service.name"},
		"B-27 longest target":    {object{"spec.targetRef.name": strings.Repeat("a", 55)}, ""},
		"B-27 long, but renamed": {object{"spec.targetRef.name": strings.Repeat("a", 56), "spec.service.name": "a"}, ""},
		"B-27 no DNS label":      {object{"spec.targetRef.name": "podinfo.v2"}, "must be a DNS label of at most 55 characters"},

		"nginx without ingress": {object{"spec.provider": "nginx"}, "this provider needs spec.ingressRef"},
		"nginx":                 {object{"spec.provider": "nginx", "spec.ingressRef": object{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "podinfo"}}, ""},
		"ingress kind":          {object{"spec.ingressRef": object{"apiVersion": "v1", "kind": "Service", "name": "podinfo"}}, "ingressRef.kind must be Ingress or IngressRoute"},
		"header beside weights": {object{"spec.analysis.canaryMatch": list{object{"headers": object{"x-insider": object{"exact": "yes"}}}}}, ""},
		"header beside match": {object{
			"spec.analysis.canaryMatch": list{object{"headers": object{"x-insider": object{"exact": "yes"}}}},
			"spec.analysis.match":       list{object{"headers": object{"x-other": object{"exact": "yes"}}}},
		}, "canaryMatch goes with stepWeight or stepWeights, and without match"},
		"ingress route":           {object{"spec.provider": "traefik", "spec.ingressRef": object{"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "name": "podinfo"}}, ""},
		"ingress route, nginx":    {object{"spec.provider": "nginx", "spec.ingressRef": object{"apiVersion": "traefik.io/v1alpha1", "kind": "IngressRoute", "name": "podinfo"}}, "reads no IngressRoute"},
		"apisix without route":    {object{"spec.provider": "apisix"}, "provider apisix needs spec.routeRef"},
		"route kind":              {object{"spec.routeRef": object{"apiVersion": "v2", "kind": "TLSRoute", "name": "podinfo"}}, "routeRef.kind must be ApisixRoute, HTTPRoute or VirtualService"},
		"upstream kind":           {object{"spec.upstreamRef": object{"name": "podinfo"}}, "upstreamRef needs apiVersion and kind: Upstream"},
		"appmesh without mesh":    {object{"spec.provider": "appmesh"}, "provider appmesh needs spec.service.meshName"},
		"gateway api without ref": {object{"spec.provider": "gatewayapi:v1"}, "this provider needs spec.service.gatewayRefs"},
		"gateway api, no version": {object{"spec.provider": "gatewayapi"}, "this provider needs spec.service.gatewayRefs"},
		"external":                {object{"spec.provider": "external"}, ""},
		"gateway api":             {object{"spec.provider": "gatewayapi:v1", "spec.service.gatewayRefs": list{object{"name": "gw"}}}, ""},
		"delegation with hosts":   {object{"spec.provider": "istio", "spec.service.delegation": true, "spec.service.hosts": list{"a"}}, "a VirtualService with delegation has neither hosts nor gateways"},
		"delegation":              {object{"spec.provider": "istio", "spec.service.delegation": true}, ""},
		"mirror without port":     {object{"spec.service.mirror": list{object{"backendRef": object{"name": "tap"}}}}, "Must have port for Service reference"},
		"mirror":                  {object{"spec.service.mirror": list{object{"backendRef": object{"name": "tap", "port": int64(80)}}}}, ""},
		"two load balancers":      {object{"spec.service.trafficPolicy": object{"loadBalancer": object{"simple": "RANDOM", "consistentHash": object{"useSourceIp": true}}}}, "set either simple or consistentHash"},
		"trafficDistribution":     {object{"spec.service.trafficDistribution": "PreferFar"}, "spec.service.trafficDistribution: Unsupported value"},

		"built-in metric":        {object{"spec.analysis.metrics": list{object{"name": "request-duration", "thresholdRange": object{"max": 0.5}}}}, ""},
		"metric without source":  {object{"spec.analysis.metrics": list{object{"name": "errors"}}}, "no usable metrics template and query were configured"},
		"metric with query":      {object{"spec.analysis.metrics": list{object{"name": "errors", "query": "vector(1)", "threshold": int64(1)}}}, ""},
		"comparison":             {object{"spec.analysis.metrics": list{object{"name": "request-success-rate", "minSamples": int64(10), "noData": "hold", "noDataLimit": "10m", "warmup": "2m", "critical": true, "comparison": object{"difference": object{"min": int64(-1)}, "falseAlarmRate": 0.01}}}}, ""},
		"comparison, constant":   {object{"spec.analysis.metrics": list{object{"name": "request-success-rate", "thresholdRange": object{"min": int64(99)}, "comparison": object{"difference": object{"min": int64(-1)}}}}}, "the primary takes the place of a constant"},
		"comparison, neither":    {object{"spec.analysis.metrics": list{object{"name": "request-success-rate", "comparison": object{}}}}, "set exactly one of difference and ratio"},
		"critical observer":      {object{"spec.analysis.metrics": list{object{"name": "request-duration", "mode": "observe", "critical": true}}}, "a metric that is only observed takes no canary back"},
		"no-data policy":         {object{"spec.analysis.metrics": list{object{"name": "request-duration", "noData": "wait"}}}, "spec.analysis.metrics[0].noData: Unsupported value"},
		"alert severity":         {object{"spec.analysis.alerts": list{object{"name": "a", "severity": "fatal", "providerRef": object{"name": "slack"}}}}, "spec.analysis.alerts[0].severity: Unsupported value"},
		"alert without severity": {object{"spec.analysis.alerts": list{object{"name": "a", "severity": "", "providerRef": object{"name": "slack"}}}}, ""},
		"hook type":              {object{"spec.analysis.webhooks": list{object{"name": "a", "type": "skip", "url": "http://a/"}}}, "spec.analysis.webhooks[0].type: Unsupported value"},
		"hook without scheme":    {object{"spec.analysis.webhooks": list{object{"name": "a", "url": "loadtester.test"}}}, "url must be absolute"},
		"hook timeout in hours":  {object{"spec.analysis.webhooks": list{object{"name": "a", "url": "HTTPS://a", "timeout": "1h"}}}, ""},
		"hook timeout":           {object{"spec.analysis.webhooks": list{object{"name": "a", "url": "http://a", "timeout": "1min"}}}, "spec.analysis.webhooks[0].timeout: Invalid value"},
	}
	canary := newAdmissions(t, "v1beta1")["Canary"]
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			errs := canary.create(t, set(t, test.change))
			checkErrors(t, errs, test.want)
		})
	}
}

func checkErrors(t *testing.T, errs field.ErrorList, want string) {
	t.Helper()
	if want == "" {
		if len(errs) > 0 {
			t.Errorf("rejected: %v", errs.ToAggregate())
		}
		return
	}
	if len(errs) == 0 {
		t.Fatalf("accepted, want error %q", want)
	}
	if got := errs.ToAggregate().Error(); !strings.Contains(got, want) {
		t.Errorf("error %q, want %q in it", got, want)
	}
}

func TestAlertProviderAdmission(t *testing.T) {
	tests := map[string]struct{ spec, want string }{
		"address":        {`{type: slack, address: "https://hooks.example.com"}`, ""},
		"secret":         {`{type: discord, secretRef: {name: url}}`, ""},
		"B-30 both":      {`{type: slack, channel: general, username: flagger, address: "https://hooks.example.com", secretRef: {name: url}}`, ""},
		"B-30 neither":   {`{type: slack}`, "set address, or secretRef"},
		"unknown type":   {`{type: irc, address: "https://hooks.example.com"}`, "spec.type: Unsupported value"},
		"type is needed": {`{address: "https://hooks.example.com"}`, "spec.type: Required value"},
	}
	provider := newAdmissions(t, "v1beta1")["AlertProvider"]
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			obj := decode(t, "apiVersion: flagger.app/v1beta1\nkind: AlertProvider\nmetadata: {name: a}\nspec: "+test.spec)
			checkErrors(t, provider.create(t, obj), test.want)
		})
	}
}

func TestMetricTemplateAdmission(t *testing.T) {
	tests := map[string]struct{ spec, want string }{
		"prometheus":      {`{provider: {type: prometheus, address: "http://p:9090", headers: {X-Scope-OrgID: [a, b]}}, query: "vector(1)"}`, ""},
		"unknown type":    {`{provider: {type: mimir}, query: q}`, "spec.provider.type: Unsupported value"},
		"query is needed": {`{provider: {type: prometheus}}`, "spec.query: Required value"},
	}
	template := newAdmissions(t, "v1beta1")["MetricTemplate"]
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			obj := decode(t, "apiVersion: flagger.app/v1beta1\nkind: MetricTemplate\nmetadata: {name: a}\nspec: "+test.spec)
			checkErrors(t, template.create(t, obj), test.want)
		})
	}
}

// The operator writes this status first, and the API server must take it as it is.
func TestStatusOfGoClientIsAccepted(t *testing.T) {
	canary := newAdmissions(t, "v1beta1")["Canary"]
	statuses := map[string]flaggerv1.CanaryStatus{
		"zero": {},
		"full": {
			Phase: flaggerv1.CanaryPhaseWaitingPromotion, FailedChecks: 1, CanaryWeight: 50, Iterations: -1,
			TrackedConfigs: &map[string]string{"configmap/a": "0123456789abcdef"}, LastAppliedSpec: "5d5f4b8c7",
			Conditions: []flaggerv1.CanaryCondition{
				{Type: flaggerv1.PromotedType, Status: "Unknown", Reason: "WaitingPromotion", Message: "Waiting for approval."},
				{Type: flaggerv1.HealthyType, Status: "True", Reason: "Healthy"},
			},
			Rollout: &flaggerv1.RolloutStatus{
				Target:      &flaggerv1.RevisionRef{Fingerprint: "v2:aa", Configs: map[string]string{"secret/b": "x"}},
				ServingSide: flaggerv1.ServingCanary, NextCheckAt: &metav1.MicroTime{},
			},
		},
	}
	for name, status := range statuses {
		t.Run(name, func(t *testing.T) {
			typed := flaggerv1.Canary{
				TypeMeta: metav1.TypeMeta{APIVersion: flaggerv1.SchemeGroupVersion.String(), Kind: flaggerv1.CanaryKind},
				Spec: flaggerv1.CanarySpec{
					TargetRef: flaggerv1.LocalObjectReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "a"},
					Provider:  "knative", Analysis: &flaggerv1.CanaryAnalysis{Interval: "1m", Threshold: 1, StepWeight: 1},
				},
				Status: status,
			}
			data, err := json.Marshal(&typed)
			if err != nil {
				t.Fatal(err)
			}
			checkErrors(t, canary.create(t, decode(t, string(data))), "")
		})
	}
}

// kubectl wait --for=condition=promoted relies on one entry per type.
func TestConditionsAreKeyedByType(t *testing.T) {
	canary := newAdmissions(t, "v1beta1")["Canary"]
	promoted := object{"type": "Promoted", "status": "True", "reason": "Succeeded"}
	errs := canary.create(t, set(t, object{"status": object{"phase": "Succeeded", "conditions": list{promoted, promoted}}}))
	checkErrors(t, errs, "status.conditions[1]: Duplicate value")
}

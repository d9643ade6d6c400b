package charts

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	loader3 "helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	engine3 "helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	support3 "helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	lint4 "helm.sh/helm/v4/pkg/chart/v2/lint"
	support4 "helm.sh/helm/v4/pkg/chart/v2/lint/support"
	loader4 "helm.sh/helm/v4/pkg/chart/v2/loader"
	engine4 "helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// chartFolder is where the charts are.
const chartFolder = "../../charts"

// cluster is what a chart is rendered for.
type cluster struct {
	release, namespace string
	// apis are served beside those of Kubernetes.
	apis []string
	// connected is whether anything can be looked up; otherwise the chart is rendered as by helm template.
	connected bool
	objects   []*unstructured.Unstructured
	upgrade   bool
}

// renderers are the engines of the major versions of Helm. What they return has the files of the chart as keys.
var renderers = map[string]func(chart string, on cluster, values map[string]any) (map[string]string, error){
	"3": func(chart string, on cluster, values map[string]any) (map[string]string, error) {
		loaded, err := loader3.Load(path.Join(chartFolder, chart))
		if err != nil {
			return nil, err
		}
		capabilities := chartutil.DefaultCapabilities.Copy()
		capabilities.APIVersions = append(capabilities.APIVersions, on.apis...)
		options := chartutil.ReleaseOptions{Name: on.release, Namespace: on.namespace, Revision: 1, IsInstall: !on.upgrade, IsUpgrade: on.upgrade}
		all, err := chartutil.ToRenderValues(loaded, values, options, capabilities)
		if err != nil {
			return nil, err
		}
		if !on.connected {
			return engine3.Render(loaded, all)
		}
		return engine3.RenderWithClientProvider(loaded, all, found(on))
	},
	"4": func(chart string, on cluster, values map[string]any) (map[string]string, error) {
		loaded, err := loader4.Load(path.Join(chartFolder, chart))
		if err != nil {
			return nil, err
		}
		capabilities := common.DefaultCapabilities.Copy()
		capabilities.APIVersions = append(capabilities.APIVersions, on.apis...)
		options := common.ReleaseOptions{Name: on.release, Namespace: on.namespace, Revision: 1, IsInstall: !on.upgrade, IsUpgrade: on.upgrade}
		all, err := util.ToRenderValues(loaded, values, options, capabilities)
		if err != nil {
			return nil, err
		}
		if !on.connected {
			return engine4.Render(loaded, all)
		}
		return engine4.RenderWithClientProvider(loaded, all, found(on))
	},
}

// linters are helm lint --strict of both versions: a warning is an error.
var linters = map[string]func(chart string, values map[string]any) []string{
	"3": func(chart string, values map[string]any) []string {
		var complaints []string
		for _, m := range lint.AllWithKubeVersion(path.Join(chartFolder, chart), values, "flagger-system", nil).Messages {
			if m.Severity >= support3.WarningSev {
				complaints = append(complaints, m.Error())
			}
		}
		return complaints
	},
	"4": func(chart string, values map[string]any) []string {
		var complaints []string
		for _, m := range lint4.RunAll(path.Join(chartFolder, chart), values, "flagger-system").Messages {
			if m.Severity >= support4.WarningSev {
				complaints = append(complaints, m.Error())
			}
		}
		return complaints
	},
}

// valuesOf reads values as a user writes them, in YAML.
func valuesOf(t *testing.T, text string) map[string]any {
	t.Helper()
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// render returns the objects of a chart in the order of its files, and its notes. Both versions of Helm have to say the same.
func render(t *testing.T, chart string, on cluster, values string) (objects []*unstructured.Unstructured, notes string) {
	t.Helper()
	if on.release == "" {
		on.release, on.namespace = chart, "flagger-system"
	}
	files, err := renderers["3"](chart, on, valuesOf(t, values))
	if err != nil {
		t.Fatalf("chart %s with\n%s\n%v", chart, values, err)
	}
	others, err := renderers["4"](chart, on, valuesOf(t, values))
	if err != nil {
		t.Fatalf("Helm 4: chart %s with\n%s\n%v", chart, values, err)
	}
	if !maps.Equal(files, others) {
		t.Errorf("chart %s with\n%s\nHelm 3 makes\n%v\nHelm 4 makes\n%v", chart, values, files, others)
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if path.Base(file) == "NOTES.txt" {
			notes = files[file]
			continue
		}
		objects = append(objects, decode(t, file, files[file])...)
	}
	return objects, notes
}

// renderError is why a chart is not rendered, which is the same with both versions of Helm but for their own words.
func renderError(t *testing.T, chart string, on cluster, values string) string {
	t.Helper()
	if on.release == "" {
		on.release, on.namespace = chart, "flagger-system"
	}
	var messages []string
	for _, version := range slices.Sorted(maps.Keys(renderers)) {
		_, err := renderers[version](chart, on, valuesOf(t, values))
		if err == nil {
			t.Errorf("Helm %s accepts, for chart %s,\n%s", version, chart, values)
			continue
		}
		messages = append(messages, err.Error())
	}
	return strings.Join(messages, "\n")
}

// decode reads all objects in a text of YAML. A field that is there twice is an error.
func decode(t *testing.T, name, text string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	for i, document := range strings.Split("\n"+text, "\n---") {
		u := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(document), &u.Object); err != nil {
			t.Fatalf("%s, document %d: %v\n%s", name, i, err, document)
		}
		if len(u.Object) > 0 {
			objects = append(objects, u)
		}
	}
	return objects
}

// one returns the only object of a kind with that name.
func one(t *testing.T, objects []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	var seen []string
	for _, u := range objects {
		if u.GetKind() == kind && u.GetName() == name {
			return u
		}
		seen = append(seen, fmt.Sprintf("%s %s", u.GetKind(), u.GetName()))
	}
	t.Fatalf("no %s %s in %v", kind, name, seen)
	return nil
}

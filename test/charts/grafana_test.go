package charts

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// dashboardsIn are the dashboards in ConfigMaps of a render, by uid.
func dashboardsIn(t *testing.T, objects []*unstructured.Unstructured) map[string]*unstructured.Unstructured {
	t.Helper()
	found := map[string]*unstructured.Unstructured{}
	for _, u := range objects {
		data, _, _ := unstructured.NestedStringMap(u.Object, "data")
		for name, text := range data {
			if !strings.HasSuffix(name, ".json") {
				continue
			}
			var dashboard struct{ UID string }
			if err := json.Unmarshal([]byte(text), &dashboard); err != nil || found[dashboard.UID] != nil {
				t.Errorf("%s: %s: uid %q, %v", u.GetName(), name, dashboard.UID, err)
			}
			found[dashboard.UID] = u
		}
	}
	return found
}

// Both charts bring all dashboards, as they are in the repository.
func TestChartsBringTheDashboards(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(chartFolder, "grafana/dashboards/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for chart, values := range map[string]string{"grafana": ``, "flagger": `dashboards: {enabled: true, labels: {grafana_dashboard: "yes"}, annotations: {grafana_folder: Flagger}}`} {
		objects, _ := render(t, chart, cluster{}, values)
		found := dashboardsIn(t, objects)
		if len(found) != len(files) {
			t.Errorf("chart %s has %d dashboards of %d", chart, len(found), len(files))
		}
		for uid, u := range found {
			data, _, _ := unstructured.NestedStringMap(u.Object, "data")
			for _, text := range data {
				raw, err := os.ReadFile(filepath.Join(chartFolder, "grafana/dashboards", strings.TrimPrefix(uid, "flagger-")+".json"))
				if err != nil || strings.TrimSpace(text) != strings.TrimSpace(string(raw)) {
					t.Errorf("chart %s: %s is another one: %v", chart, uid, err)
				}
			}
			if chart == "flagger" && (u.GetLabels()["grafana_dashboard"] != "yes" || u.GetAnnotations()["grafana_folder"] != "Flagger") {
				t.Errorf("%s: labels %v, annotations %v", u.GetName(), u.GetLabels(), u.GetAnnotations())
			}
		}
	}
	objects, _ := render(t, "flagger", cluster{}, ``)
	if found := dashboardsIn(t, objects); len(found) > 0 {
		t.Errorf("%d dashboards that nobody asked for", len(found))
	}
}

// Everything that Grafana mounts is there, and what provisions its dashboards finds them where they are mounted.
func TestGrafanaMountsWhatThereIs(t *testing.T) {
	for name, values := range sets["grafana"] {
		objects, _ := render(t, "grafana", cluster{}, values)
		pod := deployment(t, objects, "grafana").Spec.Template.Spec
		mounted := map[string]string{}
		for _, mount := range pod.Containers[0].VolumeMounts {
			mounted[mount.Name] = mount.MountPath
		}
		for _, volume := range pod.Volumes {
			if mounted[volume.Name] == "" {
				t.Errorf("values %q: volume %s is not mounted", name, volume.Name)
			}
			if volume.ConfigMap != nil {
				one(t, objects, "ConfigMap", volume.ConfigMap.Name)
			}
			if volume.Projected == nil {
				continue
			}
			if len(volume.Projected.Sources) != len(dashboardsIn(t, objects)) {
				t.Errorf("values %q: %d of %d dashboards are mounted", name, len(volume.Projected.Sources), len(dashboardsIn(t, objects)))
			}
			for _, source := range volume.Projected.Sources {
				one(t, objects, "ConfigMap", source.ConfigMap.Name)
			}
		}
		var providers struct {
			Providers []struct{ Options struct{ Path string } }
		}
		text, _, _ := unstructured.NestedString(one(t, objects, "ConfigMap", "grafana-providers").Object, "data", "providers.yaml")
		if err := yaml.Unmarshal([]byte(text), &providers); err != nil || len(providers.Providers) != 1 || providers.Providers[0].Options.Path != mounted["dashboards"] {
			t.Errorf("values %q: dashboards are at %s, and looked for by %s: %v", name, mounted["dashboards"], text, err)
		}
	}
}

// Without a password Grafana is open, as in Flagger's chart, and the notes warn. Credentials are never in the Deployment or a ConfigMap.
func TestAccessToGrafana(t *testing.T) {
	for name, open := range map[string]bool{"default": true, "contract": false, "secret": false} {
		objects, notes := render(t, "grafana", cluster{}, sets["grafana"][name])
		var env []string
		for _, e := range deployment(t, objects, "grafana").Spec.Template.Spec.Containers[0].Env {
			env = append(env, e.Name)
		}
		if slices.Contains(env, "GF_AUTH_ANONYMOUS_ENABLED") != open || strings.Contains(notes, "WARNING") != open {
			t.Errorf("values %q: %v\n%s", name, env, notes)
		}
		source, _, _ := unstructured.NestedString(one(t, objects, "ConfigMap", "grafana-datasources").Object, "data", "datasources.yaml")
		if strings.Contains(source, "PROMETHEUS_TOKEN") == open {
			t.Errorf("values %q: data source\n%s", name, source)
		}
		for _, u := range objects {
			if u.GetKind() != "Secret" && (strings.Contains(text(t, []*unstructured.Unstructured{u}), "change-me") || strings.Contains(text(t, []*unstructured.Unstructured{u}), "Bearer secret")) {
				t.Errorf("values %q: %s %s holds a credential", name, u.GetKind(), u.GetName())
			}
		}
	}
}

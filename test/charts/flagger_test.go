package charts

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// flagsOf are the arguments of the operator, or of the load tester, in a render, by name.
func flagsOf(t *testing.T, objects []*unstructured.Unstructured, program string) map[string]string {
	t.Helper()
	flags := map[string]string{}
	for _, arg := range deployment(t, objects, program).Spec.Template.Spec.Containers[0].Args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			t.Errorf("argument %q", arg)
		}
		flags[name] = value
	}
	return flags
}

func deployment(t *testing.T, objects []*unstructured.Unstructured, name string) *appsv1.Deployment {
	t.Helper()
	d := &appsv1.Deployment{}
	u := one(t, objects, "Deployment", name)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, d, true); err != nil {
		t.Fatal(err)
	}
	return d
}

// docs/flags.md is written from the flags of the operator themselves. Those of the load tester stand in its source.
func TestFlagsExist(t *testing.T) {
	for chart, from := range map[string]struct{ file, pattern string }{
		"flagger":    {"../../docs/flags.md", "(?m)^\\| `(-[a-z-]+)` "},
		"loadtester": {"../../cmd/loadtester/flags.go", `(?m)^\tfs\.[A-Za-z]+Var\(&[a-zA-Z.]+, "([a-z-]+)"|^\tfs\.Func\("([a-z-]+)"`},
	} {
		known := map[string]bool{}
		for _, row := range regexp.MustCompile(from.pattern).FindAllStringSubmatch(readFile(t, from.file), -1) {
			known["-"+strings.TrimPrefix(strings.Join(row[1:], ""), "-")] = true
		}
		for name, values := range sets[chart] {
			objects, _ := render(t, chart, cluster{}, values)
			for flag := range flagsOf(t, objects, chart) {
				if !known[flag] {
					t.Errorf("values %q: the program of chart %s has no flag %s", name, chart, flag)
				}
			}
		}
	}
}

func TestFlagsOfValues(t *testing.T) {
	objects, _ := render(t, "flagger", cluster{release: "flagger", namespace: "delivery"}, flaggerContract)
	got := flagsOf(t, objects, "flagger")
	for flag, want := range map[string]string{
		"-log-level":                  "debug",
		"-mesh-provider":              "istio",
		"-metrics-server":             "http://prometheus.monitoring:9090",
		"-selector-labels":            "app,service",
		"-enable-config-tracking":     "true",
		"-ingress-annotations-prefix": "custom.ingress.kubernetes.io",
		"-ingress-class":              "contour",
		"-include-label-prefix":       "app.kubernetes.io",
		"-threadiness":                "4",
		"-event-webhook":              "https://events.example.com/flagger",
		"-cluster-name":               "production",
		"-no-cross-namespace-refs":    "true",
		"-kubeconfig-qps":             "200",
		"-kubeconfig-burst":           "400",
		"-kubeconfig-service-mesh":    "/tmp/controlplane/kubeconfig",
		"-slack-user":                 "ship",
		"-slack-channel":              "releases",
		"-slack-url":                  "https://hooks.slack.com/services/1",
		"-slack-proxy-url":            "http://proxy:3128",
		"-msteams-url":                "https://example.webhook.office.com/1",
		"-msteams-proxy-url":          "http://proxy:3128",
		"-enable-leader-election":     "true",
		"-leader-election-namespace":  "delivery",
	} {
		if got[flag] != want {
			t.Errorf("%s=%s, want %s", flag, got[flag], want)
		}
	}
	for values, want := range map[string][2]string{
		`istio: {kubeconfig: {secretName: mesh, key: value}}`:                   {"-kubeconfig-service-mesh", "/tmp/controlplane/value"},
		`slack: {proxy: "http://old:3128"}`:                                     {"-slack-proxy-url", "http://old:3128"},
		`namespace: shop`:                                                       {"-namespace", "shop"},
		`leaderElection: {replicaCount: 2}`:                                     {"-enable-leader-election", "true"},
		`leaderElection: {replicaCount: 3, shards: 24}`:                         {"-shards", "24"},
		`configTracking: {enabled: false}`:                                      {"-enable-config-tracking", "false"},
		`{prometheus: {install: true}, metricsServer: "http://elsewhere:9090"}`: {"-metrics-server", "http://flagger-prometheus:9090"},
	} {
		objects, _ := render(t, "flagger", cluster{}, values)
		if got := flagsOf(t, objects, "flagger")[want[0]]; got != want[1] {
			t.Errorf("%s: %s=%s, want %s", values, want[0], got, want[1])
		}
	}
}

// Whoever sets nothing gets a process that one other may not stand beside, and whoever elects a leader gets updates without a gap.
func TestStrategy(t *testing.T) {
	for values, want := range map[string]appsv1.DeploymentStrategyType{
		``:                                  appsv1.RecreateDeploymentStrategyType,
		`leaderElection: {enabled: true}`:   appsv1.RollingUpdateDeploymentStrategyType,
		`leaderElection: {replicaCount: 2}`: appsv1.RollingUpdateDeploymentStrategyType,
	} {
		objects, _ := render(t, "flagger", cluster{}, values)
		if got := deployment(t, objects, "flagger").Spec.Strategy.Type; got != want {
			t.Errorf("%s: strategy %q, want %q", values, got, want)
		}
	}
}

// Both lists of volumes come from two places each, which may both be empty.
func TestVolumes(t *testing.T) {
	for values, want := range map[string][]string{
		``: nil,
		`additionalVolumes: [{name: ca, emptyDir: {}}]`:                                                   {"ca"},
		`controlplane: {kubeconfig: {secretName: mesh}}`:                                                  {"kubeconfig"},
		`{additionalVolumes: [{name: ca, emptyDir: {}}], controlplane: {kubeconfig: {secretName: mesh}}}`: {"kubeconfig", "ca"},
	} {
		objects, _ := render(t, "flagger", cluster{}, values)
		var got []string
		for _, volume := range deployment(t, objects, "flagger").Spec.Template.Spec.Volumes {
			got = append(got, volume.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: volumes %v, want %v", values, got, want)
		}
	}
}

// An operator of one namespace needs nothing outside of it and its own.
func TestNamespacedInstall(t *testing.T) {
	objects, _ := render(t, "flagger", cluster{}, `{namespace: shop, prometheus: {install: true}}`)
	for _, u := range objects {
		if slices.Contains(clusterScoped, u.GetKind()) {
			t.Errorf("%s %s", u.GetKind(), u.GetName())
		}
		if strings.HasPrefix(u.GetKind(), "Role") && u.GetNamespace() != "shop" {
			t.Errorf("%s %s is in %s", u.GetKind(), u.GetName(), u.GetNamespace())
		}
	}
	config, _, _ := unstructured.NestedString(one(t, objects, "ConfigMap", "flagger-prometheus").Object, "data", "prometheus.yml")
	if strings.Count(config, "names: [shop]") != strings.Count(config, "role:") {
		t.Errorf("Prometheus would look for pods elsewhere:\n%s", config)
	}
}

// canaryKind is served once our CRDs are there. Helm installs them before it renders anything else.
const canaryKind = "flagger.app/v1beta1/Canary"

// Monitors are made wherever their kinds are, or nobody can say; elsewhere the release is installed without them.
func TestMonitors(t *testing.T) {
	const values = `{serviceMonitor: {enabled: true, namespace: monitoring}, podMonitor: {enabled: true}, prometheusRule: {enabled: true}}`
	for name, tc := range map[string]struct {
		on   cluster
		made bool
	}{
		"helm template": {cluster{}, true},
		"an operator is here": {cluster{connected: true, apis: []string{canaryKind, "monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PodMonitor",
			"monitoring.coreos.com/v1/PrometheusRule"}}, true},
		"none is here": {cluster{connected: true, apis: []string{canaryKind}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			objects, notes := render(t, "flagger", tc.on, values)
			var kinds []string
			for _, u := range objects {
				kinds = append(kinds, u.GetKind())
			}
			for _, kind := range []string{"ServiceMonitor", "PodMonitor", "PrometheusRule"} {
				if slices.Contains(kinds, kind) != tc.made || strings.Contains(notes, "the cluster has no "+kind) == tc.made {
					t.Errorf("%v\n%s", kinds, notes)
				}
			}
		})
	}
	objects, _ := render(t, "flagger", cluster{}, values)
	monitor := one(t, objects, "ServiceMonitor", "flagger")
	names, _, _ := unstructured.NestedStringSlice(monitor.Object, "spec", "namespaceSelector", "matchNames")
	if monitor.GetNamespace() != "monitoring" || !slices.Equal(names, []string{"flagger-system"}) {
		t.Errorf("it is in %s and looks in %v", monitor.GetNamespace(), names)
	}
}

// Helm refuses CRDs that it did not make with a message about annotations. Ours says what to do.
func TestCRDs(t *testing.T) {
	crds := decode(t, "crd.yaml", readFile(t, "../../artifacts/flagger/crd.yaml"))
	if len(crds) != 3 {
		t.Fatalf("%d CRDs", len(crds))
	}
	count := func(on cluster) (n int) {
		objects, _ := render(t, "flagger", on, `crd: {create: true}`)
		for _, u := range objects {
			if u.GetKind() == "CustomResourceDefinition" {
				n++
			}
		}
		return n
	}
	for _, on := range []cluster{{}, {connected: true}} {
		if n := count(on); n != 3 {
			t.Errorf("%d CRDs in the release", n)
		}
	}
	message := renderError(t, "flagger", cluster{connected: true, objects: crds}, `crd: {create: true}`)
	if strings.Count(message, "canaries.flagger.app is in the cluster without being part of release flagger-system/flagger: install with --skip-crds") != 2 {
		t.Error(message)
	}
	for _, u := range crds {
		u.SetAnnotations(map[string]string{"meta.helm.sh/release-name": "flagger", "meta.helm.sh/release-namespace": "flagger-system"})
	}
	if n := count(cluster{connected: true, objects: crds}); n != 3 {
		t.Errorf("%d CRDs in the release that has them", n)
	}
	objects, _ := render(t, "flagger", cluster{}, ``)
	for _, u := range objects {
		if u.GetKind() == "CustomResourceDefinition" {
			t.Error("CRDs are part of a release that did not ask for them")
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestDeletionWarningIsThePublishedOne(t *testing.T) {
	published := decode(t, "artifacts", readFile(t, "../../artifacts/flagger/deletion-warning.yaml"))
	objects, _ := render(t, "flagger", cluster{}, `deletionWarning: {enabled: true}`)
	for _, u := range published {
		if diff := cmp.Diff(u.Object, one(t, objects, u.GetKind(), u.GetName()).Object); diff != "" {
			t.Errorf("%s (-artifacts +chart):\n%s", u.GetKind(), diff)
		}
	}
}

// Who installs without the chart gets the same alerts.
func TestPublishedAlertsAreThoseOfTheChart(t *testing.T) {
	objects, _ := render(t, "flagger", cluster{}, `prometheusRule: {enabled: true}`)
	rule := one(t, objects, "PrometheusRule", "flagger")
	rule.SetLabels(map[string]string{"app.kubernetes.io/name": "flagger"})
	golden(t, "../../artifacts/flagger/prometheusrule.yaml", text(t, []*unstructured.Unstructured{rule}))
}

// A release whose role does not cover a Canary that is there says so.
func TestNotes(t *testing.T) {
	canaries := decode(t, "canaries", `
{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {name: web, namespace: shop}, spec: {provider: nginx}}
---
{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {name: api, namespace: shop}, spec: {provider: kubernetes}}
---
{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {name: mail, namespace: shop}, spec: {}}
`)
	for values, warned := range map[string]bool{
		`meshProvider: linkerd`:                               true,
		`{meshProvider: linkerd, rbac: {providers: [nginx]}}`: false,
		`{meshProvider: linkerd, rbac: {create: false}}`:      false,
		`meshProvider: skipper`:                               false,
		``:                                                    false,
	} {
		_, notes := render(t, "flagger", cluster{connected: true, apis: []string{canaryKind}, objects: canaries}, values)
		const warning = "WARNING: Canary web.shop needs provider nginx, which the role of this release does not cover. Add it to rbac.providers."
		if strings.Contains(notes, warning) != warned || strings.Count(notes, "WARNING") > 1 {
			t.Errorf("%s:\n%s", values, notes)
		}
	}
	// Its routes are still those of the provider of before.
	left := decode(t, "canary", `{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {name: web, namespace: shop}, spec: {},
		status: {rollout: {routing: [{provider: "gatewayapi:v1", service: web}]}}}`)
	_, changed := render(t, "flagger", cluster{connected: true, apis: []string{canaryKind}, objects: left}, `meshProvider: contour`)
	if !strings.Contains(changed, "WARNING: Canary web.shop needs provider gatewayapi:v1, which the role") {
		t.Error(changed)
	}
	// Where CRDs are kept out of releases, they may come later.
	render(t, "flagger", cluster{connected: true}, `meshProvider: contour`)
	for values, told := range map[string]bool{``: true, `crd: {create: true}`: false} {
		_, notes := render(t, "flagger", cluster{upgrade: true}, values)
		if strings.Contains(notes, "helm show crds") != told {
			t.Errorf("upgrade, %s:\n%s", values, notes)
		}
	}
	_, notes := render(t, "flagger", cluster{}, ``)
	_, canary, _ := strings.Cut(notes, "\n\n  apiVersion")
	canary, _, _ = strings.Cut(canary, "\n\n")
	var object map[string]any
	if err := yaml.UnmarshalStrict([]byte("  apiVersion"+canary), &object); err != nil || object["kind"] != "Canary" {
		t.Errorf("the Canary in the notes: %v\n%s", err, notes)
	}
}

// What is installed is of one version.
func TestVersions(t *testing.T) {
	var chart struct{ Version, AppVersion string }
	if err := yaml.Unmarshal([]byte(readFile(t, "../../charts/flagger/Chart.yaml")), &chart); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(readFile(t, "../../Makefile"), "\nVERSION  ?= "+chart.AppVersion+"\n") || chart.Version != chart.AppVersion {
		t.Errorf("the chart is %s, of operator %s, which is not what the Makefile builds", chart.Version, chart.AppVersion)
	}
	objects, _ := render(t, "flagger", cluster{}, ``)
	image := deployment(t, objects, "flagger").Spec.Template.Spec.Containers[0].Image
	for _, file := range []string{"../../artifacts/flagger/deployment.yaml", "../../kustomize/base/flagger/deployment.yaml"} {
		if !strings.Contains(readFile(t, file), "image: "+image+"\n") {
			t.Errorf("%s has another image than %s", file, image)
		}
	}
}

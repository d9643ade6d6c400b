package charts

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestRenders(t *testing.T) {
	for chart, of := range sets {
		for name, values := range of {
			t.Run(chart+"/"+name, func(t *testing.T) {
				objects, _ := render(t, chart, cluster{}, values)
				golden(t, filepath.Join("testdata", chart, name+".yaml"), text(t, objects))
			})
		}
	}
}

// It is helm lint --strict.
func TestLint(t *testing.T) {
	for version, lint := range linters {
		for chart, of := range sets {
			for name, values := range of {
				for _, complaint := range lint(chart, valuesOf(t, values)) {
					t.Errorf("Helm %s, chart %s, values %q: %s", version, chart, name, complaint)
				}
			}
		}
	}
}

// A value that does not exist, or can't be meant, is refused with its name.
func TestRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ chart, values, want string }{
		"replicas at the top":        {"flagger", `replicaCount: 2`, "replicaCount"},
		"a typo":                     {"flagger", `meshprovider: istio`, "meshprovider"},
		"a typo further down":        {"flagger", `slack: {chanel: releases}`, "chanel"},
		"a typo at the bottom":       {"flagger", `controlplane: {kubeconfig: {secret: mesh}}`, "secret"},
		"an unknown provider":        {"flagger", `meshProvider: istoi`, "meshProvider"},
		"an unknown second one":      {"flagger", `rbac: {providers: [crossover]}`, "providers"},
		"several namespaces":         {"flagger", `namespace: shop,web`, "namespace"},
		"a list of namespaces":       {"flagger", `namespace: [shop, web]`, "namespace"},
		"text for a switch":          {"flagger", `crd: {create: "yes"}`, "create"},
		"text for a number":          {"flagger", `threadiness: many`, "threadiness"},
		"a level":                    {"flagger", `logLevel: verbose`, "logLevel"},
		"an address without scheme":  {"flagger", `metricsServer: prometheus:9090`, "metricsServer"},
		"an interval":                {"flagger", `podMonitor: {interval: 15}`, "interval"},
		"a runbook that is no place": {"flagger", `prometheusRule: {runbookUrl: docs}`, "runbookUrl"},
		"a replica":                  {"flagger", `leaderElection: {replicaCount: two}`, "replicaCount"},
		"another timeout":            {"loadtester", `cmd: {timeout: soon}`, "timeout"},
		"a typo in the load tester":  {"loadtester", `cmd: {namespaceRegex: shop}`, "namespaceRegex"},
		"a scope":                    {"loadtester", `rbac: {scope: galaxy}`, "scope"},
		"a typo in podinfo":          {"podinfo", `canary: {analysis: {steps: 5}}`, "steps"},
		"a Secret without a place":   {"flagger", `metricsServerSecret: prometheus`, "metricsServerSecret"},
		"an argument, not a flag":    {"flagger", `additionalArgs: [threadiness]`, "additionalArgs"},
		"an action":                  {"flagger", `deletionWarning: {action: Refuse}`, "action"},
	} {
		t.Run(name, func(t *testing.T) {
			if message := renderError(t, tc.chart, cluster{}, tc.values); strings.Count(message, tc.want) < 2 {
				t.Errorf("the message does not name %s:\n%s", tc.want, message)
			}
		})
	}
}

// clusterScoped are the kinds of all renders that have no namespace.
var clusterScoped = []string{"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Namespace", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}

// What helm template prints may be sent to the API server by whatever tool, whose default namespace is another one.
func TestEveryObjectHasANamespace(t *testing.T) {
	for chart, of := range sets {
		for name, values := range of {
			objects, _ := render(t, chart, cluster{}, values)
			for _, u := range objects {
				if (u.GetNamespace() == "") != slices.Contains(clusterScoped, u.GetKind()) {
					t.Errorf("chart %s, values %q: %s %s has namespace %q", chart, name, u.GetKind(), u.GetName(), u.GetNamespace())
				}
			}
		}
	}
}

// needs are values that others have an effect with only, by the beginning of their names.
var needs = map[string]string{
	"flagger/prometheus.":                 `prometheus: {install: true}`,
	"flagger/serviceMonitor.":             `serviceMonitor: {enabled: true}`,
	"flagger/podMonitor.":                 `podMonitor: {enabled: true}`,
	"flagger/prometheusRule.":             `prometheusRule: {enabled: true}`,
	"flagger/dashboards.":                 `dashboards: {enabled: true}`,
	"grafana/podSecurityContext.":         `podSecurityContext: {enabled: true}`,
	"grafana/networkPolicy.":              `networkPolicy: {enabled: true}`,
	"flagger/podDisruptionBudget.":        `podDisruptionBudget: {enabled: true}`,
	"flagger/networkPolicy.":              `networkPolicy: {enabled: true}`,
	"flagger/deletionWarning.":            `deletionWarning: {enabled: true}`,
	"flagger/linkerdAuthPolicy.":          `linkerdAuthPolicy: {create: true}`,
	"flagger/rbac.providers":              `meshProvider: istio`,
	"flagger/istio.kubeconfig.key":        `istio: {kubeconfig: {secretName: mesh}}`,
	"flagger/controlplane.kubeconfig.key": `controlplane: {kubeconfig: {secretName: mesh}}`,
	"loadtester/rbac.":                    `rbac: {create: true}`,
	"loadtester/backends":                 `meshName: global`,
	"loadtester/appmesh.":                 `appmesh: {enabled: true}`,
	"loadtester/istio.":                   `istio: {enabled: true, gateway: {enabled: true}}`,
	"loadtester/podDisruptionBudget.":     `podDisruptionBudget: {enabled: true}`,
	"loadtester/networkPolicy.":           `networkPolicy: {enabled: true}`,
	"flagger/podSecurityContext.":         `podSecurityContext: {enabled: true}`,
	"loadtester/podSecurityContext.":      `podSecurityContext: {enabled: true}`,
	"podinfo/canary.istioIngress.":        `canary: {enabled: true, istioIngress: {enabled: true}}`,
	"podinfo/canary.":                     `canary: {enabled: true, loadtest: {enabled: true}, helmtest: {enabled: true}}`,
	"loadtester/istio.gateway.enabled":    `istio: {enabled: true}`,
	"podinfo/canary.loadtest.enabled":     `canary: {enabled: true}`,
	"podinfo/canary.helmtest.enabled":     `canary: {enabled: true}`,
	"podinfo/canary.istioIngress.enabled": `canary: {enabled: true}`,
	"podinfo/service.":                    `service: {enabled: true}`,
}

// others are what a value is changed to where its default does not tell what the schema accepts.
var others = map[string]string{
	"image.pullPolicy": `Always`, "logLevel": `debug`, "metricsServer": `http://elsewhere`, "meshProvider": `contour`,
	"threadiness": `3`, "kubeconfigQPS": `3`, "kubeconfigBurst": `3`, "deletionWarning.action": `Deny`, "rbac.providers": `[nginx]`,
	"podMonitor.interval": `3s`, "prometheusRule.runbookUrl": `https://sentinel/`, "prometheus.retention": `3h`, "affinity": `{nodeAffinity: {}}`, "resources": `{limits: {cpu: 3}}`,
	"securityContext.context": `{privileged: false}`, "prometheus.securityContext.context": `{privileged: false}`,
	"podSecurityContext.context": `{fsGroup: 3}`, "cmd.timeout": `3h`, "cmd.maxCommands": `3`, "cmd.shellNamespaces": `[sentinel]`,
	"metricsServerSecret": `monitoring/sentinel`, "additionalArgs": `[-sentinel]`, "service.type": `NodePort`,
	"rbac.scope": `cluster`, "backends": `[sentinel]`, "appmesh.backends": `[sentinel]`, "canary.analysis.interval": `3s`,
	"canary.istioTLS": `ISTIO_MUTUAL`, "httpServer.timeout": `3s`, "hpa.memory": `3Mi`, "url": `http://elsewhere:9090`,
}

// A value without effect is a promise that is not kept.
func TestEveryValueHasAnEffect(t *testing.T) {
	for chart := range sets {
		for _, value := range valuesIn(t, chart) {
			before := need(chart, value.path)
			other, ok := others[value.path]
			if !ok {
				other = changed(value.standard)
			}
			old, oldNotes := render(t, chart, cluster{}, before)
			after := mergeValues(valuesOf(t, before), nested(t, value.path, other))
			current, notes := render(t, chart, cluster{}, text(t, []*unstructured.Unstructured{{Object: after}}))
			if text(t, old) == text(t, current) && oldNotes == notes && len(old) == len(current) {
				t.Errorf("chart %s: %s: %s changes nothing", chart, value.path, other)
			}
		}
	}
}

// need is the longest that fits. A switch is not switched on by itself.
func need(chart, path string) (values string) {
	if exact, ok := needs[chart+"/"+path]; ok {
		return exact
	}
	if last := path[strings.LastIndex(path, ".")+1:]; last == "enabled" || last == "install" || last == "create" {
		if outer, _, ok := strings.Cut(path, "."+last); !ok || needs[chart+"/"+outer+"."] != "" {
			return ""
		}
	}
	longest := 0
	for prefix, n := range needs {
		if strings.HasPrefix(chart+"/"+path, prefix) && len(prefix) > longest {
			longest, values = len(prefix), n
		}
	}
	return values
}

// changed is another value of the same type, in YAML.
func changed(standard any) string {
	switch v := standard.(type) {
	case bool:
		if v {
			return "false"
		}
		return "true"
	case map[string]any:
		return "{sentinel: sentinel}"
	case []any:
		return "[{name: sentinel}]"
	case float64, int, int64:
		return "3"
	}
	return "sentinel"
}

// nested is one value at a path.
func nested(t *testing.T, path, value string) map[string]any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(value), &v); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(path, ".")
	for _, part := range slices.Backward(parts) {
		v = map[string]any{part: v}
	}
	return v.(map[string]any)
}

func mergeValues(a, b map[string]any) map[string]any {
	merged := maps.Clone(a)
	for key, value := range b {
		old, isMap := merged[key].(map[string]any)
		if inner, ok := value.(map[string]any); ok && isMap {
			value = mergeValues(old, inner)
		}
		merged[key] = value
	}
	return merged
}

// Users of both charts ask for the same of pods, so both have it under the same name.
func TestChartsAgreeOnPods(t *testing.T) {
	standards := map[string]map[string]bool{}
	for _, chart := range []string{"flagger", "loadtester"} {
		standards[chart] = map[string]bool{}
		for _, v := range valuesIn(t, chart) {
			standards[chart][v.path] = true
		}
	}
	for _, path := range []string{
		"image.repository", "image.tag", "image.pullPolicy", "image.pullSecret", "annotations", "deploymentLabels", "podLabels",
		"podAnnotations", "podPriorityClassName", "logLevel", "env", "resources", "nodeSelector", "tolerations", "affinity",
		"topologySpreadConstraints", "securityContext.enabled", "securityContext.context", "podSecurityContext.enabled",
		"podSecurityContext.context", "podDisruptionBudget.enabled", "podDisruptionBudget.minAvailable", "networkPolicy.enabled",
		"networkPolicy.from", "nameOverride", "fullnameOverride",
	} {
		for chart, paths := range standards {
			if !paths[path] {
				t.Errorf("chart %s has no value %s", chart, path)
			}
		}
	}
}

// With a number of replicas, helm upgrade of Helm 4 would be refused: the operator, or an autoscaler, has set another one.
func TestPodinfoLeavesReplicasToOthers(t *testing.T) {
	for name, values := range sets["podinfo"] {
		objects, _ := render(t, "podinfo", cluster{}, values)
		if replicas := deployment(t, objects, "podinfo").Spec.Replicas; replicas != nil {
			t.Errorf("values %q: %d replicas", name, *replicas)
		}
	}
}

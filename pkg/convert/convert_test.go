package convert_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/convert"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func steerer(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/steerer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestConvertedRollout(t *testing.T) {
	got, err := convert.Convert([]byte(steerer(t)), convert.Options{Name: "steerer.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/canary.yaml", got.Canaries, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/canary.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got.Canaries)); diff != "" {
		t.Errorf("canary (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"steerer.yaml: document 1 (VirtualService podinfo): VirtualService podinfo is left as it is"}, got.Notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	// What is printed is what an API server would read.
	var canary v1beta1.Canary
	if err := yaml.UnmarshalStrict(got.Canaries, &canary); err != nil {
		t.Error(err)
	}
	if faults := v1beta1.Validate(&canary, v1beta1.ValidationOptions{}); len(faults) > 0 {
		t.Error(faults)
	}
}

const shortest = `
apiVersion: apps.weave.works/v1beta1
kind: Rollout
metadata: {name: web, namespace: test, labels: {team: a}}
spec:
  virtualService: {name: web}
  primary: {name: web, host: web.test.svc.cluster.local}
  canary: {name: web-canary, host: web-canary}
  canaryAnalysis: {maxWeight: 50, stepWeight: 10, threshold: 3, interval: 30s}
`

const service = `
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: test}
spec: {ports: [{port: 8080}]}
`

// What a Canary can't say is said above it, and whatever could be read is taken over.
func TestConvertTellsWhatIsLeftOut(t *testing.T) {
	for name, test := range map[string]struct {
		input string
		want  []string
	}{
		"nothing": {shortest + service, []string{"port: 8080", "threshold: 3", "interval: 30s", "team: a", "primaryName: web\n",
			"# VirtualService web is not in the input: see that it has a rule with the hosts web and web-canary."}},
		"a field": {strings.Replace(shortest, "spec:", "status: {canaryWeight: 10}\nspec:\n  strategy: fast", 1) + service, []string{
			"# spec.strategy of the Rollout has no equivalent and is left out.", "# The status of the Rollout is left out."}},
		"a metric": {strings.Replace(shortest, "interval: 30s", "interval: 30s, metrics: [{name: errors, threshold: 1}]", 1) + service, []string{
			"# analysis.metrics: errors is not built in and is left out."}},
		"no limit of failed checks": {strings.Replace(shortest, "threshold: 3, interval: 30s", "", 1) + service, []string{
			"threshold: 5", "# analysis.threshold: the Rollout says nothing.", "interval: 10s", "# analysis.interval: a step was taken every -control-loop-interval"}},
		"a VirtualService without the rule": {shortest + service + "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web}\n", []string{
			"# VirtualService web has no rule with the hosts web and web-canary. Give it one"}},
		"two Rollouts": {shortest + service + "---" + strings.Replace(shortest, "name: web, namespace: test, labels", "name: other, namespace: test, labels", 1), []string{
			"---\n# Converted from document 3 (Rollout other).\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := convert.Convert([]byte(test.input), convert.Options{Name: "in"})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !strings.Contains(string(got.Canaries), want) {
					t.Errorf("no %q in\n%s", want, got.Canaries)
				}
			}
		})
	}
}

func TestConvertRefuses(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(shortest, old, new, 1) + service }
	for name, test := range map[string]struct{ input, want string }{
		"nothing":           {"", "in: there is no Rollout of apps.weave.works in it"},
		"no YAML":           {"{", "in: document 1 is not readable: "},
		"no object":         {shortest + "---\nfoo: bar\n", "in: document 2: kind: is missing"},
		"a field twice":     {change("spec:", "spec:\n  canary: {}"), "in: document 1 is not readable: "},
		"no primary":        {change("  primary: {name: web, host: web.test.svc.cluster.local}\n", ""), "in: document 1 (Rollout web): spec.primary.name: is missing"},
		"no canary":         {change("canary: {name: web-canary, host: web-canary}", "canary: {name: 7}"), "spec.canary.name: is 7, and has to be a string"},
		"primary is a word": {change("primary: {name: web, host: web.test.svc.cluster.local}", "primary: web"), "spec.primary.name: is not readable"},
		"another kind":      {change("spec:", "spec:\n  targetKind: StatefulSet"), "spec.targetKind: is StatefulSet, and has to be Deployment"},
		"another namespace": {change("web.test.svc", "web.prod.svc"), "spec.primary.host: web.prod.svc.cluster.local is not in the namespace \"test\""},
		"no step":           {change("stepWeight: 10, ", ""), "spec.canaryAnalysis.stepWeight: is missing"},
		"half a step":       {change("stepWeight: 10", "stepWeight: 0.5"), "spec.canaryAnalysis.stepWeight: is 0.5, and has to be a whole number"},
		"too great":         {change("maxWeight: 50", "maxWeight: 500"), "spec.canaryAnalysis.maxWeight: is 500"},
		"metrics":           {change("interval: 30s", "metrics: 5"), "spec.canaryAnalysis.metrics: is no list"},
		"a metric":          {change("interval: 30s", "metrics: [{name: x}]"), "spec.canaryAnalysis.metrics[0]: needs a name, and a number as its threshold"},
		"one workload":      {change("canary: {name: web-canary", "canary: {name: web"), "spec.primaryRef.name: the Canary would not work: "},
		"no port":           {shortest, "spec.primary.host: the port of Service web is not in the input: add the VirtualService web or that Service to it, or give the port with -port"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := convert.Convert([]byte(test.input), convert.Options{Name: "in"})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "in: ") {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	if got, err := convert.Convert([]byte(shortest), convert.Options{Name: "in", Port: 99}); err != nil || !strings.Contains(string(got.Canaries), "port: 99\n") {
		t.Errorf("with a port: %v, %s", err, got.Canaries)
	}
}

func FuzzConvert(f *testing.F) {
	f.Add(shortest + service)
	f.Add("kind: Rollout\napiVersion: apps.weave.works/v1beta1\nspec: []\n")
	f.Fuzz(func(t *testing.T, input string) {
		got, err := convert.Convert([]byte(input), convert.Options{Name: "in", Port: 80})
		if err == nil && len(got.Canaries) == 0 {
			t.Error("neither a Canary nor an error")
		}
	})
}

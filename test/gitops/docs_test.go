package gitops

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// manifests are those that the page on GitOps shows.
func manifests(t *testing.T) []unstructured.Unstructured {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "gitops.md"))
	if err != nil {
		t.Fatal(err)
	}
	var found []unstructured.Unstructured
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		for _, document := range strings.Split(block[1], "\n---\n") {
			var u unstructured.Unstructured
			if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
				t.Fatalf("%v, in:\n%s", err, document)
			}
			found = append(found, u)
		}
	}
	return found
}

// What is shown for Flux has no field that Flux does not know.
func TestManifestsForFlux(t *testing.T) {
	known := map[string]func() any{
		"GitRepository": func() any { return &sourcev1.GitRepository{} }, "OCIRepository": func() any { return &sourcev1.OCIRepository{} },
		"HelmRelease": func() any { return &helmv2.HelmRelease{} }, "Kustomization": func() any { return &kustomizev1.Kustomization{} },
	}
	seen := map[string]bool{}
	for _, u := range manifests(t) {
		if !strings.HasSuffix(u.GroupVersionKind().Group, ".toolkit.fluxcd.io") {
			continue
		}
		raw, err := yaml.Marshal(u.Object)
		if err != nil {
			t.Fatal(err)
		}
		into := known[u.GetKind()]
		if into == nil {
			t.Errorf("no kind %s of Flux", u.GetKind())
			continue
		}
		seen[u.GetKind()] = true
		if err := yaml.UnmarshalStrict(raw, into()); err != nil {
			t.Errorf("%s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
	for kind := range known {
		if !seen[kind] {
			t.Errorf("no %s is shown", kind)
		}
	}
}

// healthOf runs the script that the page has for Argo CD, as Argo CD does, on the status of a Canary.
func healthOf(t *testing.T, script string, status map[string]any) (health, message string) {
	t.Helper()
	l := lua.NewState()
	defer l.Close()
	obj := map[string]any{"kind": "Canary"}
	if status != nil {
		obj["status"] = status
	}
	l.SetGlobal("obj", value(l, obj))
	if err := l.DoString(script); err != nil {
		t.Fatal(err)
	}
	result, ok := l.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("the script returns %s", l.Get(-1))
	}
	return lua.LVAsString(result.RawGetString("status")), lua.LVAsString(result.RawGetString("message"))
}

func value(l *lua.LState, v any) lua.LValue {
	switch v := v.(type) {
	case map[string]any:
		table := l.NewTable()
		for key, item := range v {
			table.RawSetString(key, value(l, item))
		}
		return table
	case []any:
		table := l.NewTable()
		for _, item := range v {
			table.Append(value(l, item))
		}
		return table
	case string:
		return lua.LString(v)
	}
	return lua.LNil
}

func TestHealthForArgoCD(t *testing.T) {
	var script string
	for _, u := range manifests(t) {
		if s, ok, _ := unstructured.NestedString(u.Object, "data", "resource.customizations.health.flagger.app_Canary"); ok {
			script = s
		}
	}
	conditions := func(pairs ...string) []any {
		var list []any
		for ; len(pairs) > 0; pairs = pairs[4:] {
			list = append(list, map[string]any{"type": pairs[0], "status": pairs[1], "reason": pairs[2], "message": pairs[3]})
		}
		return list
	}
	in := func(phase string, healthy ...string) map[string]any {
		return map[string]any{"phase": phase, "conditions": append(conditions("Promoted", "Unknown", phase, "told of "+phase), conditions(healthy...)...)}
	}
	for name, tt := range map[string]struct {
		status          map[string]any
		health, message string
	}{
		"nobody has seen it":       {nil, "Progressing", "the operator has not seen it yet"},
		"an empty status":          {map[string]any{"phase": ""}, "Progressing", "the operator has not seen it yet"},
		"a status without words":   {map[string]any{"phase": "Succeeded"}, "Healthy", "Succeeded"},
		"taken over":               {in("Initialized"), "Healthy", "told of Initialized"},
		"promoted":                 {in("Succeeded", "Healthy", "True", "Healthy", ""), "Healthy", "told of Succeeded"},
		"taken back":               {in("Failed"), "Degraded", "told of Failed"},
		"under way":                {in("Progressing"), "Progressing", "told of Progressing"},
		"under way and in trouble": {in("Progressing", "Healthy", "False", "CheckFailed", "too slow"), "Progressing", "too slow"},
		"waiting for somebody":     {in("WaitingPromotion", "Healthy", "False", "WaitingForApproval", "gate"), "Suspended", "gate"},
		"waiting for a window":     {in("Succeeded", "Healthy", "False", "WaitingForSchedule", "not now"), "Suspended", "not now"},
		"waiting for its turn":     {in("Succeeded", "Healthy", "False", "WaitingForTurn", "number 2"), "Progressing", "number 2"},
		"waiting for others":       {in("Failed", "Healthy", "False", "WaitingForCanaries", "api first"), "Progressing", "api first"},
		"suspended":                {in("Succeeded", "Healthy", "False", "Suspended", "by spec.suspend"), "Suspended", "by spec.suspend"},
		"a fault of the spec":      {in("Succeeded", "Healthy", "False", "InvalidSpec", "spec.x: y"), "Degraded", "spec.x: y"},
		"a target of another":      {in("", "Healthy", "False", "DuplicateTarget", "taken"), "Progressing", "the operator has not seen it yet"},
		"taking over with a fault": {in("Initializing", "Healthy", "False", "DuplicateTarget", "taken"), "Degraded", "taken"},
	} {
		t.Run(name, func(t *testing.T) {
			if health, message := healthOf(t, script, tt.status); health != tt.health || message != tt.message {
				t.Errorf("%s: %s, want %s: %s", health, message, tt.health, tt.message)
			}
		})
	}
}

package services_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/services"
)

// takenOver is what usersService becomes when Flagger has taken it over and kept nothing.
const takenOver = `
apiVersion: v1
kind: Service
metadata: {name: podinfo, namespace: test}
spec:
  type: ClusterIP
  selector: {app: podinfo-primary}
  ports: [{name: http, port: 9898, protocol: TCP, targetPort: 9898}]
`

// giveBack makes the Services of users what they were, and checks that nothing remains to be done.
func (w *world) giveBack(in services.Input) {
	w.Helper()
	for i := range 2 {
		originals, err := services.Originals(w.canary, in, w.store)
		if err != nil {
			w.Fatal(err)
		}
		for _, o := range originals {
			if o.Ref.Name != "podinfo" {
				w.Errorf("%s is to be given back, which is ours", o.Ref)
			}
		}
		if err := w.applier.Apply(w.Context(), w.canary, originals); err != nil {
			w.Fatal(err)
		}
		if writes := w.store.Writes(); i > 0 && len(writes) > 0 {
			w.Errorf("given back once more by %v", writes)
		}
	}
}

func (w *world) spec(name string) map[string]any {
	w.Helper()
	spec, _, err := unstructured.NestedMap(w.get(name).Object, "spec")
	if err != nil {
		w.Fatal(err)
	}
	return spec
}

// B7: the Service of a user becomes what it was before it was taken over: all of it where that was kept, else its selector.
// Our own are left to the garbage collector.
func TestIncidentB07_ServiceIsGivenBack(t *testing.T) {
	type fields = map[string]any
	known, gone := input(), services.Input{}
	theirs := fields{
		"app": "podinfo", "tier": "web",
	}
	theirPorts := []any{
		fields{"name": "admin", "port": int64(9000), "protocol": "TCP", "targetPort": int64(9000), "nodePort": int64(30001)},
		fields{"port": int64(9898), "protocol": "TCP", "targetPort": int64(8080), "nodePort": int64(30002)},
	}
	ours := []any{fields{"name": "http", "port": int64(9898), "protocol": "TCP", "targetPort": int64(9898), "nodePort": int64(30002)}}
	tests := map[string]struct {
		service, kubectl string
		input            services.Input
		selector         fields
		ports            []any
	}{
		"made by a client": {usersService, "", known, theirs, theirPorts},
		"made by kubectl, which leaves node ports to the server": {usersService,
			`{"spec":{"selector":{"app":"podinfo","tier":"web"},"ports":[{"port":9898}]}}`, known, theirs,
			[]any{fields{"port": int64(9898), "protocol": "TCP", "targetPort": int64(9898), "nodePort": int64(30002)}}},
		"kubectl knows of nothing":    {usersService, `{"spec":{"type":"LoadBalancer"}}`, known, fields{"app": "podinfo"}, ours},
		"target gone, made by client": {usersService, "", gone, theirs, theirPorts},
		"target gone, by kubectl":     {usersService, `{"spec":{"selector":{"tier":"web"}}}`, gone, fields{"tier": "web"}, ours},
		"taken over by Flagger": {takenOver, "", known, fields{"app": "podinfo"},
			[]any{fields{"name": "http", "port": int64(9898), "protocol": "TCP", "targetPort": int64(9898)}}},
		"taken over by Flagger, target gone": {takenOver, "", gone, fields{"app": "podinfo-primary"},
			[]any{fields{"name": "http", "port": int64(9898), "protocol": "TCP", "targetPort": int64(9898)}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.put(test.service)
			before := w.spec("podinfo")
			if test.kubectl != "" {
				w.edit("podinfo", []string{"metadata", "annotations", router.KubectlAnnotation}, test.kubectl)
			}
			w.apply()
			w.giveBack(test.input)
			before["selector"], before["ports"] = test.selector, test.ports
			if diff := cmp.Diff(before, w.spec("podinfo")); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
			if kept, ok := w.get("podinfo").GetAnnotations()[router.OriginalAnnotation]; ok {
				t.Errorf("annotation stays: %s", kept)
			}
		})
	}
}

// What was changed on behalf of a taken over Service later is no original of it.
func TestRepairKeepsNoOriginal(t *testing.T) {
	w := newWorld(t)
	w.put(takenOver)
	w.canary.Spec.Service.PortName = "web"
	w.apply()
	if kept, ok := w.get("podinfo").GetAnnotations()[router.OriginalAnnotation]; ok {
		t.Errorf("kept as the original: %s", kept)
	}
}

func TestExternalNameAndTrafficDistributionAreGivenBack(t *testing.T) {
	w := newWorld(t, func(s *v1beta1.CanaryService) { s.TrafficDistribution = "PreferClose" })
	w.put(`
apiVersion: v1
kind: Service
metadata: {name: podinfo, namespace: test}
spec: {type: ExternalName, externalName: podinfo.example.com, sessionAffinity: None}
`)
	before := w.spec("podinfo")
	w.apply()
	if diff := cmp.Diff("ClusterIP", w.spec("podinfo")["type"]); diff != "" {
		t.Errorf("type (-want +got):\n%s", diff)
	}
	w.giveBack(input())
	if diff := cmp.Diff(before, w.spec("podinfo")); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

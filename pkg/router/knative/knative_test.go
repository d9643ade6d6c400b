package knative_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/conformance"
	"flagger.app/flagger/pkg/router/knative"
)

var ref = knative.Ref("test", "podinfo")

func canary() *v1beta1.Canary {
	c := conformance.Podinfo()
	c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "podinfo"}
	return c
}

// store holds a Service of a user, checked by the CRD of Knative.
func store(t *testing.T, primary string) *conformance.Store {
	t.Helper()
	s := conformance.NewStore(conformance.LoadSchemas(t, conformance.CRDs{
		Module: "knative.dev/serving", Version: "v0.51.0", File: "config/core/300-resources/service.yaml",
	}))
	service := router.NewObject(ref, map[string]string{"team": "a"}, map[string]string{"example.com/owner": "a"}, map[string]any{
		"template": map[string]any{"spec": map[string]any{
			"containers": []any{map[string]any{"image": "podinfo:1"}},
		}},
	})
	if primary != "" {
		annotate(service, primary)
	}
	if err := s.Put(ref, service); err != nil {
		t.Fatal(err)
	}
	return s
}

func annotate(service *unstructured.Unstructured, primary string) {
	annotations := service.GetAnnotations()
	annotations[knative.PrimaryAnnotation] = primary
	service.SetAnnotations(annotations)
}

// follow does what Knative does about a change of the traffic.
func follow(t *testing.T, s *conformance.Store, latest string) {
	t.Helper()
	edit(t, s, func(u *unstructured.Unstructured) {
		entries, _, _ := unstructured.NestedSlice(u.Object, "spec", "traffic")
		for _, e := range entries {
			if entry := e.(map[string]any); entry["latestRevision"] == true {
				entry["revisionName"] = latest
			}
		}
		u.Object["status"] = map[string]any{
			"observedGeneration": u.GetGeneration(), "traffic": entries,
			"conditions": []any{map[string]any{"type": "RoutesReady", "status": "True"}},
		}
	})
}

func edit(t *testing.T, s *conformance.Store, change func(*unstructured.Unstructured)) {
	t.Helper()
	if err := s.Edit(ref, change); err != nil {
		t.Fatal(err)
	}
	s.Writes()
}

func apply(t *testing.T, s *conformance.Store, weight int32) []conformance.Write {
	t.Helper()
	objects, err := knative.New().Render(canary(), router.Traffic{Primary: 100 - weight, Canary: weight}, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := router.NewApplier(s, s).Apply(t.Context(), canary(), objects); err != nil {
		t.Fatal(err)
	}
	return s.Writes()
}

func TestEachWeight(t *testing.T) {
	// The latest revision may be the primary, as it is after a promotion.
	for _, latest := range []string{"podinfo-00002", "podinfo-00001"} {
		s := store(t, "podinfo-00001")
		for weight := int32(0); weight <= 100; weight++ {
			apply(t, s, weight)
			if got, err := knative.New().Read(canary(), s); err == nil && got.Settled {
				t.Errorf("weight %d is settled before Knative has seen it", weight)
			}
			follow(t, s, latest)
			got, err := knative.New().Read(canary(), s)
			want := router.Observed{Traffic: router.Traffic{Primary: 100 - weight, Canary: weight}, Settled: true}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("weight %d: %v (-want +got):\n%s", weight, err, diff)
			}
			if writes := apply(t, s, weight); len(writes) > 0 {
				t.Errorf("weight %d again: %v, want no write", weight, writes)
			}
		}
	}
}

func TestTheServiceOfTheUserSurvives(t *testing.T) {
	s := store(t, "podinfo-00001")
	before, _ := s.Get(ref)
	apply(t, s, 30)
	after, _ := s.Get(ref)
	if owners := after.GetOwnerReferences(); len(owners) > 0 {
		t.Errorf("owners %v, want none", owners)
	}
	if after.GetAnnotations()["example.com/owner"] != "a" || after.GetLabels()["team"] != "a" {
		t.Errorf("labels %v, annotations %v", after.GetLabels(), after.GetAnnotations())
	}
	template := func(u *unstructured.Unstructured) any { return u.Object["spec"].(map[string]any)["template"] }
	if diff := cmp.Diff(template(before), template(after)); diff != "" {
		t.Errorf("template (-before +after):\n%s", diff)
	}
	// Drift goes back to the present step.
	edit(t, s, func(u *unstructured.Unstructured) {
		u.Object["spec"].(map[string]any)["traffic"] = []any{map[string]any{"latestRevision": true, "percent": int64(100)}}
	})
	apply(t, s, 30)
	repaired, _ := s.Get(ref)
	if diff := cmp.Diff(after.Object["spec"], repaired.Object["spec"]); diff != "" {
		t.Errorf("spec after a repair (-want +got):\n%s", diff)
	}
}

// without the annotation nothing is known about the primary, so nothing is routed and nothing breaks.
func TestA14_NoPrimary(t *testing.T) {
	for name, s := range map[string]*conformance.Store{"no annotation": store(t, ""), "no service": conformance.NewStore(nil)} {
		if writes := apply(t, s, 0); len(writes) > 0 {
			t.Errorf("%s: %v, want no write", name, writes)
		}
		if got, err := knative.New().Read(canary(), s); err == nil {
			t.Errorf("%s: Read() = %+v, want an error", name, got)
		}
	}
	if _, err := knative.New().Read(canary(), conformance.NewStore(nil)); !errors.Is(err, router.ErrNotFound) {
		t.Errorf("Read() of nothing: %v, want ErrNotFound", err)
	}
}

// whatever the traffic is, it is read or refused.
func TestA14_OddTraffic(t *testing.T) {
	entry := func(latest any, name string, percent any) map[string]any {
		e := map[string]any{"revisionName": name}
		if latest != nil {
			e["latestRevision"] = latest
		}
		if percent != nil {
			e["percent"] = percent
		}
		return e
	}
	primary := entry(false, "podinfo-00001", int64(100))
	for name, c := range map[string]struct {
		traffic []any
		fails   bool
	}{
		"nothing":                   {nil, true},
		"one revision":              {[]any{entry(true, "podinfo-00001", int64(100))}, true},
		"latestRevision is missing": {[]any{entry(true, "podinfo-00002", int64(0)), entry(nil, "podinfo-00001", int64(100))}, false},
		"percent is missing":        {[]any{entry(true, "podinfo-00002", nil), primary}, false},
		"percent is no number":      {[]any{entry(true, "podinfo-00002", "0"), primary}, true},
		"another primary":           {[]any{entry(true, "podinfo-00002", int64(0)), entry(false, "podinfo-00000", int64(100))}, true},
		"a third revision":          {[]any{entry(true, "podinfo-00002", int64(0)), entry(false, "podinfo-00001", int64(50))}, true},
		"no object":                 {[]any{"podinfo"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			service := router.NewObject(ref, nil, map[string]string{knative.PrimaryAnnotation: "podinfo-00001"}, nil)
			service.Object["spec"] = map[string]any{"traffic": c.traffic}
			s := conformance.NewStore(nil)
			if err := s.Put(ref, service); err != nil {
				t.Fatal(err)
			}
			got, err := knative.New().Read(canary(), s)
			if (err != nil) != c.fails || err == nil && got.Traffic != (router.Traffic{Primary: 100}) {
				t.Errorf("Read() = %+v, %v; want failure %t", got, err, c.fails)
			}
		})
	}
}

func TestSettled(t *testing.T) {
	for name, c := range map[string]struct {
		change func(status map[string]any)
		reason string
		silent bool
	}{
		"older generation": {func(s map[string]any) { s["observedGeneration"] = int64(0) },
			"Knative has not seen the newest change of the Service", false},
		"routes not ready": {func(s map[string]any) {
			s["conditions"] = []any{map[string]any{"type": "RoutesReady", "status": "Unknown", "message": "Ingress has not yet been reconciled."}}
		}, "RoutesReady is Unknown: Ingress has not yet been reconciled.", false},
		"no conditions": {func(s map[string]any) { delete(s, "conditions") }, "the condition RoutesReady is missing", true},
		"no report":     {func(s map[string]any) { clear(s) }, "Knative has not reported on the Service", true},
		"other traffic": {func(s map[string]any) { s["traffic"] = []any{} }, "status.traffic is not as spec.traffic wants it", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t, "podinfo-00001")
			apply(t, s, 10)
			follow(t, s, "podinfo-00002")
			edit(t, s, func(u *unstructured.Unstructured) { c.change(u.Object["status"].(map[string]any)) })
			got, err := knative.New().Read(canary(), s)
			want := router.Observed{Traffic: router.Traffic{Primary: 90, Canary: 10}, Silent: c.silent, Reason: c.reason}
			if err != nil || got != want {
				t.Errorf("Read() = %+v, %v; want %+v", got, err, want)
			}
		})
	}
}

func TestRevert(t *testing.T) {
	s := store(t, "podinfo-00001")
	apply(t, s, 0)
	live := func() []router.Object {
		rendered, err := knative.New().Render(canary(), router.Traffic{Primary: 100}, s)
		if err != nil {
			t.Fatal(err)
		}
		originals, err := router.Originals(canary(), rendered, s)
		if err != nil {
			t.Fatal(err)
		}
		return originals
	}
	if err := router.NewApplier(s, s).Apply(t.Context(), canary(), live()); err != nil {
		t.Fatal(err)
	}
	got, _ := s.Get(ref)
	if traffic, ok := got.Object["spec"].(map[string]any)["traffic"]; ok {
		t.Errorf("traffic %v, want none, as before", traffic)
	}
	if diff := cmp.Diff(map[string]string{"example.com/owner": "a"}, got.GetAnnotations()); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if again := live(); len(again) > 0 {
		t.Errorf("still to revert: %s", fmt.Sprint(again))
	}
}

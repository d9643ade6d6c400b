package workload

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/fingerprint"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
	"flagger.app/flagger/pkg/router/knative"
)

func knativeCanary() *v1beta1.Canary {
	c := canary()
	c.Spec.TargetRef = v1beta1.LocalObjectReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "podinfo"}
	return c
}

func knativeObject(latest, primary string) *unstructured.Unstructured {
	s := router.NewObject(knative.Ref("test", "podinfo"), nil, map[string]string{"example.com/owner": "a"}, map[string]any{})
	if primary != "" {
		s.SetAnnotations(map[string]string{"example.com/owner": "a", knative.PrimaryAnnotation: primary})
	}
	s.Object["status"] = map[string]any{"latestCreatedRevisionName": latest}
	return s
}

func knativeRevision(name, ready string) *unstructured.Unstructured {
	r := router.NewObject(knativeRevisionRef("test", name), nil, nil, nil)
	r.Object["status"] = map[string]any{"conditions": []any{
		map[string]any{"type": "Ready", "status": ready, "message": "Container failed"},
	}}
	return r
}

func named(t *testing.T, name string) rollout.Revision {
	t.Helper()
	hash, err := fingerprint.Value(name)
	if err != nil {
		t.Fatal(err)
	}
	return rollout.Revision{Fingerprint: hash}
}

func TestObserveKnative(t *testing.T) {
	o, problem := (&knativeService{}).Observe(knativeCanary(), live{
		"podinfo":   knativeObject("podinfo-2", "podinfo-1"),
		"podinfo-1": knativeRevision("podinfo-1", "True"), "podinfo-2": knativeRevision("podinfo-2", "False"),
	}, now)
	if problem != nil {
		t.Fatal(problem)
	}
	want := Observation{
		Target: rollout.Workload{
			Exists: true, Name: "podinfo", Kind: "Service", Revision: named(t, "podinfo-2"), Replicas: 1, Unscalable: true,
			// Knative goes on trying: no deadline but that of the step applies.
			Health: waiting("revision podinfo-2.test is not ready: Container failed"),
		},
		Primary: rollout.Workload{
			Exists: true, Name: "podinfo-primary", Kind: "Service", Revision: named(t, "podinfo-1"), Replicas: 1, Available: 1,
			Unscalable: true, Health: rollout.Health{State: rollout.Ready}, Copy: named(t, "podinfo-1").Fingerprint,
		},
	}
	want.Target.Revision.FlaggerHash = fingerprint.FlaggerName("podinfo-2")
	if diff := cmp.Diff(want, o); diff != "" {
		t.Errorf("observation (-want +got):\n%s", diff)
	}
}

// what is missing is a problem or a wait, and never breaks.
func TestA14_IncompleteKnativeService(t *testing.T) {
	for name, c := range map[string]struct {
		live    router.Live
		problem string
		unknown bool
	}{
		"no service":  {live{}, `knative service podinfo.test get query error: services.serving.knative.dev "podinfo" not found`, false},
		"no status":   {live{"podinfo": knativeObject("", "")}, "knative service podinfo.test has created no revision yet", true},
		"no revision": {live{"podinfo": knativeObject("podinfo-1", "podinfo-1")}, "", false},
		"no answer": {liveFunc(func(router.Ref) (*unstructured.Unstructured, error) { return nil, errors.New("away") }),
			"knative service podinfo.test get query error: away", true},
	} {
		t.Run(name, func(t *testing.T) {
			o, problem := (&knativeService{}).Observe(knativeCanary(), c.live, now)
			if (problem == nil) != (c.problem == "") || problem != nil && (!strings.HasPrefix(problem.Message, c.problem) || problem.Unknown != c.unknown) {
				t.Errorf("problem %+v, want %q, unknown %t", problem, c.problem, c.unknown)
			}
			for _, w := range []rollout.Workload{o.Target, o.Primary} {
				if w.Health.State != rollout.Waiting || w.Health.Reason == "" || w.Available != 0 {
					t.Errorf("%s: %+v, want a wait", w.Name, w)
				}
			}
		})
	}
}

func TestPromoteKnative(t *testing.T) {
	traffic := []any{map[string]any{"latestRevision": true, "percent": int64(0)}, map[string]any{"revisionName": "podinfo-1", "percent": int64(100)}}
	lost := knativeObject("podinfo-2", "")
	lost.Object["spec"] = map[string]any{"traffic": traffic}
	for name, c := range map[string]struct {
		object       *unstructured.Unstructured
		revision     string
		promoted     bool
		want, failed string
	}{
		"bootstrap":                    {knativeObject("podinfo-1", ""), "podinfo-1", false, "podinfo-1", ""},
		"promotion":                    {knativeObject("podinfo-2", "podinfo-1"), "podinfo-2", false, "podinfo-2", ""},
		"A-06 another revision by now": {knativeObject("podinfo-3", "podinfo-1"), "podinfo-2", false, "podinfo-1", ErrMoved.Error()},
		"A-14 annotation lost":         {lost, "podinfo-1", true, "podinfo-1", ""},
		"all is lost":                  {knativeObject("podinfo-2", ""), "podinfo-1", true, "", "name it in the annotation flagger.app/primary-revision"},
	} {
		t.Run(name, func(t *testing.T) {
			lists := map[schema.GroupVersionResource]string{knative.Ref("", "").Resource: "ServiceList"}
			client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, c.object.DeepCopy())
			canary := knativeCanary()
			if c.promoted {
				canary.Status.Rollout = &v1beta1.RolloutStatus{Promoted: &v1beta1.RevisionRef{Fingerprint: named(t, c.revision).Fingerprint}}
			}
			k := &knativeService{client: client}
			for range 2 {
				err := k.EnsurePrimary(t.Context(), canary, named(t, c.revision))
				if (err == nil) != (c.failed == "") || err != nil && !strings.Contains(err.Error(), c.failed) {
					t.Errorf("error %v, want %q", err, c.failed)
				}
			}
			got, err := client.Resource(knative.Ref("", "").Resource).Namespace("test").Get(t.Context(), "podinfo", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			annotations := got.GetAnnotations()
			if annotations[knative.PrimaryAnnotation] != c.want || annotations["example.com/owner"] != "a" {
				t.Errorf("annotations %v, want the primary %q", annotations, c.want)
			}
			if n := len(writes(client)); n > 1 {
				t.Errorf("%d writes", n)
			}
		})
	}
}

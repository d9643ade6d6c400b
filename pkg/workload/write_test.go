package workload

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

func TestA06_NothingIsWrittenWhenTheTargetMoved(t *testing.T) {
	for _, exists := range []bool{false, true} {
		analyzed := target(t)
		client, d := cluster(analyzed)
		if exists {
			ensure(t, d, canary(), analyzed)
		}
		revision := revisionOf(t, withImage(t, analyzed, "podinfo:analyzed"))
		put(t, client, withImage(t, analyzed, "podinfo:later"))
		client.ClearActions()
		if err := d.EnsurePrimary(t.Context(), canary(), revision); !errors.Is(err, ErrMoved) {
			t.Errorf("primary exists %v: error = %v, want ErrMoved", exists, err)
		}
		if got := writes(client); len(got) != 0 {
			t.Errorf("primary exists %v: writes = %v", exists, got)
		}
	}
}

func TestB25_APromotionDoneTwiceWritesOnce(t *testing.T) {
	client, d := cluster(target(t))
	ensure(t, d, canary(), target(t))
	first := get(t, client, "podinfo-primary")
	client.ClearActions()
	ensure(t, d, canary(), target(t))
	if got := writes(client); len(got) != 0 {
		t.Errorf("second time: writes = %v", got)
	}

	// Something around the template changes: it is copied, and no pod restarts.
	next := set(t, target(t), int64(10), "spec", "minReadySeconds")
	put(t, client, next)
	ensure(t, d, canary(), next)
	second := get(t, client, "podinfo-primary")
	if diff := cmp.Diff(mapAt(first.Object, "spec", "template"), mapAt(second.Object, "spec", "template")); diff != "" {
		t.Errorf("template changed (-first +second):\n%s", diff)
	}
	if got := intAt(second.Object, 0, "spec", "minReadySeconds"); got != 10 {
		t.Errorf("minReadySeconds = %d, want 10", got)
	}
}

func TestB25_AnotherRevisionRestartsThePods(t *testing.T) {
	client, d := cluster(target(t))
	ensure(t, d, canary(), target(t))
	before := idOf(mapAt(get(t, client, "podinfo-primary").Object, "spec", "template"))
	next := withImage(t, target(t), "podinfo:next")
	put(t, client, next)
	ensure(t, d, canary(), next)
	after := idOf(mapAt(get(t, client, "podinfo-primary").Object, "spec", "template"))
	if before == after || after == "" {
		t.Errorf("flagger-id before %q, after %q: want another one", before, after)
	}
}

func TestB25_OtherConfigsRestartThePods(t *testing.T) {
	client, d := cluster(target(t))
	revision := revisionOf(t, target(t))
	ids := map[string]bool{}
	for _, checksum := range []string{"1", "2", "2"} {
		revision.Configs = map[string]string{"configmap/podinfo": checksum}
		if err := d.EnsurePrimary(t.Context(), canary(), revision); err != nil {
			t.Fatal(err)
		}
		ids[idOf(mapAt(get(t, client, "podinfo-primary").Object, "spec", "template"))] = true
	}
	if len(ids) != 2 {
		t.Errorf("%d ids for two contents of the ConfigMap", len(ids))
	}
}

func TestB25_PrimaryOfFlaggerIsNotRestarted(t *testing.T) {
	client, d := cluster(target(t), flaggerPrimary(t, target(t)))
	ensure(t, d, canary(), target(t))
	primary := get(t, client, "podinfo-primary")
	if got := idOf(mapAt(primary.Object, "spec", "template")); got != "0e0f6a4c-random" {
		t.Errorf("flagger-id = %q, want that of Flagger", got)
	}
	if got := recordedCopy(primary, revisionOf(t, primary).Fingerprint); got != revisionOf(t, target(t)).Fingerprint {
		t.Errorf("recorded revision = %q", got)
	}
}

// flaggerPrimary is the primary as Flagger leaves it: no record of ours, a random id.
func flaggerPrimary(t *testing.T, from *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	client, d := cluster(from)
	ensure(t, d, canary(), from)
	primary := get(t, client, "podinfo-primary")
	primary.SetAnnotations(nil)
	return set(t, primary, "0e0f6a4c-random", "spec", "template", "metadata", "annotations", idAnnotation)
}

func TestConflictsAreTriedAgain(t *testing.T) {
	next := withImage(t, target(t), "podinfo:next")
	for _, conflicts := range []int{1, writeAttempts - 1, writeAttempts} {
		client, d := cluster(target(t))
		ensure(t, d, canary(), target(t))
		put(t, client, next)
		left := conflicts
		client.PrependReactor("update", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
			left--
			if left < 0 {
				return false, nil, nil
			}
			// Somebody else wrote: an update made from the earlier read would take this back.
			stored, err := client.Tracker().Get(deploymentKind().resource, "test", "podinfo-primary")
			if err != nil {
				t.Fatal(err)
			}
			other := stored.(*unstructured.Unstructured).DeepCopy()
			other.SetAnnotations(merge(other.GetAnnotations(), map[string]string{"foreign": "yes"}))
			if err := client.Tracker().Update(deploymentKind().resource, other, "test"); err != nil {
				t.Fatal(err)
			}
			return true, nil, apierrors.NewConflict(deploymentKind().resource.GroupResource(), "podinfo-primary", nil)
		})
		err := d.EnsurePrimary(t.Context(), canary(), revisionOf(t, next))
		if conflicts == writeAttempts {
			if !apierrors.IsConflict(err) {
				t.Errorf("%d conflicts: error = %v, want a conflict", conflicts, err)
			}
			continue
		}
		primary := get(t, client, "podinfo-primary")
		if err != nil || imageOf(primary) != "podinfo:next" || primary.GetAnnotations()["foreign"] != "yes" {
			t.Errorf("%d conflicts: error %v, image %s, annotations %v", conflicts, err, imageOf(primary), primary.GetAnnotations())
		}
	}
}

func TestConflictWithAMovedTargetWritesNothing(t *testing.T) {
	next := withImage(t, target(t), "podinfo:next")
	client, d := cluster(target(t))
	ensure(t, d, canary(), target(t))
	put(t, client, next)
	first := true
	client.PrependReactor("update", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
		if !first {
			return false, nil, nil
		}
		first = false
		if err := client.Tracker().Update(deploymentKind().resource, withImage(t, next, "podinfo:later"), "test"); err != nil {
			t.Fatal(err)
		}
		return true, nil, apierrors.NewConflict(deploymentKind().resource.GroupResource(), "podinfo-primary", nil)
	})
	if err := d.EnsurePrimary(t.Context(), canary(), revisionOf(t, next)); !errors.Is(err, ErrMoved) {
		t.Errorf("error = %v, want ErrMoved", err)
	}
	if got := imageOf(get(t, client, "podinfo-primary")); got != imageOf(target(t)) {
		t.Errorf("image = %s, want the one from before", got)
	}
}

// mutating is an admission webhook that gives the pods of every Deployment another priority.
func mutating(t *testing.T, client *fake.FakeDynamicClient) {
	t.Helper()
	mutate := func(action clienttesting.Action) (bool, runtime.Object, error) {
		// Both kinds of action have the object.
		obj := action.(clienttesting.CreateAction).GetObject().(*unstructured.Unstructured)
		set(t, obj, "high", podSpec("priorityClassName")...)
		return false, nil, nil
	}
	client.PrependReactor("create", "deployments", mutate)
	client.PrependReactor("update", "deployments", mutate)
}

func TestTemplateChangedByAdmissionIsStillTheCopy(t *testing.T) {
	client, d := cluster(target(t))
	mutating(t, client)
	for _, image := range []string{"podinfo:1", "podinfo:2"} {
		next := withImage(t, target(t), image)
		if err := client.Tracker().Update(deploymentKind().resource, next, "test"); err != nil {
			t.Fatal(err)
		}
		ensure(t, d, canary(), next)
		primary := get(t, client, "podinfo-primary")
		if got := recordedCopy(primary, revisionOf(t, primary).Fingerprint); got != revisionOf(t, next).Fingerprint {
			t.Errorf("%s: recorded revision = %q", image, got)
		}
		client.ClearActions()
		ensure(t, d, canary(), next)
		if got := writes(client); len(got) != 0 {
			t.Errorf("%s: second time: writes = %v", image, got)
		}
	}
}

func TestLostRecordRestartsNothing(t *testing.T) {
	client, d := cluster(target(t))
	mutating(t, client)
	crash := true
	client.PrependReactor("patch", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
		return crash, nil, errors.New("the process dies here")
	})
	if err := d.EnsurePrimary(t.Context(), canary(), revisionOf(t, target(t))); err == nil {
		t.Fatal("no error")
	}
	before := get(t, client, "podinfo-primary")
	crash = false
	ensure(t, d, canary(), target(t))
	after := get(t, client, "podinfo-primary")
	if diff := cmp.Diff(mapAt(before.Object, "spec"), mapAt(after.Object, "spec")); diff != "" {
		t.Errorf("spec changed (-before +after):\n%s", diff)
	}
	if recordedCopy(after, revisionOf(t, after).Fingerprint) == "" {
		t.Error("nothing recorded")
	}
}

func TestForeignPrimaryIsNotOverwritten(t *testing.T) {
	tests := []struct {
		name   string
		change func(*unstructured.Unstructured)
		want   string
	}{
		{"owner", func(p *unstructured.Unstructured) {
			controller := true
			p.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Application", Name: "shop", UID: "u", Controller: &controller}})
		}, "belongs to Application shop"},
		{"selector", func(p *unstructured.Unstructured) {
			mapAt(p.Object, "spec", "selector")["matchLabels"] = map[string]any{"app": "podinfo-primary", "track": "x"}
		}, "not by app=podinfo-primary alone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			primary := flaggerPrimary(t, target(t))
			tt.change(primary)
			next := withImage(t, target(t), "podinfo:next")
			client, d := cluster(next, primary)
			err := d.EnsurePrimary(t.Context(), canary(), revisionOf(t, next))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
			if got := writes(client); len(got) != 0 {
				t.Errorf("writes = %v", got)
			}
			_, problem := d.Observe(canary(), live{"podinfo": next, "podinfo-primary": primary}, now)
			if problem == nil || problem.Reason != rollout.ReasonInvalidSpec || !strings.Contains(problem.Message, tt.want) {
				t.Errorf("problem = %+v, want one with %q", problem, tt.want)
			}
		})
	}
}

func TestScaleUp(t *testing.T) {
	hpa := func(kind, field string, value any) *unstructured.Unstructured {
		for _, s := range scalers() {
			if s.kind == kind {
				return &unstructured.Unstructured{Object: map[string]any{
					"apiVersion": s.resource.GroupVersion().String(), "kind": kind,
					"metadata": map[string]any{"name": "podinfo", "namespace": "test"},
					"spec":     map[string]any{field: value},
				}}
			}
		}
		return nil
	}
	tests := []struct {
		name            string
		target, primary int64
		scaler          *unstructured.Unstructured
		want            int64
		writes          int
	}{
		{"as many as the primary", 0, 4, nil, 4, 1},
		{"one where the primary has none", 0, 0, nil, 1, 1},
		{"what is up stays", 2, 4, nil, 2, 0},
		{"least of the HPA", 0, 4, hpa("HorizontalPodAutoscaler", "minReplicas", int64(2)), 2, 1},
		{"HPA without a minimum", 0, 4, hpa("HorizontalPodAutoscaler", "maxReplicas", int64(9)), 1, 1},
		{"least of the ScaledObject", 0, 4, hpa("ScaledObject", "minReplicaCount", int64(3)), 3, 1},
		{"ScaledObject that may go to zero", 0, 4, hpa("ScaledObject", "minReplicaCount", int64(0)), 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := set(t, target(t), tt.target, "spec", "replicas")
			primary := set(t, flaggerPrimary(t, obj), tt.primary, "spec", "replicas")
			c, objects := canary(), []*unstructured.Unstructured{obj, primary}
			if tt.scaler != nil {
				c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{Kind: tt.scaler.GetKind(), Name: "podinfo"}
				objects = append(objects, tt.scaler)
			}
			client, d := cluster(objects...)
			if err := d.ScaleUp(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if got := len(writes(client)); got != tt.writes {
				t.Errorf("%d writes, want %d", got, tt.writes)
			}
			want := set(t, obj.DeepCopy(), tt.want, "spec", "replicas")
			if diff := cmp.Diff(want.Object, get(t, client, "podinfo").Object); diff != "" {
				t.Errorf("more than spec.replicas differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestScaleToZeroChangesOneField(t *testing.T) {
	client, d := cluster(target(t))
	if err := d.ScaleToZero(t.Context(), canary()); err != nil {
		t.Fatal(err)
	}
	want := set(t, target(t), int64(0), "spec", "replicas")
	if diff := cmp.Diff(want.Object, get(t, client, "podinfo").Object); diff != "" {
		t.Errorf("more than spec.replicas differs (-want +got):\n%s", diff)
	}
	patch := client.Actions()[0].(clienttesting.PatchAction)
	if got := string(patch.GetPatch()); got != `{"spec":{"replicas":0}}` {
		t.Errorf("patch = %s", got)
	}
}

func TestErrorsNameWhatFailed(t *testing.T) {
	broken := errors.New("etcd is away")
	tests := []struct {
		name, verb, resource string
		primary              bool
		do                   func(context.Context, *deployment) error
		want                 string
	}{
		{"target can't be read", "get", "deployments", false, ensureNext(t),
			"deployment podinfo.test get query error: etcd is away"},
		{"primary can't be created", "create", "deployments", false, ensureNext(t),
			"createPrimaryDeployment failed: deployment podinfo-primary.test create error: etcd is away"},
		{"revision can't be stored", "create", "controllerrevisions", false, ensureNext(t),
			"createPrimaryDeployment failed: controllerrevision "},
		{"primary can't be updated", "update", "deployments", true, ensureNext(t),
			"updating deployment podinfo-primary.test template spec failed: etcd is away"},
		{"target can't be scaled up", "patch", "deployments", true,
			func(ctx context.Context, d *deployment) error { return d.ScaleUp(ctx, canary()) },
			"scaling up podinfo.test to 3 failed: deployment podinfo.test patch error: etcd is away"},
		{"target can't be scaled down", "patch", "deployments", true,
			func(ctx context.Context, d *deployment) error { return d.ScaleToZero(ctx, canary()) },
			"scaling down podinfo.test to 0 failed: deployment podinfo.test patch error: etcd is away"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			objects := []*unstructured.Unstructured{set(t, withImage(t, target(t), "podinfo:next"), int64(0), "spec", "replicas")}
			if tt.primary {
				objects = append(objects, flaggerPrimary(t, target(t)))
			}
			client, d := cluster(objects...)
			client.PrependReactor(tt.verb, tt.resource, func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, broken
			})
			err := tt.do(t.Context(), d)
			if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error = %v\nwant    %s", err, tt.want)
			}
		})
	}
}

func ensureNext(t *testing.T) func(context.Context, *deployment) error {
	t.Helper()
	revision := revisionOf(t, withImage(t, target(t), "podinfo:next"))
	return func(ctx context.Context, d *deployment) error { return d.EnsurePrimary(ctx, canary(), revision) }
}

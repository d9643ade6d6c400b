package workload

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
	"flagger.app/flagger/pkg/router"
)

const hpaYAML = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: podinfo, namespace: test, labels: {team: shop, x.toolkit.fluxcd.io/name: apps}, annotations: {a: b}}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  minReplicas: 2
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 99}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 60}}
  someFutureField: {keep: true}`

const scaledObjectYAML = `
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: podinfo
  namespace: test
  labels: {team: shop, scaledobject.keda.sh/name: podinfo}
  annotations: {autoscaling.keda.sh/paused-replicas: "0", autoscaling.keda.sh/paused: "true", scaledobject.keda.sh/transfer-hpa-ownership: "true", kubectl.kubernetes.io/last-applied-configuration: "{}"}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo, envSourceContainerName: podinfod}
  minReplicaCount: 1
  maxReplicaCount: 5
  initialCooldownPeriod: 120
  fallback: {failureThreshold: 3, replicas: 2, behavior: currentReplicas}
  advanced: {scalingModifiers: {formula: x}, horizontalPodAutoscalerConfig: {name: podinfo-hpa}}
  triggers:
  - {type: prometheus, name: requests, useCachedMetrics: true, metadata: {query: 'sum(rate(http{app="podinfo-canary",host=~"podinfo|podinfo-primary"}[1m]))', threshold: "5"}}
  - {type: cron, metadata: {start: 0 6 * * *}}`

func scaled(kind string, edits ...func(*v1beta1.AutoscalerReference)) *v1beta1.Canary {
	c := canary()
	c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{Kind: kind, Name: "podinfo"}
	for _, edit := range edits {
		edit(c.Spec.AutoscalerRef)
	}
	return c
}

func wantedScaler(t *testing.T, c *v1beta1.Canary, objects live) *unstructured.Unstructured {
	t.Helper()
	list, problem := PrimaryScaler(c, objects)
	if problem != nil || len(list) != 1 {
		t.Fatalf("%d objects, problem %+v", len(list), problem)
	}
	if list[0].Ref.Name != "podinfo-primary" || !cmp.Equal(list[0].Owned, [][]string{{"spec"}}) {
		t.Errorf("object %s, owned %v", list[0].Ref, list[0].Owned)
	}
	return list[0].Wanted
}

func TestPrimaryHPAHasEveryFieldOfTheTargets(t *testing.T) {
	source := object(t, hpaYAML)
	before := source.DeepCopy()
	got := wantedScaler(t, scaled("HorizontalPodAutoscaler"), live{"podinfo": source})
	want := set(t, source.DeepCopy(), "podinfo-primary", "spec", "scaleTargetRef", "name")
	if diff := cmp.Diff(want.Object["spec"], got.Object["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"team": "shop"}, got.GetLabels()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if len(got.GetAnnotations()) != 0 {
		t.Errorf("annotations %v", got.GetAnnotations())
	}
	if diff := cmp.Diff(before, source); diff != "" {
		t.Errorf("the cached object was changed:\n%s", diff)
	}
}

func TestPrimaryScalerReplicas(t *testing.T) {
	low, high := int32(3), int32(9)
	for _, c := range []struct{ kind, text, low, high string }{
		{"HorizontalPodAutoscaler", hpaYAML, "minReplicas", "maxReplicas"},
		{"ScaledObject", scaledObjectYAML, "minReplicaCount", "maxReplicaCount"},
	} {
		got := wantedScaler(t, scaled(c.kind, func(r *v1beta1.AutoscalerReference) {
			r.PrimaryScalerReplicas = &v1beta1.ScalerReplicas{MinReplicas: &low, MaxReplicas: &high}
		}), live{"podinfo": object(t, c.text)})
		if a, b := intAt(got.Object, 0, "spec", c.low), intAt(got.Object, 0, "spec", c.high); a != 3 || b != 9 {
			t.Errorf("%s: %d to %d, want 3 to 9", c.kind, a, b)
		}
	}
}

func TestA13_PrimaryScaledObjectLosesNoField(t *testing.T) {
	source := object(t, scaledObjectYAML)
	got := wantedScaler(t, scaled("ScaledObject"), live{"podinfo": source})
	want := source.DeepCopy()
	set(t, want, "podinfo-primary", "spec", "scaleTargetRef", "name")
	set(t, want, "podinfo-hpa-primary", "spec", "advanced", "horizontalPodAutoscalerConfig", "name")
	mapAt(mapsAt(want.Object, "spec", "triggers")[0], "metadata")["query"] =
		`sum(rate(http{app="podinfo-primary",host=~"podinfo-primary|podinfo-primary"}[1m]))`
	if diff := cmp.Diff(want.Object["spec"], got.Object["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"team": "shop"}, got.GetLabels()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func TestIncidentB17_PauseIsNotCopied(t *testing.T) {
	got := wantedScaler(t, scaled("ScaledObject"), live{"podinfo": object(t, scaledObjectYAML)})
	want := map[string]string{"scaledobject.keda.sh/transfer-hpa-ownership": "true"}
	if diff := cmp.Diff(want, got.GetAnnotations()); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
}

func TestPrimaryScalerQueries(t *testing.T) {
	got := wantedScaler(t, scaled("ScaledObject", func(r *v1beta1.AutoscalerReference) {
		r.PrimaryScalerQueries = map[string]string{"requests": "vector(1)", "other": "vector(2)"}
	}), live{"podinfo": object(t, scaledObjectYAML)})
	triggers := mapsAt(got.Object, "spec", "triggers")
	if query := stringAt(triggers[0], "metadata", "query"); query != "vector(1)" {
		t.Errorf("query = %q", query)
	}
	if _, ok := mapAt(triggers[1], "metadata")["query"]; ok {
		t.Error("a trigger without a query got one")
	}
}

func TestMissingScaler(t *testing.T) {
	_, problem := PrimaryScaler(scaled("HorizontalPodAutoscaler"), live{})
	const want = "HorizontalPodAutoscaler podinfo.test get query error: "
	if problem == nil || problem.Reason != rollout.ReasonScalerNotFound || problem.Unknown || problem.Message[:len(want)] != want {
		t.Errorf("problem = %+v", problem)
	}
	if list, problem := PrimaryScaler(canary(), live{}); list != nil || problem != nil {
		t.Errorf("without autoscalerRef: %v, %+v", list, problem)
	}
}

func TestScalerOfAnotherCanaryIsRefused(t *testing.T) {
	others := object(t, hpaYAML)
	others.SetName("podinfo-primary")
	yes := true
	others.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Canary", Name: "web", UID: "web-uid", Controller: &yes}})
	_, problem := PrimaryScaler(scaled("HorizontalPodAutoscaler"), live{"podinfo": object(t, hpaYAML), "podinfo-primary": others})
	if problem == nil || problem.Reason != rollout.ReasonInvalidSpec {
		t.Errorf("problem = %+v", problem)
	}
}

// B-32: another kind of autoscalerRef takes the old copy along, and nothing that is not ours.
func TestB32_OldKindOfScalerIsDeleted(t *testing.T) {
	for name, c := range map[string]struct {
		owner string
		gone  bool
	}{"ours": {"podinfo", true}, "of another": {"web", false}, "of nobody": {"", false}} {
		old := object(t, hpaYAML)
		old.SetName("podinfo-primary")
		if c.owner != "" {
			yes := true
			old.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Canary", Name: c.owner, Controller: &yes}})
		}
		b := newBench(t, old)
		if err := RetireOtherScalers(t.Context(), b.client, scaled("ScaledObject")); err != nil {
			t.Fatal(err)
		}
		if gone := b.find(scalers()[0].ref("test", "podinfo-primary")) == nil; gone != c.gone {
			t.Errorf("%s: deleted %v, want %v", name, gone, c.gone)
		}
		if err := RetireOtherScalers(t.Context(), b.client, scaled("HorizontalPodAutoscaler")); err != nil {
			t.Errorf("%s: without KEDA: %v", name, err)
		}
	}
}

// the ScaledObject of the user changes in one annotation. It is told to hold still before the pods go.
func TestA13_PauseChangesOneAnnotation(t *testing.T) {
	c := scaled("ScaledObject")
	source := object(t, scaledObjectYAML)
	source.SetAnnotations(map[string]string{"a": "b"})
	b := newBench(t, target(t), source)
	ref := scalers()[1].ref("test", "podinfo")
	check := func(what string, wantPaused bool, wantWrites ...string) {
		t.Helper()
		if diff := cmp.Diff(wantWrites, writes(b.client)); diff != "" {
			t.Errorf("%s: writes (-want +got):\n%s", what, diff)
		}
		b.client.ClearActions()
		want := source.DeepCopy()
		if wantPaused {
			want.SetAnnotations(map[string]string{"a": "b", pausedAnnotation: "0"})
		}
		if diff := cmp.Diff(want, b.find(ref)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		cache := liveFunc(func(r router.Ref) (*unstructured.Unstructured, error) { return b.find(r), nil })
		if fact := TargetScaler(c, cache); !fact.Pausable || fact.Paused != wantPaused {
			t.Errorf("%s: pausable %v, paused %v", what, fact.Pausable, fact.Paused)
		}
		b.client.ClearActions()
	}
	if err := b.kind.ScaleToZero(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	check("scaled to zero", true, "patch scaledobjects", "patch deployments")
	if err := b.kind.ScaleUp(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	check("scaled up", false, "patch scaledobjects", "patch deployments")
	if err := b.kind.ScaleUp(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	check("scaled up again", false)
}

func TestPrimaryReplicasBelongToTheAutoscaler(t *testing.T) {
	c := scaled("HorizontalPodAutoscaler")
	b := newBench(t, target(t), object(t, hpaYAML))
	b.kind.options.TrackConfigs = false
	b.promote(c)
	primary := b.primaryOf(c)
	b.store(deploymentKind().ref("test", "podinfo-primary"), set(t, primary, int64(7), "spec", "replicas"))
	b.store(deploymentKind().ref("test", "podinfo"), withImage(t, target(t), "podinfo:next"))
	b.promote(c)
	if got := intAt(b.primaryOf(c).Object, 0, "spec", "replicas"); got != 7 {
		t.Errorf("replicas = %d, want 7", got)
	}
}

package workload

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// ofUser is a Canary that names a primary.
func ofUser() *v1beta1.Canary {
	c := canary()
	c.Spec.PrimaryRef = &v1beta1.LocalObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "stable"}
	return c
}

// stable is a primary that its user made, with labels of its own.
func stable(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	p := withImage(t, target(t), "podinfo:before")
	p.SetName("stable")
	p.SetUID("stable")
	p.SetAnnotations(nil)
	p.SetLabels(map[string]string{"mine": "1"})
	labels := map[string]any{"app": "stable", "track": "primary", "mine": "1"}
	set(t, p, labels, podTemplate("metadata", "labels")...)
	set(t, p, map[string]any{"matchLabels": map[string]any{"app": "stable"}}, "spec", "selector")
	unstructured.RemoveNestedField(p.Object, podTemplate("metadata", "annotations")...)
	return set(t, p, int64(7), "spec", "replicas")
}

func podTemplate(path ...string) []string { return append([]string{"spec", "template"}, path...) }

// A promotion copies the pod template of the target into the user's primary. Labels, selector, number of pods, strategy and whatever
// else is the user's stays, and nothing is owned.
func TestPromotionIntoThePrimaryOfTheUser(t *testing.T) {
	before := stable(t)
	client, d := cluster(target(t), before)
	ensure(t, d, ofUser(), target(t))
	after := get(t, client, "stable")
	if got, want := imageOf(after), imageOf(target(t)); got != want {
		t.Errorf("image %s, want %s", got, want)
	}
	was, is := before.DeepCopy(), after.DeepCopy()
	for _, o := range []*unstructured.Unstructured{was, is} {
		unstructured.RemoveNestedField(o.Object, "spec", "template")
		o.SetAnnotations(nil)
	}
	if diff := cmp.Diff(was.Object, is.Object); diff != "" {
		t.Errorf("more than the pod template has changed (-was +is):\n%s", diff)
	}
	if len(after.GetOwnerReferences()) > 0 || len(after.GetAnnotations()) != 2 {
		t.Errorf("owners %v, annotations %v", after.GetOwnerReferences(), after.GetAnnotations())
	}
	if diff := cmp.Diff(mapAt(before.Object, podTemplate("metadata", "labels")...), mapAt(after.Object, podTemplate("metadata", "labels")...)); diff != "" {
		t.Errorf("labels of the pods (-was +is):\n%s", diff)
	}
	if got := mapAt(after.Object, podTemplate("metadata", "annotations")...); got["prometheus.io/scrape"] != "true" || got[idAnnotation] != nil {
		t.Errorf("annotations of the pods %v, want those of the target", got)
	}
	terms := listAt(after.Object, podTemplate("spec", "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution")...)
	selector := mapAt(terms[0].(map[string]any), "labelSelector")
	if values := listAt(listAt(selector, "matchExpressions")[0].(map[string]any), "values"); values[1] != "stable" || values[0] != "cache" {
		t.Errorf("its pods keep away from app in %v, want cache and their own", values)
	}
	if _, kept := mapAt(after.Object, podTemplate("spec")...)["containers"].([]any)[0].(map[string]any)["someFutureProbe"]; !kept {
		t.Error("a field from the future is lost")
	}

	client.ClearActions()
	ensure(t, d, ofUser(), target(t))
	if got := writes(client); len(got) != 0 {
		t.Errorf("the second time: writes %v", got)
	}
}

// What is observed of a primary that its user made: a copy if it says what the target says, else nothing known, and never an orphan.
func TestObservedPrimaryOfTheUser(t *testing.T) {
	observe := func(c *v1beta1.Canary, objects ...*unstructured.Unstructured) (Observation, *rollout.Problem) {
		t.Helper()
		all := live{}
		for _, o := range objects {
			all[o.GetName()] = o
		}
		_, d := cluster()
		return d.Observe(c, all, now)
	}
	same := set(t, withImage(t, stable(t), imageOf(target(t))), "2026-01-02T03:04:05Z", podTemplate("metadata", "annotations", "kubectl.kubernetes.io/restartedAt")...)
	set(t, same, "true", podTemplate("metadata", "annotations", "prometheus.io/scrape")...)
	set(t, same, mapAt((&deployment{podKind: deploymentKind()}).renderInto(target(t), same), "spec"), podTemplate("spec")...)
	o, problem := observe(ofUser(), target(t), same)
	if problem != nil || o.Primary.Copy != o.Target.Revision.Fingerprint || o.Primary.Copy == "" {
		t.Errorf("problem %v, copy of %q, want of %q", problem, o.Primary.Copy, o.Target.Revision.Fingerprint)
	}
	if diff := cmp.Diff(map[string]string{"app": "stable", "track": "primary", "mine": "1"}, o.PrimaryPodLabels); diff != "" {
		t.Errorf("labels of its pods (-want +got):\n%s", diff)
	}
	if o, problem = observe(ofUser(), target(t), stable(t)); problem != nil || o.Primary.Copy != "" || o.Primary.Edited || !o.Primary.Exists {
		t.Errorf("problem %v, primary %+v, want one of which nothing is known", problem, o.Primary)
	}
	if _, problem = observe(ofUser(), target(t)); problem == nil || !strings.HasPrefix(problem.Message, "spec.primaryRef: Deployment stable.test does not exist") {
		t.Errorf("problem %v, want the primary to be missing", problem)
	}
	owned := stable(t)
	owned.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(canary(), v1beta1.SchemeGroupVersion.WithKind("Canary"))})
	owned.GetOwnerReferences()[0].UID = "gone"
	if o, problem = observe(ofUser(), target(t), owned); problem == nil || !strings.Contains(problem.Message, "belongs to Canary podinfo") || o.Primary.Orphaned {
		t.Errorf("problem %v, orphaned %t, want it to be refused and not to be owned", problem, o.Primary.Orphaned)
	}
}

// A primary of the user's is never made: nobody knows which labels it is to have.
func TestMissingPrimaryOfTheUserIsNotMade(t *testing.T) {
	client, d := cluster(target(t))
	err := d.EnsurePrimary(t.Context(), ofUser(), revisionOf(t, target(t)))
	if err == nil || !strings.Contains(err.Error(), "spec.primaryRef: Deployment stable.test does not exist: create it, or correct the name") {
		t.Errorf("EnsurePrimary(): %v", err)
	}
	if got := writes(client); len(got) > 0 {
		t.Errorf("writes %v", got)
	}
}

// Its configs are those of the target: no copies are made of them, and none is tracked. Its autoscaler is the user's.
func TestNothingIsCopiedBesideThePrimaryOfTheUser(t *testing.T) {
	client, _ := cluster(target(t), stable(t))
	c := ofUser()
	c.Spec.AutoscalerRef = &v1beta1.AutoscalerReference{Kind: "HorizontalPodAutoscaler", Name: "podinfo"}
	found, problem := NewKinds(client, nil, Options{TrackConfigs: true}).For(c)
	if problem != nil {
		t.Fatal(problem)
	}
	if refs, err := found.(Referrer).Refers(c, live{"podinfo": target(t)}); err != nil || len(refs) > 0 {
		t.Errorf("refers to %v, %v, want nothing", refs, err)
	}
	if objects, problem := PrimaryScaler(c, live{}); len(objects) > 0 || problem != nil {
		t.Errorf("autoscalers %v, %v, want none", objects, problem)
	}
}

// An update of the template goes by the strategy that the primary has, whatever that of the target is.
func TestStrategyOfThePrimaryOfTheUser(t *testing.T) {
	_, d := cluster()
	for name, want := range map[string]bool{"RollingUpdate": false, "Recreate": true} {
		own, theirs := set(t, stable(t), name, "spec", "strategy", "type"), target(t)
		if !want {
			set(t, theirs, "Recreate", "spec", "strategy", "type")
		}
		o, problem := d.Observe(ofUser(), live{"podinfo": theirs, "stable": own}, now)
		if problem != nil || o.Primary.StopsFirst != want {
			t.Errorf("%s: stops first %t (%v), want %t", name, o.Primary.StopsFirst, problem, want)
		}
	}
}

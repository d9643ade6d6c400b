package workload

import (
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

// relabeled is the target made anew: by other labels its pods are selected, and it has others.
func relabeled(t *testing.T, selector, pods map[string]any) *unstructured.Unstructured {
	t.Helper()
	anew := set(t, target(t), selector, "spec", "selector", "matchLabels")
	anew.SetUID("anew")
	return set(t, anew, pods, "spec", "template", "metadata", "labels")
}

// A primary whose target was made anew with other labels stays what it is a copy of, and what tells both sides apart is known.
func TestTargetWithAnotherSelector(t *testing.T) {
	type labels = map[string]any
	for name, c := range map[string]struct {
		// former are the labels of the pods of the former target.
		former, selector, pods labels
		primary                Selector
		apart                  map[string]string
		problem                string
	}{
		"another value": {labels{"app": "podinfo"}, labels{"app": "web"}, labels{"app": "web"}, Selector{"app", "podinfo"}, nil, ""},
		"another label": {labels{"app": "podinfo"}, labels{"name": "podinfo"}, labels{"name": "podinfo"}, Selector{"app", "podinfo"}, nil, ""},
		"both have both labels": {labels{"app": "podinfo", "name": "podinfo"}, labels{"name": "podinfo"}, labels{"app": "podinfo", "name": "podinfo"},
			Selector{"app", "podinfo"}, map[string]string{"app": "podinfo"}, ""},
		"the primary alone has both": {labels{"app": "podinfo", "name": "podinfo"}, labels{"name": "podinfo"}, labels{"name": "podinfo"},
			Selector{"app", "podinfo"}, nil, "have the label name=podinfo too and would get requests for the canary: add the label app"},
		"the target passes for the primary": {labels{"app": "podinfo"}, labels{"name": "podinfo"}, labels{"name": "podinfo", "app": "podinfo-primary"},
			Selector{"app", "podinfo"}, nil, "use another value of the label app"},
	} {
		t.Run(name, func(t *testing.T) {
			former := set(t, target(t), c.former, "spec", "template", "metadata", "labels")
			_, d := cluster()
			o, problem := d.Observe(canary(), live{"podinfo": relabeled(t, c.selector, c.pods), "podinfo-primary": flaggerPrimary(t, former)}, now)
			if said := problem != nil && strings.Contains(problem.Message, c.problem); said != (c.problem != "") {
				t.Errorf("problem %+v", problem)
			}
			if o.PrimarySelector != c.primary || !maps.Equal(o.Apart, c.apart) || o.Primary.SelectorDiffers != "app=podinfo-primary" || !o.Primary.StopsFirst {
				t.Errorf("primary selects by %+v, apart by %v: %+v", o.PrimarySelector, o.Apart, o.Primary)
			}
		})
	}
}

// Other -selector-labels make no primary another copy.
func TestOtherSelectorLabelsKeepTheCopy(t *testing.T) {
	both := relabeled(t, map[string]any{"app": "podinfo", "name": "podinfo"}, map[string]any{"app": "podinfo", "name": "podinfo"})
	primary := flaggerPrimary(t, both)
	_, d := cluster()
	d.options.SelectorLabels = []string{"name", "app", "app.kubernetes.io/name"}
	o, problem := d.Observe(canary(), live{"podinfo": both, "podinfo-primary": primary}, now)
	if want := revisionOf(t, both).Fingerprint; problem != nil || o.Primary.Copy != want || o.Primary.SelectorDiffers == "" {
		t.Errorf("copy of %q, want %q, problem %+v", o.Primary.Copy, want, problem)
	}
}

// A primary is replaced by a copy with the new selector and as many pods; a plain copy never deletes anything.
func TestReplacePrimary(t *testing.T) {
	for name, scaled := range map[string]bool{"pods of the target": false, "pods of the autoscaler": true} {
		t.Run(name, func(t *testing.T) {
			primary := set(t, flaggerPrimary(t, target(t)), int64(7), "spec", "replicas")
			next := set(t, relabeled(t, map[string]any{"name": "podinfo"}, map[string]any{"app": "podinfo", "name": "podinfo"}), int64(3), "spec", "replicas")
			client, d := cluster(next, primary)
			c, want := canary(), int64(3)
			if scaled {
				c.Spec.AutoscalerRef, want = &v1beta1.AutoscalerReference{Name: "podinfo"}, 7
			}
			if err := d.EnsurePrimary(t.Context(), c, revisionOf(t, next)); err == nil || len(writes(client)) > 0 {
				t.Errorf("copied: %v, %v", err, writes(client))
			}
			if err := d.ReplacePrimary(t.Context(), c, revisionOf(t, next)); err != nil {
				t.Fatal(err)
			}
			made := get(t, client, "podinfo-primary")
			labels := map[string]string{"name": "podinfo-primary"}
			if !maps.Equal(selectorLabels(made), labels) || podLabels(made)["name"] != "podinfo-primary" || intAt(made.Object, 0, "spec", "replicas") != want {
				t.Errorf("selects by %v, pods have %v, %d replicas", selectorLabels(made), podLabels(made), intAt(made.Object, 0, "spec", "replicas"))
			}
			if recordedCopy(made, revisionOf(t, made).Fingerprint) != revisionOf(t, next).Fingerprint {
				t.Error("the copy is not recorded")
			}
			// The pods of the former primary end while the canary serves, and its Service stays away from them.
			c.Status.Phase = v1beta1.CanaryPhasePromoting
			o, problem := d.Observe(c, live{"podinfo": next, "podinfo-primary": made}, now)
			if problem != nil || o.Primary.SelectorDiffers != "" || !maps.Equal(o.Apart, map[string]string{"app": "podinfo"}) {
				t.Errorf("apart by %v, primary %+v, problem %+v", o.Apart, o.Primary, problem)
			}
		})
	}
}

// What is not ours is never deleted, nor is anything for a target that has moved on.
func TestReplacePrimaryLeavesOthersAlone(t *testing.T) {
	next := relabeled(t, map[string]any{"name": "podinfo"}, map[string]any{"name": "podinfo"})
	for name, change := range map[string]func(*unstructured.Unstructured){
		"nobody's": func(p *unstructured.Unstructured) { p.SetOwnerReferences(nil) },
		"somebody's": func(p *unstructured.Unstructured) {
			p.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Application", Name: "shop"}})
		},
		"by two labels": func(p *unstructured.Unstructured) {
			selectorOfPrimary(t, p, map[string]any{"app": "podinfo-primary", "track": "x"})
		},
		"not a primary": func(p *unstructured.Unstructured) { selectorOfPrimary(t, p, map[string]any{"app": "podinfo"}) },
	} {
		primary := flaggerPrimary(t, target(t))
		change(primary)
		client, d := cluster(next, primary)
		if err := d.ReplacePrimary(t.Context(), canary(), revisionOf(t, next)); err == nil || len(writes(client)) > 0 {
			t.Errorf("%s: %v, %v", name, err, writes(client))
		}
	}
	client, d := cluster(next, flaggerPrimary(t, target(t)))
	if err := d.ReplacePrimary(t.Context(), canary(), revisionOf(t, target(t))); err == nil || slices.Contains(writes(client), "delete deployments") {
		t.Errorf("moved: %v, %v", err, writes(client))
	}
}

func selectorOfPrimary(t *testing.T, p *unstructured.Unstructured, labels map[string]any) {
	t.Helper()
	set(t, p, labels, "spec", "selector", "matchLabels")
}

// A primary that was deleted and is made again from a stored revision has the selector of the target, which may be another by now.
func TestMissingPrimaryGetsThePresentSelector(t *testing.T) {
	client, d := cluster(target(t))
	ensure(t, d, canary(), target(t))
	if err := d.workloads(canary()).Delete(t.Context(), "podinfo-primary", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	put(t, client, relabeled(t, map[string]any{"name": "podinfo"}, map[string]any{"name": "podinfo"}))
	if err := d.EnsurePrimary(t.Context(), canary(), revisionOf(t, target(t))); err != nil {
		t.Fatal(err)
	}
	made := get(t, client, "podinfo-primary")
	if want := map[string]string{"name": "podinfo-primary"}; !maps.Equal(selectorLabels(made), want) || podLabels(made)["name"] != "podinfo-primary" {
		t.Errorf("selects by %v, pods have %v", selectorLabels(made), podLabels(made))
	}
}

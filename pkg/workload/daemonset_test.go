package workload

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic/fake"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

func daemonCanary() *v1beta1.Canary {
	c := canary()
	c.Spec.TargetRef.Kind = "DaemonSet"
	return c
}

// daemon is the target as a DaemonSet with all its pods on three nodes.
func daemon(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	d := target(t)
	d.SetKind("DaemonSet")
	annotations := d.GetAnnotations()
	annotations[generationAnnotation] = "7"
	d.SetAnnotations(annotations)
	for _, field := range []string{"replicas", "progressDeadlineSeconds", "paused", "strategy"} {
		unstructured.RemoveNestedField(d.Object, "spec", field)
	}
	set(t, d, "RollingUpdate", "spec", "updateStrategy", "type")
	d.Object["status"] = map[string]any{
		"observedGeneration": int64(7), "desiredNumberScheduled": int64(3), "updatedNumberScheduled": int64(3), "numberAvailable": int64(3),
	}
	return d
}

func park(t *testing.T, d *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	return set(t, d, "true", append(podSpec("nodeSelector"), parkedKey)...)
}

func daemons(t *testing.T, objects ...*unstructured.Unstructured) (*fake.FakeDynamicClient, *daemonSet) {
	t.Helper()
	client, d := cluster(objects...)
	d.podKind = daemonSetKind()
	return client, &daemonSet{d}
}

func getDaemon(t *testing.T, client *fake.FakeDynamicClient, name string) *unstructured.Unstructured {
	t.Helper()
	obj, err := client.Resource(daemonSetKind().resource).Namespace("test").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func nodeSelector(d *unstructured.Unstructured) map[string]any {
	return mapAt(d.Object, podSpec("nodeSelector")...)
}

func TestDaemonSetHealth(t *testing.T) {
	tests := map[string]struct {
		desired, updated, available, observed int64
		threshold                             int32
		parked                                bool
		state                                 rollout.HealthState
		reason                                string
		replicas                              int32
	}{
		"ready":           {3, 3, 3, 7, 100, false, rollout.Ready, "", 3},
		"not observed":    {3, 3, 3, 6, 100, false, rollout.Waiting, "observed daemonset generation less than desired generation", 3},
		"pods to replace": {3, 1, 3, 7, 100, false, rollout.Waiting, "waiting for rollout to finish: 1 out of 3 new pods have been updated", 3},
		"A-16 one node is drained": {3, 3, 2, 7, 100, false, rollout.Waiting,
			"waiting for rollout to finish: 2 of 3 (readyThreshold 100%) updated pods are available", 3},
		"above the threshold": {3, 3, 2, 7, 66, false, rollout.Ready, "", 3},
		"no pod serves, whatever the threshold": {3, 3, 0, 7, 10, false, rollout.Waiting,
			"waiting for rollout to finish: 0 of 3 (readyThreshold 10%) updated pods are available", 3},
		"no node for it": {0, 0, 0, 7, 100, false, rollout.Ready, "", 1},
		"B-16 parked":    {0, 0, 0, 7, 100, true, rollout.Waiting, "scaled to zero", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := daemon(t)
			if tt.parked {
				park(t, d)
			}
			d.Object["status"] = map[string]any{
				"observedGeneration": tt.observed, "desiredNumberScheduled": tt.desired,
				"updatedNumberScheduled": tt.updated, "numberAvailable": tt.available,
			}
			c := daemonCanary()
			c.Spec.Analysis = &v1beta1.CanaryAnalysis{CanaryReadyThreshold: &tt.threshold}
			_, k := daemons(t)
			o, problem := k.Observe(c, live{"podinfo": d}, now)
			if problem != nil {
				t.Fatalf("problem %+v", problem)
			}
			h := o.Target.Health
			if h.State != tt.state || !strings.HasSuffix(h.Reason, tt.reason) || (h.Reason == "") != (tt.reason == "") {
				t.Errorf("health %+v, want %s because %q", h, tt.state, tt.reason)
			}
			if o.Target.Replicas != tt.replicas || o.Target.Available != int32(tt.available) {
				t.Errorf("%d replicas with %d available, want %d with %d", o.Target.Replicas, o.Target.Available, tt.replicas, tt.available)
			}
			if !o.RecheckAt.IsZero() {
				t.Errorf("recheck at %v: the deadline is that of the step", o.RecheckAt)
			}
		})
	}
}

func TestDaemonSetStrategy(t *testing.T) {
	_, k := daemons(t)
	d := set(t, daemon(t), "OnDelete", "spec", "updateStrategy", "type")
	_, problem := k.Observe(daemonCanary(), live{"podinfo": d}, now)
	const want = "daemonset podinfo.test must have RollingUpdate strategy but have OnDelete"
	if problem == nil || !strings.HasPrefix(problem.Message, want) || problem.Reason != rollout.ReasonInvalidSpec {
		t.Errorf("problem %+v, want %q", problem, want)
	}
}

func TestDaemonSetNotFound(t *testing.T) {
	_, k := daemons(t)
	_, problem := k.Observe(daemonCanary(), live{}, now)
	const want = `daemonset podinfo.test get query error: daemonsets.apps "podinfo" not found: create the DaemonSet`
	if problem == nil || !strings.HasPrefix(problem.Message, want) || problem.Reason != rollout.ReasonTargetNotFound {
		t.Errorf("problem %+v, want %q", problem, want)
	}
}

// whenever the primary is made, it has pods.
func TestA08_PrimaryOfAParkedDaemonSetHasPods(t *testing.T) {
	for name, keys := range map[string]map[string]any{"alone": nil, "beside another key": {"disk": "ssd"}} {
		t.Run(name, func(t *testing.T) {
			d := daemon(t)
			if keys != nil {
				set(t, d, keys, podSpec("nodeSelector")...)
			}
			revision := revisionOf(t, d)
			client, k := daemons(t, park(t, d))
			if err := k.EnsurePrimary(t.Context(), daemonCanary(), revision); err != nil {
				t.Fatal(err)
			}
			primary := getDaemon(t, client, "podinfo-primary")
			if diff := cmp.Diff(keys, nodeSelector(primary)); diff != "" {
				t.Errorf("node selector (-want +got):\n%s", diff)
			}
			if _, ok := primary.GetAnnotations()[generationAnnotation]; ok {
				t.Error("the primary counts the templates of the target")
			}
			if _, ok := mapAt(primary.Object, "spec")["replicas"]; ok {
				t.Error("a DaemonSet has no replicas")
			}
			o, problem := k.Observe(daemonCanary(), live{"podinfo": d, "podinfo-primary": primary}, now)
			if problem != nil || o.Primary.Copy != revision.Fingerprint || o.Target.Revision.Fingerprint != revision.Fingerprint {
				t.Errorf("copy of %q, target at %q, want %q; problem %+v", o.Primary.Copy, o.Target.Revision.Fingerprint,
					revision.Fingerprint, problem)
			}
			client.ClearActions()
			if err := k.EnsurePrimary(t.Context(), daemonCanary(), revision); err != nil || len(writes(client)) > 0 {
				t.Errorf("second time: %v, writes %v", err, writes(client))
			}
		})
	}
}

func TestA08_DeletedPrimaryOfADaemonSetIsTheStoredRevision(t *testing.T) {
	promoted := daemon(t)
	client, k := daemons(t, promoted)
	revision := revisionOf(t, promoted)
	if err := k.EnsurePrimary(t.Context(), daemonCanary(), revision); err != nil {
		t.Fatal(err)
	}
	sets := client.Resource(daemonSetKind().resource).Namespace("test")
	if _, err := sets.Update(t.Context(), park(t, withImage(t, promoted, "podinfo:failed")), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := sets.Delete(t.Context(), "podinfo-primary", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := k.EnsurePrimary(t.Context(), daemonCanary(), revision); err != nil {
		t.Fatal(err)
	}
	primary := getDaemon(t, client, "podinfo-primary")
	if imageOf(primary) != imageOf(promoted) || nodeSelector(primary) != nil {
		t.Errorf("the primary runs %s where %v", imageOf(primary), nodeSelector(primary))
	}
}

// B-28: the copy of a DaemonSet keeps its affinity and spread constraints.
func TestB28_NoRewriteForDaemonSets(t *testing.T) {
	d := daemon(t)
	client, k := daemons(t, d)
	if err := k.EnsurePrimary(t.Context(), daemonCanary(), revisionOf(t, d)); err != nil {
		t.Fatal(err)
	}
	primary := getDaemon(t, client, "podinfo-primary")
	for _, field := range []string{"affinity", "topologySpreadConstraints"} {
		want, _, _ := unstructured.NestedFieldNoCopy(d.Object, podSpec(field)...)
		got, _, _ := unstructured.NestedFieldNoCopy(primary.Object, podSpec(field)...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-target +primary):\n%s", field, diff)
		}
	}
}

func TestScaleDaemonSet(t *testing.T) {
	d := set(t, daemon(t), "ssd", append(podSpec("nodeSelector"), "disk")...)
	before := fmt.Sprint(nodeSelector(d))
	client, k := daemons(t, d)
	if err := k.ScaleUp(t.Context(), daemonCanary()); err != nil || len(writes(client)) > 0 {
		t.Errorf("scaling up what has pods: %v, writes %v", err, writes(client))
	}
	if err := k.ScaleToZero(t.Context(), daemonCanary()); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"disk": "ssd", parkedKey: "true"}
	if diff := cmp.Diff(want, nodeSelector(getDaemon(t, client, "podinfo"))); diff != "" {
		t.Errorf("node selector at zero (-want +got):\n%s", diff)
	}
	for name, scaleUp := range map[string]func() error{
		"start":    func() error { return k.ScaleUp(t.Context(), daemonCanary()) },
		"deletion": func() error { return Restore(t.Context(), k, daemonCanary()) },
	} {
		if err := k.ScaleToZero(t.Context(), daemonCanary()); err != nil {
			t.Fatal(err)
		}
		if err := scaleUp(); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(nodeSelector(getDaemon(t, client, "podinfo"))); got != before {
			t.Errorf("%s: node selector %v, want %v", name, got, before)
		}
	}
}

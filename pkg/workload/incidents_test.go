package workload

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
	"flagger.app/flagger/pkg/rollout"
)

// Metadata that is there and empty, there and null, or not there at all is all the same, and nothing to stumble over.
func TestIncidentB22_EmptyMetadata(t *testing.T) {
	lack := map[string]func(metadata map[string]any, field string){
		"empty":   func(m map[string]any, field string) { m[field] = map[string]any{} },
		"null":    func(m map[string]any, field string) { m[field] = nil },
		"missing": func(m map[string]any, field string) { delete(m, field) },
	}
	for name, remove := range lack {
		bare := func(u *unstructured.Unstructured) *unstructured.Unstructured {
			for _, path := range [][]string{{"metadata"}, {"spec", "template", "metadata"}} {
				for _, field := range []string{"labels", "annotations"} {
					// The pods have to match the selector.
					if m := mapAt(u.Object, path...); m != nil && (len(path) == 1 || field != "labels") {
						remove(m, field)
					}
				}
			}
			return u
		}
		t.Run(name+"/Deployment", func(t *testing.T) {
			b := newBench(t, bare(deploys(t, fromSettings)), bare(object(t, settingsYAML)), bare(object(t, tokenYAML)))
			liveThrough(t, b.kind, canary(), func() rollout.Revision { return b.observe(canary()).Target.Revision }, func() { b.change("two") })
			if got := stringAt(b.config(configMapKind, "settings-primary").Object, "data", "a"); got != "two" {
				t.Errorf("the copy of the ConfigMap has %q", got)
			}
		})
		t.Run(name+"/DaemonSet", func(t *testing.T) {
			client, d := daemons(t, bare(daemon(t)))
			now := func() rollout.Revision { return revisionOf(t, getDaemon(t, client, "podinfo")) }
			liveThrough(t, d, daemonCanary(), now, func() {
				changed := withImage(t, getDaemon(t, client, "podinfo"), "podinfo:2")
				if err := client.Tracker().Update(daemonSetKind().resource, changed, "test"); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// liveThrough creates the primary, takes the pods of the target away, gives them back, and promotes a change.
func liveThrough(t *testing.T, target Target, c *v1beta1.Canary, revision func() rollout.Revision, change func()) {
	t.Helper()
	steps := []func() error{
		func() error { return target.EnsurePrimary(t.Context(), c, revision()) },
		func() error { return target.ScaleToZero(t.Context(), c) },
		func() error { return target.ScaleUp(t.Context(), c) },
		func() error {
			change()
			return target.EnsurePrimary(t.Context(), c, revision())
		},
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
}

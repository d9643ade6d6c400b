package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

func coreResource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: name}
}

func revertOnDeletion(c *v1beta1.Canary) { c.Spec.RevertOnDeletion = true }

// gone waits until an object does not exist.
func (t *team) gone(resource schema.GroupVersionResource, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lw := watchOf(ctx, t.dynamic.Resource(resource).Namespace(t.ns), name)
	missing := false
	_, err := watchtools.UntilWithSync(ctx, lw, &unstructured.Unstructured{},
		func(s cache.Store) (bool, error) { missing = len(s.List()) == 0; return missing, nil },
		func(e watch.Event) (bool, error) { return e.Type == watch.Deleted, nil })
	if err != nil && !missing {
		t.Fatalf("waiting for the end of %s %s: %v\n%s", resource.Resource, name, err, strings.Join(t.events(), "\n"))
	}
}

func (t *team) deleteCanary() {
	t.Helper()
	t.must(t.flagger.FlaggerV1beta1().Canaries(t.ns).Delete(t.Context(), "podinfo", metav1.DeleteOptions{}))
}

// podsOf lists the pods with a value of the label app.
func (t *team) podsOf(app string) (names []string) {
	t.Helper()
	list, err := t.kube.CoreV1().Pods(t.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	t.must(err)
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names
}

// selects returns what the Service of the user selects.
func (t *team) selects() map[string]string {
	t.Helper()
	s, err := t.kube.CoreV1().Services(t.ns).Get(t.Context(), "podinfo", metav1.GetOptions{})
	t.must(err)
	return s.Spec.Selector
}

// TestDeletionGivesBack takes a live Service over and gives it back. Not one request is lost on the way, with an operator that
// lives and with one that is killed in the middle of the deletion.
func TestDeletionGivesBack(tt *testing.T) {
	tt.Parallel()
	for name, kill := range map[string]bool{"calm": false, "killed": true} {
		tt.Run(name, func(tt *testing.T) {
			tt.Parallel()
			t := newTeam(tt)
			t.apply(podinfo(2))
			t.available("podinfo")
			load := t.load()
			o := t.operate()
			t.create(canary(revertOnDeletion))
			c := t.settled(v1beta1.CanaryPhaseInitialized)
			if !slices.Contains(c.Finalizers, v1beta1.Finalizer) {
				t.Errorf("finalizers %v of a Canary with revertOnDeletion", c.Finalizers)
			}
			t.ship(v2)
			t.settled(v1beta1.CanaryPhaseSucceeded)
			pods := t.podsOf("podinfo-primary")
			t.deleteCanary()
			if kill {
				t.until("Terminating", func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.CanaryPhaseTerminating })
				o.kill()
				t.operate()
			}
			t.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
			if n, image := t.replicas("podinfo"); n != 2 || image != v2 {
				t.Errorf("the target has %d replicas of %s", n, image)
			}
			if diff := cmp.Diff(map[string]string{"app": "podinfo"}, t.selects()); diff != "" {
				t.Errorf("selector of the Service (-want +got):\n%s", diff)
			}
			t.gone(deployments, "podinfo-primary")
			t.gone(virtualServices, "podinfo")
			t.gone(coreResource("services"), "podinfo-primary")
			for _, name := range pods {
				t.gone(coreResource("pods"), name)
			}
			load.end()
			t.Logf("%d requests, %d lost", load.sent, load.lost)
			if load.lost > 0 || load.sent < 100 {
				t.Errorf("%d of %d requests lost:\n%s", load.lost, load.sent, load.first)
			}
			told := story(t.events())
			for _, text := range []string{"Terminating canary podinfo." + t.ns, "Terminated canary podinfo." + t.ns} {
				if n := count(told, text); n != 1 {
					t.Errorf("%q told %d times in\n%s", text, n, strings.Join(told, "\n"))
				}
			}
		})
	}
}

// TestDeletionWithoutRevert lets a Canary go at once when nobody asked for more, and also when it was asked for and no longer
// is while its target does not come up.
func TestDeletionWithoutRevert(tt *testing.T) {
	tt.Parallel()
	for name, changed := range map[string]bool{"never asked for": false, "no longer asked for": true} {
		tt.Run(name, func(tt *testing.T) {
			tt.Parallel()
			t := newTeam(tt)
			t.apply(podinfo(1))
			t.available("podinfo")
			t.operate()
			c := canary()
			c.Spec.RevertOnDeletion = changed
			t.create(c)
			t.settled(v1beta1.CanaryPhaseInitialized)
			if changed {
				t.ship("stefanprodan/podinfo:unknown")
				t.deleteCanary()
				t.until("a target that does not come up", func(c *v1beta1.Canary) bool { return c.Status.Phase == v1beta1.CanaryPhaseTerminating })
				if n, _ := t.replicas("podinfo-primary"); n != 1 || t.selects()["app"] != "podinfo-primary" {
					t.Errorf("primary with %d replicas, Service selects %v, while the target is not ready", n, t.selects())
				}
				t.edit(func(s *v1beta1.CanarySpec) { s.RevertOnDeletion = false })
			} else {
				t.deleteCanary()
			}
			t.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
			t.gone(deployments, "podinfo-primary")
			t.gone(virtualServices, "podinfo")
		})
	}
}

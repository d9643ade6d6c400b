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

// TestDeletionGivesBack takes a live Service over and gives it back: at rest, with an operator that is killed in the middle of
// it, and while a revision is analyzed. Not one request is lost on the way.
func TestDeletionGivesBack(tt *testing.T) {
	tt.Parallel()
	for name, c := range map[string]struct{ kill, running bool }{
		"at rest": {}, "killed": {kill: true}, "in the middle": {running: true},
	} {
		tt.Run(name, func(tt *testing.T) {
			tt.Parallel()
			l := newLoaded(tt, 2)
			l.begin()
			l.operates()
			l.onboard(revertOnDeletion, weighted, l.asks(v1beta1.ConfirmPromotionHook))
			if !slices.Contains(l.read().Finalizers, v1beta1.Finalizer) {
				l.Error("a Canary with revertOnDeletion has no finalizer")
			}
			if c.running {
				l.ship(v2)
				l.enters(v1beta1.CanaryPhaseWaitingPromotion)
			} else {
				l.set(v1beta1.ConfirmPromotionHook, true)
				l.promote(v2)
			}
			pods := l.podsOf("podinfo-primary")
			if l.plane != nil {
				l.leadToService()
			}
			l.deleteCanary()
			if c.kill {
				l.enters(v1beta1.CanaryPhaseTerminating)
				l.o.kill()
				l.operates()
			}
			l.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
			l.isGivenBack(v2)
			for _, name := range pods {
				l.gone(coreResource("pods"), name)
			}
			l.load.end(l)
			told := story(l.events())
			for _, text := range []string{"Terminating canary podinfo." + l.ns, "Terminated canary podinfo." + l.ns} {
				if n := count(told, text); n != 1 {
					l.Errorf("%q told %d times in\n%s", text, n, strings.Join(told, "\n"))
				}
			}
		})
	}
}

// isGivenBack checks that the application is as it was before its Canary, with an image.
func (l *loaded) isGivenBack(image string) {
	l.Helper()
	if n, runs := l.team.replicas("podinfo"); n != l.replicas || runs != image {
		l.Errorf("the target has %d replicas of %s", n, runs)
	}
	if diff := cmp.Diff(map[string]string{"app": "podinfo"}, l.selects()); diff != "" {
		l.Errorf("selector of the Service (-want +got):\n%s", diff)
	}
	switch {
	case l.plane == nil:
		l.gone(virtualServices, "podinfo")
	case l.plane.takesOver:
		l.comeBy("service")
	default:
		l.gone(l.plane.route.Resource, l.plane.route.Name)
	}
	l.gone(deployments, "podinfo-primary")
	l.gone(coreResource("services"), "podinfo-primary")
	l.load.comeFrom(l.team, versionOf(image))
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

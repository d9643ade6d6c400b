package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagger.app/flagger/pkg/apis/flagger/v1beta1"
)

var destinationRules = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1beta1", Resource: "destinationrules"}

// retired waits until the record of the Canary says that nothing else is left.
func (t *team) retired(want ...v1beta1.RoutingRef) {
	t.Helper()
	t.until("the former names to be cleaned up", func(c *v1beta1.Canary) bool {
		return c.Status.Rollout != nil && slices.Equal(c.Status.Rollout.Routing, want)
	})
}

// expect checks which objects of a resource exist.
func (t *team) expect(resource schema.GroupVersionResource, want map[string]bool) {
	t.Helper()
	for name, exists := range want {
		_, err := t.dynamic.Resource(resource).Namespace(t.ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		if (err == nil) != exists {
			t.Errorf("%s %s exists: %t", resource.Resource, name, err == nil)
		}
	}
}

func (t *team) renameTo(name string) {
	t.Helper()
	t.edit(func(s *v1beta1.CanarySpec) { s.Service.Name = name })
}

// TestB31_PreviousNamesAreCleanedUp renames the Service of a Canary in the middle of a rollout and at rest, changes its provider,
// and deletes it. What the Canary made goes; the Service of the user stays, and not one request to it is lost.
func TestB31_PreviousNamesAreCleanedUp(tt *testing.T) {
	tt.Parallel()
	t := newTeam(tt)
	t.apply(podinfo(1))
	t.apply("apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {selector: {app: other}, ports: [{port: 80}]}\n")
	t.available("podinfo")
	services := coreResource("services")
	load := t.load()
	t.operate()
	t.create(canary(revertOnDeletion))
	t.settled(v1beta1.CanaryPhaseInitialized)

	t.ship(v2)
	t.until("weight 40", func(c *v1beta1.Canary) bool { return c.Status.CanaryWeight == 40 })
	t.renameTo("web")
	t.settled(v1beta1.CanaryPhaseSucceeded)
	users := v1beta1.RoutingRef{Service: "podinfo", Released: true}
	t.retired(v1beta1.RoutingRef{Service: "web", Provider: "istio"}, users)
	t.expect(services, map[string]bool{"podinfo": true, "podinfo-primary": false, "podinfo-canary": false, "web": true, "web-primary": true, "web-canary": true})
	t.expect(virtualServices, map[string]bool{"podinfo": false, "web": true})
	t.expect(destinationRules, map[string]bool{"podinfo-primary": false, "podinfo-canary": false, "web-primary": true, "web-canary": true})
	if diff := cmp.Diff(map[string]string{"app": "podinfo-primary"}, t.selects()); diff != "" {
		t.Errorf("the user's Service (-want +got):\n%s", diff)
	}

	t.renameTo("shop")
	t.retired(v1beta1.RoutingRef{Service: "shop", Provider: "istio"}, users)
	t.expect(services, map[string]bool{"podinfo": true, "web": false, "web-primary": false, "web-canary": false, "shop": true})
	t.expect(virtualServices, map[string]bool{"web": false, "shop": true})

	t.edit(func(s *v1beta1.CanarySpec) { s.Provider = "kubernetes" })
	t.retired(v1beta1.RoutingRef{Service: "shop", Provider: "kubernetes"}, users)
	t.expect(services, map[string]bool{"podinfo": true, "shop": true, "shop-primary": true, "shop-canary": true})
	t.expect(virtualServices, map[string]bool{"shop": false})
	t.expect(destinationRules, map[string]bool{"shop-primary": false, "shop-canary": false})

	t.foreignServiceIsRefused()
	t.deleteCanary()
	t.gone(v1beta1.SchemeGroupVersion.WithResource("canaries"), "podinfo")
	t.gone(services, "shop")
	if diff := cmp.Diff(map[string]string{"app": "podinfo"}, t.selects()); diff != "" {
		t.Errorf("the user's Service after the deletion (-want +got):\n%s", diff)
	}
	load.end(t)
	for _, text := range []string{"former name web are left", "Service podinfo." + t.ns + " is left to its user", "No routes of provider istio are left"} {
		if n := count(story(t.events()), text); n != 1 {
			t.Errorf("%q told %d times in\n%s", text, n, strings.Join(t.events(), "\n"))
		}
	}
}

// foreignServiceIsRefused names the Service of another application (D-06) and takes that back.
func (t *team) foreignServiceIsRefused() {
	t.Helper()
	before, err := t.kube.CoreV1().Services(t.ns).Get(t.Context(), "other", metav1.GetOptions{})
	t.must(err)
	t.renameTo("other")
	const text = "spec.service.name: Service other."
	t.until("the refusal", func(c *v1beta1.Canary) bool {
		condition := healthy(c)
		return condition != nil && strings.HasPrefix(condition.Message, text)
	})
	t.renameTo("shop")
	t.until("health", func(c *v1beta1.Canary) bool {
		condition := healthy(c)
		return condition != nil && condition.Status == corev1.ConditionTrue && len(c.Status.Rollout.Outbox) == 0
	})
	after, err := t.kube.CoreV1().Services(t.ns).Get(t.Context(), "other", metav1.GetOptions{})
	t.must(err)
	if before.ResourceVersion != after.ResourceVersion {
		t.Errorf("the Service of others was written: %+v", after)
	}
	if n := count(t.events(), text); n != 1 {
		t.Errorf("told %d times in\n%s", n, strings.Join(t.events(), "\n"))
	}
}
